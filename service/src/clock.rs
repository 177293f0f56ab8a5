//! The clocks, read together.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

/// One reading of the clocks.
///
/// Every deadline is reckoned in `steady` (or `instant`, when it ends with the process), which nobody
/// can set; `wall` is only shown to people. So a clock that is set forward closes no tunnel early, and
/// one that is set back keeps none alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time, for what ends with the process.
    pub instant: Instant,
    /// Monotonic time that can be stored: it was the time of day when the process started, and has gone
    /// on with `instant` since. A restart reads the time of day anew, so what is loaded is clamped:
    /// nothing has more left than its full length.
    pub steady: Timestamp,
    /// Time of day, for what is shown.
    pub wall: Timestamp,
}

/// Milliseconds since the Unix epoch, by the time of day or by steady time.
///
/// Serialised as the API wants it: a number of seconds with up to three decimals, never a text
/// (control-plane specification, section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// So much later; at the end of time when there is no such moment.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// So much earlier; the epoch when there is no such moment.
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The same moment for certificates; to the second.
    pub(crate) fn to_date_time(self) -> OffsetDateTime {
        let seconds = i64::try_from(self.0 / 1000).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Exact for every date before the year 287,396.
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

/// Where the service reads the time: the system's clocks, or whatever a test wants.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Now + Send + Sync>);

impl Clock {
    /// The system's clocks.
    pub fn system() -> Self {
        Self::new(system_now)
    }

    /// A clock of the caller's own. `instant` must never go backwards.
    pub fn new(read: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The time now.
    pub fn now(&self) -> Now {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn system_now() -> Now {
    /// Where steady time began. One for the process, so that all its clocks agree.
    static START: OnceLock<(Instant, Timestamp)> = OnceLock::new();
    let (instant, wall) = read();
    let (start, start_wall) = *START.get_or_init(|| (instant, wall));
    Now {
        instant,
        steady: start_wall.after(instant.saturating_duration_since(start)),
        wall,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clocks"
)]
fn read() -> (Instant, Timestamp) {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let wall = Timestamp(millis(since_epoch.unwrap_or(Duration::ZERO)));
    (Instant::now(), wall)
}

#[cfg(test)]
pub(crate) mod manual {
    use std::sync::Mutex;

    use super::*;

    /// A clock that a test moves.
    #[derive(Clone)]
    pub(crate) struct ManualClock(Arc<Mutex<Now>>);

    impl ManualClock {
        pub(crate) fn new() -> Self {
            let start = Timestamp(1_763_900_000_250);
            let mut now = system_now();
            (now.wall, now.steady) = (start, start);
            Self(Arc::new(Mutex::new(now)))
        }

        pub(crate) fn clock(&self) -> Clock {
            let this = self.clone();
            Clock::new(move || this.now())
        }

        pub(crate) fn now(&self) -> Now {
            *self.0.lock().unwrap()
        }

        pub(crate) fn advance(&self, by: Duration) -> Now {
            let mut now = self.0.lock().unwrap();
            now.instant += by;
            now.wall = now.wall.after(by);
            now.steady = now.steady.after(by);
            *now
        }

        /// The process starts anew: steady time begins at the time of day, whatever that is.
        pub(crate) fn restart(&self) {
            let mut now = self.0.lock().unwrap();
            now.steady = now.wall;
        }

        /// Somebody sets the time of day; monotonic time does not notice.
        pub(crate) fn jump_wall(&self, seconds: i64) {
            let mut now = self.0.lock().unwrap();
            now.wall.0 = now.wall.0.checked_add_signed(seconds * 1000).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_json_numbers_of_seconds() {
        for (millis, text) in [
            (1_763_900_000_000, "1763900000.0"),
            (1_763_900_000_123, "1763900000.123"),
            (1_763_900_000_050, "1763900000.05"),
        ] {
            let json = serde_json::to_string(&Timestamp::from_millis(millis)).unwrap();
            assert_eq!(json, text);
        }
    }

    #[test]
    fn the_system_clock_moves_and_knows_the_century() {
        let clock = Clock::system();
        let first = clock.now();
        assert!(first.wall > Timestamp::from_millis(1_700_000_000_000));
        let second = clock.now();
        assert!(second.instant >= first.instant && second.steady >= first.steady);
    }

    #[test]
    fn all_system_clocks_agree_on_steady_time() {
        let (first, second) = (Clock::system().now(), Clock::system().now());
        let apart = second.instant - first.instant;
        let steady_apart = second.steady.since(first.steady);
        // Each is rounded down to the millisecond by itself.
        assert!(steady_apart <= apart + Duration::from_millis(1));
        assert!(steady_apart + Duration::from_millis(1) >= apart);
    }
}
