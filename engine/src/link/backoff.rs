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
    /// Failed attempts in a row after which to give up; `None`: never. 0 means a single attempt.
    pub retries: Option<u32>,
    /// A connection that lasted this long counts as success: the next failure is the first again. So does one that
    /// lasted as long as the last delay may have been: whoever comes back so seldom need not wait longer and longer.
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
    /// Failures in a row, of attempts and of connections that did not last: what the delay grows
    /// with.
    failures: u32,
    /// Attempts in a row that brought no connection: what is counted against the retries.
    attempts: u32,
}

impl Backoff {
    /// Starts with no failures.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self {
            policy,
            failures: 0,
            attempts: 0,
        }
    }

    /// Counts an attempt without success and says how long to wait before the next one; `None`:
    /// give up.
    ///
    /// `random` is any 64 random bits.
    pub fn after_failure(&mut self, random: u64) -> Option<Duration> {
        if self.policy.retries.is_some_and(|max| self.attempts >= max) {
            return None;
        }
        self.attempts = self.attempts.saturating_add(1);
        Some(self.delay(random))
    }

    /// A connection came about and was lost after `lasted`; says how long to wait before the next
    /// attempt. There always is one, with all its retries before it.
    ///
    /// `random` is any 64 random bits.
    pub fn after_loss(&mut self, lasted: Duration, random: u64) -> Duration {
        self.attempts = 0;
        let last_bound = self.bound(self.failures.saturating_sub(1));
        if lasted >= last_bound.min(self.policy.settled_after) {
            self.failures = 0;
        }
        self.delay(random)
    }

    fn delay(&mut self, random: u64) -> Duration {
        let bound = self.bound(self.failures);
        self.failures = self.failures.saturating_add(1);
        if !self.policy.jitter {
            return self.policy.base;
        }
        // The high half of a 128-bit product: uniform in 0..bound for any bound.
        let nanoseconds = (bound.as_nanos() * u128::from(random)) >> 64;
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Of the delay after so many failures and one more.
    fn bound(&self, failures: u32) -> Duration {
        let doubled = 2_u32.checked_pow(failures).unwrap_or(u32::MAX);
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
    fn only_a_connection_that_lasted_starts_the_delays_afresh() {
        let mut backoff = Backoff::new(BackoffPolicy::default());
        let bounds = [
            (0, 1.0),
            (0, 2.0),
            (1, 4.0),
            (3, 8.0),
            (7, 16.0),
            (10, 1.0),
            (0, 2.0),
        ];
        for (lasted, bound) in bounds {
            let delay = backoff.after_loss(Duration::from_secs(lasted), MOST);
            assert!((delay.as_secs_f64() - bound).abs() < 1e-6, "{delay:?}");
        }
    }

    /// A relay that is killed again and again, and takes three seconds to come back.
    #[test]
    fn a_connection_that_lasted_as_long_as_it_was_waited_for_starts_them_afresh_too() {
        let mut backoff = Backoff::new(BackoffPolicy::default());
        for _ in 0..10 {
            let delay = backoff.after_loss(Duration::from_secs(4), MOST);
            assert!((delay.as_secs_f64() - 1.0).abs() < 1e-6, "{delay:?}");
            for bound in [2.0, 4.0] {
                assert!((seconds(backoff.after_failure(MOST)) - bound).abs() < 1e-6);
            }
        }
    }

    /// A service that takes connections and drops them is no service that cannot be reached.
    #[test]
    fn a_lost_connection_is_tried_again_whatever_the_retries_are() {
        for retries in [0, 2] {
            let mut backoff = Backoff::new(BackoffPolicy {
                retries: Some(retries),
                ..BackoffPolicy::default()
            });
            for _ in 0..10 {
                backoff.after_loss(Duration::ZERO, MOST);
                for _ in 0..retries {
                    assert!(backoff.after_failure(MOST).is_some());
                }
                assert_eq!(backoff.after_failure(MOST), None);
            }
        }
    }

    /// what a fixed delay cannot do. Over many clients the delays of each retry cover their
    /// range evenly, and their mean doubles with the next one.
    #[test]
    fn delays_spread_over_a_range_that_doubles() {
        use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
        const CLIENTS: usize = 1_000;
        let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(38);
        let mut delays: [Vec<f64>; 6] = Default::default();
        for _ in 0..CLIENTS {
            let mut backoff = Backoff::new(BackoffPolicy::default());
            for of_retry in &mut delays {
                of_retry.push(seconds(backoff.after_failure(random.next_u64())));
            }
        }
        for (retry, of_retry) in delays.iter().enumerate() {
            let bound = f64::from(1_u32 << retry);
            let mean = of_retry.iter().sum::<f64>() / CLIENTS as f64;
            assert!((0.45..0.55).contains(&(mean / bound)), "{retry}: {mean}");
            for quarter in 0..4 {
                let from = bound * f64::from(quarter) / 4.0;
                let range = from..from + bound / 4.0;
                let count = of_retry.iter().filter(|it| range.contains(it)).count();
                assert!((200..300).contains(&count), "{retry}, {range:?}: {count}");
            }
        }
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
