//! Standard output of the demo: rows that stay, and below them an area that changes in place.

use std::io::{self, IsTerminal as _, Write as _};

use tracing::level_filters::LevelFilter;

use super::text::Row;
use crate::world::World;

/// Columns where nobody says how many there are.
const WIDTH_DEFAULT: usize = 80;

/// Rows of the smallest terminal that is reckoned with.
const HEIGHT_DEFAULT: usize = 24;

/// Where the demo shows itself.
#[derive(Debug)]
pub(super) struct Screen {
    color: bool,
    in_place: bool,
    /// What the area shows now; empty when it does not exist.
    area: String,
}

impl Screen {
    pub(super) fn new(world: &World) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_dumb = world.variable("TERM").is_some_and(|term| term == "dumb");
        // A log that tells of every step would be written into the area.
        let is_quiet = LevelFilter::current() <= LevelFilter::WARN;
        Self {
            color: world.wants_color(is_terminal),
            in_place: is_terminal && !is_dumb && is_quiet,
            area: String::new(),
        }
    }

    /// Whether there is an area that can change.
    pub(super) fn is_live(&self) -> bool {
        self.in_place
    }

    /// Columns to write into.
    pub(super) fn width(&self) -> usize {
        self.size().0
    }

    /// Writes rows that stay.
    pub(super) fn print(&mut self, rows: &[Row]) {
        self.clear();
        let mut text = String::new();
        for row in rows {
            text.push_str(row.paint(self.color).trim_end());
            text.push('\n');
        }
        write(&text);
    }

    /// Shows `rows` in the area, of which the first should be empty: the cursor rests there, so that
    /// a line of the log, or a key that is pressed, spoils nothing; what comes next is below it.
    pub(super) fn show(&mut self, rows: &[Row]) {
        // The last row must not scroll what is above.
        let height = self.size().1.saturating_sub(1).max(1);
        let shown = &rows[..rows.len().min(height)];
        let painted: Vec<String> = shown.iter().map(|row| row.paint(self.color)).collect();
        let area = painted.join("\x1b[K\n");
        if area == self.area {
            return;
        }
        let mut text = format!("\r{area}\x1b[J");
        if shown.len() > 1 {
            text.push_str(&format!("\x1b[{}A", shown.len() - 1));
        }
        text.push('\r');
        // One write, nothing erased before it is written again: so it does not flicker.
        write(&text);
        self.area = area;
    }

    /// Takes the area away.
    pub(super) fn clear(&mut self) {
        if !self.area.is_empty() {
            self.area.clear();
            write("\r\x1b[J");
        }
    }

    /// Columns and rows; asked each time, since windows change.
    fn size(&self) -> (usize, usize) {
        match terminal_size::terminal_size_of(io::stdout()) {
            Some((width, height)) if self.in_place => (width.0.into(), height.0.into()),
            _ => (WIDTH_DEFAULT, HEIGHT_DEFAULT),
        }
    }
}

/// Writes what can be written: a reader that went away is no failure.
fn write(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}
