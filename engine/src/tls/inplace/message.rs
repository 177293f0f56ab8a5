//! Handshake messages after the handshake: tickets and key updates (RFC 8446 §4.6).

use super::super::RecordError;

/// Reads handshake messages from the contents of records, in whatever pieces they come, and
/// keeps nothing of them but what it must know: four bytes of header and a count.
#[derive(Debug, Default)]
pub(super) struct MessageReader {
    header: [u8; MESSAGE_HEADER_SIZE],
    /// Bytes of the header that have come. 0 <= header_size <= 4
    header_size: usize,
    /// Bytes of the body that are still to come, once the header is complete.
    body_left: usize,
    last_byte: u8,
}

/// A message that has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// Ignored: a proxy connects so seldom that resuming would save nothing.
    Ticket,
    /// The peer has changed its keys.
    KeyUpdate {
        /// It wants us to change ours.
        requested: bool,
    },
}

impl MessageReader {
    /// Whether no message has been begun and not ended.
    pub(super) fn is_between_messages(&self) -> bool {
        self.header_size == 0
    }

    /// Reads on until a message ends or `content` is used up; advances `content`.
    pub(super) fn read(
        &mut self,
        content: &mut &[u8],
        from_server: bool,
    ) -> Result<Option<Message>, RecordError> {
        while self.header_size < MESSAGE_HEADER_SIZE {
            let Some((&byte, rest)) = content.split_first() else {
                return Ok(None);
            };
            *content = rest;
            self.header[self.header_size] = byte;
            self.header_size += 1;
            if self.header_size == 1 {
                check_type(byte, from_server)?;
            }
            if self.header_size == MESSAGE_HEADER_SIZE {
                self.body_left = self.checked_body_size()?;
            }
        }
        let (body, rest) = content.split_at(self.body_left.min(content.len()));
        *content = rest;
        self.body_left -= body.len();
        self.last_byte = body.last().copied().unwrap_or(self.last_byte);
        if self.body_left > 0 {
            return Ok(None);
        }
        self.header_size = 0;
        self.finish().map(Some)
    }

    fn checked_body_size(&self) -> Result<usize, RecordError> {
        let [kind, a, b, c] = self.header;
        let size = u32::from_be_bytes([0, a, b, c]) as usize;
        match kind {
            NEW_SESSION_TICKET if size > TICKET_MAX => Err(RecordError::Malformed("a ticket")),
            KEY_UPDATE if size != 1 => Err(RecordError::Malformed("a key update")),
            _ => Ok(size),
        }
    }

    fn finish(&self) -> Result<Message, RecordError> {
        if self.header[0] == NEW_SESSION_TICKET {
            return Ok(Message::Ticket);
        }
        match self.last_byte {
            0 => Ok(Message::KeyUpdate { requested: false }),
            1 => Ok(Message::KeyUpdate { requested: true }),
            // RFC 8446 §4.6.3: any other value MUST be answered with "illegal_parameter".
            _ => Err(RecordError::IllegalParameter("a key update")),
        }
    }
}

fn check_type(kind: u8, from_server: bool) -> Result<(), RecordError> {
    match kind {
        KEY_UPDATE => Ok(()),
        // RFC 8446 §4.6.1: tickets go from the server to the client.
        NEW_SESSION_TICKET if from_server => Ok(()),
        // RFC 8446 §4.6.2: a client that has not offered post-handshake authentication MUST
        // answer a request for it with "unexpected_message".
        _ => Err(RecordError::Unexpected(
            "a handshake message after the handshake",
        )),
    }
}

const MESSAGE_HEADER_SIZE: usize = 4;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// The largest NewSessionTicket there can be: lifetime 4, age 4, nonce 1 + 255,
/// ticket 2 + 65,535, extensions 2 + 65,534 (RFC 8446 §4.6.1).
const TICKET_MAX: usize = 131_337;

/// The message "I change my keys, you need not change yours".
pub(super) const KEY_UPDATE_NOT_REQUESTED: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(pieces: &[&[u8]], from_server: bool) -> Result<Vec<Message>, RecordError> {
        let mut reader = MessageReader::default();
        let mut messages = Vec::new();
        for mut piece in pieces.iter().copied() {
            while !piece.is_empty() {
                messages.extend(reader.read(&mut piece, from_server)?);
            }
        }
        assert!(reader.is_between_messages());
        Ok(messages)
    }

    #[test]
    fn messages_are_read_in_any_pieces() {
        let ticket = [&[4, 0, 1, 0][..], &[7; 256]].concat();
        let bytes = [&ticket[..], &[24, 0, 0, 1, 0], &ticket, &[24, 0, 0, 1, 1]].concat();
        let expected = [
            Message::Ticket,
            Message::KeyUpdate { requested: false },
            Message::Ticket,
            Message::KeyUpdate { requested: true },
        ];
        for size in 1..=bytes.len() {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(
                read_all(&pieces, true).unwrap(),
                expected,
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn what_may_not_come_is_refused_by_its_first_bytes() {
        // type, from server, bytes
        let cases: [(&[u8], bool); 7] = [
            (&[4], false),          // a ticket from a client
            (&[13], true),          // CertificateRequest
            (&[0], true),           // HelloRequest
            (&[1], false),          // ClientHello: renegotiation
            (&[24, 0, 0, 2], true), // a key update of two bytes
            (&[24, 0, 0, 0], true), // and of none
            (&[4, 2, 1, 10], true), // a ticket of 131,338 bytes
        ];
        for (bytes, from_server) in cases {
            read_all(&[bytes], from_server).expect_err(&format!("{bytes:?}"));
        }
        let value = read_all(&[&[24, 0, 0, 1, 2]], true);
        assert_eq!(value, Err(RecordError::IllegalParameter("a key update")));
    }
}
