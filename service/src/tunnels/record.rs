//! One tunnel and its two sides.

use std::sync::Arc;
use std::time::Instant;

use adit_proto::{Mode, ServiceId, TunnelId};

use super::types::{
    DestinationConfig, Lifetime, NewTunnel, SideView, Status, Tags, TunnelSummary, TunnelView,
};
use crate::clock::{Now, Timestamp};
use crate::token::{ClientTokenHash, RoutingKey, TokenHash};

/// ```text
/// Open ── close, or `ends` is reached ──► Closed ── `purge` is reached, or deleted ──► (gone)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open { ends: Instant },
    Closed { purge: Instant },
}

#[derive(Clone)]
pub(super) struct Record {
    pub(super) id: TunnelId,
    pub(super) routing_key: RoutingKey,
    /// Place in the order of creation.
    pub(super) sequence: u64,
    pub(super) state: State,
    pub(super) config: Option<DestinationConfig>,
    pub(super) tags: Tags,
    pub(super) updated: Timestamp,
    pub(super) source: Side,
    pub(super) destination: Side,
    pub(super) description: Option<Arc<str>>,
    pub(super) lifetime: Lifetime,
    pub(super) created: Timestamp,
}

impl Record {
    pub(super) fn new(now: Now, sequence: u64, first_session: u64, new: NewTunnel) -> Self {
        Self {
            id: new.id,
            routing_key: new.routing_key,
            sequence,
            state: State::Open {
                ends: now.instant + new.lifetime.duration(),
            },
            config: new.config,
            tags: new.tags,
            updated: now.wall,
            source: Side::new(new.source, first_session),
            destination: Side::new(new.destination, first_session),
            description: new.description,
            lifetime: new.lifetime,
            created: now.wall,
        }
    }

    /// A tunnel whose lifetime is over is closed, whether or not the timer has come by.
    pub(super) fn is_open(&self, now: Now) -> bool {
        matches!(self.state, State::Open { ends } if now.instant < ends)
    }

    pub(super) fn side(&self, mode: Mode) -> &Side {
        match mode {
            Mode::Source => &self.source,
            Mode::Destination => &self.destination,
        }
    }

    pub(super) fn side_mut(&mut self, mode: Mode) -> &mut Side {
        match mode {
            Mode::Source => &mut self.source,
            Mode::Destination => &mut self.destination,
        }
    }

    pub(super) fn services(&self) -> Arc<[ServiceId]> {
        match &self.config {
            Some(config) => Arc::clone(&config.services),
            None => Arc::default(),
        }
    }

    pub(super) fn summary(&self, now: Now) -> TunnelSummary {
        let open = self.is_open(now);
        TunnelSummary {
            id: self.id.clone(),
            status: if open { Status::Open } else { Status::Closed },
            description: self.description.clone(),
            created: self.created,
            updated: self.updated,
        }
    }

    pub(super) fn view(&self, now: Now) -> TunnelView {
        let open = self.is_open(now);
        TunnelView {
            summary: self.summary(now),
            source: self.source.view(open),
            destination: self.destination.view(open),
            config: self.config.clone(),
            lifetime: self.lifetime,
            tags: self.tags.clone(),
        }
    }
}

/// One generation of a side: everything that ends when its token is rotated, and when the side last
/// changed.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) token: TokenHash,
    pub(super) token_use: TokenUse,
    /// The first session that this generation can have: what was admitted earlier is revoked.
    pub(super) first_session: u64,
    /// The newest session that was handed to the relay and is still up.
    pub(super) connected: Option<u64>,
    pub(super) updated: Option<Timestamp>,
}

/// ```text
/// Unused ── first use without a client token ──► Spent       (nothing more)
///    └───── first use with a client token ─────► Bound(it)   (again and again, with the same one)
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenUse {
    Unused,
    Spent,
    Bound(ClientTokenHash),
}

impl Side {
    fn new(token: TokenHash, first_session: u64) -> Self {
        Self {
            token,
            token_use: TokenUse::Unused,
            first_session,
            connected: None,
            updated: None,
        }
    }

    /// The next generation: another token, and nobody connected.
    pub(super) fn rotate(&mut self, now: Now, token: TokenHash, first_session: u64) {
        self.disconnect(now);
        let updated = self.updated;
        *self = Self::new(token, first_session);
        self.updated = updated;
    }

    pub(super) fn connect(&mut self, now: Now, session: u64) {
        self.connected = Some(session);
        self.updated = Some(now.wall);
    }

    /// Returns whether somebody was connected.
    pub(super) fn disconnect(&mut self, now: Now) -> bool {
        let was_connected = self.connected.take().is_some();
        if was_connected {
            self.updated = Some(now.wall);
        }
        was_connected
    }

    fn view(&self, open: bool) -> SideView {
        SideView {
            connected: open && self.connected.is_some(),
            updated: self.updated,
        }
    }
}
