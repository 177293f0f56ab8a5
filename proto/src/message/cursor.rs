//! The protobuf wire grammar: keys, varints, lengths, and what is skipped.

use super::key;

/// What is left of a message.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next field's key. Keys of one byte are the rule; longer spellings of the same key mean the same.
    #[inline]
    pub(super) fn key(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| DecodeError::Key)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.rest {
            [byte @ 0..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    /// At most ten bytes, of which the tenth holds one bit; zero bits on top are allowed.
    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for (index, byte) in self.rest.iter().take(VARINT_SIZE_MAX).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                if index == VARINT_SIZE_MAX - 1 && *byte > 1 {
                    return Err(DecodeError::Varint);
                }
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < VARINT_SIZE_MAX {
            DecodeError::Truncated
        } else {
            DecodeError::Varint
        })
    }

    /// A length and that many bytes.
    #[inline]
    pub(super) fn delimited(&mut self) -> Result<&'a [u8], DecodeError> {
        let size = self.varint()?;
        self.take(size)
    }

    /// A length and that much UTF-8 text, of the field with this number.
    #[inline]
    pub(super) fn text(&mut self, field: u32) -> Result<&'a str, DecodeError> {
        str::from_utf8(self.delimited()?).map_err(|_| DecodeError::Text { field })
    }

    #[inline]
    fn take(&mut self, size: u64) -> Result<&'a [u8], DecodeError> {
        let size = usize::try_from(size).map_err(|_| DecodeError::Truncated)?;
        let (taken, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Passes over the value behind a key that is not one of a known field with its own wire type.
    pub(super) fn skip_unknown(&mut self, key: u32) -> Result<(), DecodeError> {
        let (field, wire_type) = (key >> 3, key & 7);
        if field == 0 {
            return Err(DecodeError::Key);
        }
        if field <= key::LAST_FIELD {
            return Err(DecodeError::WireType { field, wire_type });
        }
        self.skip_value(key, GROUP_DEPTH_MAX)
    }

    /// Passes over the value behind any key.
    pub(super) fn skip_value(&mut self, key: u32, depth: u32) -> Result<(), DecodeError> {
        if depth == 0 {
            return Err(DecodeError::Depth);
        }
        match key & 7 {
            VARINT => self.varint().map(drop),
            FIXED_64 => self.take(8).map(drop),
            DELIMITED => self.delimited().map(drop),
            GROUP_START => self.skip_group(key >> 3, depth),
            FIXED_32 => self.take(4).map(drop),
            // An end without a start, or a wire type that does not exist.
            wire_type => Err(DecodeError::WireType {
                field: key >> 3,
                wire_type,
            }),
        }
    }

    /// Groups are long deprecated, but they are part of the grammar that `prost` skips.
    fn skip_group(&mut self, field: u32, depth: u32) -> Result<(), DecodeError> {
        loop {
            let key = self.key()?;
            if key >> 3 == 0 {
                return Err(DecodeError::Key);
            }
            if key & 7 != GROUP_END {
                self.skip_value(key, depth - 1)?;
            } else if key >> 3 == field {
                return Ok(());
            } else {
                return Err(DecodeError::Group);
            }
        }
    }
}

/// Why bytes are no message. The peer's fault; the stream of messages cannot be trusted after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A value reaches past the end.
    #[error("message ends inside a field")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("number of more than 64 bits in a message")]
    Varint,
    /// A field number of 0, or of more than 29 bits.
    #[error("impossible field number in a message")]
    Key,
    /// A wire type that the field does not have, or that does not exist.
    #[error("field {field} has wire type {wire_type}")]
    WireType {
        /// The field's number.
        field: u32,
        /// The wire type, 0 to 7.
        wire_type: u32,
    },
    /// A text that is not UTF-8.
    #[error("text of field {field} is not UTF-8")]
    Text {
        /// The field's number.
        field: u32,
    },
    /// A group ends with another number than it started with.
    #[error("group in a message ends with the wrong field number")]
    Group,
    /// Groups nested too deeply.
    #[error("message nested deeper than {GROUP_DEPTH_MAX} levels")]
    Depth,
}

/// 64 bits in groups of seven.
const VARINT_SIZE_MAX: usize = 10;

/// Deepest nesting that is skipped: the limit of `prost`, so that both agree on what is a message.
pub(super) const GROUP_DEPTH_MAX: u32 = 100;

const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const DELIMITED: u32 = 2;
const GROUP_START: u32 = 3;
const GROUP_END: u32 = 4;
const FIXED_32: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(bytes: &[u8]) -> Result<(u64, usize), DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let value = cursor.varint()?;
        Ok((value, bytes.len() - cursor.remaining()))
    }

    #[test]
    fn varints_of_every_size() {
        assert_eq!(varint(&[0x00]), Ok((0, 1)));
        assert_eq!(varint(&[0x7f, 0xff]), Ok((127, 1)));
        assert_eq!(varint(&[0x80, 0x01]), Ok((128, 2)));
        assert_eq!(varint(&[0x80, 0xf8, 0x03]), Ok((64_512, 3)));
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(varint(&largest), Ok((u64::MAX, 10)));
        for size in 0..largest.len() {
            assert_eq!(varint(&largest[..size]), Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn varints_with_needless_bytes_are_read() {
        assert_eq!(varint(&[0x81, 0x00]), Ok((1, 2)));
        let mut bytes = [0x80; 10];
        bytes[9] = 0;
        assert_eq!(varint(&bytes), Ok((0, 10)));
    }

    #[test]
    fn varints_over_64_bits_are_refused() {
        let mut bytes = [0xff; 11];
        assert_eq!(varint(&bytes), Err(DecodeError::Varint));
        // No byte that may come would make one of these.
        assert_eq!(varint(&bytes[..10]), Err(DecodeError::Varint));
        bytes[9] = 0x02;
        assert_eq!(varint(&bytes), Err(DecodeError::Varint));
    }

    #[test]
    fn a_claimed_length_is_checked_against_what_is_there() {
        let mut cursor = Cursor::new(&[0x03, b'a', b'b', b'c']);
        assert_eq!(cursor.delimited(), Ok(&b"abc"[..]));
        let mut cursor = Cursor::new(&[0x04, b'a', b'b', b'c']);
        assert_eq!(cursor.delimited(), Err(DecodeError::Truncated));
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Cursor::new(&huge).delimited(), Err(DecodeError::Truncated));
    }
}
