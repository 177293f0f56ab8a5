//! One WebSocket's socket: ciphertext in, records out, buffers only while something waits.

use super::backend::{Backend, Outgoing, Ready};
use super::buffers::{BUFFER_SIZE, Buffers, OUTPUT_MARK};
use super::io::Io;
use super::socket;
use super::way::Way;
use crate::pages::Pages;
use crate::tls::{MAX_PLAINTEXT, Opened, RecordError, Records};
use crate::tunnel::limits::MAX_RECORD_PLAINTEXT;
use std::io::{self, IoSlice};
use std::ops::Range;

/// Largest record with its header (RFC 8446 §5.2): so much room must be left behind a partial one.
const MAX_RECORD: usize = MAX_PLAINTEXT + 256 + 5;

// A frame that a core composes fits a record of any record layer.
const _: () = assert!(MAX_RECORD_PLAINTEXT == MAX_PLAINTEXT);

/// Plaintext of the smallest records that whole messages are cut into when there are many: a
/// start or reset of a stream travels alone in its frame.
const RECORD_MIN: usize = 1024;

/// Header, content type and tag of a record, and more than any cipher suite adds.
const RECORD_OVERHEAD: usize = 64;

/// Bytes that the record layer may have to say while nothing is sent; a peer that asks for more
/// (by a flood of key updates) is not read until they are.
const OWN_MAX: usize = 1024;

/// A link as the loop owns it.
pub(super) struct LinkIo {
    /// The slot of its socket.
    pub(super) socket: u32,
    records: Records,
    input: Input,
    output: Output,
    /// The socket may have bytes; cleared when it shows that it has none.
    readable: bool,
    writable: bool,
    /// See [`Ready::reads_short`].
    reads_short: bool,
    /// Its peer takes nothing any more: whatever is composed for it is thrown away.
    is_deaf: bool,
    /// What showed that, until it is reported.
    failure: Option<io::Error>,
    /// Bytes that ever came.
    received: u64,
    bytes_moved: u64,
    pub(super) way: Way,
}

/// 0 <= record <= plain.start <= plain.end <= start <= filled <= buffer size, while it is open
#[derive(Default)]
struct Input {
    buffer: Option<Pages>,
    /// The opened bytes of one record; `plain.start` moves as the core reads them.
    plain: Range<usize>,
    /// The core may still point into `plain`, even where all of it was read.
    is_open: bool,
    /// First byte of the record that `plain` is of.
    record: usize,
    /// First byte not opened yet.
    start: usize,
    filled: usize,
}

/// 0 <= start <= end <= buffer size
#[derive(Default)]
struct Output {
    buffer: Option<Pages>,
    /// First byte that the socket has not taken.
    start: usize,
    end: usize,
    /// What the record layer has to say by itself: alerts, key updates.
    own: Vec<u8>,
}

/// What became of reading.
pub(super) enum Received {
    /// There are new bytes.
    Some,
    /// Nothing more for now.
    Nothing,
    /// The peer's TCP connection ended.
    Ended,
}

impl LinkIo {
    /// `opened` and `unread` are what the handshake read too much, opened already or not; the
    /// handshake reads far less than a buffer.
    pub(super) fn new(
        socket: u32,
        records: Records,
        opened: &[u8],
        unread: &[u8],
        buffers: &mut Buffers,
    ) -> Self {
        let mut input = Input::default();
        let filled = opened.len() + unread.len();
        if filled > 0 {
            let mut buffer = buffers.take();
            buffer[..opened.len()].copy_from_slice(opened);
            buffer[opened.len()..filled].copy_from_slice(unread);
            input = Input {
                buffer: Some(buffer),
                plain: 0..opened.len(),
                is_open: !opened.is_empty(),
                record: 0,
                start: opened.len(),
                filled,
            };
        }
        Self {
            socket,
            records,
            input,
            output: Output::default(),
            readable: true,
            writable: true,
            reads_short: false,
            is_deaf: false,
            failure: None,
            received: filled as u64,
            bytes_moved: 0,
            way: Way::default(),
        }
    }

    /// Bytes that were received once and moved since.
    pub(super) fn bytes_moved(&self) -> u64 {
        self.bytes_moved
    }

    /// Bytes that have come.
    pub(super) fn received_size(&self) -> u64 {
        self.received
    }

    /// How many of them were read by the core; whole records alone count.
    pub(super) fn read_size(&self) -> u64 {
        let input = &self.input;
        let next = match input.is_open {
            true => input.record,
            false => input.start,
        };
        self.received - (input.filled - next) as u64
    }

    pub(super) fn ready(&mut self, ready: &Ready) {
        self.readable |= ready.readable;
        self.writable |= ready.writable;
        self.reads_short |= ready.reads_short();
        self.is_deaf |= ready.gone;
    }

    /// Whether there is something to read: in the buffer, or as far as known in the socket.
    pub(super) fn may_read(&self) -> bool {
        self.readable || self.has_input()
    }

    fn has_input(&self) -> bool {
        self.input.is_open || self.input.start < self.input.filled
    }

    /// Reads the socket once, behind what is there.
    pub(super) fn receive(&mut self, io: &mut Io) -> io::Result<Received> {
        if !self.readable {
            return Ok(Received::Nothing);
        }
        let input = &mut self.input;
        debug_assert!(!input.is_open, "opened bytes were read first");
        let buffer = input.buffer.get_or_insert_with(|| io.buffers.take());
        if input.start == input.filled {
            (input.start, input.filled) = (0, 0);
        } else if buffer.len() - input.filled < MAX_RECORD {
            // The only bytes that ever move: the part of a record at the buffer's end.
            self.bytes_moved += (input.filled - input.start) as u64;
            buffer.copy_within(input.start..input.filled, 0);
            (input.start, input.filled) = (0, input.filled - input.start);
        }
        let fd = self.slot_fd(io);
        let input = &mut self.input;
        let buffer = input.buffer.as_mut().expect("taken above");
        let room = &mut buffer[input.filled..];
        let wanted = room.len();
        if wanted == 0 {
            return Ok(Received::Nothing);
        }
        let received = io.backend.recv(fd, room);
        if !matches!(received, Ok(1..))
            && let Some(failure) = self.failure.take()
        {
            return Err(failure);
        }
        match received {
            Ok(0) => Ok(Received::Ended),
            Ok(count) => {
                input.filled += count;
                self.received += count as u64;
                if count < wanted && !self.reads_short {
                    self.readable = false;
                }
                Ok(Received::Some)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(Received::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the socket once, and throws away that and all that came before: none of it will be opened any more.
    pub(super) fn discard(&mut self, io: &mut Io) -> io::Result<Received> {
        self.forget_input();
        let received = self.receive(io);
        self.forget_input();
        received
    }

    fn forget_input(&mut self) {
        self.input.is_open = false;
        self.input.start = self.input.filled;
    }

    /// Whether records wait to be opened until the record layer's own have left.
    pub(super) fn is_held(&self) -> bool {
        self.output.own.len() >= OWN_MAX
    }

    /// Opens the next record if nothing opened is left. `Ok(true)`: there are opened bytes.
    pub(super) fn open(&mut self) -> Result<bool, LinkFault> {
        let input = &mut self.input;
        while !input.is_open && self.output.own.len() < OWN_MAX {
            let Some(buffer) = input.buffer.as_mut().filter(|_| input.start < input.filled) else {
                return Ok(false);
            };
            let opened = self.records.open(&mut buffer[input.start..input.filled]);
            // Answers to key updates, or the alert that tells the peer what was wrong.
            if !matches!(opened, Ok(Opened::Incomplete | Opened::Data { .. })) {
                self.records.take_outgoing(&mut self.output.own);
            }
            match opened? {
                Opened::Incomplete => return Ok(false),
                Opened::Data {
                    plaintext,
                    consumed,
                } => {
                    input.record = input.start;
                    input.plain = input.start + plaintext.start..input.start + plaintext.end;
                    input.start += consumed;
                    input.is_open = true;
                }
                Opened::Handled { consumed } => input.start += consumed,
                Opened::Closed { .. } => return Err(LinkFault::Ended),
            }
        }
        Ok(self.input.is_open)
    }

    /// The buffer up to the end of the opened bytes, and where the unread ones start.
    pub(super) fn opened(&mut self) -> (&mut [u8], &mut usize) {
        let input = &mut self.input;
        let buffer = input
            .buffer
            .as_mut()
            .map_or(&mut [][..], |buffer| &mut buffer[..input.plain.end]);
        (buffer, &mut input.plain.start)
    }

    /// All of the opened bytes were read by the core.
    pub(super) fn opened_done(&mut self) {
        self.input.is_open = false;
    }

    /// The bytes that decisions of the core point into.
    pub(super) fn input_bytes(&self) -> &[u8] {
        self.input.buffer.as_deref().unwrap_or_default()
    }

    /// The same, for a header to be written in front of what the core has decided about.
    pub(super) fn input_bytes_mut(&mut self) -> &mut [u8] {
        self.input.buffer.as_deref_mut().unwrap_or_default()
    }

    /// Gives buffers back that hold nothing.
    pub(super) fn release(&mut self, buffers: &mut Buffers) {
        if !self.has_input()
            && let Some(buffer) = self.input.buffer.take()
        {
            buffers.give(buffer);
            self.input = Input::default();
        }
        if self.output.start == self.output.end
            && let Some(buffer) = self.output.buffer.take()
        {
            buffers.give(buffer);
            (self.output.start, self.output.end) = (0, 0);
        }
    }

    /// Bytes that wait for the socket.
    pub(super) fn output_size(&self) -> usize {
        self.output.end - self.output.start
    }

    /// Whether another record may be composed.
    pub(super) fn has_room(&self) -> bool {
        self.output_size() < OUTPUT_MARK && self.fits_record()
    }

    /// Whether the buffer has room for another record, be it over the mark.
    pub(super) fn fits_record(&self) -> bool {
        self.room() >= self.records.room(MAX_PLAINTEXT)
    }

    /// Bytes of the buffer that are left, behind what the record layer has to say; none while that itself has no room.
    fn room(&self) -> usize {
        BUFFER_SIZE.saturating_sub(self.output.end + self.output.own.len())
    }

    /// Whether the socket took everything and may take more.
    pub(super) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Where the plaintext of the next record is composed; only while
    /// [`fits_record`](Self::fits_record).
    pub(super) fn area(&mut self, buffers: &mut Buffers) -> &mut [u8] {
        // Its own records were sealed before this one will be, so they go before it.
        self.place_own(buffers);
        let offset = self.records.plaintext_offset();
        let output = &mut self.output;
        let buffer = output.buffer.get_or_insert_with(|| buffers.take());
        &mut buffer[output.end + offset..][..MAX_PLAINTEXT]
    }

    /// The area once more, while the same record is being composed.
    pub(super) fn area_again(&mut self) -> &mut [u8] {
        let at = self.output.end + self.records.plaintext_offset();
        let buffer = self
            .output
            .buffer
            .as_mut()
            .expect("the record was begun in it");
        &mut buffer[at..][..MAX_PLAINTEXT]
    }

    /// Whether records with so much plaintext could be sealed now, whatever their sizes.
    pub(super) fn has_room_for(&self, plaintext_size: usize) -> bool {
        // Each record has a header and a tag, and the last one is composed behind its place.
        let overhead = plaintext_size.div_ceil(RECORD_MIN) * RECORD_OVERHEAD;
        self.room() >= plaintext_size + overhead + self.records.room(MAX_PLAINTEXT)
    }

    /// Seals the first `size` bytes of the area as one record.
    pub(super) fn seal(&mut self, size: usize) -> Result<(), RecordError> {
        let output = &mut self.output;
        let buffer = output.buffer.as_mut().expect("the area was composed in it");
        output.end += self.records.seal(&mut buffer[output.end..], size)?;
        Ok(())
    }

    /// Seals `plaintext`, which lies elsewhere, as one record; only while
    /// [`fits_record`](Self::fits_record).
    pub(super) fn seal_from(
        &mut self,
        buffers: &mut Buffers,
        plaintext: &[u8],
    ) -> Result<(), RecordError> {
        self.place_own(buffers);
        let output = &mut self.output;
        let buffer = output.buffer.get_or_insert_with(|| buffers.take());
        output.end += self
            .records
            .seal_from(&mut buffer[output.end..], plaintext)?;
        Ok(())
    }

    /// Ends the TLS session in an orderly way, behind everything that waits.
    pub(super) fn close_notify(&mut self) {
        self.records.close_notify(&mut self.output.own);
    }

    /// Its socket has failed to send. What the peer said before that is still [received](Self::receive), and then the
    /// failure.
    pub(super) fn deafen(&mut self, failure: io::Error) {
        self.is_deaf = true;
        self.failure = Some(failure);
        // No edge tells of what is there already.
        self.readable = true;
        self.reads_short = true;
    }

    /// Whether its socket has failed: what it had brought before may still be read, and then it is over.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_deaf
    }

    /// Why it has failed, for who does not read on to learn it.
    pub(super) fn take_failure(&mut self, io: &Io) -> io::Error {
        let failure = self.failure.take();
        failure.unwrap_or_else(|| socket::take_error(self.slot_fd(io)))
    }

    fn throw_output_away(&mut self) -> usize {
        let output = &mut self.output;
        let size = output.end - output.start + output.own.len();
        (output.start, output.end) = (0, 0);
        output.own.clear();
        size
    }

    /// Sends what waits, as much as the socket takes now; gives how many bytes that was, those of the record layer's own
    /// included.
    pub(super) fn flush(&mut self, io: &mut Io) -> io::Result<usize> {
        if self.is_deaf {
            return Ok(self.throw_output_away());
        }
        let fd = self.slot_fd(io);
        let mut taken = 0;
        loop {
            // Once all was sent there is room for them, whatever they are behind.
            self.place_own(&mut io.buffers);
            if !self.writable || self.output_size() == 0 {
                return Ok(taken);
            }
            let output = &mut self.output;
            let buffer = output.buffer.as_ref().expect("unsent bytes are in it");
            let bytes = &buffer[output.start..output.end];
            let offered = bytes.len();
            let parts = [IoSlice::new(bytes)];
            let mut batch = [Outgoing::new(fd, &parts)];
            io.backend.send_batch(&mut batch);
            let [sent] = batch;
            match sent.result {
                Ok(count) => {
                    output.start += count;
                    taken += count;
                    // A short send means a full socket; its draining makes a new edge.
                    self.writable = count == offered;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) => return Err(error),
            }
            if self.output.start == self.output.end {
                (self.output.start, self.output.end) = (0, 0);
            }
        }
    }

    /// Puts what the record layer has to say behind what waits, if there is room for it. A buffer that is filled to its
    /// end has none before all of it was sent, and neither has it for anything that would be sealed later.
    fn place_own(&mut self, buffers: &mut Buffers) {
        let output = &mut self.output;
        if output.own.is_empty() {
            return;
        }
        let buffer = output.buffer.get_or_insert_with(|| buffers.take());
        if buffer.len() - output.end >= output.own.len() {
            buffer[output.end..][..output.own.len()].copy_from_slice(&output.own);
            output.end += output.own.len();
            output.own.clear();
        }
    }

    fn slot_fd(&self, io: &Io) -> i32 {
        io.fd(self.socket)
    }
}

/// Why a link is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkFault {
    #[error("the connection ended without a close frame")]
    Ended,
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the TLS session failed: {0}")]
    Record(#[from] RecordError),
    #[error("its host acknowledges nothing any more")]
    Silent,
    #[error("its output has no room left (a mistake of ours)")]
    NoRoom,
}
