//! When to try again.

use std::time::Duration;

/// How long to wait between attempts, and how often to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Upper bound of the first delay, and of those after it until more than that has been waited. With jitter it is
    /// at least 10 ms: from nothing no delay would grow.
    pub base: Duration,
    /// Upper bound of every delay.
    pub cap: Duration,
    /// Wait a random time below the bound, so that clients which lost the same relay do not come
    /// back in step. Without it, wait exactly `base` each time, as the reference does.
    pub jitter: bool,
    /// Failed attempts in a row after which to give up; `None`: never. 0 means a single attempt.
    pub retries: Option<u32>,
    /// A connection that lasted this long counts as success: what was waited before it is forgotten. So does one that
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
///
/// A delay is bounded by all that was waited before it, so whoever was away for some time is found again within as
/// much, or within `base`. A bound that doubled with each failure would grow without time passing: short delays, as
/// chance has them, would use it up, and one of a minute could follow an absence of two seconds.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    /// Sum of the delays since the last connection that lasted.
    waited: Duration,
    /// Bound of the last delay.
    last_bound: Duration,
    /// Attempts in a row that brought no connection: what is counted against the retries.
    attempts: u32,
}

impl Backoff {
    /// Starts with no failures.
    pub fn new(mut policy: BackoffPolicy) -> Self {
        if policy.jitter {
            policy.base = policy.base.max(BASE_MIN);
        }
        Self {
            policy,
            waited: Duration::ZERO,
            last_bound: policy.base,
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
        if lasted >= self.last_bound.min(self.policy.settled_after) {
            self.waited = Duration::ZERO;
        }
        self.delay(random)
    }

    fn delay(&mut self, random: u64) -> Duration {
        if !self.policy.jitter {
            return self.policy.base;
        }
        let bound = self.waited.max(self.policy.base).min(self.policy.cap);
        // The high half of a 128-bit product: uniform in 0..bound for any bound.
        let nanoseconds = (bound.as_nanos() * u128::from(random)) >> 64;
        let delay = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.waited = self.waited.saturating_add(delay);
        self.last_bound = bound;
        delay
    }
}

const BASE_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = u64::MAX;

    fn seconds(delay: Option<Duration>) -> f64 {
        delay.unwrap().as_secs_f64()
    }

    #[test]
    fn the_bound_grows_with_what_was_waited_up_to_the_cap() {
        let mut backoff = Backoff::new(BackoffPolicy::default());
        for bound in [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 120.0, 120.0] {
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
            (0, 1.0),
            (0, 2.0),
            (1, 4.0),
            (3, 8.0),
            (7, 16.0),
            (10, 1.0),
            (0, 1.0),
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
            for bound in [1.0, 2.0] {
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
    /// range evenly, and that range grows.
    #[test]
    fn delays_spread_over_a_range_that_grows() {
        const RETRIES: usize = 16;
        let mut parts: [Vec<f64>; RETRIES] = Default::default();
        let mut sums = [0.0; RETRIES];
        for mut client in clients(38) {
            let mut waited = 0.0;
            for retry in 0..RETRIES {
                let delay = client();
                parts[retry].push(delay / f64::clamp(waited, 1.0, 120.0));
                sums[retry] += delay;
                waited += delay;
            }
        }
        for (retry, of_retry) in parts.iter().enumerate() {
            for quarter in 0..4 {
                let from = f64::from(quarter) / 4.0;
                let range = from..from + 0.25;
                let count = of_retry.iter().filter(|it| range.contains(it)).count();
                assert!((200..300).contains(&count), "{retry}, {range:?}: {count}");
            }
        }
        // By half each time, but for the first ones: to the cap it is a dozen.
        for retry in 4..10 {
            assert!(sums[retry] > 1.2 * sums[retry - 1], "{retry}: {sums:?}");
        }
        assert!(sums[RETRIES - 1] > 30.0 * sums[0], "{sums:?}");
    }

    /// a relay that is started again at once is not waited for any longer because chance had the first delays
    /// short, as a bound does that doubles with each failure.
    #[test]
    fn who_was_away_is_found_again_within_as_much_time() {
        for away in [0.3, 1.0, 1.5, 3.0, 10.0, 60.0] {
            let found = clients(1).map(|mut client| {
                let mut waited = 0.0;
                while waited < away {
                    waited += client();
                }
                waited
            });
            let last = found.fold(0.0, f64::max);
            assert!(last <= away + f64::max(away, 1.0), "{away}: {last}");
        }
    }

    /// The delays of a thousand clients after each of their failures, in seconds.
    fn clients(seed: u64) -> impl Iterator<Item = impl FnMut() -> f64> {
        use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
        (0..1_000).map(move |client| {
            let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
            random.set_stream(client);
            let mut backoff = Backoff::new(BackoffPolicy::default());
            move || seconds(backoff.after_failure(random.next_u64()))
        })
    }

    /// Who does not wait at all tries for ever, as fast as it can.
    #[test]
    fn with_jitter_a_base_of_nothing_is_a_short_one() {
        let mut backoff = Backoff::new(BackoffPolicy {
            base: Duration::ZERO,
            ..BackoffPolicy::default()
        });
        let delays = (0..20).map(|_| seconds(backoff.after_failure(MOST / 2)));
        let waited: f64 = delays.sum();
        assert!(waited > 1.0, "{waited}");
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
