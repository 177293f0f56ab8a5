//! Answers as people read them: columns, times, states.

use std::io::{self, IsTerminal as _, Write as _};

use adit_proto::escape::Escaped;

use super::trouble::Trouble;
use crate::world::World;

/// Where it is printed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Paper {
    /// Columns of the terminal; `None`: a file or a pipe, where nothing is cut.
    pub(super) width: Option<usize>,
    pub(super) color: bool,
}

/// What a cell looks like, where there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Look {
    #[default]
    Plain,
    Good,
    Dim,
}

/// One text, already escaped.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    text: String,
    look: Look,
}

/// Rows under a header; the last column gives way where a terminal is too narrow.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Paper {
    /// Standard output.
    pub(crate) fn of_stdout(world: &World) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let size = terminal_size::terminal_size_of(io::stdout()).filter(|_| is_terminal);
        Self {
            width: size.map(|(terminal_size::Width(width), _)| usize::from(width)),
            color: world.wants_color(is_terminal),
        }
    }
}

impl Cell {
    /// A text of a peer or a user.
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: Escaped(text).to_string(),
            look: Look::Plain,
        }
    }

    pub(super) fn look(mut self, look: Look) -> Self {
        self.look = look;
        self
    }

    /// A word like `OPEN` or `CONNECTED`, in small letters: green when something lives.
    pub(super) fn state(word: &str) -> Self {
        let look = match word {
            "OPEN" | "CONNECTED" | "ACTIVE" => Look::Good,
            _ => Look::Dim,
        };
        Self::new(&word.to_ascii_lowercase()).look(look)
    }
}

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        let header = header.iter().map(|name| Cell::new(name).look(Look::Dim));
        Self {
            rows: vec![header.collect()],
        }
    }

    /// As many cells as the header has.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub(super) fn render(&self, paper: Paper) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let mut widths = vec![0; columns];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        if let (Some(paper), Some((last, others))) = (paper.width, widths.split_last_mut()) {
            let taken: usize = others.iter().map(|width| width + GAP.len()).sum();
            *last = (*last).min(paper.saturating_sub(taken).max(LAST_WIDTH_MIN));
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let shown = cut(&cell.text, *width);
                let padding = width - shown.chars().count();
                line.push_str(&painted(&shown, cell.look, paper.color));
                if at + 1 < row.len() {
                    line.push_str(&" ".repeat(padding));
                    line.push_str(GAP);
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A list of names and values, one a line.
pub(super) fn fields(fields: &[(&str, Cell)], paper: Paper) -> String {
    let width = fields
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    let line = |(name, cell): &(&str, Cell)| {
        let name = painted(&format!("{name:width$}"), Look::Dim, paper.color);
        format!("{name}  {}\n", painted(&cell.text, cell.look, paper.color))
    };
    fields.iter().map(line).collect()
}

/// A span of seconds in its one or two largest units: `45s`, `3m`, `2h 05m`, `4d`.
pub(super) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m"),
        3_600..86_400 => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d"),
    }
}

/// Prints what a program asked for; a closed pipe is the reader's choice.
///
/// # Errors
/// Standard output takes no more.
pub(super) fn print(text: &str) -> Result<(), Trouble> {
    match write(text) {
        Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(unwritten),
    }
}

/// Prints what nobody can ask for again. Where the reader has gone, it is lost.
///
/// # Errors
/// Standard output takes no more, or is a pipe that nobody reads.
pub(super) fn print_once(text: &str) -> Result<(), Trouble> {
    write(text).map_err(unwritten)
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn unwritten(fault: io::Error) -> Trouble {
    Trouble::failure(format_args!("standard output cannot be written: {fault}"))
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

fn painted(text: &str, look: Look, color: bool) -> String {
    match look {
        _ if !color => text.to_owned(),
        Look::Plain => text.to_owned(),
        Look::Good => format!("\u{1b}[32m{text}\u{1b}[0m"),
        Look::Dim => format!("\u{1b}[2m{text}\u{1b}[0m"),
    }
}

const GAP: &str = "  ";
const LAST_WIDTH_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ID", "STATUS", "DESCRIPTION"]);
        table.row(vec![
            Cell::new("a"),
            Cell::state("OPEN"),
            Cell::new("the lamp in the hall"),
        ]);
        table.row(vec![
            Cell::new("bbbb"),
            Cell::state("CLOSED"),
            Cell::new(""),
        ]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_text_does() {
        let expected = "\
ID    STATUS  DESCRIPTION
a     open    the lamp in the hall
bbbb  closed
";
        assert_eq!(table().render(Paper::default()), expected);
    }

    #[test]
    fn a_narrow_terminal_cuts_the_last_column_only() {
        for (width, description) in [
            (34, "the lamp in the hall"),
            (30, "the lamp in the…"),
            (5, "the lam…"),
        ] {
            let paper = Paper {
                width: Some(width),
                color: false,
            };
            let text = table().render(paper);
            let line = text.lines().nth(1).unwrap();
            assert_eq!(line, format!("a     open    {description}"), "{width}");
        }
    }

    #[test]
    fn colours_do_not_disturb_the_columns() {
        let paper = Paper {
            width: None,
            color: true,
        };
        let text = table().render(paper);
        let mut bare = text.clone();
        for code in ["\u{1b}[32m", "\u{1b}[2m", "\u{1b}[0m"] {
            bare = bare.replace(code, "");
        }
        let trimmed: Vec<&str> = bare.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n") + "\n", table().render(Paper::default()));
        assert!(text.contains("\u{1b}[32mopen"));
    }

    #[test]
    fn texts_of_others_cannot_move_the_cursor() {
        let mut table = Table::new(&["A"]);
        table.row(vec![Cell::new("x\u{1b}[2Jy\nz")]);
        let text = table.render(Paper::default());
        assert!(!text.contains('\u{1b}') && text.lines().count() == 2);
    }

    #[test]
    fn spans_have_their_largest_units() {
        for (seconds, text) in [
            (-5, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m"),
            (3_600, "1h 00m"),
            (7_500, "2h 05m"),
            (90_000, "1d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
