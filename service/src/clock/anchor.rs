//! Steady time over restarts: what it hangs on, and where that is written down.
//!
//! Since the boot of the machine a clock runs that nobody can set. Steady time is as far from it at every
//! start as at the first one in this boot, so one number is enough, written once a boot. That clock goes on
//! while the machine is suspended, as a lifetime should.

use std::fs;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;
use uuid::Uuid;

use super::Timestamp;
use crate::data_dir::{DataDir, DataDirError};

/// Which boot of which machine this is, and how long it has been going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boot {
    id: Uuid,
    /// In milliseconds.
    since: u64,
}

impl Boot {
    /// Of this machine; `None` where its id cannot be read, as under systemd's `ProcSubset=pid`.
    pub(super) fn of_machine() -> Option<Self> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let id = Uuid::parse_str(id.trim()).ok()?;
        let since = since_boot();
        Some(Self { id, since })
    }

    #[cfg(test)]
    pub(super) fn fresh() -> Self {
        let id = Uuid::new_v4();
        Self { id, since: 30_000 }
    }

    #[cfg(test)]
    pub(super) fn advance(&mut self, by: std::time::Duration) {
        self.since += super::millis(by);
    }
}

/// Milliseconds since the boot of the machine, those included in which it was suspended. Nobody can set this clock.
pub(super) fn since_boot() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
    seconds * 1_000 + nanoseconds / 1_000_000
}

/// What the steady time of one boot hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// Which boot.
    pub(crate) boot: Uuid,
    /// Steady time at the boot, in milliseconds; negative where the clock was never set.
    pub(crate) booted: i64,
}

impl Anchor {
    /// With this steady time now.
    pub(super) fn at(boot: Boot, steady: Timestamp) -> Self {
        Self {
            boot: boot.id,
            booted: steady.millis().cast_signed() - boot.since.cast_signed(),
        }
    }

    /// That of the starts before in this boot; else one that begins at the time of day, which is written
    /// down for the next start.
    pub(super) fn kept_in(dir: &DataDir, boot: Boot, wall: Timestamp) -> Self {
        match Self::read(dir) {
            Ok(Some(anchor)) if anchor.boot == boot.id => return anchor,
            Ok(_) => {}
            Err(fault) => warn!("{fault}; lifetimes go on by the time of day"),
        }
        let anchor = Self::at(boot, wall);
        if let Err(fault) = dir.write(FILE, anchor.encode().as_bytes(), 0o600) {
            warn!("{fault}; after a restart, lifetimes go by the time of day");
        }
        anchor
    }

    /// Steady time when this boot has gone on for so long.
    #[cfg(test)]
    pub(super) fn steady(self, boot: Boot) -> Timestamp {
        steady(self.booted, boot.since)
    }

    fn read(dir: &DataDir) -> Result<Option<Self>, DataDirError> {
        let Some(text) = dir.read_secret(FILE)? else {
            return Ok(None);
        };
        let damaged = || {
            let reason = "it is not what was written there".to_owned();
            DataDirError::damaged(&dir.file(FILE), reason)
        };
        Self::decode(&text).map(Some).ok_or_else(damaged)
    }

    /// The same line twice, so that a digit that has changed is noticed.
    fn encode(self) -> String {
        let Self { boot, booted } = self;
        format!("{boot} {booted}\n").repeat(2)
    }

    fn decode(text: &str) -> Option<Self> {
        let (boot, booted) = text.lines().next()?.split_once(' ')?;
        let anchor = Self {
            boot: Uuid::parse_str(boot).ok()?,
            booted: booted.parse().ok()?,
        };
        (anchor.encode() == text).then_some(anchor)
    }
}

/// With this steady time at the boot, so many milliseconds after it.
pub(super) fn steady(booted: i64, since_boot: u64) -> Timestamp {
    let steady = booted.saturating_add_unsigned(since_boot);
    Timestamp::from_millis(steady.try_into().unwrap_or(0))
}

/// In the data directory.
const FILE: &str = "clock";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ID: &str = "c1f4b4ac-15fa-413b-bfb8-545e39bf063d";

    fn boot(since: u64) -> Boot {
        let id = Uuid::parse_str(ID).unwrap();
        Boot { id, since }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn this_machine_tells_its_boot() {
        let (first, second) = (Boot::of_machine().unwrap(), Boot::of_machine().unwrap());
        assert!(first.id == second.id && first.since <= second.since);
    }

    #[test]
    fn a_boot_has_one_steady_time_and_the_next_one_has_another() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        let first = Anchor::kept_in(&dir, boot(5_000), at(1_000_000));
        assert_eq!(first.steady(boot(5_000)), at(1_000_000));
        let mode = fs::metadata(dir.file(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        for wall in [0, 1_001_000, u64::MAX / 4] {
            let next = Anchor::kept_in(&dir, boot(6_000), at(wall));
            assert_eq!(next.steady(boot(6_000)), at(1_001_000));
        }
        let other = Boot::fresh();
        for wall in [7_000, 900_000] {
            let next = Anchor::kept_in(&dir, other, at(wall));
            assert_eq!(next.steady(other), at(7_000));
        }
    }

    #[test]
    fn a_clock_that_was_never_set_is_a_beginning_too() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        assert_eq!(Anchor::kept_in(&dir, boot(60_000), at(0)).booted, -60_000);
        let next = Anchor::kept_in(&dir, boot(61_000), at(1_763_900_000_000));
        assert_eq!(next.steady(boot(61_000)), at(1_000));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_done_without_and_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        let kept = Anchor::kept_in(&dir, boot(0), at(5)).encode();
        let line = kept.lines().next().unwrap();
        let huge = "x".repeat(100_000);
        let changed = kept.replacen(" 5", " 7", 1);
        let texts = ["", "\n", "x", line, &kept[1..], &changed, &huge].map(|text| (text, 0o600));
        for (text, mode) in texts.into_iter().chain([(kept.as_str(), 0o622)]) {
            fs::write(dir.file(FILE), text).unwrap();
            fs::set_permissions(dir.file(FILE), PermissionsExt::from_mode(mode)).unwrap();
            assert!(Anchor::read(&dir).is_err(), "{text:.50}");
            let anchor = Anchor::kept_in(&dir, boot(0), at(9));
            assert_eq!(anchor.booted, 9);
            assert_eq!(Anchor::read(&dir).unwrap(), Some(anchor));
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_survived() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("d");
        let dir = DataDir::open(&path).unwrap();
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(Anchor::kept_in(&dir, boot(0), at(5)).booted, 5);
    }
}
