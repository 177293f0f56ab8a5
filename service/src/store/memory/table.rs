//! All tunnels in maps, with what finds them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use adit_proto::TunnelId;

use crate::clock::{Now, Timestamp};
use crate::token::{ClientTokenHash, RoutingKey};
use crate::tunnels::{
    Cursor, Expired, Limits, ListRequest, NewTunnel, NodeId, OPEN_TUNNELS, OPEN_TUNNELS_PER_KEY,
    OPEN_TUNNELS_PER_THING, Page, Presented, Record, Refusal, State, ThingName, TokenUse,
    TunnelError, at_most,
};

/// All tunnels that exist: the open ones, and the closed ones that are still shown.
pub(super) struct Table {
    pub(super) limits: Limits,
    records: HashMap<TunnelId, Record>,
    by_routing_key: HashMap<RoutingKey, TunnelId>,
    by_sequence: BTreeMap<u64, TunnelId>,
    by_thing: HashMap<ThingName, BTreeSet<u64>>,
    /// Client tokens in use, each by one side of one open tunnel.
    client_tokens: HashMap<ClientTokenHash, TunnelId>,
    /// Every open tunnel, by the end of its lifetime.
    ending: BTreeSet<(Timestamp, TunnelId)>,
    /// Every closed tunnel, by when it is forgotten.
    purging: BTreeSet<(Timestamp, TunnelId)>,
    /// Open tunnels of each access key, and to each thing, counted.
    open_by_owner: HashMap<Arc<str>, usize>,
    open_by_thing: HashMap<ThingName, usize>,
    next_sequence: u64,
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            records: HashMap::new(),
            by_routing_key: HashMap::new(),
            by_sequence: BTreeMap::new(),
            by_thing: HashMap::new(),
            client_tokens: HashMap::new(),
            ending: BTreeSet::new(),
            purging: BTreeSet::new(),
            open_by_owner: HashMap::new(),
            open_by_thing: HashMap::new(),
            next_sequence: 1,
        }
    }

    pub(super) fn open(&mut self, now: Now, new: NewTunnel) -> Result<(), TunnelError> {
        let taken = self.records.contains_key(&new.id)
            || self.by_routing_key.contains_key(&new.routing_key);
        if taken {
            return Err(TunnelError::Taken(new.id));
        }
        let max = self.limits.open_tunnels_max;
        if self.ending.len() >= max {
            let what = OPEN_TUNNELS;
            return Err(TunnelError::LimitExceeded { what, max });
        }
        let record = Record::open(now, &self.limits, self.next_sequence, new)?;
        if let Some(owner) = &record.owner {
            let count = 1 + self.open_by_owner.get(owner).unwrap_or(&0);
            let max = self.limits.open_tunnels_per_key_max;
            at_most(count, max, OPEN_TUNNELS_PER_KEY)?;
        }
        self.check_thing(&record)?;
        self.next_sequence += 1;
        self.insert(record);
        Ok(())
    }

    pub(super) fn record(&self, id: &TunnelId) -> Result<&Record, TunnelError> {
        let record = self.records.get(id);
        record.ok_or_else(|| TunnelError::NotFound(id.clone()))
    }

    /// Applies a rule to one record, as a whole or not at all.
    pub(super) fn change<T, E>(
        &mut self,
        id: &TunnelId,
        rule: impl FnOnce(&mut Record, &Limits) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<TunnelError>,
    {
        let old = self.record(id)?;
        let mut record = old.clone();
        let result = rule(&mut record, &self.limits)?;
        if record.thing() != old.thing() {
            self.check_thing(&record)?;
        }
        self.remove(id);
        self.insert(record);
        self.forget_surplus();
        Ok(result)
    }

    /// Whether there may be one more open tunnel to the thing of this one.
    fn check_thing(&self, record: &Record) -> Result<(), TunnelError> {
        let Some(thing) = record.thing() else {
            return Ok(());
        };
        let count = 1 + self.open_by_thing.get(thing).unwrap_or(&0);
        let max = self.limits.open_tunnels_per_thing_max;
        at_most(count, max, OPEN_TUNNELS_PER_THING)
    }

    /// The tunnel that this handshake would enter.
    pub(super) fn find(&self, presented: &Presented) -> Result<TunnelId, Refusal> {
        let id = self.by_routing_key.get(&presented.routing_key);
        id.cloned().ok_or(Refusal::UnknownToken)
    }

    /// Whether this handshake presents a client token that is bound to another side.
    pub(super) fn is_taken(&self, record: &Record, presented: &Presented) -> bool {
        presented.client_token.is_some_and(|client_token| {
            let own = record.side(presented.mode).token_use == TokenUse::Bound(client_token);
            !own && self.client_tokens.contains_key(&client_token)
        })
    }

    pub(super) fn list(&self, now: Now, request: &ListRequest) -> Page {
        let before = request.after.map_or(u64::MAX, |cursor| cursor.0);
        // One more than asked for tells whether there is another page.
        let wanted = request.count.get() + 1;
        let mut sequences: Vec<u64> = match &request.thing {
            None => {
                let range = self.by_sequence.range(..before).rev();
                range.take(wanted).map(|(sequence, _)| *sequence).collect()
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

    pub(super) fn expire(&mut self, now: Now) -> Expired {
        let known = self.records.len();
        let due = self.ending.iter().take(BATCH);
        let due = due.take_while(|(ends, _)| *ends <= now.steady);
        let ended: Vec<_> = due.map(|(_, id)| id.clone()).collect();
        for id in &ended {
            let expired = self.change(id, |record, limits| {
                record.expire(now, limits.retention);
                Ok::<_, TunnelError>(())
            });
            expired.expect("what is indexed is there");
        }
        for _ in 0..BATCH {
            match self.purging.first().cloned() {
                Some((purge, id)) if purge <= now.steady => drop(self.remove(&id)),
                Some(_) | None => break,
            }
        }
        let first = |set: &BTreeSet<(_, _)>| set.first().map(|(at, _)| *at);
        let next = [first(&self.ending), first(&self.purging)];
        Expired {
            ended,
            forgotten: known - self.records.len(),
            next: next.into_iter().flatten().min(),
        }
    }

    fn insert(&mut self, record: Record) {
        let id = record.id.clone();
        match record.state {
            State::Open { ends } => {
                if let Some(owner) = &record.owner {
                    *self.open_by_owner.entry(Arc::clone(owner)).or_default() += 1;
                }
                if let Some(thing) = record.thing() {
                    *self.open_by_thing.entry(thing.clone()).or_default() += 1;
                }
                self.ending.insert((ends, id.clone()))
            }
            State::Closed { purge } => self.purging.insert((purge, id.clone())),
        };
        for client_token in record.client_tokens() {
            self.client_tokens.insert(client_token, id.clone());
        }
        self.by_routing_key.insert(record.routing_key, id.clone());
        self.by_sequence.insert(record.sequence, id.clone());
        if let Some(thing) = record.thing() {
            let sequences = self.by_thing.entry(thing.clone()).or_default();
            sequences.insert(record.sequence);
        }
        self.records.insert(id, record);
    }

    pub(super) fn remove(&mut self, id: &TunnelId) -> Option<Record> {
        let record = self.records.remove(id)?;
        let place = (record.deadline(), record.id.clone());
        match record.state {
            State::Open { .. } => {
                count_down(&mut self.open_by_owner, record.owner.as_ref());
                count_down(&mut self.open_by_thing, record.thing());
                self.ending.remove(&place)
            }
            State::Closed { .. } => self.purging.remove(&place),
        };
        for client_token in record.client_tokens() {
            self.client_tokens.remove(&client_token);
        }
        self.by_routing_key.remove(&record.routing_key);
        self.by_sequence.remove(&record.sequence);
        if let Some(thing) = record.thing()
            && let Some(sequences) = self.by_thing.get_mut(thing)
        {
            sequences.remove(&record.sequence);
            if sequences.is_empty() {
                self.by_thing.remove(thing);
            }
        }
        Some(record)
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
}

/// One less; nothing is kept of what is not there at all.
fn count_down<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: Option<&K>) {
    let Some(key) = key else { return };
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// This process is the only one that sees the table.
pub(super) const NODE: NodeId = NodeId(0);

/// One record costs a few microseconds.
const BATCH: usize = 1_024;

#[cfg(test)]
impl Table {
    /// What must hold between the maps after every operation.
    pub(super) fn check(&self) {
        let (mut open, mut bound, mut with_thing) = (0, 0, 0);
        for (id, record) in &self.records {
            assert_eq!(&record.id, id);
            assert_eq!(self.by_routing_key[&record.routing_key], *id);
            assert_eq!(self.by_sequence[&record.sequence], *id);
            if let Some(thing) = record.thing() {
                with_thing += 1;
                assert!(self.by_thing[thing].contains(&record.sequence));
            }
            for client_token in record.client_tokens() {
                bound += 1;
                assert_eq!(self.client_tokens[&client_token], *id);
            }
            match record.state {
                State::Open { ends } => {
                    open += 1;
                    assert!(self.ending.contains(&(ends, id.clone())));
                }
                State::Closed { purge } => {
                    assert!(self.purging.contains(&(purge, id.clone())));
                    assert!(record.source.connected.is_none());
                    assert!(record.destination.connected.is_none());
                }
            }
        }
        assert_eq!(self.ending.len(), open);
        let opened = || {
            let is_open = |record: &&Record| matches!(record.state, State::Open { .. });
            self.records.values().filter(is_open)
        };
        let owned = opened().filter(|record| record.owner.is_some()).count();
        assert_eq!(self.open_by_owner.values().sum::<usize>(), owned);
        let to_things = opened().filter(|record| record.thing().is_some()).count();
        assert_eq!(self.open_by_thing.values().sum::<usize>(), to_things);
        assert_eq!(self.purging.len(), self.records.len() - open);
        assert_eq!(self.client_tokens.len(), bound);
        assert_eq!(self.by_routing_key.len(), self.records.len());
        assert_eq!(self.by_sequence.len(), self.records.len());
        let indexed: usize = self.by_thing.values().map(BTreeSet::len).sum();
        assert_eq!(indexed, with_thing);
        assert!(self.by_thing.values().all(|all| !all.is_empty()));
    }
}
