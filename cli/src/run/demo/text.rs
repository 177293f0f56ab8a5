//! Rows of text with colours, whose width is known.

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// As the terminal has it.
    Plain,
    /// What the eye should find first.
    Strong,
    /// What frames the rest.
    Faint,
    /// What can be typed or dialled.
    Accent,
    /// All is well.
    Good,
    /// It is not.
    Bad,
}

impl Look {
    /// Its SGR parameters (ECMA-48, 8.3.117), from the 16 colours that every theme adapts.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Accent => "36",
            Self::Good => "32",
            Self::Bad => "31",
        }
    }
}

/// One row. Every character that is put into it is one column wide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row(Vec<(Look, String)>);

impl Row {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn and(mut self, look: Look, text: impl Into<String>) -> Self {
        self.0.push((look, text.into()));
        self
    }

    pub(super) fn plain(self, text: impl Into<String>) -> Self {
        self.and(Look::Plain, text)
    }

    pub(super) fn strong(self, text: impl Into<String>) -> Self {
        self.and(Look::Strong, text)
    }

    pub(super) fn faint(self, text: impl Into<String>) -> Self {
        self.and(Look::Faint, text)
    }

    pub(super) fn accent(self, text: impl Into<String>) -> Self {
        self.and(Look::Accent, text)
    }

    /// In columns.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// At most `width` columns of it; the last one says that something is missing.
    pub(super) fn cut(mut self, width: usize) -> Self {
        if self.width() <= width {
            return self;
        }
        let mut room = width.saturating_sub(1);
        for (_, text) in &mut self.0 {
            let kept: String = text.chars().take(room).collect();
            room -= kept.chars().count();
            *text = kept;
        }
        self.0.retain(|(_, text)| !text.is_empty());
        if width > 0 {
            self.0.push((Look::Faint, "…".into()));
        }
        self
    }

    /// The text, with colours if `color`.
    pub(super) fn paint(&self, color: bool) -> String {
        let mut painted = String::new();
        for (look, text) in &self.0 {
            if color && *look != Look::Plain {
                painted.push_str(&format!("\x1b[{}m{text}\x1b[0m", look.code()));
            } else {
                painted.push_str(text);
            }
        }
        painted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row::new().plain("ab ").strong("─▶ cd").faint(" ef")
    }

    #[test]
    fn colours_take_no_room_and_can_be_left_out() {
        assert_eq!(row().width(), 11);
        assert_eq!(row().paint(false), "ab ─▶ cd ef");
        assert_eq!(row().paint(true), "ab \x1b[1m─▶ cd\x1b[0m\x1b[2m ef\x1b[0m");
    }

    #[test]
    fn a_cut_row_has_exactly_the_width_and_says_so() {
        for width in 0..=14 {
            let cut = row().cut(width);
            assert_eq!(cut.width(), width.min(11));
            assert_eq!(cut.paint(false).ends_with('…'), (1..11).contains(&width));
        }
    }
}
