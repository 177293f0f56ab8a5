//! Writing the messages that carry no application bytes.

use super::writer::{Route, Writer, varint_size};
use super::{Kind, key};
use crate::ids::ServiceId;
use crate::limits::{LENGTH_PREFIX_SIZE, MAX_MESSAGE_SIZE};

/// A message that starts or ends a stream, a connection or a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control<'a> {
    /// What the message asks for.
    pub kind: Kind,
    /// The stream; 0 is left out.
    pub stream_id: i32,
    /// The service; empty is left out.
    pub service_id: &'a str,
    /// The connection; 0 is left out. STREAM_RESET must not carry one (wire specification, section 5.3).
    pub connection_id: u32,
}

impl Control<'_> {
    /// Bytes of the encoded message, length prefix included.
    pub fn size(&self) -> usize {
        LENGTH_PREFIX_SIZE + self.route().size()
    }

    /// Appends the message, length prefix included.
    ///
    /// # Panics
    /// When the service id alone exceeds [`MAX_MESSAGE_SIZE`], 500 times its limit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.size(), 0);
        let message = &mut out[start..];
        let prefix = length_prefix(message.len() - LENGTH_PREFIX_SIZE);
        let mut writer = Writer::new(message);
        writer.bytes(&prefix);
        self.route().write(&mut writer);
        debug_assert!(writer.is_full());
    }

    fn route(&self) -> Route<'_> {
        Route {
            kind: self.kind,
            stream_id: self.stream_id,
            service_id: self.service_id,
            connection_id: self.connection_id,
        }
    }
}

/// Appends a SERVICE_IDS message, length prefix included.
///
/// # Panics
/// When the message exceeds [`MAX_MESSAGE_SIZE`]: never with up to
/// [`MAX_SERVICE_IDS`](crate::limits::MAX_SERVICE_IDS) services.
pub fn encode_service_ids<'a>(
    ids: impl Iterator<Item = &'a ServiceId>,
    ignorable: bool,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend([0; LENGTH_PREFIX_SIZE]);
    out.extend([key::TYPE as u8, Kind::ServiceIds.raw() as u8]);
    if ignorable {
        out.extend([key::IGNORABLE as u8, 1]);
    }
    for id in ids {
        let text = id.as_str();
        let text_size = text.len() as u64;
        let field_start = out.len();
        out.resize(field_start + 1 + varint_size(text_size) + text.len(), 0);
        Writer::new(&mut out[field_start..]).text(key::AVAILABLE_SERVICE_IDS, text);
    }
    let prefix = length_prefix(out.len() - start - LENGTH_PREFIX_SIZE);
    out[start..start + LENGTH_PREFIX_SIZE].copy_from_slice(&prefix);
}

fn length_prefix(message_size: usize) -> [u8; LENGTH_PREFIX_SIZE] {
    assert!(
        message_size <= MAX_MESSAGE_SIZE,
        "message of {message_size} bytes exceeds what its length prefix can say"
    );
    (message_size as u16).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_SERVICE_IDS;

    #[test]
    fn the_most_and_longest_services_fit() {
        let id: ServiceId = "s".repeat(128).parse().unwrap();
        let mut out = Vec::new();
        encode_service_ids(vec![&id; MAX_SERVICE_IDS].into_iter(), true, &mut out);
        assert_eq!(out.len(), 2 + 4 + 128 * 131);
    }

    #[test]
    #[should_panic(expected = "exceeds what its length prefix can say")]
    fn a_message_over_the_prefix_is_our_bug() {
        let id: ServiceId = "s".repeat(128).parse().unwrap();
        encode_service_ids(vec![&id; 501].into_iter(), false, &mut Vec::new());
    }
}
