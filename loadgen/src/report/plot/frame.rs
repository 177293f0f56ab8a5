//! One panel of a plot: axes, grid and key; and the words above all panels.

use super::{
    super::{summary::Summary, units},
    axis::Axis,
    drawing::{Anchor, Colour, Drawing, FAINT_INK, GRID, INK, Shape},
    font::Font,
};

/// A panel: where it is and what its axes are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) left: f32,
    pub(super) top: f32,
    pub(super) width: f32,
    pub(super) height: f32,
    pub(super) across: Axis,
    pub(super) up: Axis,
}

impl Frame {
    pub(super) fn place(&self, x: f64, y: f64) -> (f32, f32) {
        (
            self.left + self.across.place(x) * self.width,
            self.top + (1.0 - self.up.place(y)) * self.height,
        )
    }

    /// Lines across at the marks, with their values.
    pub(super) fn grid_up(&self, drawing: &mut Drawing, show: impl Fn(f64) -> String) {
        for mark in self.up.marks() {
            let (_, y) = self.place(0.0, mark);
            drawing.line(vec![(self.left, y), (self.left + self.width, y)], GRID, 1.0);
            drawing.text(
                (self.left - 10.0, y + 4.0),
                &bare(&show(mark)),
                TEXT_SIZE,
                FAINT_INK,
                Anchor::End,
            );
        }
    }

    /// Lines up at `marks`, with their words under the panel if it has any.
    pub(super) fn grid_across(&self, drawing: &mut Drawing, marks: &[(f64, String)]) {
        for (mark, words) in marks {
            let x = self.left + self.across.place(*mark) * self.width;
            drawing.line(vec![(x, self.top), (x, self.top + self.height)], GRID, 1.0);
            drawing.text(
                (x, self.top + self.height + 20.0),
                words,
                TEXT_SIZE,
                FAINT_INK,
                Anchor::Middle,
            );
        }
    }

    /// A line through values, in pieces where some are missing.
    pub(super) fn line(
        &self,
        drawing: &mut Drawing,
        values: &[(f64, Option<f64>)],
        colour: Colour,
        width: f32,
    ) {
        for piece in values.split(|(_, y)| y.is_none()) {
            let points: Vec<_> = piece
                .iter()
                .filter_map(|(x, y)| Some(self.place(*x, (*y)?)))
                .collect();
            match points.as_slice() {
                [] => {}
                // A lone point is a short stroke, or it would not be seen.
                [(x, y)] => drawing.line(vec![(x - 2.0, *y), (x + 2.0, *y)], colour, width),
                _ => drawing.line(points, colour, width),
            }
        }
    }

    /// Fills what lies between values and the panel's foot.
    pub(super) fn area(&self, drawing: &mut Drawing, values: &[(f64, f64)], colour: Colour) {
        let (Some(first), Some(last)) = (values.first(), values.last()) else {
            return;
        };
        let foot = self.top + self.height;
        let mut points: Vec<_> = values.iter().map(|(x, y)| self.place(*x, *y)).collect();
        points.push((self.place(last.0, 0.0).0, foot));
        points.push((self.place(first.0, 0.0).0, foot));
        drawing.shapes.push(Shape::Area {
            points,
            colour,
            opacity: 0.12,
        });
    }

    /// The panel's name at its upper left, and what its lines are at its upper right.
    pub(super) fn key(&self, drawing: &mut Drawing, name: &str, lines: &[(&str, Colour)]) {
        drawing.heading((self.left, self.top - 10.0), name, 14.0);
        let font = Font::of_weight(false);
        let mut right = self.left + self.width;
        let y = self.top - 10.0;
        for (words, colour) in lines.iter().rev() {
            drawing.text((right, y), words, TEXT_SIZE, INK, Anchor::End);
            right -= font.width(words, TEXT_SIZE) + 8.0;
            drawing.line(
                vec![(right - 18.0, y - 4.0), (right, y - 4.0)],
                *colour,
                3.0,
            );
            right -= 18.0 + 20.0;
        }
    }
}

/// The words above all panels: what was run, and on what.
pub(super) fn heading(drawing: &mut Drawing, summary: &Summary) {
    let run = &summary.run;
    let rate = match run.offered_rate {
        Some(rate) => format!("{} model at {}", run.model.name(), units::rate(rate)),
        None => format!("{} model", run.model.name()),
    };
    let congestion = run
        .congestion_control
        .as_ref()
        .or(summary.machine.congestion_control.as_ref());
    let congestion = congestion.map_or("congestion control unknown", String::as_str);
    let title = format!("{}  ·  {}", run.profile, run.target);
    let plural = if run.connections == 1 { "" } else { "s" };
    let how = format!(
        "{rate}, {} connection{plural}, {congestion}, seed {}",
        units::count(run.connections as f64),
        run.seed
    );
    let warning = if summary.is_generator_bound() {
        "  ·  the generator itself was a limit"
    } else {
        ""
    };
    drawing.heading((MARGIN, 34.0), &title, 18.0);
    drawing.text((MARGIN, 54.0), &how, TEXT_SIZE, FAINT_INK, Anchor::Start);
    let machine = format!("{}{warning}", summary.machine.one_line());
    drawing.text(
        (MARGIN, 71.0),
        &machine,
        TEXT_SIZE,
        FAINT_INK,
        Anchor::Start,
    );
}

/// A mark's value without zeros behind its point: `1.00 ms` is `1 ms`.
fn bare(text: &str) -> String {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    };
    format!("{number} {unit}").trim_end().to_owned()
}

/// Left of all panels: room for the values of the marks.
pub(super) const PANEL_LEFT: f32 = 92.0;
pub(super) const PANEL_WIDTH: f32 = 828.0;
pub(super) const WIDTH: f32 = 960.0;
const MARGIN: f32 = 28.0;
const TEXT_SIZE: f32 = 12.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_have_no_idle_zeros() {
        for (text, mark) in [
            ("1.00 ms", "1 ms"),
            ("10.0 ms", "10 ms"),
            ("0 bit/s", "0 bit/s"),
            ("100 µs", "100 µs"),
            ("1.50 s", "1.5 s"),
            ("1,000/s", "1,000/s"),
        ] {
            assert_eq!(bare(text), mark);
        }
    }
}
