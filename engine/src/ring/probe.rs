//! Finding out whether io_uring works for this process, and if not, why.

use std::fmt;
use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::backend::{Backend, Outgoing};
use super::token::Token;
use super::uring::Uring;
use super::waker::WakeSource;

/// Why a backend cannot be used here. Says what is missing and what the likely cause is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The kernel, or a rule it was given, refuses io_uring.
    #[error("{call} was refused ({source}): {cause}")]
    Refused {
        /// The system call.
        call: &'static str,
        /// Its error.
        source: io::Error,
        /// Who refuses, as far as can be told.
        cause: Cause,
    },
    /// io_uring is there but too old.
    #[error("io_uring here lacks {feature} (Linux {}.{}); this kernel is {release}", since.0, since.1)]
    Missing {
        /// What is needed.
        feature: &'static str,
        /// The first kernel that has it.
        since: (u16, u16),
        /// The running kernel's own name for itself.
        release: String,
    },
    /// Everything was accepted, but the trial gave a wrong answer.
    #[error("io_uring failed its trial: {0}")]
    Trial(&'static str),
    /// Not even epoll; nearly always out of descriptors.
    #[error("cannot open an epoll set: {0}")]
    Epoll(#[source] io::Error),
    /// The trial could not get what it works on; nearly always out of descriptors.
    #[error("cannot try out io_uring: {0}")]
    Setup(#[source] io::Error),
}

/// Who refuses io_uring.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The sysctl `kernel.io_uring_disabled`, with its value.
    Disabled(u8),
    /// A seccomp filter of this process.
    Seccomp,
    /// A security module, by elimination.
    SecurityModule,
    /// The kernel is older than io_uring (5.1) or than what every ring here needs (5.6).
    TooOld(String),
    /// The kernel was built without io_uring, or is an emulation that has none.
    NotBuilt(String),
    /// Too little memory may be locked; counts on kernels before 5.12.
    LockedMemory,
    /// No file descriptors left.
    Descriptors,
    /// None of these.
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Disabled(1) => formatter.write_str(
                "the sysctl kernel.io_uring_disabled is 1, which leaves it to CAP_SYS_ADMIN \
                 and to the group in kernel.io_uring_group",
            ),
            Cause::Disabled(value) => write!(
                formatter,
                "the sysctl kernel.io_uring_disabled is {value}, which forbids it to everybody"
            ),
            Cause::Seccomp => formatter.write_str(
                "this process runs under a seccomp filter, as container runtimes install it by \
                 default; it would have to allow io_uring_setup and io_uring_enter",
            ),
            Cause::SecurityModule => {
                formatter.write_str("probably a policy of a security module (SELinux, AppArmor)")
            }
            Cause::TooOld(release) => {
                write!(
                    formatter,
                    "needs Linux 5.6 or later; this kernel is {release}"
                )
            }
            Cause::NotBuilt(release) => write!(
                formatter,
                "kernel {release} has no io_uring; it was built without, or is an emulation"
            ),
            Cause::LockedMemory => formatter.write_str(
                "out of memory, or over the locked-memory limit (ulimit -l) that kernels before \
                 5.12 apply",
            ),
            Cause::Descriptors => formatter.write_str("no file descriptors are left (ulimit -n)"),
            Cause::Unknown => formatter.write_str("the cause is not known"),
        }
    }
}

pub(super) fn refused(call: &'static str, source: io::Error) -> ProbeError {
    let cause = Host::read().cause_of(&source);
    ProbeError::Refused {
        call,
        source,
        cause,
    }
}

pub(super) fn missing(feature: &'static str, since: (u16, u16)) -> ProbeError {
    ProbeError::Missing {
        feature,
        since,
        release: Host::read().release,
    }
}

/// Runs every kind of request once: a poll that must stay armed over two edges, its
/// cancellation, a poll of an epoll set, a wait with a timeout, a batch of sends. Seccomp filters, emulations and old
/// kernels may take the setup and refuse any of these.
pub(super) fn try_out(backend: &mut Uring) -> Result<(), ProbeError> {
    let source = WakeSource::new().map_err(ProbeError::Setup)?;
    backend
        .watch(source.fd(), TRIAL_TOKEN)
        .map_err(ProbeError::Setup)?;
    for _ in 0..2 {
        source.waker().wake();
        if !sees_edge(backend)? {
            return Err(missing("multishot polls", (5, 13)));
        }
        source.acknowledge();
    }
    backend.forget(source.fd(), TRIAL_TOKEN);
    source.waker().wake();
    if sees_edge(backend)? {
        return Err(ProbeError::Trial("a cancelled poll went on"));
    }
    try_set(backend)?;
    try_sends(backend)
}

/// Listeners are polled by way of an epoll set; anything that has edges will do for one.
fn try_set(backend: &mut Uring) -> Result<(), ProbeError> {
    let source = WakeSource::new().map_err(ProbeError::Setup)?;
    backend
        .watch_listener(source.fd(), TRIAL_TOKEN)
        .map_err(ProbeError::Setup)?;
    for _ in 0..2 {
        source.waker().wake();
        if !sees_edge(backend)? {
            return Err(ProbeError::Trial("a poll of an epoll set saw nothing"));
        }
        source.acknowledge();
    }
    backend.forget(source.fd(), TRIAL_TOKEN);
    Ok(())
}

/// Whether an edge comes within a second, the poll still being armed after it.
fn sees_edge(backend: &mut Uring) -> Result<bool, ProbeError> {
    let mut ready = Vec::new();
    let mut timeout = Duration::from_secs(1);
    // The first wait may only arm the poll, and the last may only cancel it.
    for _ in 0..3 {
        backend
            .wait(&mut ready, Some(timeout))
            .map_err(|error| refused("io_uring_enter", error))?;
        if !ready.is_empty() {
            let is_edge = ready[0].readable && !ready[0].hangup;
            return Ok(is_edge && backend.counters().rearms == 0);
        }
        timeout = Duration::ZERO;
    }
    Ok(false)
}

fn try_sends(backend: &mut Uring) -> Result<(), ProbeError> {
    let (one, other) = Socket::pair(Domain::UNIX, Type::STREAM, None).map_err(ProbeError::Setup)?;
    let parts = [IoSlice::new(b"trial")];
    let mut batch = [&one, &other].map(|socket| Outgoing::new(socket.as_raw_fd(), &parts));
    backend.send_batch(&mut batch);
    if !backend.sends_in_batches() {
        return Err(ProbeError::Trial("io_uring_enter refuses sends"));
    }
    if batch.iter().any(|item| !matches!(item.result, Ok(5))) {
        return Err(ProbeError::Trial("a send in a batch did not send"));
    }
    Ok(())
}

const TRIAL_TOKEN: Token = Token::new(0, 0, 0);

/// What can be read about the kernel and the rules this process runs under. Each of the files
/// may be hidden; then that cause is not named.
#[derive(Clone, Debug)]
struct Host {
    release: String,
    io_uring_disabled: u8,
    under_seccomp: bool,
}

impl Host {
    fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease").trim().to_owned();
        // Per thread, as filters are.
        let status = read("/proc/thread-self/status");
        Host {
            release: if release.is_empty() {
                "unknown".to_owned()
            } else {
                release
            },
            io_uring_disabled: read("/proc/sys/kernel/io_uring_disabled")
                .trim()
                .parse()
                .unwrap_or(0),
            under_seccomp: seccomp_mode(&status) > 0,
        }
    }

    fn cause_of(&self, error: &io::Error) -> Cause {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => match self.io_uring_disabled {
                0 if self.under_seccomp => Cause::Seccomp,
                0 => Cause::SecurityModule,
                value => Cause::Disabled(value),
            },
            // Some filters answer ENOSYS, so that programs fall back without a word.
            Some(libc::ENOSYS) if self.is_older_than(5, 1) => Cause::TooOld(self.release.clone()),
            Some(libc::ENOSYS) if self.under_seccomp => Cause::Seccomp,
            Some(libc::ENOSYS) => Cause::NotBuilt(self.release.clone()),
            Some(libc::EINVAL) if self.is_older_than(5, 6) => Cause::TooOld(self.release.clone()),
            Some(libc::ENOMEM) => Cause::LockedMemory,
            Some(libc::EMFILE | libc::ENFILE) => Cause::Descriptors,
            _ => Cause::Unknown,
        }
    }

    /// False if the release cannot be read as a version.
    fn is_older_than(&self, major: u16, minor: u16) -> bool {
        let mut numbers = self
            .release
            .split(|c: char| !c.is_ascii_digit())
            .map_while(|number| number.parse::<u16>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(its_major), Some(its_minor)) => (its_major, its_minor) < (major, minor),
            _ => false,
        }
    }
}

/// The `Seccomp:` line of a status file: 0 none, 1 strict, 2 filter.
fn seccomp_mode(status: &str) -> u8 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"))
        .and_then(|mode| mode.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(release: &str, io_uring_disabled: u8, under_seccomp: bool) -> Host {
        Host {
            release: release.to_owned(),
            io_uring_disabled,
            under_seccomp,
        }
    }

    #[test]
    fn the_likely_cause_is_named() {
        let modern = host("6.18.1-amd64", 0, false);
        let sandboxed = host("6.18.1-amd64", 0, true);
        let old = host("4.19.0-27", 0, true);
        for (host, code, expected) in [
            (&modern, libc::EPERM, Cause::SecurityModule),
            (&modern, libc::EACCES, Cause::SecurityModule),
            (&sandboxed, libc::EPERM, Cause::Seccomp),
            (&sandboxed, libc::ENOSYS, Cause::Seccomp),
            (&host("6.6.1", 1, true), libc::EPERM, Cause::Disabled(1)),
            (&host("6.6.1", 2, false), libc::EPERM, Cause::Disabled(2)),
            (
                &modern,
                libc::ENOSYS,
                Cause::NotBuilt("6.18.1-amd64".into()),
            ),
            (&old, libc::ENOSYS, Cause::TooOld("4.19.0-27".into())),
            (
                &host("5.4.0", 0, false),
                libc::EINVAL,
                Cause::TooOld("5.4.0".into()),
            ),
            (&modern, libc::EINVAL, Cause::Unknown),
            (&modern, libc::ENOMEM, Cause::LockedMemory),
            (&modern, libc::EMFILE, Cause::Descriptors),
            (&modern, libc::ENFILE, Cause::Descriptors),
            (&modern, libc::EFAULT, Cause::Unknown),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(host.cause_of(&error), expected, "{host:?} {error}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (release, older) in [
            ("5.5.19", true),
            ("5.6.0", false),
            ("5.10.0-21-amd64", false),
            ("4.99", true),
            ("10.0-rc1", false),
            ("unknown", false),
            ("", false),
            ("5", false),
        ] {
            assert_eq!(
                host(release, 0, false).is_older_than(5, 6),
                older,
                "{release:?}"
            );
        }
    }

    #[test]
    fn the_seccomp_line_is_found() {
        assert_eq!(
            seccomp_mode("Name:\tadit\nSeccomp:\t2\nSeccomp_filters:\t1\n"),
            2
        );
        assert_eq!(seccomp_mode("NoNewPrivs:\t0\nSeccomp:\t0\n"), 0);
        assert_eq!(seccomp_mode("Seccomp_filters:\t1\n"), 0);
        assert_eq!(seccomp_mode(""), 0);
    }

    #[test]
    fn messages_name_the_lack_and_the_cause() {
        let refused = ProbeError::Refused {
            call: "io_uring_setup",
            source: io::Error::from_raw_os_error(libc::EPERM),
            cause: Cause::Disabled(2),
        };
        assert_eq!(
            refused.to_string(),
            "io_uring_setup was refused (Operation not permitted (os error 1)): the sysctl \
             kernel.io_uring_disabled is 2, which forbids it to everybody"
        );
        let missing = ProbeError::Missing {
            feature: "multishot polls",
            since: (5, 13),
            release: "5.10.0-21".to_owned(),
        };
        assert_eq!(
            missing.to_string(),
            "io_uring here lacks multishot polls (Linux 5.13); this kernel is 5.10.0-21"
        );
    }
}
