//! Where a message belongs, and what the other side is to see of it.

use crate::tunnel::error::PeerError;
use adit_proto::ids::{ConnectionId, Mode, StreamId};
use adit_proto::limits::MAX_PAYLOAD_SIZE;
use adit_proto::message::{Credit, Kind, MessageView};

/// The messages that pass through a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    StreamStart,
    ConnectionStart,
    Data,
    StreamReset,
    ConnectionReset,
    /// Between sides that both know it.
    Credit,
}

impl Act {
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::StreamStart => Kind::StreamStart,
            Self::ConnectionStart => Kind::ConnectionStart,
            Self::Data => Kind::Data,
            Self::StreamReset => Kind::StreamReset,
            Self::ConnectionReset => Kind::ConnectionReset,
            Self::Credit => Kind::Credit,
        }
    }

    /// Nothing may follow in the same frame: the reference holds it back (specification 17, Q-03).
    pub(super) const fn ends_frame(self) -> bool {
        match self {
            Self::StreamStart | Self::StreamReset => true,
            Self::ConnectionStart | Self::Data | Self::ConnectionReset | Self::Credit => false,
        }
    }
}

/// A message without its service and its payload, as one of the two sides sees it.
///
/// When what arrived equals what the other side is to see, the bytes are forwarded as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) act: Act,
    pub(super) stream: StreamId,
    pub(super) connection: Option<ConnectionId>,
}

impl Label {
    pub(super) const fn new(act: Act, stream: StreamId, connection: Option<ConnectionId>) -> Self {
        Self {
            act,
            stream,
            connection,
        }
    }

    /// The end of a whole stream. It never names a connection (specification 17, Q-19).
    pub(super) const fn stream_reset(stream: StreamId) -> Self {
        Self::new(Act::StreamReset, stream, None)
    }

    /// The end of one connection.
    pub(super) const fn connection_reset(stream: StreamId, connection: ConnectionId) -> Self {
        Self::new(Act::ConnectionReset, stream, Some(connection))
    }

    /// Checks all of specification 12, item 5, that needs no memory. `None`: an announcement of credit, or
    /// a message of a type that we do not know and that may be ignored.
    ///
    /// The latter ends here and is not forwarded: what it means has to be agreed on first, and
    /// the reference stops reading when the type comes at the wrong time (specification 7.8).
    #[inline]
    pub(super) fn check(from: Mode, message: &MessageView<'_>) -> Result<Option<Self>, PeerError> {
        let kind = message.kind;
        let act = match kind {
            Kind::Data => Act::Data,
            Kind::StreamReset => Act::StreamReset,
            Kind::ConnectionReset => Act::ConnectionReset,
            Kind::StreamStart if from == Mode::Source => Act::StreamStart,
            Kind::ConnectionStart if from == Mode::Source => Act::ConnectionStart,
            Kind::StreamStart | Kind::ConnectionStart => {
                return Err(misplaced(kind, "only a source opens anything"));
            }
            Kind::SessionReset | Kind::ServiceIds => {
                return Err(misplaced(kind, "it is the service's to send"));
            }
            // To the relay itself.
            Kind::Credit if message.ignorable && is_unaddressed(message) => return Ok(None),
            Kind::Credit if message.ignorable => Act::Credit,
            Kind::Credit => return Err(PeerError::UnknownType(kind.raw())),
            Kind::Unknown(raw) if raw != 0 && message.ignorable => return Ok(None),
            Kind::Unknown(raw) => return Err(PeerError::UnknownType(raw)),
        };
        if message.has_unknown_fields {
            return Err(PeerError::UnknownField(kind));
        }
        if message.payload.len() > MAX_PAYLOAD_SIZE {
            return Err(PeerError::PayloadTooLarge {
                size: message.payload.len(),
            });
        }
        let Some(stream) = StreamId::new(message.stream_id) else {
            return Err(PeerError::StreamId {
                kind,
                id: message.stream_id,
            });
        };
        let connection = ConnectionId::new(message.connection_id);
        match act {
            Act::ConnectionStart | Act::ConnectionReset | Act::Credit if connection.is_none() => {
                Err(misplaced(kind, "it names no connection"))
            }
            Act::Credit if Credit::limit_of(message).is_none() => {
                Err(misplaced(kind, "it carries no limit"))
            }
            Act::ConnectionStart
            | Act::ConnectionReset
            | Act::StreamStart
            | Act::StreamReset
            | Act::Credit
            | Act::Data => Ok(Some(Self::new(act, stream, connection))),
        }
    }
}

/// Whether it is about no stream and no connection.
fn is_unaddressed(message: &MessageView<'_>) -> bool {
    message.stream_id == 0 && message.connection_id == 0
}

fn misplaced(kind: Kind, why: &'static str) -> PeerError {
    PeerError::Misplaced { kind, why }
}
