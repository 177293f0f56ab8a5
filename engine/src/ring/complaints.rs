//! Warnings that a peer can cause, within bounds.

use std::mem;
use std::time::{Duration, Instant};

/// What a loop has said about its peers.
///
/// Whoever has a token may connect and misbehave again and again; a warning for each time would fill the log.
#[derive(Debug)]
pub(super) struct Complaints {
    /// Time from one such warning to the next.
    pause: Duration,
    next_at: Option<Instant>,
    left_out: u64,
}

impl Complaints {
    pub(super) fn every(pause: Duration) -> Self {
        Self {
            pause,
            next_at: None,
            left_out: 0,
        }
    }

    /// Whether one more may be said now; and how many were left out since the last.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.next_at.is_some_and(|at| now < at) {
            self.left_out += 1;
            return None;
        }
        self.next_at = Some(now + self.pause);
        Some(mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn a_peer_that_misbehaves_again_and_again_has_a_line_a_minute() {
        let minute = Duration::from_secs(60);
        let mut complaints = Complaints::every(minute);
        let start = Instant::now();
        let said = (0..601).filter_map(|tenth| complaints.admit(start + minute / 10 * tenth));
        let expected: Vec<_> = [0].into_iter().chain([9; 60]).collect();
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }
}
