//! The table of tunnels: every rule about what may happen to a tunnel is here, and nothing else.
//!
//! It reads no clock, draws no random number and does no IO: time comes in as [`Now`], tokens come in
//! as hashes. Operations take effect at once and in the order of the calls, so whoever serialises the
//! calls (a lock, one day a transaction) has serialised the decisions.
//!
//! A tunnel whose lifetime is over counts as closed from that moment, even before [`Tunnels::expire`]
//! has come by to move it.

mod admission;
mod expiry;
mod record;
mod rotation;
mod snapshot;
mod tags;
mod types;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use adit_proto::{Mode, TunnelId};

use crate::clock::Now;
use crate::token::{ClientTokenHash, RoutingKey};
use record::{Record, State, TokenUse};

pub(crate) use snapshot::{TableImage, image, restore};

pub use types::{
    Admitted, Connected, Cursor, DestinationConfig, Expired, Lifetime, Limits, ListRequest,
    NewTunnel, Page, Presented, Refusal, Rotation, SideView, Status, Tags, ThingName, TunnelError,
    TunnelSummary, TunnelView,
};

/// All tunnels that exist: the open ones, and the closed ones that are still shown.
///
/// A clone is a table of its own, on which changes can be tried out.
#[derive(Clone)]
pub struct Tunnels {
    limits: Limits,
    records: HashMap<TunnelId, Record>,
    by_routing_key: HashMap<RoutingKey, TunnelId>,
    by_sequence: BTreeMap<u64, TunnelId>,
    by_thing: HashMap<ThingName, BTreeSet<u64>>,
    /// Client tokens in use, each by one side of one open tunnel.
    client_tokens: HashMap<ClientTokenHash, (TunnelId, Mode)>,
    /// Every open tunnel, by the end of its lifetime.
    ending: BTreeSet<(Instant, TunnelId)>,
    /// Every closed tunnel, by when it is forgotten.
    purging: BTreeSet<(Instant, TunnelId)>,
    next_sequence: u64,
    next_session: u64,
    /// Counts the changes that have to outlive the process. Not among them: who is connected.
    revision: u64,
}

impl Tunnels {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            records: HashMap::new(),
            by_routing_key: HashMap::new(),
            by_sequence: BTreeMap::new(),
            by_thing: HashMap::new(),
            client_tokens: HashMap::new(),
            ending: BTreeSet::new(),
            purging: BTreeSet::new(),
            next_sequence: 1,
            next_session: 1,
            revision: 0,
        }
    }

    /// Adds an open tunnel with both sides disconnected.
    pub fn open(&mut self, now: Now, new: NewTunnel) -> Result<(), TunnelError> {
        let taken = self.records.contains_key(&new.id)
            || self.by_routing_key.contains_key(&new.routing_key);
        if taken {
            return Err(TunnelError::Taken(new.id));
        }
        let services = new.config.as_ref().map_or(0, |c| c.services.len());
        at_most(services, self.limits.services_per_tunnel_max, SERVICES)?;
        at_most(new.tags.len(), self.limits.tags_per_tunnel_max, TAGS)?;
        at_most(
            self.ending.len() + 1,
            self.limits.open_tunnels_max,
            OPEN_TUNNELS,
        )?;
        let record = Record::new(now, self.next_sequence, self.next_session, new);
        self.next_sequence += 1;
        self.revision += 1;
        self.insert(record);
        Ok(())
    }

    /// One tunnel, open or closed.
    pub fn describe(&self, now: Now, id: &TunnelId) -> Result<TunnelView, TunnelError> {
        self.record(id).map(|record| record.view(now))
    }

    /// Tunnels, open and closed, the newest first. Costs what the page holds, not what the table holds.
    pub fn list(&self, now: Now, request: &ListRequest) -> Page {
        let before = request.after.map_or(u64::MAX, |cursor| cursor.0);
        // One more than asked for tells whether there is another page.
        let wanted = request.count.get() + 1;
        let mut sequences: Vec<u64> = match &request.thing {
            None => {
                let range = self.by_sequence.range(..before);
                range
                    .rev()
                    .take(wanted)
                    .map(|(sequence, _)| *sequence)
                    .collect()
            }
            Some(thing) => {
                let all = self.by_thing.get(thing).into_iter();
                let range = all.flat_map(|all| all.range(..before).rev());
                range.take(wanted).copied().collect()
            }
        };
        let more = sequences.len() == wanted;
        sequences.truncate(request.count.get());
        let next = sequences.last().filter(|_| more).copied().map(Cursor);
        let summary = |sequence: &u64| {
            let id = &self.by_sequence[sequence];
            self.records[id].summary(now)
        };
        Page {
            tunnels: sequences.iter().map(summary).collect(),
            next,
        }
    }

    /// Closes a tunnel, and forgets it when `delete` is set. Closing twice is fine.
    pub fn close(&mut self, now: Now, id: &TunnelId, delete: bool) -> Result<(), TunnelError> {
        self.record(id)?;
        if delete {
            self.remove(id);
        } else {
            self.close_record(now, id);
            self.forget_surplus();
        }
        Ok(())
    }

    /// Two readings differ when something that has to last changed in between; also, closing what is
    /// closed or a known client coming back changes nothing.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The number that the next admitted connection gets.
    pub(crate) fn next_session(&self) -> u64 {
        self.next_session
    }

    fn record(&self, id: &TunnelId) -> Result<&Record, TunnelError> {
        let record = self.records.get(id);
        record.ok_or_else(|| TunnelError::NotFound(id.clone()))
    }

    fn record_mut(&mut self, id: &TunnelId) -> Result<&mut Record, TunnelError> {
        let record = self.records.get_mut(id);
        record.ok_or_else(|| TunnelError::NotFound(id.clone()))
    }

    fn insert(&mut self, record: Record) {
        let id = record.id.clone();
        match record.state {
            State::Open { ends } => self.ending.insert((ends, id.clone())),
            State::Closed { purge } => self.purging.insert((purge, id.clone())),
        };
        self.by_routing_key.insert(record.routing_key, id.clone());
        self.by_sequence.insert(record.sequence, id.clone());
        let thing = record.config.as_ref().and_then(|c| c.thing.clone());
        self.index_thing(thing, record.sequence);
        self.records.insert(id, record);
    }

    /// Moves an open record to the closed ones; does nothing to a closed one.
    fn close_record(&mut self, now: Now, id: &TunnelId) {
        let Some(record) = self.records.get_mut(id) else {
            return;
        };
        let State::Open { ends } = record.state else {
            return;
        };
        let purge = now.instant + self.limits.retention;
        self.revision += 1;
        record.state = State::Closed { purge };
        record.updated = now.wall;
        record.source.disconnect(now);
        record.destination.disconnect(now);
        let uses = [record.source.token_use, record.destination.token_use];
        self.ending.remove(&(ends, id.clone()));
        self.purging.insert((purge, id.clone()));
        uses.into_iter()
            .for_each(|token_use| self.release(token_use));
    }

    fn remove(&mut self, id: &TunnelId) {
        let Some(record) = self.records.remove(id) else {
            return;
        };
        self.revision += 1;
        match record.state {
            State::Open { ends } => self.ending.remove(&(ends, record.id)),
            State::Closed { purge } => self.purging.remove(&(purge, record.id)),
        };
        self.by_routing_key.remove(&record.routing_key);
        self.by_sequence.remove(&record.sequence);
        self.unindex_thing(record.config.and_then(|c| c.thing), record.sequence);
        if matches!(record.state, State::Open { .. }) {
            self.release(record.source.token_use);
            self.release(record.destination.token_use);
        }
    }

    /// Drops the closed tunnels beyond the limit, the one closed first before the others.
    fn forget_surplus(&mut self) {
        while self.purging.len() > self.limits.closed_tunnels_max {
            let Some((_, id)) = self.purging.first().cloned() else {
                return;
            };
            self.remove(&id);
        }
    }

    /// The client token may be used with another access token from now on.
    fn release(&mut self, token_use: TokenUse) {
        if let TokenUse::Bound(client_token) = token_use {
            self.client_tokens.remove(&client_token);
        }
    }

    fn index_thing(&mut self, thing: Option<ThingName>, sequence: u64) {
        if let Some(thing) = thing {
            self.by_thing.entry(thing).or_default().insert(sequence);
        }
    }

    fn unindex_thing(&mut self, thing: Option<ThingName>, sequence: u64) {
        let Some(thing) = thing else { return };
        if let Some(sequences) = self.by_thing.get_mut(&thing) {
            sequences.remove(&sequence);
            if sequences.is_empty() {
                self.by_thing.remove(&thing);
            }
        }
    }
}

fn at_most(count: usize, max: usize, what: &'static str) -> Result<(), TunnelError> {
    if count > max {
        return Err(TunnelError::LimitExceeded { what, max });
    }
    Ok(())
}

const OPEN_TUNNELS: &str = "open tunnels";
const SERVICES: &str = "services per tunnel";
const TAGS: &str = "tags per tunnel";

#[cfg(test)]
mod tests;
