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
    let last = summary.series.last()?;
    let seconds = f64::from(last.second).max(1.0);
    let mut drawing = Drawing::new(WIDTH, 760.0, format!("Seconds of {}", summary.run.profile));
    heading(&mut drawing, summary);
    latency(&mut drawing, summary, frame(122.0, 230.0, seconds));
    rate(&mut drawing, summary, frame(402.0, 120.0, seconds));
    throughput(&mut drawing, summary, frame(572.0, 130.0, seconds));
    Some(drawing)
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

fn latency(drawing: &mut Drawing, summary: &Summary, frame: Frame) {
    type Figure = fn(&Second) -> u64;
    let lines: [(Figure, Colour, f32); 3] = [
        (|second| second.max_ns, SILVER, 1.5),
        (|second| second.p99_ns, ORANGE, 2.0),
        (|second| second.p50_ns, BLUE, 2.5),
    ];
    let all = lines
        .iter()
        .flat_map(|(figure, ..)| summary.series.iter().map(|second| figure(second) as f64));
    let frame = Frame {
        up: Axis::logarithmic(all),
        ..frame
    };
    grid(drawing, frame, false, units::time);
    for (figure, colour, width) in lines {
        // A second without an operation has no latency, which is not the same as none at all.
        let value = |second: &Second| (second.operations > 0).then(|| figure(second) as f64);
        let values: Vec<_> = summary
            .series
            .iter()
            .map(|second| (f64::from(second.second), value(second)))
            .collect();
        frame.line(drawing, &values, colour, width);
    }
    let key = [("p50", BLUE), ("p99", ORANGE), ("longest", SILVER)];
    frame.key(drawing, "Latency, from the intended start", &key);
}

fn rate(drawing: &mut Drawing, summary: &Summary, frame: Frame) {
    let achieved: Vec<_> = series(summary, |second| second.operations as f64);
    let failed: Vec<_> = series(summary, |second| second.errors_total() as f64);
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

fn throughput(drawing: &mut Drawing, summary: &Summary, frame: Frame) {
    let up: Vec<_> = series(summary, |second| second.bytes_up as f64 * 8.0);
    let down: Vec<_> = series(summary, |second| second.bytes_down as f64 * 8.0);
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

fn series(summary: &Summary, figure: fn(&Second) -> f64) -> Vec<(f64, f64)> {
    summary
        .series
        .iter()
        .map(|second| (f64::from(second.second), figure(second)))
        .collect()
}

fn present(values: &[(f64, f64)]) -> Vec<(f64, Option<f64>)> {
    values.iter().map(|(x, y)| (*x, Some(*y))).collect()
}
