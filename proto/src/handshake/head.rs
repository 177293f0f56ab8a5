//! What requests and responses have in common: finding the end, asking for headers.

use httparse::{Error, Header};

use super::HeadError;

/// Where the head that begins at `start` ends: behind its empty line. Never looks past `max` bytes
/// from the beginning of everything.
///
/// The verdict on a prefix never changes when more bytes come.
pub(super) fn find_end(bytes: &[u8], start: usize, max: usize) -> Result<Option<usize>, HeadError> {
    let head = &bytes[..bytes.len().min(max)];
    let mut line = start;
    while let Some(size) = find_line_end(&head[line..]) {
        match head[line + size..] {
            [b'\r', b'\n', ..] if size == 0 && line > start => return Ok(Some(line + 2)),
            [b'\r', b'\n', ..] => line += size + 2,
            // The LF may still come.
            [b'\r'] => break,
            _ => return Err(HeadError::LineBreak),
        }
    }
    if bytes.len() >= max {
        return Err(HeadError::TooLong { max });
    }
    Ok(None)
}

/// Where the first CR or LF is.
///
/// A slow client makes us look at the same bytes up to 4,096 times, so whole words are passed over
/// first: a byte-wise search costs 5 ms for such a client, this one less than 1.
fn find_line_end(bytes: &[u8]) -> Option<usize> {
    let (words, _) = bytes.as_chunks();
    let plain = words.iter().position(|word| has_line_end(*word));
    let skipped = 8 * plain.unwrap_or(words.len());
    let found = bytes[skipped..]
        .iter()
        .position(|byte| matches!(byte, b'\r' | b'\n'))?;
    Some(skipped + found)
}

/// Whether a byte up to CR is among eight: subtracting one more than CR from each makes its top bit
/// set where it was not. A borrow can only reach a byte behind one that was found already.
fn has_line_end(word: [u8; 8]) -> bool {
    let word = u64::from_le_bytes(word);
    word.wrapping_sub(ONES * (b'\r' as u64 + 1)) & !word & (ONES << 7) != 0
}

/// A one in each byte.
const ONES: u64 = u64::MAX / 0xff;

impl From<Error> for HeadError {
    fn from(error: Error) -> Self {
        match error {
            Error::TooManyHeaders => Self::TooManyFields,
            Error::HeaderName => Self::Malformed("bad header name"),
            Error::HeaderValue => Self::Malformed("bad header value"),
            Error::NewLine => Self::Malformed("bad line end"),
            Error::Status => Self::Malformed("bad status line"),
            Error::Token => Self::Malformed("bad request line"),
            Error::Version => Self::Malformed("not HTTP/1.x"),
        }
    }
}

/// The header fields of a parsed head.
#[derive(Clone, Copy)]
pub(super) struct Fields<'h, 'b>(pub(super) &'h [Header<'b>]);

impl<'h, 'b> Fields<'h, 'b> {
    /// Every value of a header, names compared without regard to case.
    pub(super) fn all(self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value.trim_ascii())
    }

    pub(super) fn has(self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The value of a header that is there exactly once.
    pub(super) fn only(self, name: &str) -> Option<&'b [u8]> {
        let mut values = self.all(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// The elements of a comma-separated header, over all its lines.
    pub(super) fn elements(self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// Whether a comma-separated header has a token, compared without regard to case.
    pub(super) fn has_token(self, name: &str, token: &str) -> bool {
        self.elements(name)
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// Whether a text can stand in a header line: printable ASCII.
pub(super) fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_the_first_empty_line() {
        assert_eq!(find_end(b"a\r\n\r\nb\r\n\r\n", 0, 100), Ok(Some(5)));
        assert_eq!(find_end(b"\r\n\r\n", 0, 100), Ok(Some(4)));
        let long = [&[b'x'; 61][..], b"\tx\r\ny\r\n\r\n"].concat();
        assert_eq!(find_end(&long, 0, 100), Ok(Some(long.len())));
        for size in 0..5 {
            assert_eq!(find_end(&b"a\r\n\r\n"[..size], 0, 100), Ok(None), "{size}");
        }
    }

    #[test]
    fn whole_words_are_passed_over_unless_a_byte_up_to_cr_is_in_them() {
        for place in 0..8 {
            for byte in 0..=u8::MAX {
                let mut word = *b"x-amz: \xff";
                word[place] = byte;
                assert_eq!(has_line_end(word), byte <= b'\r', "{byte} at {place}");
            }
        }
    }

    #[test]
    fn the_limit_counts_the_empty_line() {
        assert_eq!(find_end(b"a\r\n\r\n", 0, 5), Ok(Some(5)));
        assert_eq!(
            find_end(b"a\r\n\r\n", 0, 4),
            Err(HeadError::TooLong { max: 4 })
        );
        assert_eq!(
            find_end(b"a\r\n\r", 0, 4),
            Err(HeadError::TooLong { max: 4 })
        );
        assert_eq!(find_end(b"a\r\n", 0, 4), Ok(None));
    }

    #[test]
    fn a_second_head_is_searched_within_the_same_limit() {
        let two = b"a\r\n\r\nb\r\n\r\n";
        assert_eq!(find_end(two, 5, 10), Ok(Some(10)));
        assert_eq!(find_end(two, 5, 9), Err(HeadError::TooLong { max: 9 }));
        assert_eq!(find_end(&two[..9], 5, 10), Ok(None));
        assert_eq!(
            find_end(&two[..5], 5, 5),
            Err(HeadError::TooLong { max: 5 })
        );
    }

    #[test]
    fn half_line_ends_are_refused_at_once() {
        for bad in ["\n", "a\n", "a\r\n\n", "a\rb", "a\r\r\n"] {
            assert_eq!(
                find_end(bad.as_bytes(), 0, 100),
                Err(HeadError::LineBreak),
                "{bad:?}"
            );
        }
        assert_eq!(find_end(b"a\r", 0, 100), Ok(None));
    }
}
