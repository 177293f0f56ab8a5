//! Latency over percentiles, with the last ones stretched: each nine takes the same room.

use super::{
    super::{latency::Latency, summary::Summary, units},
    axis::Axis,
    drawing::{BLUE, Drawing, ORANGE},
    frame::{Frame, PANEL_LEFT, PANEL_WIDTH, WIDTH, heading},
};

/// The percentile plot; `None` where no operation ended well.
#[must_use]
pub(crate) fn percentile_plot(summary: &Summary) -> Option<Drawing> {
    if summary.corrected.spectrum.is_empty() {
        return None;
    }
    let latencies = [
        (&summary.uncorrected, ORANGE, 2.0),
        (&summary.corrected, BLUE, 2.5),
    ];
    let nines = nines_of(summary.corrected.count);
    let values = latencies
        .iter()
        .flat_map(|(latency, _, _)| latency.spectrum.iter().map(|step| step.value_ns as f64));
    let frame = Frame {
        left: PANEL_LEFT,
        top: 122.0,
        width: PANEL_WIDTH,
        height: 372.0,
        across: Axis::Linear {
            min: 0.0,
            max: nines,
        },
        up: Axis::logarithmic(values),
    };
    let mut drawing = Drawing::new(
        WIDTH,
        540.0,
        format!("Latency percentiles of {}", summary.run.profile),
    );
    heading(&mut drawing, summary);
    frame.grid_up(&mut drawing, units::time);
    frame.grid_across(&mut drawing, &marks(nines));
    for (latency, colour, width) in latencies {
        frame.line(&mut drawing, &points(latency, nines), colour, width);
    }
    let key = [
        ("from the intended start", BLUE),
        ("uncorrected: from the actual start", ORANGE),
    ];
    frame.key(&mut drawing, "Latency by percentile", &key);
    Some(drawing)
}

/// Nines that so many operations can tell: the last step is one operation.
fn nines_of(count: u64) -> f64 {
    (count as f64).log10().ceil().clamp(1.0, 9.0)
}

fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-12).log10()
}

fn points(latency: &Latency, most: f64) -> Vec<(f64, Option<f64>)> {
    let point = |step: &super::super::latency::Step| {
        (nines(step.percentile).min(most), Some(step.value_ns as f64))
    };
    latency.spectrum.iter().map(point).collect()
}

fn marks(most: f64) -> Vec<(f64, String)> {
    let names = [
        "0 %",
        "50 %",
        "75 %",
        "90 %",
        "95 %",
        "99 %",
        "99.9 %",
        "99.99 %",
        "99.999 %",
        "99.9999 %",
        "99.99999 %",
    ];
    let marked = names.into_iter().map(|name| {
        let percentile: f64 = name
            .trim_end_matches(" %")
            .parse()
            .expect("the names are numbers");
        (nines(percentile), name.to_owned())
    });
    // With many nines, the first would lie on each other.
    let is_shown = |place: f64| {
        place <= most + 1e-9 && (most < 5.0 || place.fract() < 1e-6 || place.fract() > 0.999_999)
    };
    let is_half = |name: &str| name == "50 %";
    marked
        .filter(|(place, name)| is_shown(*place) || is_half(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nine_takes_the_same_room() {
        assert!((nines(99.0) - 2.0).abs() < 1e-9 && (nines(99.9) - 3.0).abs() < 1e-9);
        assert_eq!(
            (nines_of(5_000), nines_of(1), nines_of(1_000_000)),
            (4.0, 1.0, 6.0)
        );
        let names: Vec<String> = marks(6.0).into_iter().map(|(_, name)| name).collect();
        assert_eq!(
            names,
            [
                "0 %",
                "50 %",
                "90 %",
                "99 %",
                "99.9 %",
                "99.99 %",
                "99.999 %",
                "99.9999 %"
            ]
        );
    }
}
