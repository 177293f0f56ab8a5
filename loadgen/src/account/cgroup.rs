//! A control group, of either version.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Usage;
use super::process::{TICKS_PER_SECOND, number_of};

/// A control group whose files were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cgroup {
    /// Version 2: one directory has it all.
    Unified(PathBuf),
    /// Version 1: a directory for each controller, each where it is mounted.
    Split {
        /// With `cpuacct.usage`.
        cpu: PathBuf,
        /// With `memory.usage_in_bytes`, where that controller is in use.
        memory: Option<PathBuf>,
    },
}

impl Cgroup {
    /// Looks at a directory. Of version 1 it may be that of either controller: the other is looked
    /// for under the same name.
    pub(super) fn find(directory: &Path) -> io::Result<Self> {
        if directory.join("cpu.stat").is_file() && directory.join("cgroup.procs").is_file() {
            let text = fs::read_to_string(directory.join("cpu.stat"))?;
            if number_of(&text, "usage_usec").is_some() {
                return Ok(Self::Unified(directory.to_owned()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let with = |file: &str, controller| {
            let place = beside(directory, controller, &mounts);
            let mut places = [Some(directory.to_owned()), place].into_iter().flatten();
            places.find(|place| place.join(file).is_file())
        };
        let cpu = with("cpuacct.usage", "cpuacct").ok_or_else(|| {
            let text = "it has neither cpu.stat with usage_usec (version 2) nor cpuacct.usage \
                        (version 1); give the directory of a control group";
            io::Error::new(io::ErrorKind::NotFound, text)
        })?;
        Ok(Self::Split {
            cpu,
            memory: with("memory.usage_in_bytes", "memory"),
        })
    }

    pub(super) fn usage(&self) -> io::Result<Usage> {
        match self {
            Self::Unified(directory) => unified(directory),
            Self::Split { cpu, memory } => split(cpu, memory.as_deref()),
        }
    }
}

fn unified(directory: &Path) -> io::Result<Usage> {
    let cpu = fs::read_to_string(directory.join("cpu.stat"))?;
    let seconds = |name| number_of(&cpu, name).map(|it| it as f64 / 1e6);
    let (Some(cpu_user), Some(cpu_system)) = (seconds("user_usec"), seconds("system_usec")) else {
        return Err(odd(directory, "cpu.stat"));
    };
    let anonymous = fs::read_to_string(directory.join("memory.stat"));
    Ok(Usage {
        cpu_user,
        cpu_system,
        resident: number_in(&directory.join("memory.current")),
        user_memory: anonymous.ok().and_then(|text| number_of(&text, "anon ")),
        threads: number_in(&directory.join("pids.current")),
        ..Usage::default()
    })
}

fn split(cpu: &Path, memory: Option<&Path>) -> io::Result<Usage> {
    let text = fs::read_to_string(cpu.join("cpuacct.stat"))?;
    let seconds = |name| number_of(&text, name).map(|it| it as f64 / TICKS_PER_SECOND);
    let (Some(cpu_user), Some(cpu_system)) = (seconds("user "), seconds("system ")) else {
        return Err(odd(cpu, "cpuacct.stat"));
    };
    let stat = memory.map(|it| fs::read_to_string(it.join("memory.stat")));
    let stat = stat.and_then(Result::ok);
    Ok(Usage {
        cpu_user,
        cpu_system,
        resident: memory.and_then(|it| number_in(&it.join("memory.usage_in_bytes"))),
        user_memory: stat.and_then(|text| number_of(&text, "total_rss ")),
        ..Usage::default()
    })
}

/// The directory of the same group in another controller's tree, by the table of mounts.
fn beside(directory: &Path, controller: &str, mounts: &str) -> Option<PathBuf> {
    let trees: Vec<(&str, &str)> = mounts.lines().filter_map(tree).collect();
    let own = trees.iter().filter(|it| directory.starts_with(it.0));
    // The deepest mount that the directory is under.
    let own = own.max_by_key(|it| it.0.len())?;
    let group = directory.strip_prefix(own.0).ok()?;
    let other = trees
        .iter()
        .find(|it| it.1.split(',').any(|it| it == controller))?;
    Some(Path::new(other.0).join(group))
}

/// Where a tree of version 1 is mounted, and its options, which name the controllers.
fn tree(mount: &str) -> Option<(&str, &str)> {
    let mut fields = mount.split(' ');
    let (place, kind, options) = (fields.nth(1)?, fields.next()?, fields.next()?);
    (kind == "cgroup").then_some((place, options))
}

fn number_in(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn odd(directory: &Path, file: &str) -> io::Error {
    let path = directory.join(file);
    let text = format!("{} has another form than known", path.display());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
    }

    #[test]
    fn version_2_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let cpu = "usage_usec 3500000\nuser_usec 2500000\nsystem_usec 1000000\nnr_periods 0\n";
        write(
            directory.path(),
            &[
                ("cgroup.procs", "1\n"),
                ("cpu.stat", cpu),
                ("memory.current", "4096\n"),
                ("memory.stat", "anon 1024\nanon_thp 7\nfile 3072\n"),
                ("pids.current", "3\n"),
            ],
        );
        let group = Cgroup::find(directory.path()).unwrap();
        let expected = Usage {
            cpu_user: 2.5,
            cpu_system: 1.0,
            resident: Some(4096),
            user_memory: Some(1024),
            threads: Some(3),
            ..Usage::default()
        };
        assert_eq!(group.usage().unwrap(), expected);
    }

    #[test]
    fn version_1_is_read_with_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let cpu = [
            ("cpuacct.usage", "1\n"),
            ("cpuacct.stat", "user 150\nsystem 50\n"),
        ];
        write(directory.path(), &cpu);
        let group = Cgroup::find(directory.path()).unwrap();
        let mut expected = Usage {
            cpu_user: 1.5,
            cpu_system: 0.5,
            ..Usage::default()
        };
        assert_eq!(group.usage().unwrap(), expected);

        let memory = [
            ("memory.usage_in_bytes", "8192\n"),
            ("memory.stat", "rss 1\ntotal_rss 2048\n"),
        ];
        write(directory.path(), &memory);
        let group = Cgroup::find(directory.path()).unwrap();
        expected.resident = Some(8192);
        expected.user_memory = Some(2048);
        assert_eq!(group.usage().unwrap(), expected);
    }

    #[test]
    fn the_other_controller_has_the_same_name() {
        let mounts = "proc /proc proc rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
            cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let cpu = Path::new("/sys/fs/cgroup/cpu,cpuacct/a/b");
        let memory = Path::new("/sys/fs/cgroup/memory/a/b");
        assert_eq!(beside(cpu, "memory", mounts).as_deref(), Some(memory));
        assert_eq!(beside(memory, "cpuacct", mounts).as_deref(), Some(cpu));
        assert_eq!(beside(cpu, "blkio", mounts), None);
        assert_eq!(beside(Path::new("/tmp/x"), "memory", mounts), None);
    }

    #[test]
    fn a_directory_that_is_no_group_says_what_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let fault = Cgroup::find(directory.path()).unwrap_err();
        assert!(fault.to_string().contains("cpuacct.usage"), "{fault}");
    }
}
