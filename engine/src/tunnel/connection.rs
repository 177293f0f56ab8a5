//! One local connection inside a stream.

use super::credit::{Offsets, SMALL_RUN};
use super::key::{ConnectionKey, Slots};
use super::pool::Queue;
use super::schedule::{Turn, Turns};
use std::time::Instant;

/// ```text
///            dialled                local EOF, something may come
/// Dialling ──────────► Open ──────────────────────────────► LocalEnded
///    │ peer's reset     │ peer's reset, or local EOF            │ peer's reset, quiet
///    └─ (flushes once ──┴────────────► Flushing ◄───────────────┘
///        dialled)                          │ queue empty: gone
/// ```
/// A local error, a failed dial, a stall and the loss of the link end any state at once; but a
/// connection being dialled stays, with nothing to deliver, until the driver reports, so that
/// dials under way are bounded like connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The destination is connecting. `peer_ended`: the peer is done already, or was told so;
    /// what is queued is still delivered.
    Dialling { peer_ended: bool },
    /// Bytes go both ways.
    Open,
    /// The application sends no more; the other direction goes on for a grace time.
    LocalEnded,
    /// The peer knows that the connection is over; what it sent is still delivered.
    Flushing,
}

/// Which way bytes went last; says whether a destination's application ended in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastWay {
    None,
    FromLocal,
    ToLocal,
}

pub(crate) struct Connection {
    /// The driver's handle of the socket; meaningless while dialling.
    pub(crate) io: u32,
    /// Index of its service.
    pub(crate) service: u32,
    /// Connection id on the wire; 0 where the dialect has none.
    pub(crate) id: u32,
    /// Stream id that it was started under.
    pub(crate) stream: i32,
    pub(crate) state: State,
    /// A read may give less than the socket has: its end or a mark is in sight.
    pub(crate) reads_short: bool,
    /// The last read brought as much as makes a record of its own.
    pub(crate) fills_records: bool,
    /// The last deliveries that were smaller than bulk has them, up to [`SMALL_RUN`]. It begins one
    /// short of it: only who has had a large one has to prove more.
    pub(crate) small_run: u8,
    /// The socket takes nothing any more.
    pub(crate) is_gone: bool,
    pub(crate) last_way: LastWay,
    /// The queue is over the mark that pauses the tunnel.
    pub(crate) is_full: bool,
    /// The timers have an entry for it.
    pub(crate) is_watched: bool,
    pub(crate) turn: Turn,
    pub(crate) queue: Queue,
    /// Its share of the batch being built, or `NO_DELIVERY`.
    pub(crate) delivery: u32,
    /// Bytes read from the local socket and composed into frames; offset of the next one.
    pub(crate) sent: u64,
    /// Bytes that the local socket took; offset of the next one.
    pub(crate) received: u64,
    pub(crate) offsets: Offsets,
    /// When the local socket last took bytes, or the first of those that wait came, or the
    /// connection entered its state.
    pub(crate) moved_at: Instant,
}

pub(crate) const NO_DELIVERY: u32 = u32::MAX;

impl Connection {
    pub(crate) fn new(
        service: u32,
        id: u32,
        stream: i32,
        state: State,
        io: u32,
        now: Instant,
    ) -> Self {
        Self {
            io,
            service,
            id,
            stream,
            state,
            reads_short: false,
            fills_records: false,
            small_run: SMALL_RUN - 1,
            is_gone: false,
            last_way: LastWay::None,
            is_full: false,
            is_watched: false,
            turn: Turn::default(),
            queue: Queue::default(),
            delivery: NO_DELIVERY,
            sent: 0,
            received: 0,
            offsets: Offsets::NONE,
            moved_at: now,
        }
    }

    /// Whether it is there only until the driver reports about its dial.
    pub(crate) fn is_void(&self) -> bool {
        self.state == (State::Dialling { peer_ended: true }) && self.queue.is_empty()
    }

    /// Bytes that its peer takes now, if it was told a limit.
    pub(crate) fn credit(&self) -> u64 {
        self.offsets.send_limit.saturating_sub(self.sent)
    }

    /// Whether its local socket exists (it is not being dialled).
    pub(crate) fn has_socket(&self) -> bool {
        !matches!(self.state, State::Dialling { .. })
    }

    /// Whether the local socket may be offered bytes right now: else they queue.
    pub(crate) fn takes_directly(&self) -> bool {
        self.queue.is_empty() && matches!(self.state, State::Open | State::LocalEnded)
    }
}

impl Turns for Slots<Connection> {
    fn turn(&mut self, key: ConnectionKey) -> Option<&mut Turn> {
        self.find_mut(key).map(|connection| &mut connection.turn)
    }
}

// The goal is 512 bytes of user memory for an idle connection, table entries included.
const _: () = assert!(size_of::<Connection>() <= 112);
