//! The two clocks, read together.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

/// One reading of both clocks.
///
/// Every deadline is reckoned in `instant`, which nobody can set; `wall` is only shown to people. So a
/// clock that is set forward closes no tunnel early, and one that is set back keeps none alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time, for deadlines.
    pub instant: Instant,
    /// Time of day, for what is shown.
    pub wall: Timestamp,
}

/// Time of day in milliseconds since the Unix epoch.
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

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clocks"
)]
fn system_now() -> Now {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Now {
        instant: Instant::now(),
        wall: Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)),
    }
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
            let mut now = system_now();
            now.wall = Timestamp(1_763_900_000_250);
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
            now.wall.0 += by.as_millis() as u64;
            *now
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
        assert!(clock.now().instant >= first.instant);
    }
}
