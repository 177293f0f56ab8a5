//! What goes to the other side: ranges of bytes, in order.

use adit_proto::limits::LENGTH_PREFIX_SIZE;
use adit_proto::message::{Control, Credit, DataHeader};
use std::ops::Range;

/// One or more whole messages with their length prefixes, one after the other in memory.
///
/// Its bytes: [`Relay::run_bytes`](super::Relay::run_bytes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Where the bytes are.
    pub place: RunPlace,
    /// Nothing may follow in the same message of the WebSocket: the last one here is STREAM_START or STREAM_RESET, and
    /// the reference holds back what follows those (specification 17, Q-03), or the receiver is none of ours.
    pub ends_frame: bool,
}

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunPlace {
    /// In the driver's buffer, as it was received.
    Buffer(Range<usize>),
    /// One message that came in pieces, as the relay put it together.
    Assembled,
    /// In the relay's own memory, since the other side must see other bytes than those received.
    Rewritten(Range<usize>),
}

/// Runs not taken yet.
#[derive(Default)]
pub(super) struct Runs {
    runs: Vec<Run>,
    scratch: Vec<u8>,
}

impl Runs {
    pub(super) fn as_slice(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn scratch(&self) -> &[u8] {
        &self.scratch
    }

    /// Whether the driver must take them before more is read.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.runs.len() >= RUNS_MAX
            || self.scratch.len() >= SCRATCH_SIZE
            || matches!(self.runs.last(), Some(run) if run.place == RunPlace::Assembled)
    }

    /// Forgets all runs; memory that a burst needed goes back.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_KEPT);
    }

    /// A message of the driver's buffer, its length prefix included.
    #[inline]
    pub(super) fn push_buffer(&mut self, range: Range<usize>, ends_frame: bool) {
        if let Some(last) = self.runs.last_mut()
            && !last.ends_frame
            && let RunPlace::Buffer(before) = &mut last.place
            && before.end == range.start
        {
            before.end = range.end;
            last.ends_frame = ends_frame;
            return;
        }
        self.runs.push(Run {
            place: RunPlace::Buffer(range),
            ends_frame,
        });
    }

    /// The message that the reader put together. It is full then: the next message takes its place.
    pub(super) fn push_assembled(&mut self, ends_frame: bool) {
        self.runs.push(Run {
            place: RunPlace::Assembled,
            ends_frame,
        });
    }

    /// A message without payload. Returns its size.
    pub(super) fn push_control(&mut self, message: &Control<'_>, ends_frame: bool) -> usize {
        let start = self.scratch.len();
        message.encode(&mut self.scratch);
        self.note(start, ends_frame)
    }

    /// Credit under another name of its stream or service. Returns the message's size.
    pub(super) fn push_credit(&mut self, credit: &Credit<'_>) -> usize {
        let start = self.scratch.len();
        credit.encode(&mut self.scratch);
        self.note(start, false)
    }

    /// Application data under another header: the one copy that a mixed pair of peers costs.
    /// Returns the message's size.
    pub(super) fn push_data(
        &mut self,
        header: &DataHeader<'_>,
        payload: &[u8],
        ends_frame: bool,
    ) -> usize {
        let start = self.scratch.len();
        let header_size = header.size(payload.len());
        self.scratch.reserve(header_size + payload.len());
        self.scratch.resize(start + header_size, 0);
        header.write(payload.len(), &mut self.scratch[start..]);
        self.scratch.extend_from_slice(payload);
        self.note(start, ends_frame)
    }

    fn note(&mut self, start: usize, ends_frame: bool) -> usize {
        let end = self.scratch.len();
        if let Some(last) = self.runs.last_mut()
            && !last.ends_frame
            && let RunPlace::Rewritten(before) = &mut last.place
        {
            before.end = end;
            last.ends_frame = ends_frame;
        } else {
            self.runs.push(Run {
                place: RunPlace::Rewritten(start..end),
                ends_frame,
            });
        }
        end - start
    }
}

/// Runs held at most, and one: 64 × 40 bytes. Messages that follow each other make one run.
const RUNS_MAX: usize = 64;

/// Rewritten bytes held at most, plus one message (at most 64,661 bytes) and its prefix.
const SCRATCH_SIZE: usize = 64 * 1024;

/// Rewriting memory kept by a tunnel that is quiet: rewritten control messages fit.
const SCRATCH_KEPT: usize = 1024;

const _: () = assert!(LENGTH_PREFIX_SIZE + 64_661 <= SCRATCH_SIZE);
