//! One process, by `/proc/PID`.

use std::fs;
use std::io::{self, Read as _};

use super::Usage;

/// Clock ticks in a second. `USER_HZ` is 100 on every architecture that this builds for; the kernel
/// fixed it in its interface long ago.
pub(super) const TICKS_PER_SECOND: f64 = 100.0;

/// A process, told from a later one with the same number by when it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pid: u32,
    /// Clock ticks after boot.
    started: u64,
    executable: Option<String>,
}

impl Process {
    /// The process that has this number now.
    pub(super) fn find(pid: u32) -> io::Result<Self> {
        let stat = Stat::read(pid)?;
        Ok(Self {
            pid,
            started: stat.started,
            executable: executable(pid),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Path and build id of its program, where they may be read.
    pub(super) fn executable(&self) -> Option<&str> {
        self.executable.as_deref()
    }

    /// What it uses; `NotFound` once it is gone.
    pub(super) fn usage(&self) -> io::Result<Usage> {
        let stat = Stat::read(self.pid)?;
        if stat.started != self.started {
            return Err(io::ErrorKind::NotFound.into());
        }
        let memory = Memory::read(self.pid);
        let (voluntary, involuntary) = switches(self.pid).unzip();
        Ok(Usage {
            cpu_user: stat.user_ticks as f64 / TICKS_PER_SECOND,
            cpu_system: stat.system_ticks as f64 / TICKS_PER_SECOND,
            cpu_wait: waited(self.pid),
            resident: memory.map(|it| it.resident),
            user_memory: memory.map(|it| it.private_dirty),
            descriptors: descriptors(self.pid),
            threads: Some(stat.threads),
            switches_voluntary: voluntary,
            switches_involuntary: involuntary,
        })
    }
}

/// Which program a process runs: two builds of one version are told apart by the build id.
fn executable(pid: u32) -> Option<String> {
    let link = format!("/proc/{pid}/exe");
    let path = fs::read_link(&link).ok()?.display().to_string();
    let mut head = Vec::new();
    let read = fs::File::open(&link).and_then(|file| file.take(NOTES_MAX).read_to_end(&mut head));
    Some(match read.ok().and_then(|_| build_id(&head)) {
        Some(id) => format!("{path} (build id {id})"),
        None => path,
    })
}

/// Linkers put notes among the first pages of a program.
const NOTES_MAX: u64 = 64 << 10;

/// The note `NT_GNU_BUILD_ID` in the first pages of an ELF file: sizes of name and value, type, name, value
/// (ELF specification, "Note Section").
fn build_id(head: &[u8]) -> Option<String> {
    let word = |at: usize| {
        let bytes = head.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let is_id = |at: &usize| {
        word(*at) == Some(4) && word(at + 8) == Some(3) && head[at + 12..].starts_with(b"GNU\0")
    };
    let note = (0..head.len()).step_by(4).find(is_id)?;
    let size = usize::try_from(word(note + 4)?).ok()?;
    let id = head.get(note + 16..)?.get(..size)?;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// `/proc/PID/stat`, as far as it is of use.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    user_ticks: u64,
    system_ticks: u64,
    threads: u64,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(gone)?;
        let stat = Self::parse(&text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/stat has another form than known"),
            )
        })?;
        match stat.0 {
            // A process that has ended and was not waited for uses nothing.
            'Z' | 'X' => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(stat.1),
        }
    }

    fn parse(text: &str) -> Option<(char, Self)> {
        // The name in parentheses may hold anything; the rest is counted from its end, where
        // field 3 of proc(5) comes first.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse().ok();
        let stat = Self {
            user_ticks: number(14)?,
            system_ticks: number(15)?,
            threads: number(20)?,
            started: number(22)?,
        };
        Some((fields.first()?.chars().next()?, stat))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    resident: u64,
    private_dirty: u64,
}

impl Memory {
    /// `None` where the process is another user's.
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = |name| Some(number_of(text, name)? * 1024);
        Some(Self {
            resident: bytes("Rss:")?,
            private_dirty: bytes("Private_Dirty:")?,
        })
    }
}

fn descriptors(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    // From Linux 6.2 on the directory's size is their number; before, it is 0.
    match fs::metadata(&path).ok()?.len() {
        0 => Some(fs::read_dir(&path).ok()?.count() as u64),
        count => Some(count),
    }
}

/// The second field of each thread's `schedstat`, nanoseconds; `None` where the kernel keeps no such account.
fn waited(pid: u32) -> Option<f64> {
    let mut sum = 0_u64;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else {
            continue;
        };
        sum += text.split(' ').nth(1)?.parse::<u64>().ok()?;
    }
    Some(sum as f64 / 1e9)
}

/// Voluntary and involuntary ones, over all threads: the process's own file tells of its first
/// thread alone.
fn switches(pid: u32) -> Option<(u64, u64)> {
    let (mut voluntary, mut involuntary) = (0, 0);
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else {
            continue;
        };
        voluntary += number_of(&status, "voluntary_ctxt_switches:")?;
        involuntary += number_of(&status, "nonvoluntary_ctxt_switches:")?;
    }
    Some((voluntary, involuntary))
}

/// The first number of the line that begins with `name`.
pub(super) fn number_of(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// The kernel has two ways to say that a process is not there.
fn gone(error: io::Error) -> io::Error {
    const ESRCH: i32 = 3;
    match error.raw_os_error() {
        Some(ESRCH) => io::ErrorKind::NotFound.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_is() {
        let line = "4242 (odd) name (x) S 1 4242 4242 0 -1 4194560 500 0 0 0 71 29 0 0 20 0 7 0 \
                    123456 1000000 250 18446744073709551615 1 1";
        let expected = Stat {
            user_ticks: 71,
            system_ticks: 29,
            threads: 7,
            started: 123_456,
        };
        assert_eq!(Stat::parse(line), Some(('S', expected)));
        assert_eq!(Stat::parse("4242 (short) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let text = "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:    2048 kB\nPss:  100 kB\n\
                    Private_Clean:  4 kB\nPrivate_Dirty:   512 kB\n";
        let expected = Memory {
            resident: 2 * 1024 * 1024,
            private_dirty: 512 * 1024,
        };
        assert_eq!(Memory::parse(text), Some(expected));
        assert_eq!(Memory::parse("Rss: 1 kB\n"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let process = Process::find(std::process::id()).unwrap();
        let before = process.usage().unwrap();
        let kept = std::hint::black_box(vec![1_u8; 32 << 20]);
        let files: Vec<_> = (0..20).map(|_| fs::File::open("/dev/null")).collect();
        // At least two ticks of work.
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 200 {
            std::hint::black_box(kept.iter().map(|it| u64::from(*it)).sum::<u64>());
        }
        let after = process.usage().unwrap();
        assert!(after.cpu() > before.cpu(), "{after:?}");
        let grown = after.user_memory.unwrap() - before.user_memory.unwrap();
        assert!(grown >= 31 << 20, "{grown}");
        assert!(after.resident.unwrap() >= after.user_memory.unwrap());
        assert!(after.descriptors.unwrap() >= files.len() as u64);
        assert!(after.threads.unwrap() >= 1);
        assert!(after.switches_voluntary.is_some());
        assert!(
            after.cpu_wait.is_some(),
            "no schedstat: the kernel lacks CONFIG_SCHED_INFO"
        );
    }

    #[test]
    fn a_program_is_told_by_its_path_and_build_id() {
        let own = Process::find(std::process::id()).unwrap();
        let told = own.executable().unwrap();
        let path = std::env::current_exe().unwrap();
        let rest = told.strip_prefix(path.to_str().unwrap()).unwrap();
        let note = [4_u32, 3, 3].map(u32::to_ne_bytes).concat();
        let file = [&[0x7f; 8], &note[..], b"GNU\0\x01\xab\xff rest"].concat();
        assert_eq!(build_id(&file).unwrap(), "01abff");
        assert_eq!(build_id(&file[..file.len() - 7]), None);
        // Some linkers leave it out.
        let id = rest
            .strip_prefix(" (build id ")
            .map(|it| it.trim_end_matches(')'));
        assert!(
            rest.is_empty() || id.is_some_and(|id| id.len() >= 16),
            "{told}"
        );
    }

    #[test]
    fn a_process_that_has_ended_is_not_found_even_before_it_is_waited_for() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let process = Process::find(pid);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let fault = loop {
            match process.as_ref().map(Process::usage) {
                Ok(Ok(_)) => assert!(std::time::Instant::now() < deadline),
                Ok(Err(fault)) => break fault.kind(),
                Err(fault) => break fault.kind(),
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        assert_eq!(fault, io::ErrorKind::NotFound);
        child.wait().unwrap();
        assert_eq!(
            Process::find(pid).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
