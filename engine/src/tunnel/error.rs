//! What a peer did wrong.

use adit_proto::message::{DecodeError, Kind};
use adit_proto::websocket::FrameError;

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
    /// A message names a service the tunnel does not have.
    #[error("the peer named the service \"{0}\", which this tunnel does not have")]
    UnknownService(String),
}

impl PeerError {
    /// The WebSocket close code that tells the peer (RFC 6455 §7.4.1).
    pub fn close_code(&self) -> u16 {
        match self {
            Self::Frame(error) => error.close_code(),
            Self::Message(_) | Self::UnknownType(_) => 1002,
            Self::Misplaced { .. } | Self::UnknownService(_) => 1008,
        }
    }
}
