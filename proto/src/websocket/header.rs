//! Frame headers: two to fourteen bytes.

use super::FrameError;
use crate::limits::MAX_CONTROL_PAYLOAD_SIZE;

/// What a frame is (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// The next part of a fragmented message.
    Continuation = 0x0,
    /// Text: parsed, and then refused by [`super::FrameReader`].
    Text = 0x1,
    /// Tunnel bytes.
    Binary = 0x2,
    /// The sender is done.
    Close = 0x8,
    /// To be answered with the same payload.
    Ping = 0x9,
    /// The answer to a ping.
    Pong = 0xa,
}

impl Opcode {
    /// The opcode of the wire number, of which there are sixteen.
    pub const fn from_raw(raw: u8) -> Option<Self> {
        Some(match raw {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// The number of the wire.
    pub const fn raw(self) -> u8 {
        self as u8
    }

    /// Close, ping and pong: short, whole, allowed between the parts of a message.
    pub const fn is_control(self) -> bool {
        self.raw() & 0x8 != 0
    }
}

/// A decoded frame header.
///
/// ```text
/// FIN RSV1-3 opcode(4) | MASK length(7) | length 16 or 64, big endian | mask (4)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The last part of its message.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The key its payload is masked with.
    pub mask: Option<[u8; 4]>,
    /// Bytes that follow the header, below 2^63.
    pub payload_size: u64,
}

impl FrameHeader {
    /// Reads a header and gives its size; `Ok(None)` means "need more bytes".
    ///
    /// Strict: no reserved bits, the shortest length form, control frames whole and at most 125 bytes.
    /// What is wrong is reported as soon as the byte that shows it is there.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let [first, ..] = *bytes else {
            return Ok(None);
        };
        let fin = first & FIN != 0;
        if first & RESERVED != 0 {
            return Err(FrameError::ReservedBits);
        }
        let raw = first & OPCODE;
        let Some(opcode) = Opcode::from_raw(raw) else {
            return Err(FrameError::ReservedOpcode(raw));
        };
        // RFC 6455 §5.5: control frames MUST NOT be fragmented.
        if opcode.is_control() && !fin {
            return Err(FrameError::ControlFragmented);
        }
        let [_, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let short = second & LENGTH;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL_PAYLOAD_SIZE {
            return Err(FrameError::ControlTooBig);
        }
        let Some((payload_size, rest)) = parse_length(short, rest)? else {
            return Ok(None);
        };
        let (mask, rest) = if second & MASK == 0 {
            (None, rest)
        } else if let Some((key, rest)) = rest.split_first_chunk() {
            (Some(*key), rest)
        } else {
            return Ok(None);
        };
        let header = Self {
            fin,
            opcode,
            mask,
            payload_size,
        };
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// Bytes that [`Self::write`] writes.
    #[inline]
    pub const fn size(&self) -> usize {
        let length = match self.payload_size {
            ..MIN_LENGTH_16 => 0,
            MIN_LENGTH_16..MIN_LENGTH_64 => 2,
            _ => 8,
        };
        2 + length + if self.mask.is_some() { 4 } else { 0 }
    }

    /// Writes the header to the front of `out` and gives its size.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::size`].
    #[inline]
    pub fn write(&self, out: &mut [u8]) -> usize {
        let size = self.size();
        let out = &mut out[..size];
        out[0] = if self.fin { FIN } else { 0 } | self.opcode.raw();
        let mask_bit = if self.mask.is_some() { MASK } else { 0 };
        match self.payload_size {
            short @ ..MIN_LENGTH_16 => out[1] = mask_bit | short as u8,
            medium @ MIN_LENGTH_16..MIN_LENGTH_64 => {
                out[1] = mask_bit | LENGTH_IS_16;
                out[2..4].copy_from_slice(&(medium as u16).to_be_bytes());
            }
            long => {
                out[1] = mask_bit | LENGTH_IS_64;
                out[2..10].copy_from_slice(&long.to_be_bytes());
            }
        }
        if let Some(key) = self.mask {
            out[size - 4..].copy_from_slice(&key);
        }
        size
    }
}

#[inline]
fn parse_length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, FrameError> {
    let (size, rest, minimum) = match short {
        LENGTH_IS_16 => match rest.split_first_chunk() {
            Some((bytes, rest)) => (u16::from_be_bytes(*bytes).into(), rest, MIN_LENGTH_16),
            None => return Ok(None),
        },
        LENGTH_IS_64 => match rest.split_first_chunk() {
            Some((bytes, rest)) => (u64::from_be_bytes(*bytes), rest, MIN_LENGTH_64),
            None => return Ok(None),
        },
        _ => (u64::from(short), rest, 0),
    };
    if size < minimum {
        return Err(FrameError::LengthNotMinimal(size));
    }
    if size >> 63 != 0 {
        return Err(FrameError::LengthTopBit);
    }
    Ok(Some((size, rest)))
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const LENGTH_IS_16: u8 = 126;
const LENGTH_IS_64: u8 = 127;
/// Smallest length that needs two bytes of its own.
const MIN_LENGTH_16: u64 = 126;
/// Smallest length that needs eight.
const MIN_LENGTH_64: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(opcode: Opcode, mask: Option<[u8; 4]>, payload_size: u64) -> FrameHeader {
        FrameHeader {
            fin: true,
            opcode,
            mask,
            payload_size,
        }
    }

    /// Also: every cut of the header asks for more, and nothing behind it matters.
    fn assert_is(bytes: &[u8], expected: FrameHeader) {
        let mut out = [0; 14];
        assert_eq!(expected.write(&mut out), bytes.len());
        assert_eq!(&out[..bytes.len()], bytes);
        assert_eq!(expected.size(), bytes.len());
        let parsed = Ok(Some((expected, bytes.len())));
        assert_eq!(FrameHeader::parse(bytes), parsed);
        assert_eq!(FrameHeader::parse(&[bytes, &[0xff]].concat()), parsed);
        for size in 0..bytes.len() {
            assert_eq!(FrameHeader::parse(&bytes[..size]), Ok(None), "{size}");
        }
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        use Opcode::Binary;
        for (bytes, size) in [
            (&[0x82, 0x00][..], 0),
            (&[0x82, 0x7d], 125),
            (&[0x82, 0x7e, 0x00, 0x7e], 126),
            (&[0x82, 0x7e, 0xff, 0xff], 65_535),
            (&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
            (&[0x82, 0x7f, 0, 0, 0, 0, 0, 2, 0, 4], 131_076),
            (
                &[0x82, 0x7f, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                u64::MAX >> 1,
            ),
        ] {
            assert_is(bytes, header(Binary, None, size));
            let key = [0x37, 0xfa, 0x21, 0x3d];
            let mut masked = bytes.to_vec();
            masked[1] |= 0x80;
            masked.extend(key);
            assert_is(&masked, header(Binary, Some(key), size));
        }
    }

    #[test]
    fn a_control_frame_has_up_to_125_bytes() {
        assert_is(&[0x89, 0x7d], header(Opcode::Ping, None, 125));
        let longer = FrameHeader::parse(&[0x89, 0x7e, 0x00, 0x7e]);
        assert_eq!(longer, Err(FrameError::ControlTooBig));
    }

    #[test]
    fn fin_and_opcodes() {
        for (first, opcode) in [
            (0x80, Opcode::Continuation),
            (0x81, Opcode::Text),
            (0x82, Opcode::Binary),
            (0x88, Opcode::Close),
            (0x89, Opcode::Ping),
            (0x8a, Opcode::Pong),
        ] {
            assert_is(&[first, 0x05], header(opcode, None, 5));
            assert_eq!(opcode.is_control(), first >= 0x88);
            let open = FrameHeader {
                fin: false,
                ..header(opcode, None, 5)
            };
            if opcode.is_control() {
                let parsed = FrameHeader::parse(&[first & 0x7f]);
                assert_eq!(parsed, Err(FrameError::ControlFragmented));
            } else {
                assert_is(&[first & 0x7f, 0x05], open);
            }
        }
    }

    #[test]
    fn reserved_bits_and_opcodes_are_refused_at_the_first_byte() {
        for bit in [0x40, 0x20, 0x10] {
            assert_eq!(
                FrameHeader::parse(&[0x82 | bit]),
                Err(FrameError::ReservedBits)
            );
        }
        for raw in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            let parsed = FrameHeader::parse(&[0x80 | raw]);
            assert_eq!(parsed, Err(FrameError::ReservedOpcode(raw)));
        }
    }

    #[test]
    fn longer_forms_than_needed_are_refused() {
        for (bytes, size) in [
            (&[0x82, 0x7e, 0x00, 0x00][..], 0),
            (&[0x82, 0x7e, 0x00, 0x7d], 125),
            (&[0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0, 1], 1),
            (&[0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 65_535),
        ] {
            assert_eq!(
                FrameHeader::parse(bytes),
                Err(FrameError::LengthNotMinimal(size))
            );
        }
    }

    #[test]
    fn a_length_with_the_top_bit_is_refused() {
        let mut bytes = [0xff; 10];
        bytes[0] = 0x82;
        bytes[1] = 0x7f;
        assert_eq!(FrameHeader::parse(&bytes), Err(FrameError::LengthTopBit));
        bytes[2..].fill(0);
        bytes[2] = 0x80;
        assert_eq!(FrameHeader::parse(&bytes), Err(FrameError::LengthTopBit));
    }

    #[test]
    fn control_frames_have_short_lengths_only() {
        for opcode in [0x88, 0x89, 0x8a] {
            for length in [0x7e, 0x7f, 0xfe, 0xff] {
                let parsed = FrameHeader::parse(&[opcode, length]);
                assert_eq!(parsed, Err(FrameError::ControlTooBig));
            }
        }
    }
}
