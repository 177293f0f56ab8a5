//! When a stall begins, and between which times the others are counted.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::outcome::StallOutcome;

/// The times of one run.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    /// Before and while it stalls. Between the two all settles.
    ranges: [Range<Instant>; 2],
    /// When the reader stops; it reads on when the time is up.
    pub(crate) stall: Instant,
}

/// Bytes of one stream in the two windows.
pub(crate) type Counted = [u64; 2];

impl Windows {
    /// Of a run that begins at `start`.
    pub(crate) fn new(start: Instant, duration: Duration) -> Self {
        let at = |share| start + duration.mul_f64(share);
        Self {
            ranges: [BEFORE, DURING].map(|(begin, end)| at(begin)..at(end)),
            stall: at(STALL),
        }
    }

    /// Counts what a stream has carried, if `now` is within a window.
    pub(crate) fn count(&self, counted: &mut Counted, now: Instant, bytes: u64) {
        for (window, counted) in self.ranges.iter().zip(counted) {
            if window.contains(&now) {
                *counted += bytes;
            }
        }
    }

    /// What the others have carried; whether anything stalled, and was cut for it.
    pub(crate) fn outcome(
        &self,
        others: &[Counted],
        has_stalled: bool,
        was_cut: bool,
    ) -> StallOutcome {
        let of = |window: usize| others.iter().map(|counted| counted[window]).collect();
        let length = |window: &Range<Instant>| window.end - window.start;
        let [before, during] = &self.ranges;
        StallOutcome {
            before: of(0),
            during: of(1),
            windows: (length(before), length(during)),
            has_stalled,
            was_cut,
        }
    }
}

/// In shares of the duration.
const BEFORE: (f64, f64) = (0.1, 0.4);
const STALL: f64 = 0.4;
const DURING: (f64, f64) = (0.5, 1.0);
