//! What goes into the tunnel next, composed where it leaves from.

use super::compose::{End, finish_frame};
use super::connection::{Connection, LastWay, State};
use super::key::ConnectionKey;
use super::limits::{MAX_RECORD_PLAINTEXT, MIN_READ_ROOM};
use super::proxy::Proxy;
use super::schedule::Schedule;
use super::service::Service;
use adit_proto::message::DataHeader;
use std::io;
use std::time::Instant;

/// Where the bytes of local sockets come from.
pub trait LocalReader {
    /// Reads what socket `io` has, without waiting; as `recv` does: 0 is its end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else ends the connection.
    fn receive(&mut self, io: u32, into: &mut [u8]) -> io::Result<usize>;
}

impl Proxy {
    /// Whether [`compose`](Self::compose) may have something.
    pub fn wants_output(&self) -> bool {
        self.outbox.is_waiting() || (self.schedule.is_waiting() && !self.outbox.is_closing())
    }

    /// Composes the next WebSocket frame (or a few control frames) at `area[0]` and returns its
    /// size; 0 when there is nothing to send. It is at most [`MAX_RECORD_PLAINTEXT`] bytes, one
    /// record, of which `area` should have room for all.
    ///
    /// Control comes first, then connections in their turn: each local socket is read straight
    /// to where its payload leaves from, and the headers are written around it.
    pub fn compose(
        &mut self,
        now: Instant,
        area: &mut [u8],
        reader: &mut impl LocalReader,
    ) -> usize {
        let limit = area.len().min(MAX_RECORD_PLAINTEXT);
        let area = &mut area[..limit];
        let key = self.mask_key();
        // Kept for the next one, so that not even a flood of pings allocates.
        self.frame.clear();
        if self.outbox.write_frame(Some(key), &mut self.frame) {
            area[..self.frame.len()].copy_from_slice(&self.frame);
            return self.frame.len();
        }
        let room = End::Client.header_room();
        let (mut filled, ends_frame) = self.outbox.write_messages(&mut area[room..]);
        // Behind all messages: data must not overtake the start of its connection.
        if !ends_frame && !self.outbox.has_messages() && !self.outbox.is_closing() {
            filled += self.compose_data(now, &mut area[room + filled..], reader);
        }
        if filled == 0 {
            // Reading may have shown nothing but ends, of which the peer is to be told.
            (filled, _) = self.outbox.write_messages(&mut area[room..]);
        }
        if filled == 0 {
            return 0;
        }
        finish_frame(area, End::Client, filled, key)
    }

    /// Fills `content` with DATA messages and returns their size.
    fn compose_data(
        &mut self,
        now: Instant,
        content: &mut [u8],
        reader: &mut impl LocalReader,
    ) -> usize {
        let mut filled = 0;
        while let Some((key, deficit)) = self.schedule.next(&mut self.connections) {
            let Some(connection) = self.connections.find_mut(key) else {
                continue;
            };
            let credit = connection.credit();
            // A connection without credit is ready again when it has some.
            if connection.state != State::Open || credit == 0 {
                self.schedule.drained(key, &mut connection.turn);
                if connection.state == State::Open && connection.is_gone {
                    self.wait_for_credit_of_gone(now, key);
                }
                continue;
            }
            let header = data_header(&self.services, connection);
            // Room for the header of a large payload; see `place`.
            let header_size = header.size(MAX_RECORD_PLAINTEXT - 1);
            let space = &mut content[filled..];
            if space.len() < header_size + MIN_READ_ROOM {
                break;
            }
            let turn = (deficit as usize).min(self.limits.payload_max);
            let room = (space.len() - header_size).min(turn);
            let wanted = (room as u64).min(credit) as usize;
            match reader.receive(connection.io, &mut space[header_size..header_size + wanted]) {
                Ok(count) if count > 0 => {
                    let size = header.size(count);
                    if size < header_size {
                        self.counters.bytes_shifted += count as u64;
                    }
                    filled += place(&header, space, header_size, count);
                    self.counters.messages_sent += 1;
                    self.counters.bytes_sent += count as u64;
                    self.timers.data_left();
                    note_read(connection, &mut self.schedule, key, count, wanted);
                }
                outcome => self.note_unread(now, key, outcome),
            }
        }
        filled
    }

    /// Takes note of a read that brought nothing.
    pub(super) fn note_unread(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        outcome: io::Result<usize>,
    ) {
        if let Some(connection) = self.connections.find_mut(key) {
            self.schedule.drained(key, &mut connection.turn);
        }
        match outcome {
            Ok(_) => self.local_ended(now, key),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.local_failed(key),
        }
    }
}

/// Takes note of the bytes that were read from the connection served, of `wanted` that there was
/// room for.
#[inline]
pub(super) fn note_read(
    connection: &mut Connection,
    schedule: &mut Schedule,
    key: ConnectionKey,
    count: usize,
    wanted: usize,
) {
    connection.sent += count as u64;
    connection.last_way = LastWay::FromLocal;
    connection.fills_records = count >= FILLS_RECORD;
    schedule.sent(&mut connection.turn, count);
    // A short read means that the socket is empty: the next bytes make it ready again.
    if count < wanted && !connection.reads_short {
        schedule.drained(key, &mut connection.turn);
    }
}

/// A read of so many bytes shows that more come than a keystroke or a query.
const FILLS_RECORD: usize = MAX_RECORD_PLAINTEXT / 2;

pub(super) fn data_header<'a>(services: &'a [Service], connection: &Connection) -> DataHeader<'a> {
    DataHeader {
        stream_id: connection.stream,
        service_id: services[connection.service as usize].name(),
        connection_id: connection.id,
    }
}

/// Writes the header of a payload read to `space[header_size..]`; returns the message's size.
///
/// The length field of a payload under 128 bytes is one byte shorter than was left room for,
/// so such a payload moves by one byte: cheaper than any way to avoid it.
fn place(header: &DataHeader<'_>, space: &mut [u8], header_size: usize, count: usize) -> usize {
    let size = header.size(count);
    if size < header_size {
        space.copy_within(header_size..header_size + count, size);
    }
    header.write(count, &mut space[..size]);
    size + count
}
