//! When to try again.

use std::time::Duration;

/// How long to wait between attempts, and how often to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Upper bound of the first delay; it doubles with each failure.
    pub base: Duration,
    /// Upper bound of every delay.
    pub cap: Duration,
    /// Wait a random time below the bound, so that clients which lost the same relay do not come
    /// back in step. Without it, wait exactly `base` each time, as the reference does.
    pub jitter: bool,
    /// Failures in a row after which to give up; `None`: never. 0 means a single attempt.
    pub retries: Option<u32>,
    /// A connection that lasted this long counts as success: the next failure is the first again.
    pub settled_after: Duration,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(120),
            jitter: true,
            retries: None,
            settled_after: Duration::from_secs(10),
        }
    }
}

/// Counts failures and gives delays. Time and randomness are the caller's.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    /// Failures in a row.
    failures: u32,
}

impl Backoff {
    /// Starts with no failures.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self {
            policy,
            failures: 0,
        }
    }

    /// Counts a failure and says how long to wait before the next attempt; `None`: give up.
    ///
    /// `random` is any 64 random bits.
    pub fn after_failure(&mut self, random: u64) -> Option<Duration> {
        if self.policy.retries.is_some_and(|max| self.failures >= max) {
            return None;
        }
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        if !self.policy.jitter {
            return Some(self.policy.base);
        }
        // The high half of a 128-bit product: uniform in 0..bound for any bound.
        let nanoseconds = (bound.as_nanos() * u128::from(random)) >> 64;
        Some(Duration::from_nanos(
            u64::try_from(nanoseconds).unwrap_or(u64::MAX),
        ))
    }

    /// A connection came about and has ended after `lasted`.
    pub fn after_connection(&mut self, lasted: Duration) {
        if lasted >= self.policy.settled_after {
            self.failures = 0;
        }
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn bound(&self) -> Duration {
        let doubled = 2_u32.checked_pow(self.failures).unwrap_or(u32::MAX);
        self.policy
            .base
            .saturating_mul(doubled)
            .min(self.policy.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = u64::MAX;

    fn seconds(delay: Option<Duration>) -> f64 {
        delay.unwrap().as_secs_f64()
    }

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let mut backoff = Backoff::new(BackoffPolicy::default());
        for bound in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 120.0, 120.0] {
            let mut same = backoff.clone();
            assert!((seconds(backoff.after_failure(MOST)) - bound).abs() < 1e-6);
            assert!((seconds(same.clone().after_failure(MOST / 2)) - bound / 2.0).abs() < 1e-6);
            assert_eq!(same.after_failure(0), Some(Duration::ZERO));
        }
        for _ in 0..100 {
            assert!(seconds(backoff.after_failure(MOST)) <= 120.0);
        }
    }

    #[test]
    fn a_number_of_retries_is_that_number() {
        for retries in 0..4 {
            let mut backoff = Backoff::new(BackoffPolicy {
                retries: Some(retries),
                ..BackoffPolicy::default()
            });
            for _ in 0..retries {
                assert!(backoff.after_failure(1).is_some());
            }
            assert_eq!(backoff.after_failure(1), None);
            assert_eq!(backoff.after_failure(1), None);
        }
    }

    #[test]
    fn only_a_connection_that_lasted_starts_afresh() {
        let mut backoff = Backoff::new(BackoffPolicy {
            retries: Some(2),
            ..BackoffPolicy::default()
        });
        backoff.after_failure(MOST);
        backoff.after_connection(Duration::from_secs(9));
        assert!((seconds(backoff.after_failure(MOST)) - 2.0).abs() < 1e-6);
        backoff.after_connection(Duration::from_secs(10));
        assert_eq!(backoff.failures(), 0);
        assert!((seconds(backoff.after_failure(MOST)) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn without_jitter_the_delay_is_fixed() {
        let mut backoff = Backoff::new(BackoffPolicy {
            base: Duration::from_millis(2500),
            jitter: false,
            ..BackoffPolicy::default()
        });
        for _ in 0..40 {
            assert_eq!(backoff.after_failure(7), Some(Duration::from_millis(2500)));
        }
    }
}
