//! Control frames: ping, pong and close, whole and at most 125 bytes.

use std::fmt;
use std::ops::Deref;

use super::{FrameError, FrameHeader, Opcode, mask};
use crate::limits::{MAX_CONTROL_PAYLOAD_SIZE, MAX_FRAME_HEADER_SIZE};

/// Why a WebSocket ends: the codes we send (RFC 6455 §7.4.1; wire specification, section 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The tunnel is over.
    Normal = 1000,
    /// This end goes away.
    GoingAway = 1001,
    /// The peer broke the WebSocket or tunnel protocol.
    Protocol = 1002,
    /// The peer sent text.
    Unsupported = 1003,
    /// The peer sent a text that is not UTF-8.
    InvalidData = 1007,
    /// The peer did what the tunnel does not allow.
    Policy = 1008,
    /// The peer sent a frame over the limit.
    TooBig = 1009,
    /// Our own fault.
    Internal = 1011,
}

impl CloseCode {
    /// The number of the wire.
    pub const fn code(self) -> u16 {
        self as u16
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.code()
    }
}

/// The payload of a control frame, held inline.
#[derive(Clone, Copy)]
pub struct ControlPayload {
    bytes: [u8; MAX_CONTROL_PAYLOAD_SIZE],
    /// Bytes in use. size <= MAX_CONTROL_PAYLOAD_SIZE
    size: u8,
}

impl ControlPayload {
    /// No bytes.
    pub const EMPTY: Self = Self {
        bytes: [0; MAX_CONTROL_PAYLOAD_SIZE],
        size: 0,
    };

    /// As much of `bytes` as fits; gives back how much that was.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let free = &mut self.bytes[usize::from(self.size)..];
        let taken = bytes.len().min(free.len());
        free[..taken].copy_from_slice(&bytes[..taken]);
        self.size += taken as u8;
        taken
    }

    pub(super) fn unmask(&mut self, key: [u8; 4]) {
        mask(key, 0, &mut self.bytes[..usize::from(self.size)]);
    }

    /// Drops the first `count` bytes, of which there are at least as many.
    fn without_front(&self, count: usize) -> Self {
        let mut rest = Self::EMPTY;
        rest.append(&self[count..]);
        rest
    }

    /// The code and reason in a close frame's payload (RFC 6455 §5.5.1, §7.4).
    pub(super) fn parse_close(&self) -> Result<(Option<u16>, Self), FrameError> {
        let [high, low, reason @ ..] = &self[..] else {
            return match self.is_empty() {
                true => Ok((None, Self::EMPTY)),
                false => Err(FrameError::CloseTruncated),
            };
        };
        let code = u16::from_be_bytes([*high, *low]);
        // 1004 is undefined; 1005, 1006 and 1015 stand for what was never sent; 1012 to 1014 are
        // registered since; 3000 to 4999 belong to frameworks and applications.
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(FrameError::CloseCode(code));
        }
        str::from_utf8(reason).map_err(|_| FrameError::CloseReason)?;
        Ok((Some(code), self.without_front(2)))
    }
}

impl Deref for ControlPayload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.size)]
    }
}

impl PartialEq for ControlPayload {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for ControlPayload {}

/// Shows the bytes as text, escaped.
impl fmt::Debug for ControlPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

/// Appends a control frame. With a mask (a client's), the payload is masked on the way.
///
/// # Panics
/// When `opcode` is not a control opcode or `payload` has more than 125 bytes.
pub fn write_control(opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    assert!(opcode.is_control(), "{opcode:?} is not a control frame");
    assert!(
        payload.len() <= MAX_CONTROL_PAYLOAD_SIZE,
        "control payload of {} bytes exceeds {MAX_CONTROL_PAYLOAD_SIZE}",
        payload.len()
    );
    let header = FrameHeader {
        fin: true,
        opcode,
        mask: key,
        payload_size: payload.len() as u64,
    };
    let mut head = [0; MAX_FRAME_HEADER_SIZE];
    let size = header.write(&mut head);
    out.extend_from_slice(&head[..size]);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask(key, 0, &mut out[start..]);
    }
}

/// Appends a close frame. A reason of more than 123 bytes is cut between two characters.
pub fn write_close(code: CloseCode, reason: &str, key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let mut payload = ControlPayload::EMPTY;
    payload.append(&code.code().to_be_bytes());
    let room = MAX_CONTROL_PAYLOAD_SIZE - payload.len();
    payload.append(&reason.as_bytes()[..reason.floor_char_boundary(room)]);
    write_control(Opcode::Close, &payload, key, out);
}
