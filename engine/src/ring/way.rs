//! What the way to a link's peer is like, as far as it matters to TCP's retransmissions.

use super::socket::{self, Echo};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Finds out that a way is slow, where a link must not have its retransmissions hurried.
///
/// The system gives up once it has been making good for losses for as long as 15 retransmissions would take, whether or
/// not some of it arrives meanwhile (`retransmits_timed_out` of Linux). With the bound of
/// [`limit_retransmission_wait`](socket::limit_retransmission_wait) that is a minute. A line of 64 kbit/s with more in front
/// of it than it carries in a second has losses to make good for longer than that: in two of four runs of 1 MiB each way a
/// link that carried all of it was given up.
#[derive(Default)]
pub(super) struct Way {
    /// `None` before the first look.
    look_at: Option<Instant>,
    is_slow: bool,
}

impl Way {
    /// Looks, if it is time. A way that was slow once may be so again.
    pub(super) fn look(&mut self, now: Instant, fd: RawFd) {
        if self.turns_slow(now, || socket::echo(fd)) {
            socket::lift_retransmission_wait(fd);
        }
    }

    fn turns_slow(&mut self, now: Instant, echo: impl FnOnce() -> Echo) -> bool {
        if self.is_slow || self.look_at.is_some_and(|at| now < at) {
            return false;
        }
        self.look_at = Some(now + LOOK_PERIOD);
        self.is_slow = echo().round_trip >= SLOW;
        self.is_slow
    }
}

/// A few of them are within the minute. What is slow is busy: a link that rests has no need to be looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// Longer than ways around the earth are; by satellite they are as long, and with a long queue in front.
const SLOW: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_looked_at_now_and_then_until_it_is_slow() {
        let mut way = Way::default();
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let start = Instant::now();
        let mut looks = Vec::new();
        for (after, round_trip) in [(0, 60), (4, 900), (5, 499), (10, 500), (15, 900)] {
            let mut is_looked = false;
            let turns_slow = way.turns_slow(start + Duration::from_secs(after), || {
                is_looked = true;
                Echo {
                    round_trip: Duration::from_millis(round_trip),
                    ..Echo::default()
                }
            });
            looks.push((is_looked, turns_slow));
        }
        let expected = [
            (true, false),
            (false, false),
            (true, false),
            (true, true),
            (false, false),
        ];
        assert_eq!(looks, expected);
    }
}
