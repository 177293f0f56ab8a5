//! One tunnel and its two sides.

use std::sync::Arc;

use adit_proto::{Mode, ServiceId, TunnelId};

use super::types::{
    DestinationConfig, Lifetime, SideView, Status, Tags, ThingName, TunnelSummary, TunnelView,
};
use crate::clock::{Now, Timestamp};
use crate::token::{ClientTokenHash, RoutingKey, TokenHash};

/// ```text
/// Open ── close, or `ends` is reached ──► Closed ── `purge` is reached, or deleted ──► (gone)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// `ends` is steady time.
    Open { ends: Timestamp },
    /// `purge` is steady time.
    Closed { purge: Timestamp },
}

/// One run of one service on this store. A link of a node that runs no more is a link no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(pub(crate) i64);

/// A tunnel as it is stored. No `Debug`: it holds hashes of tokens.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) id: TunnelId,
    pub(crate) routing_key: RoutingKey,
    /// Place in the order of creation.
    pub(crate) sequence: u64,
    pub(crate) state: State,
    /// The number of the next connection of either side.
    pub(crate) next_session: u64,
    pub(crate) config: Option<DestinationConfig>,
    pub(crate) tags: Tags,
    pub(crate) updated: Timestamp,
    pub(crate) source: Side,
    pub(crate) destination: Side,
    pub(crate) description: Option<Arc<str>>,
    pub(crate) lifetime: Lifetime,
    pub(crate) created: Timestamp,
    /// The access key of whoever opened it.
    pub(crate) owner: Option<Arc<str>>,
}

impl Record {
    /// A tunnel whose lifetime is over is closed, whether or not the timer has come by.
    pub(crate) fn is_open(&self, now: Now) -> bool {
        matches!(self.state, State::Open { ends } if now.steady < ends)
    }

    /// When time changes it next, in steady time: its end, or when it is forgotten.
    pub(crate) fn deadline(&self) -> Timestamp {
        match self.state {
            State::Open { ends } => ends,
            State::Closed { purge } => purge,
        }
    }

    /// The device, when the tunnel is for one.
    pub(crate) fn thing(&self) -> Option<&ThingName> {
        self.config.as_ref()?.thing.as_ref()
    }

    /// The client tokens that this has and `old` had not, on whichever side: the store has to find them
    /// free. The same one on both sides is there twice.
    pub(crate) fn claimed_since(&self, old: &Self) -> impl Iterator<Item = ClientTokenHash> {
        let sides = [
            (&self.source, &old.source),
            (&self.destination, &old.destination),
        ];
        let changed = sides
            .into_iter()
            .filter(|(new, old)| new.token_use != old.token_use);
        changed.filter_map(|(new, _)| new.token_use.client_token())
    }

    /// The client tokens that nobody else may use: those of an open tunnel.
    pub(crate) fn client_tokens(&self) -> impl Iterator<Item = ClientTokenHash> {
        let is_open = matches!(self.state, State::Open { .. });
        let sides = [&self.source, &self.destination];
        let bound = sides
            .into_iter()
            .filter_map(|side| side.token_use.client_token());
        bound.filter(move |_| is_open)
    }

    pub(crate) fn side(&self, mode: Mode) -> &Side {
        match mode {
            Mode::Source => &self.source,
            Mode::Destination => &self.destination,
        }
    }

    pub(crate) fn side_mut(&mut self, mode: Mode) -> &mut Side {
        match mode {
            Mode::Source => &mut self.source,
            Mode::Destination => &mut self.destination,
        }
    }

    pub(crate) fn services(&self) -> Arc<[ServiceId]> {
        match &self.config {
            Some(config) => Arc::clone(&config.services),
            None => Arc::default(),
        }
    }

    pub(crate) fn summary(&self, now: Now) -> TunnelSummary {
        let open = self.is_open(now);
        TunnelSummary {
            id: self.id.clone(),
            status: if open { Status::Open } else { Status::Closed },
            description: self.description.clone(),
            created: self.created,
            updated: self.updated,
        }
    }

    /// A side is connected only while the node that has the link is alive.
    pub(crate) fn view(&self, now: Now, is_alive: impl Fn(NodeId) -> bool) -> TunnelView {
        let open = self.is_open(now);
        TunnelView {
            summary: self.summary(now),
            source: self.source.view(open, &is_alive),
            destination: self.destination.view(open, &is_alive),
            config: self.config.clone(),
            lifetime: self.lifetime,
            tags: self.tags.clone(),
        }
    }
}

/// One generation of a side: everything that ends when its token is rotated, and when the side last
/// changed.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) token: TokenHash,
    pub(crate) token_use: TokenUse,
    /// The first session that this generation can have: what was admitted earlier is revoked.
    pub(crate) first_session: u64,
    /// The newest link that was handed to a relay and is still up.
    pub(crate) connected: Option<Link>,
    pub(crate) updated: Option<Timestamp>,
}

/// A connection that a relay has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) session: u64,
    pub(crate) node: NodeId,
}

/// ```text
/// Unused ── first use without a client token ──► Spent       (nothing more)
///    └───── first use with a client token ─────► Bound(it)   (again and again, with the same one)
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenUse {
    Unused,
    Spent,
    Bound(ClientTokenHash),
}

impl TokenUse {
    fn client_token(self) -> Option<ClientTokenHash> {
        match self {
            Self::Bound(client_token) => Some(client_token),
            Self::Unused | Self::Spent => None,
        }
    }
}

impl Side {
    pub(crate) fn new(token: TokenHash, first_session: u64) -> Self {
        Self {
            token,
            token_use: TokenUse::Unused,
            first_session,
            connected: None,
            updated: None,
        }
    }

    /// The next generation: another token, and nobody connected.
    pub(crate) fn rotate(&mut self, now: Now, token: TokenHash, first_session: u64) {
        self.disconnect(now);
        let updated = self.updated;
        *self = Self::new(token, first_session);
        self.updated = updated;
    }

    pub(crate) fn connect(&mut self, now: Now, link: Link) {
        self.connected = Some(link);
        self.updated = Some(now.wall);
    }

    pub(crate) fn disconnect(&mut self, now: Now) {
        if self.connected.take().is_some() {
            self.updated = Some(now.wall);
        }
    }

    fn view(&self, open: bool, is_alive: &impl Fn(NodeId) -> bool) -> SideView {
        SideView {
            connected: open && self.connected.is_some_and(|link| is_alive(link.node)),
            updated: self.updated,
        }
    }
}
