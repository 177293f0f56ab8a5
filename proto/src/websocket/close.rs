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

/// The payload of a control frame: at most 125 bytes.
///
/// On the heap when not empty, because control frames are rare and [`super::FrameEvent`] is not.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ControlPayload(Vec<u8>);

impl ControlPayload {
    /// Takes in `bytes`, of which the caller has checked that they fit.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        debug_assert!(self.len() + bytes.len() <= MAX_CONTROL_PAYLOAD_SIZE);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn unmask(&mut self, key: [u8; 4]) {
        mask(key, 0, &mut self.0);
    }

    /// The code and reason in a close frame's payload (RFC 6455 §5.5.1, §7.4).
    pub(super) fn parse_close(mut self) -> Result<(Option<u16>, Self), FrameError> {
        let [high, low, reason @ ..] = &self[..] else {
            return match self.is_empty() {
                true => Ok((None, self)),
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
        self.0.drain(..2);
        Ok((Some(code), self))
    }
}

impl Deref for ControlPayload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

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
    let room = MAX_CONTROL_PAYLOAD_SIZE - 2;
    let mut payload = code.code().to_be_bytes().to_vec();
    payload.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(room)]);
    write_control(Opcode::Close, &payload, key, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(bytes: &[u8]) -> ControlPayload {
        ControlPayload(bytes.to_vec())
    }

    #[test]
    fn close_payloads_are_read() {
        let parse = |bytes: &[u8]| payload(bytes).parse_close();
        assert_eq!(parse(&[]), Ok((None, payload(b""))));
        assert_eq!(parse(&[0x03, 0xe8]), Ok((Some(1000), payload(b""))));
        assert_eq!(parse(b"\x03\xe8bye"), Ok((Some(1000), payload(b"bye"))));
        assert_eq!(parse(&[0x03]), Err(FrameError::CloseTruncated));
        assert_eq!(parse(b"\x03\xe8\xc3\x28"), Err(FrameError::CloseReason));
    }

    #[test]
    fn close_codes_are_those_that_may_be_sent() {
        for code in 0..=u16::MAX {
            let parsed = payload(&code.to_be_bytes()).parse_close();
            let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            assert_eq!(parsed.is_ok(), allowed, "{code}");
            assert!(allowed || parsed == Err(FrameError::CloseCode(code)));
        }
    }

    #[test]
    fn control_frames_are_written() {
        let mut out = Vec::new();
        write_control(Opcode::Ping, b"", None, &mut out);
        write_control(
            Opcode::Pong,
            b"Hello",
            Some([0x37, 0xfa, 0x21, 0x3d]),
            &mut out,
        );
        write_close(CloseCode::Normal, "", None, &mut out);
        assert_eq!(u16::from(CloseCode::Normal), 0x03e8);
        // The masked pong is an example of RFC 6455 §5.7.
        let expected = [
            &[0x89, 0x00][..],
            &[
                0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
            ],
            &[0x88, 0x02, 0x03, 0xe8],
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        write_close(CloseCode::Policy, &"é".repeat(100), None, &mut out);
        assert_eq!(out[..4], [0x88, 124, 0x03, 0xf0]);
        assert_eq!(str::from_utf8(&out[4..]), Ok("é".repeat(61).as_str()));
    }

    #[test]
    #[should_panic(expected = "exceeds 125")]
    fn a_long_control_payload_is_our_bug() {
        write_control(Opcode::Ping, &[0; 126], None, &mut Vec::new());
    }

    #[test]
    #[should_panic(expected = "is not a control frame")]
    fn a_data_opcode_is_our_bug() {
        write_control(Opcode::Binary, &[], None, &mut Vec::new());
    }

    #[test]
    fn debug_escapes() {
        assert_eq!(format!("{:?}", payload(b"a\x1b\n")), r#""a\x1b\n""#);
    }
}
