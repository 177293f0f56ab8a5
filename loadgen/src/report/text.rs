//! Lines with colours that can be left away, bars and sparklines.

use std::fmt::Write as _;

/// How a piece of text looks where colours are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Bold,
    Dim,
    Accent,
    Good,
    Warning,
    Bad,
}

impl Style {
    /// The parameters of its escape sequence (ECMA-48, SGR).
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Accent => "36",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
        }
    }
}

/// One line, put together from pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Vec<(Style, String)>);

impl Line {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub(crate) fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// Columns it takes. All that is written here is one column wide for each character.
    pub(crate) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// The line, cut to `width` columns, with or without colours.
    pub(crate) fn render(&self, width: usize, has_colour: bool) -> String {
        let mut out = String::new();
        let mut left = width;
        for (style, text) in &self.0 {
            let cut: String = text.chars().take(left).collect();
            left -= cut.chars().count();
            if cut.is_empty() {
                continue;
            }
            if has_colour && *style != Style::Plain {
                write!(out, "\x1b[{}m{cut}\x1b[0m", style.code())
                    .expect("a String takes everything");
            } else {
                out.push_str(&cut);
            }
        }
        if has_colour {
            out
        } else {
            out.trim_end().to_owned()
        }
    }
}

/// A bar for `share` (0 to 1) of `width` columns; whatever is more than nothing is seen.
pub(crate) fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    if width == 0 {
        return String::new();
    }
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let mut text = "█".repeat(eighths / 8);
    if let Some(rest) = (eighths % 8).checked_sub(1) {
        text.push(EIGHTHS[rest]);
    }
    text
}

/// The last `width` values as a row of small bars, over the largest of them.
pub(crate) fn sparkline(values: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &values[values.len().saturating_sub(width)..];
    let max = shown.iter().copied().fold(0.0, f64::max);
    let level = |value: f64| {
        if max > 0.0 {
            (value.max(0.0) / max * 7.0).round() as usize
        } else {
            0
        }
    };
    shown.iter().map(|value| BARS[level(*value)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_by_columns_not_by_bytes() {
        let line = Line::new()
            .with(Style::Plain, "p50 ")
            .with(Style::Good, "24.1 µs")
            .with(Style::Dim, " │ rest");
        assert_eq!(line.width(), 18);
        assert_eq!(line.render(10, false), "p50 24.1 µ");
        assert_eq!(
            line.render(12, true),
            "p50 \x1b[32m24.1 µs\x1b[0m\x1b[2m \x1b[0m"
        );
        assert_eq!(line.render(80, false), "p50 24.1 µs │ rest");
        assert_eq!(line.render(0, true), "");
    }

    #[test]
    fn bars_have_their_length() {
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(0.0, 4), "");
        assert_eq!(bar(1.0, 0), "");
        assert_eq!(bar(1e-9, 4), "▏");
        assert_eq!(bar(0.3, 4), "█▎");
    }

    #[test]
    fn a_sparkline_shows_the_newest() {
        assert_eq!(sparkline(&[9.0, 0.0, 1.0, 2.0], 3), "▁▅█");
        assert_eq!(sparkline(&[0.0, 0.0], 3), "▁▁");
        assert_eq!(sparkline(&[], 3), "");
    }
}
