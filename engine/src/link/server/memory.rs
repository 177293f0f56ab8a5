//! How near the process is to the memory limit of its control group, and what is refused then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a relay still takes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shortage {
    /// Everybody.
    #[default]
    None,
    /// Handshakes are answered 503: from [`SHORT`] of the limit on, until less than [`ENOUGH`].
    Short,
    /// Connections are reset before anything is allocated for them: from [`DIRE`] on, until less than [`SHORT`].
    Dire,
}

const ENOUGH: u64 = 90;
const SHORT: u64 = 95;
const DIRE: u64 = 98;

/// Age at which what was read is read again. Two cores take in some ten clients in this time, a few hundred KiB.
const FRESH: Duration = Duration::from_millis(5);

/// Bytes of the limit for each handshake under way, which takes some 50 KiB: all together take a fifth of it.
const PER_HANDSHAKE: u64 = 256 << 10;

/// The memory limits of the control groups that this process was in at its start (version 2 and 1), and what is used of
/// them. Groups above count as far as they can be seen: a private namespace, as most containers have, hides them.
///
/// The kernel ends a process of a group that is over its limit, with all its tunnels. So who comes in is refused before
/// that: a tunnel that is there is worth more than one that could be. What tunnels that are there may still take while
/// their peers do not read is not bounded by this.
#[derive(Debug)]
pub(super) struct Memory {
    groups: Vec<Group>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    read_at: Option<Instant>,
    shortage: Shortage,
    /// Refused since it began.
    refused: u64,
    /// The least limit, in bytes.
    limit: Option<u64>,
}

/// What a look at all groups finds.
#[derive(Debug, Default)]
struct Reading {
    /// The least limit, in bytes.
    limit: Option<u64>,
    /// How much is used of the limit that is nearest.
    percent: u64,
}

/// One control group.
#[derive(Debug)]
struct Group {
    directory: PathBuf,
    names: &'static Names,
}

/// Files of a control group.
#[derive(Debug)]
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`: what the kernel takes back before it ends anybody. Active pages of files are among it: a
    /// neighbour that reads the same files again and again would keep everybody out for ever.
    reclaimable: &'static [&'static str],
}

const V2: Names = Names {
    limit: "memory.max",
    usage: "memory.current",
    reclaimable: &["inactive_file", "active_file", "slab_reclaimable"],
};

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: &["total_inactive_file", "total_active_file"],
};

/// Version 1 says "no limit" by a number near this one.
const NO_LIMIT: u64 = 1 << 62;

impl Memory {
    /// Of this process, in the groups that it is in now.
    pub(super) fn of_this_process() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let memory = Self::of_groups(&groups, Path::new("/sys/fs/cgroup"));
        drop(memory.look(Instant::now()));
        memory
    }

    /// `memberships` as `/proc/self/cgroup` has them, and where the groups are mounted.
    fn of_groups(memberships: &str, mounted: &Path) -> Self {
        let mut groups = Vec::new();
        for line in memberships.lines() {
            // hierarchy:controllers:path
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            let (root, names) = match controllers {
                "" => (mounted.to_owned(), &V2),
                "memory" => (mounted.join("memory"), &V1),
                _ => continue,
            };
            // In a container the path may be the host's, and the mount the group itself.
            let own = root.join(path.trim_start_matches('/'));
            let own = if own.is_dir() { &own } else { &root };
            let ancestors = own.ancestors().take_while(|at| at.starts_with(&root));
            groups.extend(ancestors.map(|at| Group {
                directory: at.to_owned(),
                names,
            }));
        }
        Self {
            groups,
            state: Mutex::default(),
        }
    }

    /// Handshakes that may be under way at once, of `most`, under the limit that was read last.
    pub(super) fn handshakes(&self, most: usize) -> usize {
        let count = self.state().limit.map(|limit| limit / PER_HANDSHAKE);
        let count = count.and_then(|count| usize::try_from(count).ok());
        count.map_or(most, |count| count.clamp(1, most))
    }

    /// How things stand.
    pub(super) fn shortage(&self, now: Instant) -> Shortage {
        self.look(now).shortage
    }

    /// One more was refused.
    pub(super) fn refused(&self) {
        self.state().refused += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < FRESH;
        if !state.read_at.is_some_and(is_fresh) {
            state.read_at = Some(now);
            match self.read() {
                Ok(reading) => state.note(&reading),
                // No descriptor is left, say: that is not the moment to open up.
                Err(error) => tracing::debug!(%error, "cannot read what memory is used"),
            }
        }
        state
    }

    /// Limits as well: who raises one under a shortage wants it to end.
    fn read(&self) -> io::Result<Reading> {
        let mut reading = Reading::default();
        for group in &self.groups {
            if let Some(limit) = group.limit()? {
                reading.limit = Some(reading.limit.map_or(limit, |least| least.min(limit)));
                reading.percent = reading.percent.max(group.percent(limit)?);
            }
        }
        Ok(reading)
    }
}

impl State {
    fn note(&mut self, &Reading { limit, percent }: &Reading) {
        if let Some(bytes) = limit
            && limit != self.limit
        {
            tracing::info!(
                limit = bytes,
                "memory is limited: links are refused from {SHORT} % on"
            );
        }
        self.limit = limit;
        let before = self.shortage;
        self.shortage = match percent {
            DIRE.. => Shortage::Dire,
            SHORT.. if before == Shortage::Dire => Shortage::Dire,
            SHORT.. => Shortage::Short,
            ENOUGH.. if before != Shortage::None => Shortage::Short,
            0.. => Shortage::None,
        };
        if before == Shortage::None && self.shortage != Shortage::None {
            self.refused = 0;
            tracing::warn!(percent, "memory is short: new links are refused");
        }
        if before != Shortage::Dire && self.shortage == Shortage::Dire {
            tracing::warn!(percent, "memory is nearly used up: connections are reset");
        }
        if before != Shortage::None && self.shortage == Shortage::None {
            let refused = self.refused;
            tracing::warn!(percent, refused, "there is memory for new links again");
        }
    }
}

impl Group {
    /// In bytes; `None` where there is none, and where the group or its limit was taken away.
    fn limit(&self) -> io::Result<Option<u64>> {
        let text = match fs::read_to_string(self.directory.join(self.names.limit)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        if text.trim() == "max" {
            return Ok(None);
        }
        let limit = number(&text)?;
        Ok((1..NO_LIMIT).contains(&limit).then_some(limit))
    }

    /// How much of this limit is used and stays so.
    fn percent(&self, limit: u64) -> io::Result<u64> {
        let used = number(&fs::read_to_string(self.directory.join(self.names.usage))?)?;
        if used < limit / 100 * ENOUGH {
            return Ok(used * 100 / limit);
        }
        let stat = fs::read_to_string(self.directory.join("memory.stat"))?;
        let used = used.saturating_sub(self.names.reclaimable_of(&stat));
        Ok(used.saturating_mul(100) / limit)
    }
}

impl Names {
    /// Bytes that can be taken back, as a `memory.stat` has them.
    fn reclaimable_of(&self, stat: &str) -> u64 {
        let fields = stat.lines().filter_map(|line| line.split_once(' '));
        let named = fields.filter(|(name, _)| self.reclaimable.contains(name));
        named
            .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
            .sum()
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.trim().parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn write(directory: &Path, files: &[(&str, String)]) {
        fs::create_dir_all(directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
    }

    #[test]
    fn both_versions_and_every_group_above_count() {
        let mounted = tempfile::tempdir().unwrap();
        let at = |path: &str| mounted.path().join(path);
        let v2 = |limit: &str, used: u64| {
            let stat = format!("anon 1\nfile 2\ninactive_file {}\n", 10 * MIB);
            [
                ("memory.max", format!("{limit}\n")),
                ("memory.current", format!("{used}\n")),
                ("memory.stat", stat),
            ]
        };
        write(&at("a"), &v2(&(200 * MIB).to_string(), 150 * MIB));
        write(&at("a/b"), &v2("max", 90 * MIB));
        write(
            &at("memory/c"),
            &[
                ("memory.limit_in_bytes", (100 * MIB).to_string()),
                ("memory.usage_in_bytes", (99 * MIB).to_string()),
                ("memory.stat", format!("total_inactive_file {}\n", 3 * MIB)),
            ],
        );
        let read = |memberships: &str| {
            let memory = Memory::of_groups(memberships, mounted.path());
            let Reading { limit, percent } = memory.read().unwrap();
            (limit, percent)
        };
        assert_eq!(read("0::/a/b\n"), (Some(200 * MIB), 75));
        let both = "9:name=systemd:/a\n4:memory:/c\n0::/\n";
        assert_eq!(read(both), (Some(100 * MIB), 96));
        assert_eq!(read("0::/of/the/host\n"), (None, 0));
        assert_eq!(read("nonsense\n"), (None, 0));
        let memory = Memory::of_groups("4:memory:/c\n", mounted.path());
        assert_eq!(memory.shortage(Instant::now()), Shortage::Short);
        assert_eq!(memory.handshakes(1_024), 400);
    }

    #[test]
    fn what_the_kernel_takes_back_does_not_count() {
        let stats = [
            (
                &V2,
                "anon 9\nfile 9\ninactive_file 1\nactive_file 20\nslab_reclaimable 300\nslab_unreclaimable 9\n",
                321,
            ),
            (
                &V1,
                "inactive_file 9\nactive_file 9\ntotal_inactive_file 1\ntotal_active_file 20\ntotal_unevictable 9\n",
                21,
            ),
        ];
        for (names, stat, expected) in stats {
            assert_eq!(names.reclaimable_of(stat), expected, "{}", names.usage);
        }
    }

    #[test]
    fn a_neighbour_that_reads_its_files_again_and_again_keeps_nobody_out() {
        let mounted = tempfile::tempdir().unwrap();
        let stat = format!("anon {}\nactive_file {}\n", 30 * MIB, 69 * MIB);
        let files = [
            ("memory.max", (100 * MIB).to_string()),
            ("memory.current", (99 * MIB).to_string()),
            ("memory.stat", stat),
        ];
        write(&mounted.path().join("a"), &files);
        let memory = Memory::of_groups("0::/a\n", mounted.path());
        assert_eq!(memory.shortage(Instant::now()), Shortage::None);
    }

    /// A group `a` with these files, and what is found `looks` times [`FRESH`] later.
    struct Lab {
        mounted: tempfile::TempDir,
        memory: Memory,
        start: Instant,
    }

    impl Lab {
        fn new(limit: &str, used: &str) -> Self {
            let mounted = tempfile::tempdir().unwrap();
            write(
                &mounted.path().join("a"),
                &[
                    ("memory.max", limit.to_owned()),
                    ("memory.current", used.to_owned()),
                    ("memory.stat", String::new()),
                ],
            );
            let memory = Memory::of_groups("0::/a\n", mounted.path());
            Self {
                mounted,
                memory,
                start: Instant::now(),
            }
        }

        fn set(&self, file: &'static str, text: &str) {
            write(&self.mounted.path().join("a"), &[(file, text.to_owned())]);
        }

        fn shortage(&self, looks: u32) -> Shortage {
            self.memory.shortage(self.start + FRESH * looks)
        }
    }

    #[test]
    fn a_limit_that_is_changed_is_seen_at_the_next_look() {
        let lab = Lab::new("max", "99000");
        assert_eq!(lab.shortage(0), Shortage::None);
        lab.set("memory.max", "100000");
        assert_eq!(lab.shortage(1), Shortage::Dire);
        assert_eq!(lab.memory.handshakes(1_024), 1);
        lab.set("memory.max", "200000000");
        assert_eq!(lab.shortage(2), Shortage::None);
        lab.set("memory.max", "100000");
        assert_eq!(lab.shortage(3), Shortage::Dire);
        lab.set("memory.max", "max");
        assert_eq!(lab.shortage(4), Shortage::None);
        assert_eq!(lab.memory.handshakes(1_024), 1_024);
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        for file in ["memory.max", "memory.current", "memory.stat"] {
            let lab = Lab::new("100000", "96000");
            assert_eq!(lab.shortage(0), Shortage::Short);
            let at = lab.mounted.path().join("a").join(file);
            fs::remove_file(&at).unwrap();
            fs::create_dir(&at).unwrap();
            assert_eq!(lab.shortage(1), Shortage::Short, "{file}");
            assert_eq!(lab.shortage(2), Shortage::Short, "{file}");
        }
    }

    #[test]
    fn a_group_that_is_gone_limits_nobody() {
        let lab = Lab::new("100000", "99000");
        assert_eq!(lab.shortage(0), Shortage::Dire);
        fs::remove_dir_all(lab.mounted.path().join("a")).unwrap();
        assert_eq!(lab.shortage(1), Shortage::None);
    }

    #[test]
    fn a_small_limit_has_places_enough() {
        let lab = Lab::new(&(64 * MIB).to_string(), "0");
        assert_eq!(lab.shortage(0), Shortage::None);
        assert_eq!(lab.memory.handshakes(1_024), 256);
        assert_eq!(lab.memory.handshakes(100), 100);
    }

    #[test]
    fn a_shortage_ends_well_below_where_it_began() {
        let mut state = State::default();
        let mut after = |percent| {
            let limit = Some(MIB);
            state.note(&Reading { limit, percent });
            state.shortage
        };
        let expected = [
            (94, Shortage::None),
            (95, Shortage::Short),
            (90, Shortage::Short),
            (98, Shortage::Dire),
            (95, Shortage::Dire),
            (94, Shortage::Short),
            (89, Shortage::None),
            (94, Shortage::None),
            (99, Shortage::Dire),
            (80, Shortage::None),
        ];
        for (percent, shortage) in expected {
            assert_eq!(after(percent), shortage, "{percent}");
        }
    }

    #[test]
    fn without_a_limit_nobody_is_refused() {
        let memory = Memory::of_groups("", Path::new("/nowhere"));
        assert_eq!(memory.shortage(Instant::now()), Shortage::None);
        assert_eq!(memory.handshakes(1_024), 1_024);
    }
}
