//! The head of a DATA message, written in front of a payload that stays where it is.

use super::writer::{Route, Writer, varint_size};
use super::{Kind, key};
use crate::limits::{LENGTH_PREFIX_SIZE, MAX_MESSAGE_SIZE, MAX_SERVICE_ID_SIZE};

/// Everything of a DATA message but its payload.
///
/// ```text
/// length (2) | type | stream id | service id | connection id | payload key, payload length | payload
/// `------------------------------ written here ------------------------------------------'
/// ```
///
/// Protobuf lets fields come in any order; with the payload last, no byte of it has to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader<'a> {
    /// The stream; 0 is left out.
    pub stream_id: i32,
    /// The service; empty is left out. At most [`MAX_SERVICE_ID_SIZE`] bytes for [`Self::MAX_SIZE`] to hold.
    pub service_id: &'a str,
    /// The connection; 0 is left out.
    pub connection_id: u32,
}

impl DataHeader<'_> {
    /// Largest header: prefix 2, type 2, stream id 11, service id 131, connection id 6, payload 4.
    pub const MAX_SIZE: usize = LENGTH_PREFIX_SIZE + 2 + 11 + (3 + MAX_SERVICE_ID_SIZE) + 6 + 4;

    /// Bytes in front of a payload of that size, length prefix included.
    #[inline]
    pub fn size(&self, payload_size: usize) -> usize {
        LENGTH_PREFIX_SIZE + self.route().size() + 1 + varint_size(payload_size as u64)
    }

    /// Fills `out` with the header; the payload follows directly behind it.
    ///
    /// # Panics
    /// When `out` is not exactly [`Self::size`] bytes, or header and payload together exceed
    /// [`MAX_MESSAGE_SIZE`]. Neither happens with a payload within
    /// [`MAX_PAYLOAD_SIZE`](crate::limits::MAX_PAYLOAD_SIZE) and a valid service id.
    #[inline]
    pub fn write(&self, payload_size: usize, out: &mut [u8]) {
        let message_size = (out.len() + payload_size).wrapping_sub(LENGTH_PREFIX_SIZE);
        assert!(
            message_size <= MAX_MESSAGE_SIZE,
            "DATA of {message_size} bytes exceeds what its length prefix can say"
        );
        let mut writer = Writer::new(out);
        writer.bytes(&(message_size as u16).to_be_bytes());
        self.route().write(&mut writer);
        writer.number(key::PAYLOAD, payload_size as u64);
        assert!(writer.is_full(), "the slice is exactly the header's size");
    }

    fn route(&self) -> Route<'_> {
        Route {
            kind: Kind::Data,
            stream_id: self.stream_id,
            service_id: self.service_id,
            connection_id: self.connection_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_PAYLOAD_SIZE;

    #[test]
    fn the_largest_header_is_max_size() {
        let header = DataHeader {
            stream_id: -1,
            service_id: &"s".repeat(MAX_SERVICE_ID_SIZE),
            connection_id: u32::MAX,
        };
        assert_eq!(header.size(MAX_PAYLOAD_SIZE), DataHeader::MAX_SIZE);
        let mut out = [0; DataHeader::MAX_SIZE];
        header.write(MAX_PAYLOAD_SIZE, &mut out);
    }

    #[test]
    #[should_panic(expected = "exceeds what its length prefix can say")]
    fn a_message_over_the_prefix_is_our_bug() {
        let header = DataHeader {
            stream_id: 1,
            service_id: "",
            connection_id: 0,
        };
        header.write(65_535, &mut vec![0; header.size(65_535)]);
    }

    #[test]
    #[should_panic(expected = "exactly the header's size")]
    fn a_slice_of_another_size_is_our_bug() {
        let header = DataHeader {
            stream_id: 1,
            service_id: "",
            connection_id: 0,
        };
        header.write(5, &mut vec![0; header.size(5) + 1]);
    }
}
