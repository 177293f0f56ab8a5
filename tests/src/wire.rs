//! The tunnel message as the specification's section 4 defines it, for the tests alone.
//!
//! It is declared here by hand and encoded by `prost`, so that neither the product's
//! schema nor its hand-written DATA codec judges itself.

use std::fmt;

use anyhow::{Context, Result, ensure};
use prost::Message as _;

/// The largest payload that a DATA message may carry, in bytes.
pub const PAYLOAD_MAX: usize = 64_512;

/// The largest WebSocket frame payload, in bytes.
pub const FRAME_PAYLOAD_MAX: usize = 131_076;

/// What a message is about: field 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
#[expect(missing_docs, reason = "the specification's own words, section 4")]
pub enum Kind {
    Unknown = 0,
    Data = 1,
    StreamStart = 2,
    StreamReset = 3,
    SessionReset = 4,
    ServiceIds = 5,
    ConnectionStart = 6,
    ConnectionReset = 7,
}

/// One tunnel message, any field of which a test may set to anything.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[expect(missing_docs, reason = "the specification's own words, section 4")]
pub struct Message {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(int32, tag = "2")]
    pub stream_id: i32,
    #[prost(bool, tag = "3")]
    pub ignorable: bool,
    #[prost(bytes = "vec", tag = "4")]
    pub payload: Vec<u8>,
    #[prost(string, tag = "5")]
    pub service_id: String,
    #[prost(string, repeated, tag = "6")]
    pub available_service_ids: Vec<String>,
    #[prost(uint32, tag = "7")]
    pub connection_id: u32,
}

/// The address of a message: which service, stream and connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// Empty in V1, and in a tunnel without services.
    pub service: &'a str,
    /// Never 0 in a valid message.
    pub stream: i32,
    /// 0 in V1 and V2.
    pub connection: u32,
}

/// The address of a V3 message.
#[must_use]
pub const fn v3(service: &str, stream: i32, connection: u32) -> Route<'_> {
    Route {
        service,
        stream,
        connection,
    }
}

/// The address of a V2 message.
#[must_use]
pub const fn v2(service: &str, stream: i32) -> Route<'_> {
    v3(service, stream, 0)
}

/// The address of a V1 message.
#[must_use]
pub const fn v1(stream: i32) -> Route<'static> {
    v3("", stream, 0)
}

impl Message {
    /// A message of this kind with this address and nothing else.
    #[must_use]
    pub fn new(kind: Kind, route: Route<'_>) -> Self {
        Self {
            kind: kind as i32,
            stream_id: route.stream,
            service_id: route.service.to_owned(),
            connection_id: route.connection,
            ..Self::default()
        }
    }

    /// DATA.
    #[must_use]
    pub fn data(route: Route<'_>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            payload: payload.into(),
            ..Self::new(Kind::Data, route)
        }
    }

    /// STREAM_START.
    #[must_use]
    pub fn stream_start(route: Route<'_>) -> Self {
        Self::new(Kind::StreamStart, route)
    }

    /// STREAM_RESET; it carries no connection ID, whatever the address says (section 5.3).
    #[must_use]
    pub fn stream_reset(route: Route<'_>) -> Self {
        let route = Route {
            connection: 0,
            ..route
        };
        Self::new(Kind::StreamReset, route)
    }

    /// CONNECTION_START.
    #[must_use]
    pub fn connection_start(route: Route<'_>) -> Self {
        Self::new(Kind::ConnectionStart, route)
    }

    /// CONNECTION_RESET.
    #[must_use]
    pub fn connection_reset(route: Route<'_>) -> Self {
        Self::new(Kind::ConnectionReset, route)
    }

    /// SESSION_RESET.
    #[must_use]
    pub fn session_reset() -> Self {
        Self::new(Kind::SessionReset, v1(0))
    }

    /// SERVICE_IDS.
    #[must_use]
    pub fn service_ids(services: &[&str]) -> Self {
        let services = services.iter().map(|service| (*service).to_owned());
        Self {
            available_service_ids: services.collect(),
            ..Self::new(Kind::ServiceIds, v1(0))
        }
    }

    /// A message of a type that nobody knows.
    #[must_use]
    pub fn unknown(kind: i32, ignorable: bool, route: Route<'_>) -> Self {
        Self {
            kind,
            ignorable,
            ..Self::new(Kind::Unknown, route)
        }
    }

    /// The kind, if the specification knows it.
    #[must_use]
    pub fn known_kind(&self) -> Option<Kind> {
        Kind::try_from(self.kind).ok()
    }

    /// The address.
    #[must_use]
    pub fn route(&self) -> Route<'_> {
        v3(&self.service_id, self.stream_id, self.connection_id)
    }

    /// Length prefix and message, as they go into a WebSocket frame.
    ///
    /// # Panics
    /// The message is over 65,535 bytes, which no prefix can say.
    #[must_use]
    pub fn prefixed(&self) -> Vec<u8> {
        let message = self.encode_to_vec();
        let size = u16::try_from(message.len()).expect("a message fits its length prefix");
        [&size.to_be_bytes(), message.as_slice()].concat()
    }

    /// Reads one message as strictly as the service of AWS does.
    ///
    /// # Errors
    /// The bytes are no message, or carry an unknown field or a needless byte.
    pub fn read_strictly(bytes: &[u8]) -> Result<Self> {
        let message = Self::decode(bytes).context("no tunnel message")?;
        ensure!(
            message.encoded_len() == bytes.len(),
            "{message} takes {} bytes where {} are enough: an unknown field, an explicit \
             zero, or a field twice",
            bytes.len(),
            message.encoded_len()
        );
        ensure!(
            message.payload.len() <= PAYLOAD_MAX,
            "{message} carries more than {PAYLOAD_MAX} bytes"
        );
        Ok(message)
    }
}

/// `DATA SSH s1 c1, 5 bytes`: for the messages of failing tests.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_kind() {
            Some(kind) => write!(f, "{kind:?}")?,
            None => write!(f, "type {}", self.kind)?,
        }
        if !self.service_id.is_empty() {
            write!(f, " {}", self.service_id)?;
        }
        if self.stream_id != 0 {
            write!(f, " s{}", self.stream_id)?;
        }
        if self.connection_id != 0 {
            write!(f, " c{}", self.connection_id)?;
        }
        if !self.available_service_ids.is_empty() {
            write!(f, " {:?}", self.available_service_ids)?;
        }
        if !self.payload.is_empty() {
            write!(f, ", {} bytes", self.payload.len())?;
        }
        Ok(())
    }
}

/// Several messages, one after the other, as one byte stream.
#[must_use]
pub fn stream_of(messages: &[Message]) -> Vec<u8> {
    messages.iter().flat_map(Message::prefixed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked examples of section 16.
    #[test]
    fn the_worked_examples_come_out_byte_for_byte() {
        let hex = |text: &str| -> Vec<u8> {
            let groups = text.split(' ');
            groups
                .map(|group| u8::from_str_radix(group, 16).unwrap())
                .collect()
        };
        let vectors = [
            (Message::service_ids(&[]), "00 02 08 05"),
            (
                Message::service_ids(&["SSH1", "HTTP"]),
                "00 0e 08 05 32 04 53 53 48 31 32 04 48 54 54 50",
            ),
            (Message::stream_start(v1(1)), "00 04 08 02 10 01"),
            (
                Message::stream_start(v3("SSH", 300, 128)),
                "00 0d 08 02 10 ac 02 2a 03 53 53 48 38 80 01",
            ),
            (
                Message::data(v3("SSH", 1, 1), "hello"),
                "00 12 08 01 10 01 22 05 68 65 6c 6c 6f 2a 03 53 53 48 38 01",
            ),
            (
                Message::connection_reset(v3("SSH", 1, 2)),
                "00 0b 08 07 10 01 2a 03 53 53 48 38 02",
            ),
            (
                Message::stream_reset(v3("SSH", 1, 9)),
                "00 09 08 03 10 01 2a 03 53 53 48",
            ),
            (Message::session_reset(), "00 02 08 04"),
            (Message::unknown(99, true, v1(0)), "00 04 08 63 18 01"),
        ];
        for (message, expected) in vectors {
            assert_eq!(message.prefixed(), hex(expected), "{message}");
            assert_eq!(
                Message::read_strictly(&message.prefixed()[2..]).unwrap(),
                message
            );
        }
    }

    #[test]
    fn an_unknown_field_is_seen() {
        let mut bytes = Message::stream_start(v1(1)).encode_to_vec();
        bytes.extend([0x40, 0x01]);
        Message::read_strictly(&bytes).unwrap_err();
    }
}
