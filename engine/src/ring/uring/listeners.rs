//! Listeners, which the ring itself never holds.
//!
//! A poll that the kernel holds keeps its file alive. The polls of a process that was killed are taken back by a worker
//! of the kernel, at some time after the process has gone, and until then nobody else can listen on the address. An epoll
//! set holds no reference to what is in it; so listeners are in such a set, and the ring polls the set.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::ring::backend::{BATCH, Backend, Counters, Ready};
use crate::ring::epoll::Epoll;
use crate::ring::token::Token;

/// The listeners of a loop.
#[derive(Debug)]
pub(super) struct Listeners {
    set: Epoll,
    /// What is in the set; as many as the tunnels of a loop have endpoints to listen on.
    watched: Vec<RawFd>,
    /// The set was reported, and may have events that nobody has taken.
    is_ready: bool,
}

impl Listeners {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            set: Epoll::open()?,
            watched: Vec::new(),
            is_ready: false,
        })
    }

    /// What the ring has to poll once there is a listener.
    pub(super) fn fd(&self) -> RawFd {
        self.set.fd()
    }

    pub(super) fn watch(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        self.set.watch(fd, token)?;
        self.watched.push(fd);
        Ok(())
    }

    /// Ends the watch of `fd`; false if it is none of the listeners.
    pub(super) fn forget(&mut self, fd: RawFd, token: Token) -> bool {
        let Some(at) = self.watched.iter().position(|watched| *watched == fd) else {
            return false;
        };
        self.watched.swap_remove(at);
        // Closing alone would leave it in the set where the socket has other descriptors.
        self.set.forget(fd, token);
        true
    }

    /// The ring has reported the set.
    pub(super) fn ready(&mut self) {
        self.is_ready = true;
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Appends events as long as there is room in the batch; what is left is for the next one.
    pub(super) fn take(&mut self, ready: &mut Vec<Ready>) -> io::Result<()> {
        let room = BATCH - ready.len();
        if !self.is_ready || room == 0 {
            return Ok(());
        }
        match self.set.take(ready, room, Some(Duration::ZERO)) {
            Ok(count) => self.is_ready = count == room,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn counters(&self) -> Counters {
        self.set.counters()
    }
}
