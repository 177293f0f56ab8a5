//! Records sealed and opened by the TLS library; TLS 1.2 and 1.3.

use std::cell::RefCell;
use std::fmt;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;

use super::unbuffered::{
    Found, HEADER_SIZE, MAX_RECORD_CONTENT, close_notify, feed, first_record, seal,
};
use super::{MAX_PLAINTEXT, Opened, RecordError};

/// A connection whose handshake is done, with the TLS library as its record layer.
pub struct LibraryRecords {
    side: Side,
    state: State,
    /// The peer has said close_notify.
    peer_closed: bool,
    /// Opened records that hold the beginning of a handshake message whose end is still to come:
    /// the library wants to see them again. At most [`HELD_MAX`] bytes, empty almost always.
    held: Vec<u8>,
    /// Sealed bytes of the library's own: alerts. Under 256 bytes, empty almost always.
    outgoing: Vec<u8>,
}

/// Either end of a connection.
pub(super) enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// We have said close_notify.
    WriteClosed,
    Failed,
}

impl LibraryRecords {
    /// Room for the sealed record in front of the plaintext it is made of: the library reads one
    /// and writes the other, so they must not overlap. 16 KiB and the overhead of the record
    /// (at most 29 bytes), and what the library has to say first (at most 256 bytes).
    pub(super) const PLAINTEXT_OFFSET: usize = MAX_PLAINTEXT + 512;

    /// `held` is what the handshake left unfinished (see the field).
    pub(super) fn new(side: Side, held: Vec<u8>) -> Self {
        Self {
            side,
            state: State::Open,
            peer_closed: false,
            held,
            outgoing: Vec::new(),
        }
    }

    /// `record` has at least `PLAINTEXT_OFFSET + plaintext_size` bytes.
    pub(super) fn seal(
        &mut self,
        record: &mut [u8],
        plaintext_size: usize,
    ) -> Result<usize, RecordError> {
        let (sealed, plaintext) = record.split_at_mut(Self::PLAINTEXT_OFFSET);
        self.seal_from(sealed, &plaintext[..plaintext_size])
    }

    /// The same for a plaintext that lies elsewhere; `sealed` has at least `PLAINTEXT_OFFSET` bytes.
    pub(super) fn seal_from(
        &mut self,
        sealed: &mut [u8],
        plaintext: &[u8],
    ) -> Result<usize, RecordError> {
        match self.state {
            State::Open => {}
            State::WriteClosed => return Err(RecordError::WriteClosed),
            State::Failed => return Err(RecordError::Failed),
        }
        if plaintext.is_empty() {
            return Ok(0);
        }
        let first = self.outgoing.len();
        sealed[..first].copy_from_slice(&self.outgoing);
        self.outgoing.clear();
        let result = match &mut self.side {
            Side::Client(it) => seal(&mut **it, &mut self.held, plaintext, &mut sealed[first..]),
            Side::Server(it) => seal(&mut **it, &mut self.held, plaintext, &mut sealed[first..]),
        };
        if result.is_err() {
            self.state = State::Failed;
        }
        result.map(|size| first + size)
    }

    pub(super) fn open(&mut self, buffer: &mut [u8]) -> Result<Opened, RecordError> {
        if self.state == State::Failed {
            return Err(RecordError::Failed);
        }
        if self.peer_closed {
            // RFC 8446 §6.1: any data received after a closure alert MUST be ignored.
            return Ok(Opened::Closed {
                consumed: buffer.len(),
            });
        }
        let Some(size) = first_record(buffer) else {
            return Ok(Opened::Incomplete);
        };
        let result = if self.held.is_empty() {
            self.open_alone(&mut buffer[..size])
        } else {
            self.open_behind_held(&mut buffer[..size])
        };
        if result.is_err() {
            self.state = State::Failed;
            self.held = Vec::new();
        }
        Ok(match result? {
            Found::Plaintext(plaintext_size) => Opened::Data {
                plaintext: HEADER_SIZE..HEADER_SIZE + plaintext_size,
                consumed: size,
            },
            Found::Nothing => Opened::Handled { consumed: size },
            Found::Closed => {
                self.peer_closed = true;
                Opened::Closed { consumed: size }
            }
        })
    }

    /// The library opens a copy of the record and lends the plaintext only as long as it has
    /// that copy, so the plaintext can be copied back into `record`.
    fn open_alone(&mut self, record: &mut [u8]) -> Result<Found, RecordError> {
        SCRATCH.with_borrow_mut(|scratch| {
            let size = record.len().min(SCRATCH_SIZE);
            scratch.resize(SCRATCH_SIZE, 0);
            scratch[..size].copy_from_slice(&record[..size]);
            let (used, found) = self.feed(&mut scratch[..size], &mut record[HEADER_SIZE..]);
            let found = found?;
            self.held.extend_from_slice(&scratch[used..size]);
            Ok(found)
        })
    }

    fn open_behind_held(&mut self, record: &mut [u8]) -> Result<Found, RecordError> {
        let mut held = std::mem::take(&mut self.held);
        if held.len() + record.len() > HELD_MAX {
            return Err(RecordError::TooLarge {
                size: held.len() + record.len(),
                max: HELD_MAX,
            });
        }
        held.extend_from_slice(record);
        let (used, found) = self.feed(&mut held, &mut record[HEADER_SIZE..]);
        let found = found?;
        if used < held.len() {
            held.drain(..used);
            self.held = held;
        }
        Ok(found)
    }

    fn feed(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut [u8],
    ) -> (usize, Result<Found, RecordError>) {
        match &mut self.side {
            Side::Client(it) => feed(&mut **it, incoming, plaintext, &mut self.outgoing),
            Side::Server(it) => feed(&mut **it, incoming, plaintext, &mut self.outgoing),
        }
    }

    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    pub(super) fn take_outgoing(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.outgoing);
    }

    pub(super) fn close_notify(&mut self, out: &mut Vec<u8>) {
        self.take_outgoing(out);
        if self.state != State::Open {
            return;
        }
        self.state = State::WriteClosed;
        match &mut self.side {
            Side::Client(it) => close_notify(&mut **it, &mut self.held, out),
            Side::Server(it) => close_notify(&mut **it, &mut self.held, out),
        }
    }
}

impl fmt::Debug for LibraryRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LibraryRecords")
            .field("state", &self.state)
            .field("peer_closed", &self.peer_closed)
            .finish_non_exhaustive()
    }
}

/// Most bytes of records that may hold one unfinished handshake message. The library takes
/// messages of up to 64 KiB, here in pieces no smaller than their headers.
const HELD_MAX: usize = 128 * 1024;

const SCRATCH_SIZE: usize = HEADER_SIZE + MAX_RECORD_CONTENT;

thread_local! {
    /// One record being opened, 18 KiB per thread: a scratch buffer of its own for each of ten
    /// thousand connections would cost 180 MB.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
