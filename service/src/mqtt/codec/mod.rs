//! Packets of both versions as one set of types; the only module that knows the codec crate.
//!
//! The crate's decoder knows the size of a packet before it is there, so one that is too large is refused
//! without being read. It waits for what is missing; deadlines are the connection's affair.

mod fuzzing;
mod incoming;
mod outgoing;

use bytes::BytesMut;
use rmqtt_codec::error::DecodeError;
use rmqtt_codec::version::{ProtocolVersion, VersionCodec};
use rmqtt_codec::{v3, v5};
use tokio_util::codec::Decoder as _;

use super::limits::PACKET_SIZE_MAX;

pub use fuzzing::fuzz_packets;
pub(super) use incoming::{Connect, Filter, Incoming};
pub(super) use outgoing::{Accepted, EncodeFault, Ending, Outgoing, Refused, SubscribeOutcome};

/// Reads and writes the packets of one connection.
#[derive(Debug)]
pub(super) enum Codec {
    /// Nothing is known before CONNECT names the version.
    Unknown,
    V3(v3::Codec),
    V5 {
        codec: v5::Codec,
        /// Largest packet that the client takes, in bytes. The crate's own bound is not used: its
        /// arithmetic does not expect one that is smaller than a packet's ids.
        size_max: usize,
    },
}

/// Why bytes are no packet; always the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a packet is larger than {PACKET_SIZE_MAX} bytes")]
    TooLarge,
    #[error("neither MQTT 3.1.1 nor MQTT 5")]
    Version,
    #[error("a malformed packet")]
    Packet,
}

impl Codec {
    pub(super) fn new() -> Self {
        Self::Unknown
    }

    /// Takes one packet off the front. `Ok(None)` means that more bytes are needed.
    pub(super) fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Incoming>, Malformed> {
        loop {
            match self {
                Self::Unknown => match VersionCodec.decode(bytes)? {
                    None => return refuse_early(bytes).map(|()| None),
                    Some(ProtocolVersion::MQTT3) => {
                        *self = Self::V3(v3::Codec::new(PACKET_SIZE_MAX));
                    }
                    Some(ProtocolVersion::MQTT5) => {
                        *self = Self::V5 {
                            codec: v5::Codec::new(PACKET_SIZE_MAX, 0),
                            size_max: usize::MAX,
                        };
                    }
                },
                Self::V3(codec) => {
                    let packet = codec.decode(bytes)?;
                    return Ok(packet.map(|(packet, _)| packet.into()));
                }
                Self::V5 { codec, .. } => {
                    let packet = codec.decode(bytes)?;
                    return Ok(packet.map(|(packet, _)| packet.into()));
                }
            }
        }
    }

    /// The largest packet that the client takes, all of it counted (MQTT 5, 3.1.2.11.4).
    pub(super) fn limit_outgoing(&mut self, size: u32) {
        if let Self::V5 { size_max, .. } = self {
            *size_max = size as usize;
        }
    }
}

/// Before the version is known, the crate waits for the version's byte whatever came before it.
fn refuse_early(bytes: &BytesMut) -> Result<(), Malformed> {
    match bytes.first() {
        None | Some(&CONNECT) => Ok(()),
        Some(_) => Err(Malformed::Packet),
    }
}

/// First byte of a CONNECT packet.
const CONNECT: u8 = 0x10;

impl From<DecodeError> for Malformed {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::MaxSizeExceeded { .. } => Self::TooLarge,
            DecodeError::InvalidProtocol | DecodeError::UnsupportedProtocolLevel => Self::Version,
            _ => Self::Packet,
        }
    }
}
