//! The percentile plot and the time plot, each as SVG and as PNG from one drawing.
//!
//! A drawing is a list of shapes; two small files turn it into text or into pixels. Letters come
//! from a font in the binary, so that a machine without fonts draws the same picture.

mod axis;
mod drawing;
mod font;
mod frame;
mod percentiles;
mod png;
mod svg;
mod time;

use std::{fs, io, path::Path};

use percentiles::percentile_plot;
use png::png;
use svg::svg;
use time::time_plot;

use super::summary::Summary;

/// Names of the plots' files, without their endings `.svg` and `.png`.
pub const PLOT_FILES: [&str; 2] = ["percentiles", "time"];

/// Writes all plots that the summary has data for into `directory`.
///
/// # Errors
/// A file cannot be written; the error names it.
pub(crate) fn write(directory: &Path, summary: &Summary) -> io::Result<()> {
    for (name, drawing) in PLOT_FILES
        .into_iter()
        .zip([percentile_plot(summary), time_plot(summary)])
    {
        let Some(drawing) = drawing else { continue };
        for (ending, bytes) in [("svg", svg(&drawing).into_bytes()), ("png", png(&drawing)?)] {
            let path = directory.join(format!("{name}.{ending}"));
            fs::write(&path, bytes).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn plots_can_be_read_and_say_what_they_show() {
        let summary = sample::summary();
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), &summary).expect("plots");
        for (name, words) in [
            ("percentiles", ["99.9 %", "uncorrected"]),
            ("time", ["offered", "p99"]),
        ] {
            let text =
                fs::read_to_string(directory.path().join(format!("{name}.svg"))).expect("an SVG");
            let document = roxmltree::Document::parse(&text).expect("well-formed XML");
            let letters: String = document
                .descendants()
                .filter_map(|node| node.text())
                .collect();
            for word in words {
                assert!(letters.contains(word), "{name}: {letters}");
            }
            assert!(!text.contains("NaN") && !text.contains("inf"), "{name}");
            let bytes = fs::read(directory.path().join(format!("{name}.png"))).expect("a PNG");
            let pixels = tiny_skia::Pixmap::decode_png(&bytes).expect("a PNG");
            let colours: std::collections::HashSet<_> = pixels
                .pixels()
                .iter()
                .map(|it| (it.red(), it.blue()))
                .collect();
            assert!(
                pixels.width() >= 1920 && colours.len() > 100,
                "{name}: {} colours",
                colours.len()
            );
        }
    }

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        assert!(percentile_plot(&Summary::default()).is_none());
        assert!(time_plot(&Summary::default()).is_none());
    }

    /// A series without an operation, of one second, or of one value has axes all the same.
    #[test]
    fn odd_series_are_drawn() {
        let mut summary = sample::summary();
        summary.series.truncate(1);
        summary.series[0] = super::super::Second::default();
        summary.run.offered_rate = None;
        let text = svg(&time_plot(&summary).expect("a drawing"));
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        summary.corrected.spectrum.truncate(1);
        summary.uncorrected = super::super::Latency::default();
        let text = svg(&percentile_plot(&summary).expect("a drawing"));
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
