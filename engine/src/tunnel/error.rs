//! What a peer did wrong.

use super::chatter::{IDLE_FRAMES_PER_SECOND, IDLE_FRAMES_SAVED};
use adit_proto::escape::Escaped;
use adit_proto::limits::{MAX_PAYLOAD_SIZE, MAX_SERVICE_ID_SIZE};
use adit_proto::message::{DecodeError, InvalidServiceIds, Kind};
use adit_proto::websocket::{CloseCode, FrameError};

/// Why a WebSocket must end: its peer broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The WebSocket layer was broken.
    #[error("the peer broke the WebSocket protocol: {0}")]
    Frame(#[from] FrameError),
    /// A message could not be read.
    #[error("the peer sent a message that cannot be read: {0}")]
    Message(#[from] DecodeError),
    /// A list of services that no tunnel has.
    #[error("the service sent a list of services that cannot be used: {0}")]
    Services(#[from] InvalidServiceIds),
    /// A message type that may not be ignored is not known.
    #[error("the peer sent a message of the unknown type {0} that may not be ignored")]
    UnknownType(i32),
    /// A known message from the wrong side or at the wrong time.
    #[error("the peer sent {kind:?} where it may not: {why}")]
    Misplaced {
        /// The message.
        kind: Kind,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A message has a field that the protocol does not know (specification 4).
    #[error("the peer sent {0} with a field that the protocol does not know")]
    UnknownField(Kind),
    /// A stream id that is absent, zero or negative.
    #[error("the peer sent {kind} with the stream id {id}, where only positive ones are allowed")]
    StreamId {
        /// The message.
        kind: Kind,
        /// What it has for a stream id.
        id: i32,
    },
    /// A payload over the limit (specification 4).
    #[error("the peer sent a payload of {size} bytes, {MAX_PAYLOAD_SIZE} is the limit")]
    PayloadTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// A message names no service, and the tunnel has several.
    #[error("the peer named no service, and this tunnel has {count}")]
    ServiceMissing {
        /// The services of the tunnel.
        count: usize,
    },
    /// A peer that used such ids left them out, or the other way round (specification 6.1).
    #[error("the peer changed its dialect: {0} are on all messages or on none")]
    DialectChange(&'static str),
    /// More pings, pongs and empty frames than there is any use for.
    #[error(
        "the peer sent more than {IDLE_FRAMES_SAVED} pings, pongs and empty frames beyond the \
         {IDLE_FRAMES_PER_SECOND} a second that are allowed"
    )]
    Chatter,
    /// A message names a service the tunnel does not have.
    #[error("the peer named the service \"{0}\", which this tunnel does not have")]
    UnknownService(String),
}

impl PeerError {
    /// [`Self::UnknownService`] with a name that came from the peer: at most 128 characters of it,
    /// and nothing that a terminal or a log would act on.
    pub fn unknown_service(name: &str) -> Self {
        let shown: String = name.chars().take(MAX_SERVICE_ID_SIZE).collect();
        Self::UnknownService(Escaped(&shown).to_string())
    }

    /// The WebSocket close code that tells the peer (RFC 6455 §7.4.1).
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::Frame(error) => error.close_code(),
            Self::Message(_)
            | Self::UnknownType(_)
            | Self::UnknownField(_)
            | Self::StreamId { .. } => CloseCode::Protocol,
            Self::PayloadTooLarge { .. } => CloseCode::TooBig,
            Self::Misplaced { .. }
            | Self::Services(_)
            | Self::UnknownService(_)
            | Self::ServiceMissing { .. }
            | Self::Chatter
            | Self::DialectChange(_) => CloseCode::Policy,
        }
    }

    /// The reason that goes with it.
    pub fn close_reason(&self) -> &'static str {
        match self {
            Self::Chatter => "too many pings, pongs and empty frames",
            _ => "protocol violation",
        }
    }
}
