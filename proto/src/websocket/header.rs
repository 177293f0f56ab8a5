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
