//! Payload on its way to local sockets: offered straight from where it was received, and only
//! what a socket does not take is copied to its queue.

use super::connection::{LastWay, NO_DELIVERY, State};
use super::credit::{SMALL_RUN, SMALL_SIZE};
use super::inbound::Place;
use super::key::ConnectionKey;
use super::limits::Limits;
use super::pool::CHUNK_SIZE;
use super::proxy::{Action, Proxy};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::time::Instant;

/// Connections that one batch delivers to; a fuller batch is carried out before the next message
/// is read, as is one that would bring a queue or the pool over its mark if all sockets refused.
pub const BATCH_MAX: usize = 64;

/// Payloads of one connection that one batch holds for one `sendmsg` (the kernel takes 1,024).
pub const PARTS_MAX: usize = 64;

/// Payloads to offer, linked by connection.
#[derive(Default)]
pub(crate) struct Deliveries {
    groups: Vec<Group>,
    parts: Vec<Part>,
    /// Memory that the pool would need if no socket took anything, in bytes.
    memory: usize,
    /// Some group holds `PARTS_MAX` payloads, or more than the mark of a queue.
    is_full: bool,
}

struct Group {
    key: ConnectionKey,
    io: u32,
    first: u32,
    last: u32,
    count: usize,
    size: usize,
}

struct Part {
    place: PartPlace,
    next: u32,
}

#[derive(Clone)]
enum PartPlace {
    Buffer(Range<usize>),
    Assembled(Range<usize>),
}

/// One connection's share of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// Which of the batch; handed back to `delivered`.
    pub index: usize,
    /// The driver's handle of the socket.
    pub io: u32,
    /// Payloads it is made of, at most [`PARTS_MAX`].
    pub parts: usize,
    /// Bytes in all.
    pub size: usize,
}

/// What one more message needs: at most 65,535 bytes in chunks.
const MESSAGE_ROOM: usize = 64 * 1024;
const _: () = assert!(MESSAGE_ROOM.is_multiple_of(CHUNK_SIZE));

/// Bytes over which a connection's queue pauses the tunnel: one more message must fit.
pub(crate) fn queue_mark(limits: &Limits) -> usize {
    limits.connection_buffer.saturating_sub(MESSAGE_ROOM).max(1)
}

/// Bytes of a queue at which the tunnel goes on: some below the mark, so that a reader of few bytes a
/// second lets it go on after seconds.
fn resume_mark(mark: usize) -> usize {
    mark - (mark / 2).min(2 * MESSAGE_ROOM)
}

/// Memory over which the pool pauses the tunnel.
pub(crate) fn pool_mark(limits: &Limits) -> usize {
    limits.tunnel_buffer.saturating_sub(MESSAGE_ROOM)
}

fn memory_of(size: usize) -> usize {
    size.next_multiple_of(CHUNK_SIZE)
}

impl Proxy {
    /// What is to be offered to local sockets now, at most [`BATCH_MAX`] of them.
    pub fn deliveries(&self) -> impl Iterator<Item = Delivery> {
        let groups = self.deliveries.groups.iter().enumerate();
        groups.map(|(index, group)| Delivery {
            index,
            io: group.io,
            parts: group.count,
            size: group.size,
        })
    }

    /// Whether anything is to be offered.
    pub fn has_deliveries(&self) -> bool {
        !self.deliveries.groups.is_empty()
    }

    /// The bytes of delivery `index`, in order; fills at most [`PARTS_MAX`] of `parts` and
    /// returns how many. `buffer` is the one that `handle_input` read.
    pub fn delivery_parts<'a>(
        &'a self,
        index: usize,
        buffer: &'a [u8],
        parts: &mut [IoSlice<'a>],
    ) -> usize {
        let group = &self.deliveries.groups[index];
        let (mut at, mut count) = (group.first, 0);
        while at != NO_DELIVERY && count < parts.len() {
            let part = &self.deliveries.parts[at as usize];
            parts[count] = IoSlice::new(match &part.place {
                PartPlace::Buffer(range) => &buffer[range.clone()],
                PartPlace::Assembled(range) => &self.inbound.assembled()[range.clone()],
            });
            count += 1;
            at = part.next;
        }
        count
    }

    /// The local socket of delivery `index` took this many bytes; the rest is queued.
    pub fn delivered(
        &mut self,
        now: Instant,
        index: usize,
        buffer: &[u8],
        result: io::Result<usize>,
    ) {
        let group = &self.deliveries.groups[index];
        let (key, first, is_small) = (group.key, group.first, group.size < SMALL_SIZE);
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        connection.delivery = NO_DELIVERY;
        let mut taken = match result {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return self.not_taken(key, &error),
        };
        if taken > 0 {
            connection.moved_at = now;
            connection.received += taken as u64;
            self.counters.bytes_received += taken as u64;
        }
        // A few may be the rests of turns of bulk.
        if !is_small {
            connection.small_run = 0;
            self.last_small = self.last_small.filter(|(other, _)| *other != key);
        } else if connection.small_run < SMALL_RUN {
            connection.small_run += 1;
        } else {
            self.last_small = Some((key, now));
        }
        let mut at = first;
        while at != NO_DELIVERY {
            let part = &self.deliveries.parts[at as usize];
            let bytes = match &part.place {
                PartPlace::Buffer(range) => &buffer[range.clone()],
                PartPlace::Assembled(range) => &self.inbound.assembled()[range.clone()],
            };
            let skipped = taken.min(bytes.len());
            taken -= skipped;
            let rest = &bytes[skipped..];
            if !rest.is_empty() {
                // The stall clock counts from the first byte that waits.
                connection.moved_at = now;
                self.pool.append(&mut connection.queue, rest);
                self.counters.bytes_queued += rest.len() as u64;
            }
            at = part.next;
        }
        self.after_queue_change(now, key);
    }

    /// Forgets the batch; call when all of it was `delivered`.
    pub fn clear_deliveries(&mut self) {
        self.deliveries.groups.clear();
        self.deliveries.parts.clear();
        self.deliveries.memory = 0;
        self.deliveries.is_full = false;
    }

    /// Adds a payload for a connection that takes bytes directly.
    pub(crate) fn offer(&mut self, key: ConnectionKey, place: &Place, payload: Range<usize>) {
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        let place = match place {
            Place::Buffer(_) => PartPlace::Buffer(payload.clone()),
            Place::Assembled => PartPlace::Assembled(payload.clone()),
        };
        let deliveries = &mut self.deliveries;
        let part = deliveries.parts.len() as u32;
        deliveries.parts.push(Part {
            place,
            next: NO_DELIVERY,
        });
        if connection.delivery == NO_DELIVERY {
            connection.delivery = deliveries.groups.len() as u32;
            let (io, size) = (connection.io, payload.len());
            deliveries.memory += memory_of(size);
            deliveries.groups.push(Group {
                key,
                io,
                first: part,
                last: part,
                count: 1,
                size,
            });
            return;
        }
        let group = &mut deliveries.groups[connection.delivery as usize];
        deliveries.parts[group.last as usize].next = part;
        group.last = part;
        group.count += 1;
        deliveries.memory += memory_of(group.size + payload.len()) - memory_of(group.size);
        group.size += payload.len();
        deliveries.is_full |= group.count >= PARTS_MAX || group.size > queue_mark(&self.limits);
    }

    /// Adds a payload to the queue of a connection that cannot be offered it now.
    pub(crate) fn enqueue(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        buffer: &[u8],
        place: &Place,
        payload: Range<usize>,
    ) {
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        if connection.queue.is_empty() {
            connection.moved_at = now;
        }
        let bytes = match place {
            Place::Buffer(_) => &buffer[payload],
            Place::Assembled => &self.inbound.assembled()[payload],
        };
        self.pool.append(&mut connection.queue, bytes);
        self.counters.bytes_queued += bytes.len() as u64;
        self.after_queue_change(now, key);
    }

    /// Whether the batch must be carried out before another message is read.
    pub(crate) fn batch_is_full(&self) -> bool {
        let deliveries = &self.deliveries;
        deliveries.is_full
            || deliveries.groups.len() >= BATCH_MAX
            || (deliveries.memory > 0
                && self.pool.used_size() + deliveries.memory > pool_mark(&self.limits))
    }

    /// The bytes at the front of a connection's queue, for one `sendmsg`.
    pub fn queued_parts<'a>(&'a self, key: ConnectionKey, parts: &mut [IoSlice<'a>]) -> usize {
        self.connections
            .find(key)
            .map_or(0, |connection| self.pool.front(&connection.queue, parts))
    }

    /// The local socket can take bytes again. Returns its handle if bytes wait for it: offer
    /// [`queued_parts`](Self::queued_parts) and report to [`flushed`](Self::flushed).
    pub fn writable(&self, key: ConnectionKey) -> Option<u32> {
        let connection = self.connections.find(key)?;
        (connection.has_socket() && !connection.queue.is_empty()).then_some(connection.io)
    }

    /// The local socket took this many bytes of its queue.
    pub fn flushed(&mut self, now: Instant, key: ConnectionKey, result: io::Result<usize>) {
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        match result {
            Ok(taken) => {
                if taken > 0 {
                    connection.moved_at = now;
                    connection.received += taken as u64;
                    self.counters.bytes_received += taken as u64;
                }
                self.pool.consume(&mut connection.queue, taken);
                self.after_queue_change(now, key);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.not_taken(key, &error),
        }
    }

    /// Keeps the marks, and ends a connection that has flushed.
    pub(crate) fn after_queue_change(&mut self, now: Instant, key: ConnectionKey) {
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        connection.last_way = LastWay::ToLocal;
        let size = connection.queue.size();
        let has_room = connection.received >= connection.offsets.tell_at;
        let mark = queue_mark(&self.limits);
        // Hysteresis, a little below the mark: who waits for this one should not wait for megabytes.
        if !connection.is_full && size > mark {
            connection.is_full = true;
            self.full_queues += 1;
        } else if connection.is_full && size <= resume_mark(mark) {
            connection.is_full = false;
            self.full_queues -= 1;
        }
        if size == 0 && connection.state == State::Flushing {
            let io = connection.io;
            self.forget(key);
            self.act(Action::End { io });
        } else if has_room || (size > 0 && connection.offsets.is_unlimited()) {
            self.tell_limit(now, key);
        }
        self.check_pool();
        self.watch_pause(now);
    }

    /// Keeps the mark of the shared pool, with hysteresis down to three quarters.
    pub(crate) fn check_pool(&mut self) {
        let used = self.pool.used_size();
        let mark = pool_mark(&self.limits);
        if used > mark {
            self.pool_is_full = true;
        } else if used <= mark / 4 * 3 {
            self.pool_is_full = false;
        }
    }
}
