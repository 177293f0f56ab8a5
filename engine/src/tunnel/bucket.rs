//! A rate with a burst, as one instant.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// A token bucket: `rate` units a second come in, `burst` of time holds them, and each use takes
/// some out. It may be overdrawn by one use, whatever its size, and is over until that is paid.
///
/// It keeps nothing but when it will be full again (the generic cell rate algorithm), so an unused
/// one costs nothing and needs no timer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    rate: NonZeroU64,
    burst: Duration,
    /// When all that was used is paid for; `None` before the first use.
    paid_at: Option<Instant>,
}

impl Bucket {
    pub(crate) fn new(rate: NonZeroU64, burst: Duration) -> Self {
        Self {
            rate,
            burst,
            paid_at: None,
        }
    }

    pub(crate) fn rate(&self) -> NonZeroU64 {
        self.rate
    }

    /// Takes `count` units out.
    pub(crate) fn take(&mut self, now: Instant, count: u64) {
        let nanoseconds = u128::from(count) * 1_000_000_000;
        let cost = nanoseconds.div_ceil(u128::from(self.rate.get()));
        let cost = Duration::from_nanos(u64::try_from(cost).unwrap_or(u64::MAX));
        let start = self.paid_at.map_or(now, |at| at.max(now));
        // A use that is not paid for within centuries: the bucket is over for ever.
        self.paid_at = start.checked_add(cost).or(self.paid_at);
    }

    /// When it is not overdrawn any more; `None` if it is not.
    pub(crate) fn over_until(&self, now: Instant) -> Option<Instant> {
        let until = self.paid_at?.checked_sub(self.burst)?;
        (until > now).then_some(until)
    }

    /// Whether it is as good as new.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.paid_at.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "some instant to start from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_burst_is_free_and_what_is_over_it_is_waited_for() {
        let now = start();
        let mut bucket = Bucket::new(NonZeroU64::new(1000).unwrap(), SECOND);
        bucket.take(now, 1000);
        assert_eq!(bucket.over_until(now), None);
        bucket.take(now, 500);
        assert_eq!(bucket.over_until(now), Some(now + SECOND / 2));
        assert_eq!(bucket.over_until(now + SECOND / 2), None);
        assert!(!bucket.is_full(now + SECOND) && bucket.is_full(now + SECOND * 3 / 2));
    }

    #[test]
    fn what_is_not_used_for_long_is_a_burst_and_no_more() {
        let now = start();
        let mut bucket = Bucket::new(NonZeroU64::new(10).unwrap(), SECOND);
        bucket.take(now, 1);
        let later = now + SECOND * 3600;
        bucket.take(later, 11);
        assert_eq!(bucket.over_until(later), Some(later + SECOND / 10));
    }

    #[test]
    fn no_rate_and_no_use_overflows() {
        let now = start();
        for rate in [1, u64::MAX] {
            let mut bucket = Bucket::new(NonZeroU64::new(rate).unwrap(), SECOND);
            for _ in 0..3 {
                bucket.take(now, u64::MAX);
            }
            assert!(bucket.over_until(now).is_some());
        }
    }
}
