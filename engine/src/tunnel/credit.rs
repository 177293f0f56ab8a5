//! Credit between two ends of ours: who receives says how far the other may send on a connection, so
//! that one application that does not read holds up nobody but itself.
//!
//! The protocol has none, so this works only where both ends and the relay between them know it. The
//! one who sends need not agree on anything: without a word it sends as much as it likes, and the
//! tunnel pauses where that is too much (`deliver`); from the first limit of a stream on it keeps to limits, and
//! waits for one of each other connection of the stream before it sends much.
//! Whoever receives tells the first one once there is more than small talk.

use super::connection::State;
use super::deliver::{pool_mark, queue_mark};
use super::inbound::Place;
use super::key::ConnectionKey;
use super::proxy::Proxy;
use super::receive::Message;
use adit_proto::ids::{Dialect, StreamId};
use adit_proto::message::Credit;
use std::time::{Duration, Instant};

/// Offsets of one connection, as far as credit goes. In bytes since its beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offsets {
    /// Sending: the first byte that must not leave yet.
    pub(crate) send_limit: u64,
    /// Receiving: when the local socket has taken so much, the peer is told its next limit.
    pub(crate) tell_at: u64,
    /// The last limit it was told; 0: none yet, the largest: there is none any more.
    pub(crate) told: u64,
}

impl Offsets {
    /// Of a connection whose peer gives no credit, and is given none.
    pub(crate) const NONE: Self = Self {
        send_limit: u64::MAX,
        tell_at: u64::MAX,
        told: 0,
    };

    const READY: Self = Self {
        tell_at: FIRST_AT,
        ..Self::NONE
    };

    /// The peer keeps to credit, and no limit holds: it was told none yet, or that there is none any more.
    pub(crate) fn is_unlimited(&self) -> bool {
        matches!(self.told, 0 | u64::MAX) && self.knows_credit()
    }

    fn knows_credit(&self) -> bool {
        self.tell_at != u64::MAX
    }
}

impl Proxy {
    /// The relay passes credit on: call after [`link_up`](Self::link_up), before anything else.
    pub fn use_credit(&mut self) {
        if self.dialect == Dialect::V3 {
            self.has_credit = true;
            self.outbox.push_credit(&Credit::ANNOUNCEMENT);
        }
    }

    /// Where a new connection of a service's stream begins. Only connections that have an id on the wire can be told of.
    pub(crate) fn offsets(&self, service: usize, connection_id: u32) -> Offsets {
        if !self.has_credit || connection_id == 0 {
            return Offsets::NONE;
        }
        match self.services[service].gives_credit {
            true => Offsets {
                send_limit: FIRST_ROOM,
                ..Offsets::READY
            },
            false => Offsets::READY,
        }
    }

    /// The peer says how far one connection may send.
    #[cold]
    pub(crate) fn on_credit(&mut self, buffer: &[u8], place: &Place, message: &Message) {
        let bytes = match place {
            Place::Buffer(_) => &buffer[message.payload.clone()],
            Place::Assembled => &self.inbound.assembled()[message.payload.clone()],
        };
        let limit = bytes.try_into().map(u64::from_be_bytes);
        let (Ok(limit), Some(key)) = (limit, self.credit_target(message)) else {
            return self.counters.stale += 1;
        };
        let Some(connection) = self.connections.find(key) else {
            return;
        };
        let service = connection.service;
        if !std::mem::replace(&mut self.services[service as usize].gives_credit, true) {
            self.limit_others(service, key);
        }
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        let offsets = &mut connection.offsets;
        offsets.send_limit = match offsets.send_limit {
            u64::MAX => limit,
            earlier => earlier.max(limit),
        };
        // No edge tells of bytes that came while it was held.
        if connection.state == State::Open {
            self.schedule.ready(key, &mut connection.turn);
        }
    }

    /// The peer of a service's stream gives credit, as it has now shown: its other connections wait for their first limits,
    /// too, before they send more than a peer can hold.
    fn limit_others(&mut self, service: u32, than: ConnectionKey) {
        for (key, connection) in self.connections.iter_mut() {
            if connection.service == service && key != than && connection.offsets.knows_credit() {
                connection.offsets.send_limit = connection.sent + FIRST_ROOM;
            }
        }
    }

    /// The connection that a message means, if its stream is current.
    fn credit_target(&self, message: &Message) -> Option<ConnectionKey> {
        let service = &self.services[self.service_meant(message)?];
        let is_current = service.stream.map(StreamId::get) == Some(message.stream);
        is_current
            .then(|| service.find(message.connection))
            .flatten()
    }

    /// Tells the peer how far it may send now: the local socket has taken what was asked for, or takes
    /// nothing while no limit holds. A lone connection holds up nobody and has none.
    #[cold]
    pub(crate) fn tell_limit(&mut self, now: Instant, key: ConnectionKey) {
        let room = match self.connections.count() {
            1 => None,
            _ => Some(self.credit_room(now, key)),
        };
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        let (offsets, received) = (&mut connection.offsets, connection.received);
        let told = offsets.told;
        let limit = match room {
            None => u64::MAX,
            Some(room) if told == u64::MAX => received + room,
            // It never falls.
            Some(room) => told.max(received + room),
        };
        offsets.tell_at = match room {
            None => received + LOOK_AGAIN,
            Some(room) => limit - room / 2,
        };
        match connection.state {
            State::Dialling { peer_ended: false } | State::Open | State::LocalEnded => {}
            // The peer sends nothing any more.
            State::Dialling { peer_ended: true } | State::Flushing => return,
        }
        let service = &mut self.services[connection.service as usize];
        // Who was told nothing in this stream does not wait for a word.
        if limit == told || (limit == u64::MAX && !service.told_credit) {
            return;
        }
        offsets.told = limit;
        service.told_credit = true;
        self.outbox.push_credit(&Credit {
            stream_id: connection.stream,
            service_id: service.name(),
            connection_id: connection.id,
            limit,
        });
    }

    /// How much may be under way and waiting for one connection: what its queue may hold, less where
    /// small messages of others come through the same tunnel, and where others fill the pool already.
    fn credit_room(&self, now: Instant, key: ConnectionKey) -> u64 {
        let most = match self.last_small {
            Some((other, at)) if other != key && now < at + SMALL_LAST => {
                queue_mark(&self.limits) / BESIDE_SMALL
            }
            Some(_) | None => queue_mark(&self.limits),
        };
        let (mark, used) = (pool_mark(&self.limits).max(1) as u64, self.pool.used_size());
        let free = mark.saturating_sub(used as u64);
        // Half of an empty pool, a quarter of one that is half full, and so on: some forty connections
        // that stall fit, with less room for each.
        let share = free * free / (2 * mark);
        (most as u64).min(share).max(ROOM_MIN)
    }
}

/// Connections that exchange less than this cost no message about credit. Bytes.
const FIRST_AT: u64 = 32 * 1024;

/// Bytes that may leave on a connection before its first limit has come, from a side whose peer has told limits for other
/// connections of the stream: as much as beside small talk of others, more than a first limit waits for, and less than
/// the peer's queue holds, however long the way is.
const FIRST_ROOM: u64 = 256 * 1024;

const _: () = assert!(FIRST_ROOM >= FIRST_AT && FIRST_ROOM >= LOOK_AGAIN);

/// Bytes that a lone connection receives until it is looked at again whether it still is alone.
const LOOK_AGAIN: u64 = 256 * 1024;

/// Least bytes that a connection may have under way, so that a full pool slows all down and stops
/// none.
const ROOM_MIN: u64 = 32 * 1024;

/// What is delivered at once and is smaller, in bytes, is part of a conversation, and somebody may wait
/// for it: bulk fills records.
pub(crate) const SMALL_SIZE: usize = 4096;

/// So many of them in a row may be bulk all the same: it leaves rests where a turn or a buffer ends.
/// Whoever of 50 bulk streams was taken for a conversation kept the room of which the others had a
/// sixteenth.
pub(crate) const SMALL_RUN: u8 = 8;

/// For so long after a small message others of its connection are expected.
const SMALL_LAST: Duration = Duration::from_secs(10);

/// The part of its room that a connection has beside such ones. All that is under way for it is in
/// front of what they say next.
const BESIDE_SMALL: usize = 16;
