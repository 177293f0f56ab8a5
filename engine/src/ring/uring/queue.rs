//! The ring of the polls: setting it up, filling it, entering it.

use std::io;
use std::time::Duration;

use io_uring::opcode::{AsyncCancel, PollAdd};
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, squeue};

use super::watches::PollName;
use crate::ring::backend::Counters;
use crate::ring::choice::{Settings, TaskRun};
use crate::ring::probe::{self, ProbeError};

/// A ring whose requests never point at memory of ours: polls and cancellations only.
pub(super) struct PollQueue {
    ring: IoUring,
    /// Flags of a cancellation; where the kernel can, its success stays unsaid.
    cancel_flags: squeue::Flags,
}

/// Opens the ring of the polls with the best of the ways to run that the kernel takes.
pub(super) fn open(settings: &Settings) -> Result<(PollQueue, TaskRun), ProbeError> {
    let entries = settings.submission_entries.max(1);
    let mut task_run = settings.task_run;
    let ring = loop {
        match build(entries, settings.completion_entries, task_run) {
            Ok(ring) => break ring,
            // An unknown flag is EINVAL; anything else would be the same with fewer flags.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => match task_run.fallback() {
                Some(next) => task_run = next,
                None => return Err(probe::refused("io_uring_setup", error)),
            },
            Err(error) => return Err(probe::refused("io_uring_setup", error)),
        }
    };
    let params = ring.params();
    if !params.is_feature_nodrop() {
        return Err(probe::missing("completions kept on overflow", (5, 5)));
    }
    if !params.is_feature_ext_arg() {
        return Err(probe::missing("waits with a timeout", (5, 11)));
    }
    let mut cancel_flags = squeue::Flags::empty();
    cancel_flags.set(
        squeue::Flags::SKIP_SUCCESS,
        params.is_feature_skip_cqe_on_success(),
    );
    Ok((PollQueue { ring, cancel_flags }, task_run))
}

/// Opens the ring of the sends. Twice as many completions as requests, which is what the kernel
/// gives by itself.
pub(super) fn open_send_ring(
    settings: &Settings,
    task_run: TaskRun,
) -> Result<IoUring, ProbeError> {
    let entries = settings.send_entries.max(1);
    build(entries, 2 * entries, task_run).map_err(|error| probe::refused("io_uring_setup", error))
}

fn build(submissions: u32, completions: u32, task_run: TaskRun) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_clamp()
        .setup_cqsize(completions.max(submissions));
    match task_run {
        // SUBMIT_ALL: a request that is refused outright does not hold back those behind it.
        TaskRun::Deferred => {
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_submit_all();
        }
        TaskRun::Cooperative => {
            builder.setup_coop_taskrun().setup_submit_all();
        }
        TaskRun::Interrupting => {}
    }
    builder.build(submissions)
}

impl PollQueue {
    /// Queues a multishot poll for both directions and the peer's end.
    pub(super) fn push_poll(&mut self, name: PollName) {
        let request = PollAdd::new(Fd(name.fd()), INTEREST)
            .multi(true)
            .build()
            .user_data(name.user_data());
        self.push(&request);
    }

    /// Queues the end of a poll. `ASYNC_CANCEL` rather than `POLL_REMOVE`: the latter leaves a
    /// poll alone (EALREADY) that is just being completed on another core.
    pub(super) fn push_cancel(&mut self, name: PollName) {
        let request = AsyncCancel::new(name.user_data())
            .build()
            .flags(self.cancel_flags)
            .user_data(name.cancel_user_data());
        self.push(&request);
    }

    /// Whether a request may be pushed; hands over what is there if the queue is full. False if
    /// the kernel takes nothing just now, which ends when completions have been taken.
    pub(super) fn make_room(&mut self, counters: &mut Counters) -> io::Result<bool> {
        if self.ring.submission().is_full() {
            counters.submission_full += 1;
            counters.watch_calls += 1;
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(!self.ring.submission().is_full())
    }

    fn push(&mut self, request: &squeue::Entry) {
        // WHY: changes of what is watched ride on the wait that comes anyway.
        // SAFETY: polls and cancellations carry a descriptor and a number; there is no pointer
        // that would have to stay valid, and a wrong descriptor is answered with an error.
        unsafe { self.ring.submission().push(request) }.expect("make_room has said yes");
    }

    /// Hands over what was pushed, lets the kernel post what is due, and sleeps until something
    /// completes or the timeout is over.
    ///
    /// `due` completions are known to be on their way: the kernel is made to do its part of at
    /// least so many in this call. Say too many, and with no time to sleep the call costs a
    /// timer, some 20 µs.
    pub(super) fn enter(&mut self, due: usize, timeout: Option<Duration>) -> io::Result<()> {
        let entered = match timeout {
            None => self.ring.submit_and_wait(due.max(1)),
            Some(Duration::ZERO) if due == 0 => self.enter_without_sleep(),
            Some(timeout) => {
                let timespec = Timespec::from(timeout.min(TIMEOUT_MAX));
                let arguments = SubmitArgs::new().timespec(&timespec);
                let submitter = self.ring.submitter();
                submitter.submit_with_args(due.max(1), &arguments)
            }
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn enter_without_sleep(&mut self) -> io::Result<usize> {
        let pushed = self.ring.submission().len() as u32;
        let flags = EnterFlags::GETEVENTS.bits();
        // WHY: the crate's `submit` leaves GETEVENTS out when nothing is waited for, and without
        // it a ring with deferred task work would never post anything.
        // SAFETY: no argument structure is passed, so the call reads no memory but the ring's
        // own; `pushed` is what the queue holds.
        unsafe {
            let none: Option<&libc::sigset_t> = None;
            self.ring.submitter().enter(pushed, 0, flags, none)
        }
    }

    /// Takes the oldest completion.
    pub(super) fn pop(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// Completions that wait to be taken.
    pub(super) fn len(&mut self) -> usize {
        self.ring.completion().len()
    }

    /// The kernel holds completions that did not fit.
    pub(super) fn has_overflown(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// How many polls may be armed without risking an overflow: half of the free places, since
    /// the polls already armed want some too; none while the overflow list is not drained.
    pub(super) fn places_for_polls(&mut self) -> usize {
        if self.has_overflown() {
            return 0;
        }
        let completion = self.ring.completion();
        (completion.capacity() - completion.len()).div_ceil(2)
    }
}

/// Both directions, and the peer's end of sending; errors and hangups come unasked. Not urgent data, which every
/// byte would show.
const INTEREST: u32 = (libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP) as u32;

/// Longest sleep; the loop just asks again. Keeps the seconds within what the kernel takes.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Errors of entering a ring that say "again": a signal, no memory for requests just now, or
/// completions to be taken first.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_pass_are_retried() {
        for (code, passes) in [
            (libc::EINTR, true),
            (libc::EAGAIN, true),
            (libc::EBUSY, true),
            (libc::EBADF, false),
            (libc::EPERM, false),
            (libc::EBADR, false),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(is_passing(&error), passes, "{error}");
        }
    }
}
