//! One connection seen from the source: what it sends, and what has come back on it.

use std::time::Instant;

use adit_verify::{Direction, Fault, Kind, MESSAGE_SIZE_MIN, Message, Reader, Track, Writer};

use crate::profile::RoundTrip;
use crate::report::StreamSlot;

/// Bytes of one message of bulk.
pub(super) const BULK_SIZE: usize = 16 * 1024;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Round trips, one at a time.
    Ask,
    /// A round trip, and then its end.
    Once,
    /// Bulk upwards.
    Push,
    /// Bulk downwards.
    Pull,
    /// Nothing, until a round trip and its end prove it.
    Hold,
}

/// A round trip on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) intended: Instant,
    pub(super) started: Instant,
    pub(super) trip: RoundTrip,
    /// The answer has come; where the end belongs to the round trip, that is still to come.
    pub(super) is_answered: bool,
}

impl Asked {
    pub(super) fn new(intended: Instant, started: Instant, trip: RoundTrip) -> Self {
        Self {
            intended,
            started,
            trip,
            is_answered: false,
        }
    }
}

/// A connection.
pub(super) struct Lane {
    pub(super) purpose: Purpose,
    /// Where it is the desk's.
    pub(super) place: Option<usize>,
    writer: Writer,
    reader: Reader,
    /// Made and not yet sent.
    pending: Vec<u8>,
    pub(super) asked: Option<Asked>,
    /// It ends in order once its question is answered.
    pub(super) is_last: bool,
    /// Bytes that the far end has told to be right.
    receipt: u64,
    pub(super) slot: Option<StreamSlot>,
    pub(super) has_turn: bool,
    has_said_end: bool,
}

impl Lane {
    /// `stream` is its number in the run; the greeting, and what begins the bulk, are pending.
    pub(super) fn new(purpose: Purpose, seed: u64, stream: u64) -> Self {
        let mut pending = Vec::new();
        let mut writer = Writer::greet(seed, stream, &mut pending);
        if purpose == Purpose::Pull {
            writer.numbers(Kind::Pour, 0, [BULK_SIZE as u64, 0], &mut pending);
        }
        Self {
            purpose,
            place: None,
            writer,
            reader: Reader::new(Track {
                seed,
                stream,
                direction: Direction::Down,
            }),
            pending,
            asked: None,
            is_last: false,
            receipt: 0,
            slot: None,
            has_turn: false,
            has_said_end: false,
        }
    }

    /// Makes a request, and the trailer behind it where that belongs to the round trip.
    pub(super) fn ask(&mut self, asked: Asked) {
        self.asked = Some(asked);
        let reply = asked.trip.reply as u32;
        self.writer
            .seeded(Kind::Ask, reply, asked.trip.size, &mut self.pending);
        if matches!(self.purpose, Purpose::Once | Purpose::Hold) {
            self.say_end();
        }
    }

    /// Says that no more comes, once.
    pub(super) fn say_end(&mut self) {
        if !std::mem::replace(&mut self.has_said_end, true) {
            if self.purpose == Purpose::Pull {
                self.writer
                    .seeded(Kind::Stop, 0, MESSAGE_SIZE_MIN, &mut self.pending);
            }
            self.writer.end(&mut self.pending);
        }
    }

    /// Whether this end said that no more comes, or is about to.
    pub(super) fn has_said_end(&self) -> bool {
        self.has_said_end
    }

    /// Moves what is to be sent in this turn to `out`; nothing: there is none.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>) {
        if self.pending.is_empty() && self.purpose == Purpose::Push && !self.has_said_end {
            let pending = &mut self.pending;
            self.writer.seeded(Kind::Data, 0, BULK_SIZE, pending);
        }
        out.append(&mut self.pending);
        if self.purpose != Purpose::Push {
            // An idle connection holds no buffer.
            self.pending = Vec::new();
        }
    }

    /// The next whole message off the front of `input`.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Fault> {
        self.reader.next(input)
    }

    /// How many bytes a receipt tells of beyond the last one.
    pub(super) fn note_receipt(&mut self, come: u64) -> u64 {
        let more = come.saturating_sub(self.receipt);
        self.receipt = self.receipt.max(come);
        more
    }

    /// Whether the far end has said all, and it was right.
    pub(super) fn has_ended(&self) -> bool {
        self.reader.has_ended()
    }
}
