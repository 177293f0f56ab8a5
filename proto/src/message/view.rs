//! Reading a message in place.

use std::fmt;

use super::cursor::{Cursor, DecodeError, GROUP_DEPTH_MAX};
use super::{Kind, key};
use crate::ids::{Dialect, InvalidId, ServiceId};
use crate::limits::MAX_SERVICE_IDS;

/// One message, borrowed from the bytes it was read from. Nothing is allocated, however many fields
/// the bytes hold.
///
/// Fields come in any order; of a field that occurs twice the last value holds. Absent fields read as
/// zero or empty. The values are the peer's: only their form is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageView<'a> {
    /// What the message asks for.
    pub kind: Kind,
    /// The stream; 0 when absent, and any other number that the peer wrote.
    pub stream_id: i32,
    /// The connection; 0 when absent.
    pub connection_id: u32,
    /// The receiver may drop the message when it does not know the kind.
    pub ignorable: bool,
    /// The service; empty when absent. Not checked to be a [`ServiceId`].
    pub service_id: &'a str,
    /// Application bytes; empty when absent.
    pub payload: &'a [u8],
    /// Where `payload` starts in the parsed bytes; 0 when there is no payload field.
    pub payload_offset: usize,
    /// The message has a field that the protocol does not know. Senders must not do that (section 4).
    pub has_unknown_fields: bool,
    /// How many texts [`Self::available_service_ids`] gives.
    pub service_ids_count: usize,
    bytes: &'a [u8],
}

impl<'a> MessageView<'a> {
    /// Reads a whole message, without its length prefix.
    ///
    /// Accepts exactly what `prost` accepts; empty bytes are a message of kind `Unknown(0)`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut view = Self {
            kind: Kind::Unknown(0),
            stream_id: 0,
            connection_id: 0,
            ignorable: false,
            service_id: "",
            payload: &[],
            payload_offset: 0,
            has_unknown_fields: false,
            service_ids_count: 0,
            bytes,
        };
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() {
            // Numbers are cut to the field's width, as protobuf has it.
            match cursor.key()? {
                key::TYPE => view.kind = Kind::from_raw(cursor.varint()? as i32),
                key::STREAM_ID => view.stream_id = cursor.varint()? as i32,
                key::IGNORABLE => view.ignorable = cursor.varint()? != 0,
                key::PAYLOAD => {
                    view.payload = cursor.delimited()?;
                    view.payload_offset = bytes.len() - cursor.remaining() - view.payload.len();
                }
                key::SERVICE_ID => view.service_id = cursor.text(5)?,
                key::AVAILABLE_SERVICE_IDS => {
                    cursor.text(6)?;
                    view.service_ids_count += 1;
                }
                key::CONNECTION_ID => view.connection_id = cursor.varint()? as u32,
                unknown => {
                    cursor.skip_unknown(unknown)?;
                    view.has_unknown_fields = true;
                }
            }
        }
        Ok(view)
    }

    /// The dialect this message shows (section 6.1).
    pub fn dialect(&self) -> Dialect {
        Dialect::of(!self.service_id.is_empty(), self.connection_id)
    }

    /// The services that a SERVICE_IDS message names, as the peer wrote them: in order, with
    /// duplicates, unchecked. Borrowed, so thousands of empty names cost nothing.
    pub fn available_service_ids(&self) -> AvailableServiceIds<'a> {
        AvailableServiceIds {
            cursor: Cursor::new(self.bytes),
            count: self.service_ids_count,
        }
    }

    /// The services that a SERVICE_IDS message names, checked, without duplicates (section 5.1).
    ///
    /// Refuses more than [`MAX_SERVICE_IDS`] names before it makes the first.
    pub fn service_ids(&self) -> Result<Vec<ServiceId>, InvalidServiceIds> {
        if self.service_ids_count > MAX_SERVICE_IDS {
            return Err(InvalidServiceIds::TooMany {
                count: self.service_ids_count,
            });
        }
        let mut ids = Vec::with_capacity(self.service_ids_count);
        for text in self.available_service_ids() {
            let id = ServiceId::try_from(text)?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }
}

/// Shows the payload's size only: application bytes do not belong in a log.
impl fmt::Debug for MessageView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageView")
            .field("kind", &self.kind)
            .field("stream_id", &self.stream_id)
            .field("connection_id", &self.connection_id)
            .field("ignorable", &self.ignorable)
            .field("service_id", &self.service_id)
            .field("payload_size", &self.payload.len())
            .field("service_ids_count", &self.service_ids_count)
            .field("has_unknown_fields", &self.has_unknown_fields)
            .finish()
    }
}

/// Iterator over the names in a SERVICE_IDS message. See [`MessageView::available_service_ids`].
#[derive(Clone)]
pub struct AvailableServiceIds<'a> {
    cursor: Cursor<'a>,
    /// Names still to come; 0 stops the walk over the message.
    count: usize,
}

impl<'a> AvailableServiceIds<'a> {
    fn find_next(&mut self) -> Result<&'a str, DecodeError> {
        loop {
            match self.cursor.key()? {
                key::AVAILABLE_SERVICE_IDS => return self.cursor.text(6),
                other => self.cursor.skip_value(other, GROUP_DEPTH_MAX)?,
            }
        }
    }
}

impl<'a> Iterator for AvailableServiceIds<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.count = self.count.checked_sub(1)?;
        // `parse` read these bytes to the end and counted, so there is no error here.
        self.find_next().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for AvailableServiceIds<'_> {}

/// Why a list of services cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidServiceIds {
    /// More names than any tunnel has.
    #[error("{count} services in one tunnel exceed the limit of {MAX_SERVICE_IDS}")]
    TooMany {
        /// How many names the message has.
        count: usize,
    },
    /// A name that is no service id.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

/// Parses any bytes and compares with `prost`: same verdict, same values, and the same again after
/// encoding what was read.
pub fn fuzz_parse(bytes: &[u8]) {
    use prost::Message as _;

    let owned = crate::wire::Message::decode(bytes);
    let Ok(view) = MessageView::parse(bytes) else {
        assert!(owned.is_err(), "prost accepts what the view refuses");
        return;
    };
    let owned = owned.expect("prost accepts what the view accepts");
    assert!(view.is_same_as(&owned), "{view:?} is not {owned:?}");
    if !view.payload.is_empty() {
        let end = view.payload_offset + view.payload.len();
        assert_eq!(&bytes[view.payload_offset..end], view.payload);
    }
    let encoded = owned.encode_to_vec();
    let again = MessageView::parse(&encoded).expect("prost encodes what the view accepts");
    assert!(again.is_same_as(&owned) && !again.has_unknown_fields);
}

impl MessageView<'_> {
    fn is_same_as(&self, owned: &crate::wire::Message) -> bool {
        self.kind.raw() == owned.r#type
            && self.stream_id == owned.stream_id
            && self.connection_id == owned.connection_id
            && self.ignorable == owned.ignorable
            && self.service_id == owned.service_id
            && self.payload == owned.payload
            && self
                .available_service_ids()
                .eq(&owned.available_service_ids)
    }
}

#[cfg(test)]
mod tests;
