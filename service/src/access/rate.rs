//! How often an access key may call: a bucket of tokens for each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::keys::KEYS_MAX;

/// Buckets that hold the calls of one second, filled again evenly.
///
/// There are as many buckets as keys have called and not been idle for a second since, [`KEYS_MAX`] and
/// one for callers without a key.
#[derive(Debug)]
pub struct CallRate {
    per_second: u32,
    buckets: Mutex<HashMap<Option<Arc<str>>, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl CallRate {
    /// `None` never throttles.
    pub fn new(per_second: Option<u32>) -> Self {
        Self {
            per_second: per_second.unwrap_or(0),
            buckets: Mutex::new(HashMap::new()),
        }
    }

    /// Whether this key may call now; if so, that was one call.
    pub fn admit(&self, access_key_id: Option<&Arc<str>>, now: Instant) -> bool {
        let full = f64::from(self.per_second);
        if self.per_second == 0 {
            return true;
        }
        let buckets = self.buckets.lock();
        // A bucket is whole whenever it can be seen, and a mistake elsewhere must not refuse every call.
        let mut buckets = buckets.unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > KEYS_MAX {
            // Keys of earlier files. One that would be full by now is as good as a new one.
            buckets.retain(|_, bucket| now.duration_since(bucket.filled).as_secs() < 1);
        }
        let bucket = buckets.entry(access_key_id.cloned()).or_insert(Bucket {
            tokens: full,
            filled: now,
        });
        let elapsed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * full).min(full);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::manual::ManualClock;

    #[test]
    fn a_second_holds_so_many_calls_of_each_key() {
        let rate = CallRate::new(Some(10));
        let clock = ManualClock::new();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let admitted = |key: &Arc<str>, calls: usize| {
            let now = clock.now().instant;
            (0..calls).filter(|_| rate.admit(Some(key), now)).count()
        };
        assert_eq!(admitted(&a, 100), 10);
        assert_eq!(admitted(&b, 3), 3, "another key has its own");
        clock.advance(Duration::from_millis(250));
        assert_eq!(admitted(&a, 100), 2);
        clock.advance(Duration::from_secs(60));
        assert_eq!(
            admitted(&a, 100),
            10,
            "no more than a second's worth is saved up"
        );
    }

    #[test]
    fn no_rate_is_no_limit() {
        let rate = CallRate::new(None);
        let now = ManualClock::new().now().instant;
        assert!((0..10_000).all(|_| rate.admit(None, now)));
    }

    #[test]
    fn the_table_of_buckets_is_bounded() {
        let rate = CallRate::new(Some(1));
        let clock = ManualClock::new();
        for n in 0..5_000 {
            if n % KEYS_MAX == 0 {
                clock.advance(Duration::from_secs(2));
            }
            rate.admit(Some(&format!("{n}").into()), clock.now().instant);
        }
        assert!(rate.buckets.lock().unwrap().len() <= KEYS_MAX + 1);
    }
}
