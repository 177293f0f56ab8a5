//! Large buffers, lent to tunnels while they are active.

use crate::pages::Pages;
use std::time::{Duration, Instant};

/// Size of a buffer of either direction: the mark of a tunnel's output, and room for one more
/// record to be composed behind it and sealed in front of that (two records and headers).
pub(super) const BUFFER_SIZE: usize = OUTPUT_MARK + 2 * 17 * 1024 + 2 * 1024;

/// A tunnel composes no more while so many bytes wait for its socket: half of it costs some of the
/// throughput, and 1 MiB gains nothing (ARCHITECTURE.md, "Marks and sizes").
pub(super) const OUTPUT_MARK: usize = 256 * 1024;

/// Spare buffers that are kept (2.3 MiB); more are given back to the system.
const SPARE_MAX: usize = 8;

/// Spare buffers that nobody needed for so long are given back as well.
const REST: Duration = Duration::from_secs(10);

/// Spare buffers of one loop. A tunnel that has nothing half-read and nothing unsent holds none.
#[derive(Default)]
pub(super) struct Buffers {
    /// The one that was given back last is taken first.
    spare: Vec<Pages>,
    /// The fewest that were spare since the last review: so many nobody needed. At most those that are spare.
    unneeded: usize,
    review_at: Option<Instant>,
}

impl Buffers {
    pub(super) fn take(&mut self) -> Pages {
        let buffer = self.spare.pop();
        self.unneeded = self.unneeded.min(self.spare.len());
        buffer.unwrap_or_else(|| Pages::new(BUFFER_SIZE))
    }

    pub(super) fn give(&mut self, buffer: Pages) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }

    /// Gives back what nobody needed, when it is time for that. To be called in each turn of the loop, before
    /// [`next_review`](Self::next_review) is asked for.
    pub(super) fn review(&mut self, now: Instant) {
        if self.review_at.is_some_and(|at| at > now) {
            return;
        }
        if self.review_at.is_some() {
            self.spare.drain(..self.unneeded);
        }
        self.unneeded = self.spare.len();
        self.review_at = (!self.spare.is_empty()).then(|| now + REST);
    }

    /// When there may be something to give back.
    pub(super) fn next_review(&self) -> Option<Instant> {
        self.review_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_nobody_needs_go_after_a_while_and_others_stay() {
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let start = Instant::now();
        let mut buffers = Buffers::default();
        buffers.review(start);
        assert_eq!(buffers.next_review(), None);
        let held: Vec<_> = (0..SPARE_MAX + 2).map(|_| buffers.take()).collect();
        held.into_iter().for_each(|it| buffers.give(it));
        assert_eq!(buffers.spare.len(), SPARE_MAX);
        for turn in 0..50 {
            buffers.review(start + REST * turn / 20);
            // Two tunnels at once, in every turn.
            let both = [buffers.take(), buffers.take()];
            both.into_iter().for_each(|it| buffers.give(it));
            let expected = if turn < 20 { SPARE_MAX } else { 2 };
            assert_eq!(buffers.spare.len(), expected, "{turn}");
        }
        let mut reviews = 0;
        while let Some(at) = buffers.next_review() {
            buffers.review(at);
            reviews += 1;
        }
        assert_eq!(buffers.spare.len(), 0);
        assert!(reviews <= 2, "an idle loop wakes {reviews} times");
    }
}
