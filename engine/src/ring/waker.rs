//! How another thread ends the loop's wait.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;

use super::pending::Pending;

/// The loop's half: watch [`fd`](Self::fd), and at each of its edges
/// [`acknowledge`](Self::acknowledge), *then* look at the queues that wakers announce.
#[derive(Debug)]
pub struct WakeSource {
    shared: Arc<Shared>,
}

/// Any thread's half. Cheap to clone; harmless when the loop is gone.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// An eventfd. Never read: a write is an edge whatever the count is, and one wake per
    /// nanosecond would take 580 years to fill it.
    event: File,
    pending: Pending,
}

impl WakeSource {
    /// Makes the descriptor; wakers come from [`waker`](Self::waker).
    pub fn new() -> io::Result<Self> {
        // WHY: one descriptor instead of the two of a pipe, and no byte to drain.
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // WHY: lets std do the write, and the close with the last of the halves.
        // SAFETY: eventfd has just made this descriptor and nothing else knows of it.
        let event = unsafe { File::from_raw_fd(fd) };
        let pending = Pending::new();
        Ok(WakeSource {
            shared: Arc::new(Shared { event, pending }),
        })
    }

    /// What to watch; only its edges matter.
    pub fn fd(&self) -> RawFd {
        self.shared.event.as_raw_fd()
    }

    /// A new handle for another thread.
    pub fn waker(&self) -> Waker {
        Waker {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Allows the next wake to be an edge again. True if there was one to acknowledge.
    ///
    /// Everything that a waker's thread did before its `wake` is visible after this call, also
    /// when that `wake` was folded into an earlier one.
    pub fn acknowledge(&self) -> bool {
        self.shared.pending.acknowledge()
    }
}

impl Waker {
    /// Ends the loop's wait, or its next one. Wakes that the loop has not yet acknowledged are
    /// folded into one, so a burst costs one system call.
    pub fn wake(&self) {
        if self.shared.pending.announce() {
            // Fails only when the counter is full, and then the edge of the last write counts.
            let _ = (&self.shared.event).write(&1_u64.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn count(source: &WakeSource) -> u64 {
        let mut bytes = [0; 8];
        (&source.shared.event)
            .read_exact(&mut bytes)
            .map_or(0, |()| u64::from_ne_bytes(bytes))
    }

    #[test]
    fn wakes_between_two_acknowledgements_are_one_write() {
        let source = WakeSource::new().expect("an eventfd");
        let (one, other) = (source.waker(), source.waker());
        assert!(!source.acknowledge());
        one.wake();
        other.wake();
        one.clone().wake();
        assert_eq!(count(&source), 1);
        assert!(source.acknowledge());
        assert!(!source.acknowledge());
        other.wake();
        assert_eq!(count(&source), 1);
    }

    #[test]
    fn a_waker_outlives_the_loop() {
        let source = WakeSource::new().expect("an eventfd");
        let waker = source.waker();
        drop(source);
        waker.wake();
    }
}
