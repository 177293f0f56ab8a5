//! Credit for one connection: how far its peer may send. Not of the protocol that AWS documents.

use super::writer::{Route, Writer, varint_size};
use super::{Kind, MessageView, key};
use crate::limits::LENGTH_PREFIX_SIZE;

/// Says up to which byte of a connection its peer may send, counted from the connection's first one.
///
/// Both ends and the relay between them have to know it: only a relay that has said so in its
/// handshake answer ([`CREDIT_HEADER`](crate::handshake::CREDIT_HEADER)) is sent one. It is marked as
/// ignorable, so that who does not know it may drop it: without it the peer sends as much as it likes.
///
/// A message without stream and connection ([`Self::ANNOUNCEMENT`]) is to the relay: this side knows
/// what credit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit<'a> {
    /// The stream; 0 is left out.
    pub stream_id: i32,
    /// The service; empty is left out.
    pub service_id: &'a str,
    /// The connection; 0 is left out.
    pub connection_id: u32,
    /// The offset of the first byte that is not to be sent yet. It never falls, but that the largest
    /// number means none, until there is one again.
    pub limit: u64,
}

impl Credit<'static> {
    /// Tells a relay that this side keeps to credit.
    pub const ANNOUNCEMENT: Self = Self {
        stream_id: 0,
        service_id: "",
        connection_id: 0,
        limit: 0,
    };
}

impl Credit<'_> {
    /// Bytes of the encoded message, length prefix included: at most 166.
    pub fn size(&self) -> usize {
        let payload = 1 + varint_size(LIMIT_SIZE as u64) + LIMIT_SIZE;
        LENGTH_PREFIX_SIZE + self.route().size() + IGNORABLE.len() + payload
    }

    /// Appends the message, length prefix included.
    ///
    /// # Panics
    /// When the service id alone exceeds what the length prefix can say, 500 times its limit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.size(), 0);
        let message = &mut out[start..];
        let size = u16::try_from(message.len() - LENGTH_PREFIX_SIZE)
            .expect("a service id is at most 128 bytes");
        let mut writer = Writer::new(message);
        writer.bytes(&size.to_be_bytes());
        self.route().write(&mut writer);
        writer.bytes(&IGNORABLE);
        writer.number(key::PAYLOAD, LIMIT_SIZE as u64);
        writer.bytes(&self.limit.to_be_bytes());
        debug_assert!(writer.is_full());
    }

    /// The limit that a message of this kind carries; `None`: it carries none.
    pub fn limit_of(message: &MessageView<'_>) -> Option<u64> {
        Some(u64::from_be_bytes(message.payload.try_into().ok()?))
    }

    fn route(&self) -> Route<'_> {
        Route {
            kind: Kind::Credit,
            stream_id: self.stream_id,
            service_id: self.service_id,
            connection_id: self.connection_id,
        }
    }
}

/// The payload: the limit, big endian.
const LIMIT_SIZE: usize = size_of::<u64>();

/// The field that lets others drop the message.
const IGNORABLE: [u8; 2] = [key::IGNORABLE as u8, 1];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;
    use prost::Message as _;

    #[test]
    fn prost_reads_what_is_written() {
        for (stream_id, service_id, connection_id, limit) in [
            (1, "SSH", 2, 0x0102_0304_0506_0708),
            (i32::MAX, "", u32::MAX, u64::MAX),
            (0, "", 0, 0),
        ] {
            let credit = Credit {
                stream_id,
                service_id,
                connection_id,
                limit,
            };
            let mut bytes = Vec::new();
            credit.encode(&mut bytes);
            assert_eq!(bytes.len(), credit.size());
            let prefix = u16::from_be_bytes([bytes[0], bytes[1]]);
            assert_eq!(usize::from(prefix), bytes.len() - LENGTH_PREFIX_SIZE);
            let message = Message::decode(&bytes[LENGTH_PREFIX_SIZE..]).unwrap();
            assert!(message.ignorable);
            assert_eq!(message.r#type, Kind::Credit.raw());
            assert_eq!(message.stream_id, stream_id);
            assert_eq!(message.service_id, service_id);
            assert_eq!(message.connection_id, connection_id);
            assert_eq!(message.payload, limit.to_be_bytes());
            let view = MessageView::parse(&bytes[LENGTH_PREFIX_SIZE..]).unwrap();
            assert_eq!(Credit::limit_of(&view), Some(limit));
        }
    }

    #[test]
    fn a_payload_of_another_size_is_no_limit() {
        for size in [0, 7, 9] {
            let mut bytes = vec![key::PAYLOAD as u8, size];
            bytes.resize(2 + usize::from(size), 0);
            let view = MessageView::parse(&bytes).unwrap();
            assert_eq!(Credit::limit_of(&view), None);
        }
    }
}
