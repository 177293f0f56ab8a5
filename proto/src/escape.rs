//! Text of a peer, made safe for a terminal or a log.

use std::fmt::{self, Write};

/// Shows a text with every character escaped that could move a cursor, start an escape sequence, begin
/// a new log line or turn the reading direction around. Everything else is left as it is.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if is_hazardous(character) {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Bytes as text: invalid UTF-8 becomes the replacement character, the rest is as [`Escaped`] shows it.
pub fn escape_bytes(bytes: &[u8]) -> String {
    Escaped(&String::from_utf8_lossy(bytes)).to_string()
}

fn is_hazardous(character: char) -> bool {
    character.is_control()
        // Line and paragraph separators; marks, embeddings, overrides and isolates of direction.
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_survives() {
        let all: String = (0..=0x9f).filter_map(char::from_u32).collect();
        let shown = Escaped(&all).to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(shown.contains("\\u{1b}") && shown.contains("\\n"));
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", "Invalid access token: used", "grüß 漢字 \\ \"'"] {
            assert_eq!(Escaped(text).to_string(), text);
        }
        assert_eq!(
            Escaped("a\u{202e}b\u{2028}").to_string(),
            "a\\u{202e}b\\u{2028}"
        );
        assert_eq!(escape_bytes(b"a\xffb\x07"), "a\u{fffd}b\\u{7}");
    }
}
