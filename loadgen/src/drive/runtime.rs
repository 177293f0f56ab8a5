//! The loop of a worker: monoio on io_uring where the kernel takes it, else on epoll.

use std::future::Future;
use std::io;

use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};
use monoio_io_uring::IoUring;

use crate::args::IoChoice;

/// The loop of the thread that builds it.
pub enum Loop {
    /// On io_uring.
    Uring(Runtime<IoUringDriver>),
    /// On epoll.
    Epoll(Runtime<LegacyDriver>),
}

impl Loop {
    /// Builds the loop that is asked for.
    ///
    /// # Errors
    /// The kernel, or a filter in front of it, refuses.
    pub fn build(choice: IoChoice) -> io::Result<Self> {
        match choice {
            IoChoice::Uring => Self::uring(),
            IoChoice::Epoll => Self::epoll(),
            IoChoice::Auto => Self::uring().or_else(|_| Self::epoll()),
        }
    }

    /// Runs `future`, and what it spawns meanwhile, to its end.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::Uring(runtime) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }

    /// What it runs on. Decides whether sockets must block: io_uring waits on a blocking socket by itself, and
    /// answers "try again" on another.
    #[must_use]
    pub fn is_uring(&self) -> bool {
        matches!(self, Self::Uring(_))
    }

    /// monoio does not probe the flags it is given. They spare interrupts between the two sides of a ring:
    /// a fifth to a third at 64 connections. `DEFER_TASKRUN` would starve monoio: while tasks are ready it
    /// submits without asking for completions.
    fn uring() -> io::Result<Self> {
        let mut flagged = IoUring::builder();
        flagged.setup_coop_taskrun().setup_single_issuer();
        let build = |builder| {
            RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(ENTRIES)
                .uring_builder(builder)
                .build()
        };
        build(flagged)
            .or_else(|_| build(IoUring::builder()))
            .map(Self::Uring)
    }

    fn epoll() -> io::Result<Self> {
        RuntimeBuilder::<LegacyDriver>::new()
            .with_entries(ENTRIES)
            .build()
            .map(Self::Epoll)
    }
}

/// Submissions between two system calls, and events of one. More operations than that may be in flight.
const ENTRIES: u32 = 2048;
