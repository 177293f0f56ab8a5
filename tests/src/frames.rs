//! WebSocket frames written literally, legal or not (RFC 6455, section 5.2).

/// Which end of a WebSocket a test plays: a client masks what it sends, a server does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The one that connected.
    Client,
    /// The one that was connected to.
    Server,
}

/// Continuation of a fragmented message.
pub const CONTINUATION: u8 = 0x0;
/// A text message, forbidden in this protocol.
pub const TEXT: u8 = 0x1;
/// A binary message.
pub const BINARY: u8 = 0x2;
/// Close.
pub const CLOSE: u8 = 0x8;
/// Ping.
pub const PING: u8 = 0x9;
/// Pong.
pub const PONG: u8 = 0xa;

/// The key that tests mask with: the one of the specification's example, section 16.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One final frame as this end writes it.
#[must_use]
pub fn frame(end: End, opcode: u8, payload: &[u8]) -> Vec<u8> {
    part(end, true, opcode, payload)
}

/// One frame that may have the rest of its message behind it.
#[must_use]
pub fn part(end: End, is_final: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(end, is_final, opcode, payload.len() as u64);
    match end {
        End::Server => bytes.extend(payload),
        End::Client => {
            let key = MASK.iter().cycle();
            bytes.extend(payload.iter().zip(key).map(|(byte, key)| byte ^ key));
        }
    }
    bytes
}

/// The size of a payload in its shortest form, with the bit that says whether it is masked (RFC 6455, section 5.2).
pub fn push_size(is_masked: bool, size: u64, bytes: &mut Vec<u8>) {
    let masked = u8::from(is_masked) << 7;
    match size {
        0..=125 => bytes.push(masked | size as u8),
        126..=0xffff => {
            bytes.push(masked | 126);
            bytes.extend((size as u16).to_be_bytes());
        }
        _ => {
            bytes.push(masked | 127);
            bytes.extend(size.to_be_bytes());
        }
    }
}

/// A header that claims a payload of `size` bytes, with the mask where this end masks.
#[must_use]
pub fn header(end: End, is_final: bool, opcode: u8, size: u64) -> Vec<u8> {
    let mut bytes = vec![if is_final { 0x80 | opcode } else { opcode }];
    push_size(end == End::Client, size, &mut bytes);
    if end == End::Client {
        bytes.extend(MASK);
    }
    bytes
}

/// One message cut into a first frame, continuations and a last one of at most `size`
/// bytes each.
#[must_use]
pub fn fragmented(end: End, payload: &[u8], size: usize) -> Vec<u8> {
    let count = payload.chunks(size).len();
    let parts = payload.chunks(size).enumerate().map(|(index, chunk)| {
        let opcode = if index == 0 { BINARY } else { CONTINUATION };
        part(end, index + 1 == count, opcode, chunk)
    });
    parts.flatten().collect()
}

/// The payload of a close frame.
#[must_use]
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Message, v3};

    /// The WebSocket examples of section 16.
    #[test]
    fn the_worked_frames_come_out_byte_for_byte() {
        let message = Message::data(v3("SSH", 1, 1), "hello").prefixed();
        let server = frame(End::Server, BINARY, &message);
        assert_eq!(server[..4], [0x82, 0x14, 0x00, 0x12]);
        let client = frame(End::Client, BINARY, &message);
        assert_eq!(
            client[..10],
            [0x82, 0x94, 0x37, 0xfa, 0x21, 0x3d, 0x37, 0xe8, 0x29, 0x3c]
        );
    }

    #[test]
    fn fragments_carry_opcode_first_and_final_last() {
        let bytes = fragmented(End::Server, b"abcde", 2);
        let expected = [0x02, 2, b'a', b'b', 0x00, 2, b'c', b'd', 0x80, 1, b'e'];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn sizes_take_the_shortest_form() {
        for (size, length) in [(125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            assert_eq!(header(End::Server, true, BINARY, size).len(), length);
        }
    }
}
