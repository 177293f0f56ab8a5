//! The clocks, read together.

mod anchor;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use tracing::info;

pub(crate) use self::anchor::Anchor;
use self::anchor::{Boot, since_boot, steady};
use crate::data_dir::DataDir;

/// One reading of the clocks.
///
/// Every deadline is reckoned in `steady` (or `instant`, when it ends with the process), which nobody
/// can set; `wall` is only shown to people. So a clock that is set forward closes no tunnel early, and
/// one that is set back keeps none alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time, for what ends with the process.
    pub instant: Instant,
    /// Monotonic time that can be stored. It was the time of day at the first start in this boot of the
    /// machine, and has gone on since, over restarts as well ([`Clock::kept_in`]). Another boot, or a
    /// start that cannot tell, reads the time of day anew, so what is loaded is clamped: nothing has more
    /// left than its full length. Time that the machine was suspended counts.
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

/// Where the time is read: from the system's clocks, or from whatever a test wants.
#[derive(Clone)]
pub struct Clock {
    read: Arc<dyn Fn() -> Now + Send + Sync>,
    anchor: Option<Anchor>,
}

impl Clock {
    /// The system's clocks, for what ends with the process: steady time begins at the time of day when
    /// the process asks first. One for the process, so that all of them agree.
    pub fn system() -> Self {
        static SYSTEM: OnceLock<Clock> = OnceLock::new();
        let begin = || {
            let wall = time_of_day();
            let anchor = Boot::of_machine().map(|boot| Anchor::at(boot, wall));
            Self::hung_on(anchor, wall)
        };
        SYSTEM.get_or_init(begin).clone()
    }

    /// The system's clocks, with a steady time that goes on where a process before this one with the same
    /// directory has left it, if that was in the same boot of the machine. What cannot be read or written
    /// for that is told in the log, and done without.
    pub fn kept_in(dir: &DataDir) -> Self {
        let wall = time_of_day();
        let anchor = Boot::of_machine().map(|boot| Anchor::kept_in(dir, boot, wall));
        if anchor.is_none() {
            info!("the boot's id cannot be read: after a restart, lifetimes go by the time of day");
        }
        Self::hung_on(anchor, wall)
    }

    /// A clock of the caller's own. `instant` must never go backwards.
    pub fn new(read: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self {
            read: Arc::new(read),
            anchor: None,
        }
    }

    /// The time now.
    pub fn now(&self) -> Now {
        (self.read)()
    }

    /// What the steady time of this boot hangs on, where that is known.
    pub(crate) fn anchor(&self) -> Option<Anchor> {
        self.anchor
    }

    /// Without an anchor, steady time begins now, at this time of day.
    fn hung_on(anchor: Option<Anchor>, wall: Timestamp) -> Self {
        let from_now = || wall.millis().cast_signed() - since_boot().cast_signed();
        let booted = anchor.map_or_else(from_now, |anchor| anchor.booted);
        Self {
            anchor,
            ..Self::new(move || read(booted))
        }
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

/// `booted`: steady time at the boot, in milliseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clocks"
)]
fn read(booted: i64) -> Now {
    Now {
        instant: Instant::now(),
        steady: steady(booted, since_boot()),
        wall: time_of_day(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clocks"
)]
fn time_of_day() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(millis(since_epoch.unwrap_or(Duration::ZERO)))
}

#[cfg(test)]
pub(crate) mod manual {
    use std::sync::Mutex;

    use super::*;

    /// The clocks of a machine, which a test moves.
    #[derive(Clone)]
    pub(crate) struct ManualClock(Arc<Mutex<(Now, Boot)>>);

    impl ManualClock {
        pub(crate) fn new() -> Self {
            let start = Timestamp(1_763_900_000_250);
            let mut now = read(0);
            (now.wall, now.steady) = (start, start);
            Self(Arc::new(Mutex::new((now, Boot::fresh()))))
        }

        pub(crate) fn clock(&self) -> Clock {
            let this = self.clone();
            let (now, boot) = *self.0.lock().unwrap();
            Clock {
                anchor: Some(Anchor::at(boot, now.steady)),
                ..Clock::new(move || this.now())
            }
        }

        pub(crate) fn now(&self) -> Now {
            self.0.lock().unwrap().0
        }

        pub(crate) fn advance(&self, by: Duration) -> Now {
            let (now, boot) = &mut *self.0.lock().unwrap();
            now.instant += by;
            now.wall = now.wall.after(by);
            now.steady = now.steady.after(by);
            boot.advance(by);
            *now
        }

        /// The process starts anew, in the same boot.
        pub(crate) fn restart(&self, dir: &DataDir) {
            let (now, boot) = &mut *self.0.lock().unwrap();
            now.steady = Anchor::kept_in(dir, *boot, now.wall).steady(*boot);
        }

        /// The process starts anew, in the same boot, without what was kept: with another steady time.
        pub(crate) fn begin_anew(&self) {
            let (now, _) = &mut *self.0.lock().unwrap();
            now.steady = now.wall.after(Duration::from_secs(86_400));
        }

        /// The machine starts anew: steady time begins at the time of day, whatever that is.
        pub(crate) fn reboot(&self) {
            let (now, boot) = &mut *self.0.lock().unwrap();
            now.steady = now.wall;
            *boot = Boot::fresh();
        }

        /// Somebody sets the time of day; monotonic time does not notice.
        pub(crate) fn jump_wall(&self, seconds: i64) {
            let (now, _) = &mut *self.0.lock().unwrap();
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
        let (first, second) = (Clock::system(), Clock::system());
        assert_eq!(first.anchor(), second.anchor());
        let (before, between, after) = (first.now(), second.now(), first.now());
        assert!(before.steady <= between.steady && between.steady <= after.steady);
    }

    #[test]
    fn a_kept_clock_moves_and_goes_on_over_a_restart() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        let first = Clock::kept_in(&dir);
        let (anchor, before) = (first.anchor().unwrap(), first.now());
        assert!(first.now().steady >= before.steady);
        let next = Clock::kept_in(&dir);
        assert_eq!(next.anchor(), Some(anchor));
        assert!(next.now().steady >= before.steady);
    }
}
