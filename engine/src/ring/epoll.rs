//! The backend that runs on every kernel: edge-triggered epoll, one system call per send.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::backend::{BATCH, Backend, Counters, Outgoing, Ready};
use super::socket;
use super::token::Token;

/// Edge-triggered epoll. The kernel carries the token, so there is no table to keep.
#[derive(Debug)]
pub struct Epoll {
    epoll: OwnedFd,
    /// Filled by the kernel from the front in each wait; always [`BATCH`] long.
    events: Box<[libc::epoll_event]>,
    counters: Counters,
}

impl Epoll {
    /// Opens an empty set.
    pub fn open() -> io::Result<Self> {
        // WHY: no safe wrapper among our dependencies.
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Epoll {
            // WHY: closes the set when the backend goes.
            // SAFETY: epoll_create1 has just made this descriptor for us.
            epoll: unsafe { OwnedFd::from_raw_fd(fd) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; BATCH].into_boxed_slice(),
            counters: Counters::default(),
        })
    }

    fn control(&mut self, operation: i32, fd: RawFd, token: Token) -> io::Result<()> {
        self.counters.watch_calls += 1;
        let mut event = libc::epoll_event {
            events: INTEREST,
            u64: token.to_bits(),
        };
        // WHY: one call for both directions of interest at the start of a watch and one at its
        // end; with edges nothing changes in between.
        // SAFETY: `event` lives across the call, which copies it; the kernel checks `fd`.
        let status = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) };
        if status < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// The set itself, which is readable while it has events.
    pub(super) fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Appends up to `room` events, at least 1 and at most [`BATCH`]; waits for the first one. How many there were.
    ///
    /// Errors: `Interrupted` by a signal, with nothing taken; else the set is broken.
    pub(super) fn take(
        &mut self,
        ready: &mut Vec<Ready>,
        room: usize,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        self.counters.wait_calls += 1;
        let room = room.min(BATCH);
        // WHY: the heart of the backend.
        // SAFETY: `events` has `BATCH` entries, of which the kernel is told `room`, and nobody else looks at
        // them during the call.
        let count = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                room as i32,
                milliseconds(timeout),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.counters.completions += count as u64;
        ready.extend(self.events[..count].iter().map(|event| {
            let token = Token::from_bits(event.u64).expect("epoll gives back what watch stored");
            Ready::from_bits(token, event.events)
        }));
        Ok(count)
    }
}

impl Backend for Epoll {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn watch(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token)
    }

    fn forget(&mut self, fd: RawFd, token: Token) {
        // Fails only for what is not watched, and that is the state asked for.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, token);
    }

    fn send_batch(&mut self, batch: &mut [Outgoing<'_>]) {
        for item in batch {
            self.counters.send_calls += 1;
            self.counters.sends += 1;
            item.result = socket::send(item.fd, item.parts);
        }
    }

    fn wait(&mut self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        match self.take(ready, BATCH, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

/// Both directions for the life of the watch: changing interest would cost a call each time.
const INTEREST: u32 =
    (libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;

/// The timeout as epoll wants it. Rounded up, or a timer half a millisecond away would make the
/// loop spin until it is due; -1 waits for ever; beyond 24 days the loop just asks again.
fn milliseconds(timeout: Option<Duration>) -> i32 {
    timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_rounded_up_to_milliseconds() {
        assert_eq!(milliseconds(None), -1);
        assert_eq!(milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(milliseconds(Some(Duration::from_nanos(1))), 1);
        assert_eq!(milliseconds(Some(Duration::from_millis(1))), 1);
        assert_eq!(milliseconds(Some(Duration::from_micros(1_001))), 2);
        assert_eq!(milliseconds(Some(Duration::MAX)), i32::MAX);
    }
}
