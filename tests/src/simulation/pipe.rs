//! One direction of a network connection: in order and complete, or broken; cut anywhere and put
//! together again; late; held up; full.

use super::dice::Dice;
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// One direction.
pub(super) struct Pipe {
    /// What was written at one time arrives at one time.
    under_way: VecDeque<(Instant, Vec<u8>)>,
    size: usize,
    capacity: usize,
    delay: Duration,
    /// Nothing arrives before this.
    held_until: Option<Instant>,
    state: State,
    /// A planted mistake: a byte is lost where a piece is cut.
    pub(super) drops_at_cuts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The writer has ended it, behind what is under way.
    Finished,
    Reset,
    /// Whatever is written is gone, and nobody is told.
    Vanished,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// At least one byte.
    Bytes(Vec<u8>),
    /// Nothing has arrived.
    Nothing,
    /// The writer has ended it, and all was read.
    Ended,
    /// It is broken.
    Reset,
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {} bytes", self.state, self.size)
    }
}

impl Pipe {
    /// An open one that holds so many bytes.
    #[must_use]
    pub(super) fn new(capacity: usize, delay: Duration) -> Self {
        Self {
            under_way: VecDeque::new(),
            size: 0,
            capacity,
            delay,
            held_until: None,
            state: State::Open,
            drops_at_cuts: false,
        }
    }

    /// As much of `bytes` as it takes.
    pub(super) fn write(&mut self, now: Instant, dice: &mut Dice, bytes: &[u8]) -> usize {
        match self.state {
            State::Open => {}
            State::Vanished => return bytes.len(),
            State::Finished | State::Reset => return 0,
        }
        let count = bytes.len().min(self.capacity - self.size);
        if count > 0 {
            let last = self.under_way.back().map_or(now, |(at, _)| *at);
            let at = last.max(now + dice.pause(self.delay));
            self.under_way.push_back((at, bytes[..count].to_vec()));
            self.size += count;
        }
        count
    }

    /// At most `max` bytes of what has arrived, whatever pieces they were written in.
    pub(super) fn read(&mut self, now: Instant, max: usize) -> Got {
        if self.state == State::Reset {
            return Got::Reset;
        }
        let mut bytes = Vec::new();
        if self.held_until.is_none_or(|until| until <= now) {
            while let Some((at, piece)) = self.under_way.front_mut()
                && *at <= now
                && bytes.len() < max
            {
                let room = max - bytes.len();
                if piece.len() <= room {
                    bytes.append(piece);
                    self.under_way.pop_front();
                } else {
                    bytes.extend(piece.drain(..room));
                    if self.drops_at_cuts && piece.len() > 1 {
                        piece.remove(0);
                        self.size -= 1;
                        self.drops_at_cuts = false;
                    }
                }
            }
        }
        self.size -= bytes.len();
        match bytes.is_empty() {
            false => Got::Bytes(bytes),
            true if self.state == State::Finished && self.size == 0 => Got::Ended,
            true => Got::Nothing,
        }
    }

    /// The writer has nothing more.
    pub(super) fn finish(&mut self) {
        if self.state == State::Open {
            self.state = State::Finished;
        }
    }

    /// What is under way is lost, and the reader is told.
    pub(super) fn reset(&mut self) {
        self.drop_all(State::Reset);
    }

    /// What is under way and what still comes is lost, and nobody is told.
    pub(super) fn vanish(&mut self) {
        self.drop_all(State::Vanished);
    }

    /// Nothing arrives before `until`.
    pub(super) fn hold(&mut self, until: Instant) {
        self.held_until = Some(until);
    }

    /// When something arrives; in the past if it has.
    #[must_use]
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        let first = self.under_way.front().map(|(at, _)| *at)?;
        Some(self.held_until.map_or(first, |until| until.max(first)))
    }

    /// Bytes under way.
    #[must_use]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Whether nothing is under way, its end included.
    #[must_use]
    pub(super) fn is_quiet(&self) -> bool {
        self.size == 0 && self.state == State::Open
    }

    /// Whether both ends can see that it is broken.
    #[must_use]
    pub(super) fn is_reset(&self) -> bool {
        self.state == State::Reset
    }

    /// Whether nobody would notice what is written.
    #[must_use]
    pub(super) fn is_vanished(&self) -> bool {
        self.state == State::Vanished
    }

    fn drop_all(&mut self, state: State) {
        self.under_way.clear();
        self.size = 0;
        self.state = state;
    }
}
