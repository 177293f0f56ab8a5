//! One time that never jumps and can be written down.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock of the start, carried on by the monotonic clock: setting the device's clock neither
/// ends a tunnel early nor makes it immortal (threat T-25).
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    wall_at_start: Duration,
}

/// Milliseconds since 1970 by a [`Clock`].
pub(super) type Millis = u64;

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            // A clock before 1970 was never set; what was written down is then all in the future and
            // is clamped.
            wall_at_start: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    pub(super) fn now(&self) -> Millis {
        millis(self.wall_at_start + self.start.elapsed())
    }
}

/// A span as a number; the largest where it does not fit.
pub(super) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_the_wall_clock_and_never_goes_back() {
        let before = millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        let clock = Clock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(before <= first && first <= second);
    }
}
