//! A connection that has the tunnel to itself and fills its records: several records' worth are read
//! at once.
//!
//! A read costs a system call and, dearer, what the kernel does behind it: it tells the sender that
//! there is room again. Four records a read are a quarter of that.

use super::compose::{End, frame_in_front};
use super::connection::State;
use super::key::ConnectionKey;
use super::limits::MAX_RECORD_PLAINTEXT;
use super::proxy::Proxy;
use super::send::{LocalReader, data_header, note_read};
use std::ops::Range;
use std::time::Instant;

/// Most bytes that are read at once.
pub const BULK_SIZE: usize = 4 * MAX_RECORD_PLAINTEXT;

/// Size of the buffer that they are read into: in front of them both headers of the first frame need
/// room, of which that of the message is under 160 bytes.
pub const BULK_BUFFER_SIZE: usize = BULK_SIZE + 256;

/// Bytes that were read and are still to be composed.
#[derive(Debug)]
pub struct Bulk {
    key: ConnectionKey,
    left: Range<usize>,
    /// Payload of a frame that fills a record.
    payload_max: usize,
}

impl Proxy {
    /// The connection that [`read_bulk`](Self::read_bulk) is worth calling for, in the place of
    /// [`compose`](Self::compose): nobody else has anything to send, and its last read filled most of
    /// a record. Not where frames have to be smaller than a record.
    pub fn bulk_ready(&mut self) -> Option<ConnectionKey> {
        let is_free = !self.outbox.is_waiting() && !self.outbox.is_closing();
        if !is_free || self.limits.payload_max < MAX_RECORD_PLAINTEXT {
            return None;
        }
        let key = self.schedule.only(&mut self.connections)?;
        let connection = self.connections.find_mut(key)?;
        let is_bulk = connection.fills_records
            && connection.state == State::Open
            && connection.credit() >= BULK_SIZE as u64;
        is_bulk.then_some(key)
    }

    /// Reads the local socket of that connection. `None`: it had nothing, of which note was taken.
    ///
    /// `buffer` has [`BULK_BUFFER_SIZE`] bytes. Call [`next_bulk_frame`](Self::next_bulk_frame) until
    /// `None` before anything else: what was read is nowhere else.
    pub fn read_bulk(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        buffer: &mut [u8],
        reader: &mut impl LocalReader,
    ) -> Option<Bulk> {
        let connection = self.connections.find_mut(key)?;
        let header = data_header(&self.services, connection);
        let front = End::Client.header_room() + header.size(MAX_RECORD_PLAINTEXT - 1);
        let payload_max = MAX_RECORD_PLAINTEXT - front;
        let whole_records = BULK_SIZE / MAX_RECORD_PLAINTEXT * payload_max;
        let into = &mut buffer[front..front + whole_records];
        match reader.receive(connection.io, into) {
            Ok(count) if count > 0 => {
                self.counters.bytes_sent += count as u64;
                self.timers.data_left();
                note_read(connection, &mut self.schedule, key, count, whole_records);
                Some(Bulk {
                    key,
                    left: front..front + count,
                    payload_max,
                })
            }
            outcome => {
                self.note_unread(now, key, outcome);
                None
            }
        }
    }

    /// The next frame of what was read, in `buffer`: at most [`MAX_RECORD_PLAINTEXT`] bytes, one
    /// record. It is to be taken before the next call, which writes over its end.
    pub fn next_bulk_frame(&mut self, bulk: &mut Bulk, buffer: &mut [u8]) -> Option<Range<usize>> {
        let count = bulk.left.len().min(bulk.payload_max);
        if count == 0 {
            return None;
        }
        let connection = self.connections.find_mut(bulk.key)?;
        let header = data_header(&self.services, connection);
        let payload = bulk.left.start..bulk.left.start + count;
        let start = payload.start - header.size(count);
        header.write(count, &mut buffer[start..payload.start]);
        bulk.left.start = payload.end;
        self.counters.messages_sent += 1;
        let key = self.mask_key();
        Some(frame_in_front(buffer, End::Client, start..payload.end, key))
    }
}
