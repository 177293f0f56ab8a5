//! When to look for messages again after the store did not answer.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A moment that comes later after each failure, up to a bound, and not at all without one.
#[derive(Debug)]
pub(super) struct Retry {
    at: Option<Instant>,
    pause: Duration,
}

impl Retry {
    pub(super) fn new() -> Self {
        Self {
            at: None,
            pause: PAUSE_MIN,
        }
    }

    /// The store did not answer.
    pub(super) fn failed(&mut self, now: Instant) {
        self.at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// The store answered.
    pub(super) fn succeeded(&mut self) {
        *self = Self::new();
    }

    /// Returns when it is time to try again.
    pub(super) async fn due(&self) {
        match self.at {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    }
}

/// The first one. A store that fails over is back within some ten seconds.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Of 10,000 devices that wait, some 1,250 a second ask then.
const PAUSE_MAX: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew_after_an_answer() {
        let (mut retry, now) = (Retry::new(), Instant::now());
        let mut pause = || {
            retry.failed(now);
            (retry.at.unwrap() - now).as_secs()
        };
        assert_eq!(
            [pause(), pause(), pause(), pause(), pause()],
            [1, 2, 4, 8, 8]
        );
        retry.succeeded();
        assert!(retry.at.is_none());
        retry.failed(now);
        assert_eq!(retry.at, Some(now + PAUSE_MIN));
    }
}
