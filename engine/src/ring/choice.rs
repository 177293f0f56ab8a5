//! Choosing a backend, and the two as one type.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::str::FromStr;
use std::sync::Once;
use std::time::Duration;

use super::backend::{Backend, Counters, Outgoing, Ready};
use super::epoll::Epoll;
use super::probe::ProbeError;
use super::token::Token;
use super::uring::Uring;

/// Which backend the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IoChoice {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring or an error that says why not.
    Uring,
    /// epoll, whatever else there is.
    Epoll,
}

impl IoChoice {
    /// The word that [`FromStr`] reads.
    pub fn as_str(self) -> &'static str {
        match self {
            IoChoice::Auto => "auto",
            IoChoice::Uring => "uring",
            IoChoice::Epoll => "epoll",
        }
    }
}

impl fmt::Display for IoChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for IoChoice {
    type Err = UnknownIoChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [IoChoice::Auto, IoChoice::Uring, IoChoice::Epoll]
            .into_iter()
            .find(|choice| choice.as_str() == text)
            .ok_or(UnknownIoChoice)
    }
}

/// The word names no backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, uring or epoll")]
pub struct UnknownIoChoice;

/// Sizes of the io_uring backend; epoll has none. The kernel rounds them up to powers of two and
/// cuts them to its own limits (32_768 requests, 65_536 completions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Places for polls to be armed or cancelled in one system call; 64 bytes each.
    pub submission_entries: u32,
    /// Places for completions between two waits, not fewer than `submission_entries`; 16 bytes
    /// each. Too few costs time (polls are armed again), never events.
    pub completion_entries: u32,
    /// Most sends in one system call; 152 bytes each. A longer batch is sent in pieces.
    pub send_entries: u32,
    /// The first way to run to try; those below it are tried when the kernel does not know it.
    pub task_run: TaskRun,
}

impl Default for Settings {
    /// 256 polls, 4_096 completions and 256 sends (a full batch of events): 120 KiB a loop.
    fn default() -> Self {
        Settings {
            submission_entries: 256,
            completion_entries: 4_096,
            send_entries: 256,
            task_run: TaskRun::Deferred,
        }
    }
}

/// When the kernel does its part of the work of a completion, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskRun {
    /// Only while the loop waits (`SINGLE_ISSUER | DEFER_TASKRUN`, Linux 6.1).
    Deferred,
    /// At any system call of the loop (`COOP_TASKRUN`, Linux 5.19).
    Cooperative,
    /// At once, by interrupting the thread.
    Interrupting,
}

impl TaskRun {
    pub(super) fn fallback(self) -> Option<Self> {
        match self {
            TaskRun::Deferred => Some(TaskRun::Cooperative),
            TaskRun::Cooperative => Some(TaskRun::Interrupting),
            TaskRun::Interrupting => None,
        }
    }
}

/// Opens a backend. Call it on the thread that will run the loop.
///
/// What was chosen, and for [`IoChoice::Auto`] why not io_uring, is logged once per process.
///
/// Errors: the backend asked for by name does not work here, or not even epoll does.
pub fn open(choice: IoChoice, settings: &Settings) -> Result<AnyBackend, ProbeError> {
    let (backend, reason) = match choice {
        IoChoice::Epoll => (open_epoll()?, None),
        IoChoice::Uring => (open_uring(settings)?, None),
        IoChoice::Auto => match open_uring(settings) {
            Ok(backend) => (backend, None),
            Err(reason) => (open_epoll()?, Some(reason)),
        },
    };
    static ANNOUNCED: Once = Once::new();
    ANNOUNCED.call_once(|| announce(&backend, reason));
    Ok(backend)
}

fn open_uring(settings: &Settings) -> Result<AnyBackend, ProbeError> {
    Uring::open(settings).map(|backend| AnyBackend::Uring(Box::new(backend)))
}

fn open_epoll() -> Result<AnyBackend, ProbeError> {
    Epoll::open()
        .map(AnyBackend::Epoll)
        .map_err(ProbeError::Epoll)
}

fn announce(backend: &AnyBackend, reason: Option<ProbeError>) {
    let name = backend.name();
    match (backend, reason) {
        (_, Some(reason)) => {
            tracing::info!(backend = name, %reason, "io_uring does not work here, using epoll");
        }
        (AnyBackend::Uring(uring), None) => {
            tracing::info!(backend = name, task_run = ?uring.task_run(), "event loop backend");
        }
        (AnyBackend::Epoll(_), None) => tracing::info!(backend = name, "event loop backend"),
    }
}

/// The backend that [`open`] found. Not `Send`: it stays on the thread that opened it.
#[derive(Debug)]
pub enum AnyBackend {
    /// io_uring; boxed because it is large and there is one per loop.
    Uring(Box<Uring>),
    /// epoll.
    Epoll(Epoll),
}

impl Backend for AnyBackend {
    fn name(&self) -> &'static str {
        match self {
            AnyBackend::Uring(backend) => backend.name(),
            AnyBackend::Epoll(backend) => backend.name(),
        }
    }

    fn watch(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        match self {
            AnyBackend::Uring(backend) => backend.watch(fd, token),
            AnyBackend::Epoll(backend) => backend.watch(fd, token),
        }
    }

    fn watch_listener(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        match self {
            AnyBackend::Uring(backend) => backend.watch_listener(fd, token),
            AnyBackend::Epoll(backend) => backend.watch_listener(fd, token),
        }
    }

    fn forget(&mut self, fd: RawFd, token: Token) {
        match self {
            AnyBackend::Uring(backend) => backend.forget(fd, token),
            AnyBackend::Epoll(backend) => backend.forget(fd, token),
        }
    }

    fn send_batch(&mut self, batch: &mut [Outgoing<'_>]) {
        match self {
            AnyBackend::Uring(backend) => backend.send_batch(batch),
            AnyBackend::Epoll(backend) => backend.send_batch(batch),
        }
    }

    fn recv(&mut self, fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            AnyBackend::Uring(backend) => backend.recv(fd, buffer),
            AnyBackend::Epoll(backend) => backend.recv(fd, buffer),
        }
    }

    fn wait(&mut self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            AnyBackend::Uring(backend) => backend.wait(ready, timeout),
            AnyBackend::Epoll(backend) => backend.wait(ready, timeout),
        }
    }

    fn counters(&self) -> Counters {
        match self {
            AnyBackend::Uring(backend) => backend.counters(),
            AnyBackend::Epoll(backend) => backend.counters(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_written_alike() {
        for choice in [IoChoice::Auto, IoChoice::Uring, IoChoice::Epoll] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!("Epoll".parse::<IoChoice>(), Err(UnknownIoChoice));
        assert_eq!("".parse::<IoChoice>(), Err(UnknownIoChoice));
    }

    #[test]
    fn epoll_is_epoll_even_where_io_uring_works() {
        let backend = open(IoChoice::Epoll, &Settings::default()).expect("epoll is everywhere");
        assert_eq!(backend.name(), "epoll");
    }
}
