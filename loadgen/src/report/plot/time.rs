//! Latency, rate and throughput over the seconds of a run, under each other.

use super::{
    super::{
        summary::{Second, Summary},
        units,
    },
    axis::Axis,
    drawing::{BLUE, Colour, Drawing, GREEN, INK, ORANGE, SILVER},
    frame::{Frame, PANEL_LEFT, PANEL_WIDTH, WIDTH, heading},
};

/// The time plot; `None` where there is no series.
#[must_use]
pub(crate) fn time_plot(summary: &Summary) -> Option<Drawing> {
    let shown = shown(summary);
    let seconds = f64::from(shown.last()?.second).max(1.0);
    let title = format!("Seconds of {}", summary.run.profile);
    let has_operations = summary.run.offered_rate.is_some()
        || shown.iter().any(|it| it.operations + it.errors_total() > 0);
    // Of bulk alone there are no latencies, and an empty panel would look like a run that failed.
    if !has_operations {
        let mut drawing = Drawing::new(WIDTH, 410.0, title);
        heading(&mut drawing, summary);
        throughput(&mut drawing, shown, frame(122.0, 230.0, seconds));
        return Some(drawing);
    }
    let mut drawing = Drawing::new(WIDTH, 760.0, title);
    heading(&mut drawing, summary);
    latency(&mut drawing, shown, frame(122.0, 230.0, seconds));
    rate(&mut drawing, summary, shown, frame(402.0, 120.0, seconds));
    throughput(&mut drawing, shown, frame(572.0, 130.0, seconds));
    Some(drawing)
}

/// The seconds without those behind the measured time in which nothing happened: a line down to them would look like a
/// breakdown. Answers that came late stay.
fn shown(summary: &Summary) -> &[Second] {
    let mut shown = &summary.series[..];
    while let [rest @ .., last] = shown
        && !rest.is_empty()
        && f64::from(last.second) >= summary.elapsed_s
        && last.operations + last.errors_total() + last.bytes_up + last.bytes_down == 0
    {
        shown = rest;
    }
    shown
}

fn frame(top: f32, height: f32, seconds: f64) -> Frame {
    let unset = Axis::Linear { min: 0.0, max: 1.0 };
    let across = Axis::Linear {
        min: 0.0,
        max: seconds,
    };
    Frame {
        left: PANEL_LEFT,
        top,
        width: PANEL_WIDTH,
        height,
        across,
        up: unset,
    }
}

fn latency(drawing: &mut Drawing, shown: &[Second], frame: Frame) {
    type Figure = fn(&Second) -> u64;
    let lines: [(Figure, Colour, f32); 3] = [
        (|second| second.max_ns, SILVER, 1.5),
        (|second| second.p99_ns, ORANGE, 2.0),
        (|second| second.p50_ns, BLUE, 2.5),
    ];
    let all = lines
        .iter()
        .flat_map(|(figure, ..)| shown.iter().map(|second| figure(second) as f64));
    let frame = Frame {
        up: Axis::logarithmic(all),
        ..frame
    };
    grid(drawing, frame, false, units::time);
    for (figure, colour, width) in lines {
        // A second without an operation has no latency, which is not the same as none at all.
        let value = |second: &Second| (second.operations > 0).then(|| figure(second) as f64);
        let values: Vec<_> = shown
            .iter()
            .map(|second| (f64::from(second.second), value(second)))
            .collect();
        frame.line(drawing, &values, colour, width);
    }
    let key = [("p50", BLUE), ("p99", ORANGE), ("longest", SILVER)];
    frame.key(drawing, "Latency, from the intended start", &key);
}

fn rate(drawing: &mut Drawing, summary: &Summary, shown: &[Second], frame: Frame) {
    let achieved: Vec<_> = series(shown, |second| second.operations as f64);
    let failed: Vec<_> = series(shown, |second| second.errors_total() as f64);
    let offered = summary.run.offered_rate;
    let all = achieved
        .iter()
        .chain(&failed)
        .map(|(_, value)| *value)
        .chain(offered);
    let frame = Frame {
        up: Axis::from_zero(all),
        ..frame
    };
    grid(drawing, frame, false, units::rate);
    let mut key = vec![("achieved", BLUE)];
    frame.area(drawing, &achieved, BLUE);
    frame.line(drawing, &present(&achieved), BLUE, 2.0);
    if let (Some(offered), Some((last, _))) = (offered, achieved.last()) {
        // Dashed and on top, so that both are seen where they are the same.
        let points = vec![frame.place(0.0, offered), frame.place(*last, offered)];
        drawing.dashed(points, INK, 1.2);
        key.insert(0, ("offered", INK));
    }
    if summary.errors_total() > 0 {
        frame.line(drawing, &present(&failed), ORANGE, 2.0);
        key.push(("errors", ORANGE));
    }
    frame.key(drawing, "Operations", &key);
}

fn throughput(drawing: &mut Drawing, shown: &[Second], frame: Frame) {
    let up: Vec<_> = series(shown, |second| second.bytes_up as f64 * 8.0);
    let down: Vec<_> = series(shown, |second| second.bytes_down as f64 * 8.0);
    let frame = Frame {
        up: Axis::from_zero(up.iter().chain(&down).map(|(_, value)| *value)),
        ..frame
    };
    grid(drawing, frame, true, units::bits);
    for (values, colour) in [(&down, GREEN), (&up, BLUE)] {
        frame.area(drawing, values, colour);
        frame.line(drawing, &present(values), colour, 2.0);
    }
    frame.key(
        drawing,
        "Throughput, payload",
        &[("up", BLUE), ("down", GREEN)],
    );
}

fn grid(drawing: &mut Drawing, frame: Frame, has_words: bool, show: fn(f64) -> String) {
    frame.grid_up(drawing, show);
    let words = |second: f64| {
        if has_words {
            format!("{second} s")
        } else {
            String::new()
        }
    };
    let whole = frame
        .across
        .marks()
        .into_iter()
        .filter(|second| second.fract() == 0.0);
    let marks: Vec<_> = whole.map(|second| (second, words(second))).collect();
    frame.grid_across(drawing, &marks);
}

fn series(shown: &[Second], figure: fn(&Second) -> f64) -> Vec<(f64, f64)> {
    shown
        .iter()
        .map(|second| (f64::from(second.second), figure(second)))
        .collect()
}

fn present(values: &[(f64, f64)]) -> Vec<(f64, Option<f64>)> {
    values.iter().map(|(x, y)| (*x, Some(*y))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{super::sample, svg::svg};
    use super::*;

    #[test]
    fn a_second_behind_the_end_is_drawn_only_if_something_happened_in_it() {
        let mut summary = sample::summary();
        let seconds = summary.series.len();
        summary.elapsed_s = seconds as f64;
        summary.series.push(Second {
            second: seconds as u32,
            ..Second::default()
        });
        assert_eq!(shown(&summary).len(), seconds);
        summary.series[seconds].operations = 1;
        assert_eq!(shown(&summary).len(), seconds + 1);
    }

    #[test]
    fn bulk_alone_has_no_panel_of_latencies() {
        let mut summary = sample::summary();
        assert!(svg(&time_plot(&summary).expect("a drawing")).contains("Latency"));
        summary.run.offered_rate = None;
        for second in &mut summary.series {
            *second = Second {
                second: second.second,
                bytes_up: 1_000_000,
                ..Second::default()
            };
        }
        let text = svg(&time_plot(&summary).expect("a drawing"));
        assert!(!text.contains("Latency") && text.contains("Throughput"));
    }
}
