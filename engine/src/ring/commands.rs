//! The queue of commands to a loop, and what ends the loop's wait for them.
//!
//! `tests/concurrency` compiles this file a second time, on a channel and a waker of its own, and tries
//! many orders of events.

use super::channel::{Receiver, Sender, channel};
use super::handle::Command;
use super::waker::{WakeSource, Waker};
use std::io;
use std::os::fd::RawFd;

/// Commands taken in one turn; the rest waits for the next.
pub(super) const COMMANDS_PER_TURN: usize = 64;

/// Any thread's end. Cheap to clone; harmless when the loop is gone.
#[derive(Clone)]
pub(super) struct Commands {
    queue: Sender<Command>,
    waker: Waker,
}

/// The loop's end: watch [`fd`](Self::fd), and at each of its edges [`acknowledge`](Self::acknowledge),
/// *then* [`take`](Self::take) what there is.
pub(super) struct Inbox {
    queue: Receiver<Command>,
    wake: WakeSource,
}

/// Makes both ends.
pub(super) fn commands() -> io::Result<(Commands, Inbox)> {
    let (sender, queue) = channel();
    let wake = WakeSource::new()?;
    let waker = wake.waker();
    let commands = Commands {
        queue: sender,
        waker,
    };
    Ok((commands, Inbox { queue, wake }))
}

impl Commands {
    pub(super) fn send(&self, command: Command) {
        // A loop that is gone has dropped everything that a command could be about; who is to hear
        // of the end of that hears of it when the command is dropped.
        if self.queue.send(command).is_ok() {
            self.waker.wake();
        }
    }
}

impl Inbox {
    /// What to watch; only its edges matter.
    pub(super) fn fd(&self) -> RawFd {
        self.wake.fd()
    }

    /// Allows the next command to be an edge again.
    pub(super) fn acknowledge(&self) {
        self.wake.acknowledge();
    }

    /// The next command of a turn in which so many were taken.
    pub(super) fn take(&self, taken: usize) -> Option<Command> {
        if taken == COMMANDS_PER_TURN {
            // More may wait, and their wake-up is spent.
            self.wake.waker().wake();
            return None;
        }
        self.queue.try_recv().ok()
    }
}
