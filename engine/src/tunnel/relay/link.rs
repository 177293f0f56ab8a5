//! What the relay knows of one side's WebSocket.

use super::counters::Counters;
use crate::tunnel::chatter::Chatter;
use crate::tunnel::error::PeerError;
use crate::tunnel::inbound::Inbound;
use crate::tunnel::outbox::Outbox;
use adit_proto::ids::Subprotocol;
use adit_proto::websocket::Role;

/// One side of a tunnel: its reader, and the rest, apart so that a message borrowed from the
/// reader does not stand in the way.
pub(super) struct Side {
    pub(super) inbound: Inbound,
    pub(super) link: Link,
}

impl Default for Side {
    fn default() -> Self {
        Self {
            inbound: Inbound::new(Role::Server),
            link: Link::default(),
        }
    }
}

/// One side without its reader.
#[derive(Default)]
pub(super) struct Link {
    pub(super) phase: Phase,
    pub(super) outbox: Outbox,
    pub(super) counters: Counters,
    pub(super) chatter: Chatter,
    /// What its messages show: whether they name their service. Fixed by the first one.
    names_services: Option<bool>,
    /// Whether it is to be told service ids, in a tunnel that has some: what its messages show counts, else what its
    /// handshake said (specification 6.4). `None`: as the other side does.
    wants_names: Option<bool>,
    /// It has said that it keeps to credit: it is one of ours.
    pub(super) knows_credit: bool,
}

/// ```text
/// Absent ──► Open ──► Closing ──► Failed
///    ▲         │         │          │
///    └─────────┴─ lost ──┴──────────┘
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// No WebSocket.
    #[default]
    Absent,
    /// Messages are forwarded.
    Open(Subprotocol),
    /// We end the WebSocket: of what still comes only the peer's close frame counts.
    Closing,
    /// Both ends said that it is over, or the peer broke the protocol: nothing counts.
    Failed,
}

impl Link {
    /// Whether messages can be forwarded to it.
    pub(super) fn is_open(&self) -> bool {
        match self.phase {
            Phase::Open(_) => true,
            Phase::Absent | Phase::Closing | Phase::Failed => false,
        }
    }

    /// Its WebSocket is there, and has said no more than its handshake.
    pub(super) fn begin(&mut self, offered: Subprotocol) {
        self.phase = Phase::Open(offered);
        self.wants_names = Some(offered != Subprotocol::V1);
    }

    /// See `Relay::adapt_to_sdk`.
    pub(super) fn adapt_to_sdk(&mut self) {
        if self.phase == Phase::Open(Subprotocol::V3) {
            self.wants_names = None;
        }
    }

    /// The WebSocket is gone, and all that was learned from it.
    pub(super) fn forget(&mut self) {
        *self = Self {
            counters: self.counters,
            ..Self::default()
        };
    }

    /// Checks that a message names its service as the ones before did (specification 6.1).
    #[inline]
    pub(super) fn learn_naming(&mut self, is_named: bool) -> Result<(), PeerError> {
        match self.names_services {
            Some(before) if before == is_named => Ok(()),
            Some(_) => Err(PeerError::DialectChange("service ids")),
            None => {
                self.names_services = Some(is_named);
                self.wants_names = Some(is_named);
                Ok(())
            }
        }
    }

    /// Whether its own messages name their service, as far as it has shown.
    pub(super) fn names_services(&self) -> bool {
        self.names_services.unwrap_or(true)
    }

    /// See the field.
    #[inline]
    pub(super) fn wants_names(&self) -> Option<bool> {
        self.wants_names
    }

    /// Whether its handshake said that it knows connection ids.
    #[inline]
    pub(super) fn offered_connections(&self) -> bool {
        self.phase == Phase::Open(Subprotocol::V3)
    }
}
