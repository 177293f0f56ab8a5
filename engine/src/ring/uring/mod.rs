//! The backend that batches: io_uring with multishot polls for readiness and batched sends.
//!
//! # When a closed socket says goodbye
//!
//! A poll that the kernel holds keeps its file alive, so closing the descriptor alone would not
//! send the FIN. `forget` therefore queues a cancellation, and the `wait` at the end of the same
//! turn submits it first of all, in the system call that asks for events. A cancelled poll is
//! ended by task work that such a call runs before it returns, and with it goes the last
//! reference to the file. A call runs only [`SHARE_OF_A_CALL`] pieces of task work unless it is
//! told that more completions are due, so `wait` says how many polls it has cancelled, does not
//! sleep, and goes on until all task work is done. The FIN has left when it returns.
//!
//! # Urgent data
//!
//! A poll in the ring answers with what its socket was woken for, not with what the socket has, and TCP wakes for
//! *urgent* together with every byte. So the mark of urgent data, at which a read stops short although more is behind
//! it, cannot be told from here, and is not asked for. A read that gave less than it was asked for is *doubted* instead:
//! its socket is reported as readable once more when nothing has happened for [`DOUBT_TIME`], or after
//! [`WAITS_IN_DOUBT`] waits. Nearly always that was all, and the extra read finds nothing.

mod listeners;
mod queue;
mod sender;
mod watches;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::cqueue;

use self::listeners::Listeners;
use self::queue::PollQueue;
use self::sender::Sender;
use self::watches::{Outcome, PollName, Watches};
use super::backend::{BATCH, Backend, Counters, Outgoing, Ready};
use super::choice::{Settings, TaskRun};
use super::probe::{self, ProbeError};
use super::socket;
use super::token::Token;

/// io_uring. Belongs to the thread that opened it, as the kernel wants it for `SINGLE_ISSUER`.
pub struct Uring {
    queue: PollQueue,
    sender: Sender,
    watches: Watches,
    listeners: Listeners,
    /// Polls to hand to the kernel: new ones, and those that it has ended on its own. Taken from
    /// the front, so that with too small a ring each of them has its turn.
    to_arm: VecDeque<PollName>,
    /// Polls to take back.
    to_cancel: Vec<PollName>,
    /// Sockets whose last read may have stopped at the mark of urgent data; each watch at most once.
    in_doubt: VecDeque<PollName>,
    /// Waits since the first of them.
    waits_in_doubt: u32,
    /// Numbers the waits, so that a watch knows whether it is in the current batch.
    wait_number: u32,
    task_run: TaskRun,
    counters: Counters,
    /// Makes the type not `Send`.
    owner: PhantomData<*const ()>,
}

impl Uring {
    /// Opens the rings with the best flags that the kernel takes, and tries out under the rules
    /// of this process (seccomp, limits) that everything the backend needs works.
    pub fn open(settings: &Settings) -> Result<Self, ProbeError> {
        let (queue, task_run) = queue::open(settings)?;
        let sender = Sender::new(queue::open_send_ring(settings, task_run)?);
        let mut backend = Uring {
            queue,
            sender,
            watches: Watches::default(),
            listeners: Listeners::open().map_err(ProbeError::Epoll)?,
            to_arm: VecDeque::new(),
            to_cancel: Vec::new(),
            in_doubt: VecDeque::new(),
            waits_in_doubt: 0,
            wait_number: 0,
            task_run,
            counters: Counters::default(),
            owner: PhantomData,
        };
        probe::try_out(&mut backend)?;
        backend.counters = Counters::default();
        Ok(backend)
    }

    /// When the kernel runs its part of the work.
    pub fn task_run(&self) -> TaskRun {
        self.task_run
    }

    /// Whether sends still go through the ring.
    pub(super) fn sends_in_batches(&self) -> bool {
        !self.sender.is_broken()
    }

    /// Hands over the cancellations; how many there were.
    fn submit_cancels(&mut self) -> io::Result<usize> {
        let mut count = 0;
        while !self.to_cancel.is_empty()
            && self.queue.make_room(&mut self.counters)?
            && let Some(name) = self.to_cancel.pop()
        {
            self.queue.push_cancel(name);
            count += 1;
        }
        Ok(count)
    }

    /// Hands polls to the kernel, as many as have room to complete at once.
    ///
    /// A poll on a ready socket completes as soon as it is armed, and one that finds the queue
    /// full or overflown is ended by the kernel: arming more than fits would end as many polls
    /// as it arms, for ever. What is left over waits for the next call, which does not sleep.
    fn arm(&mut self) -> io::Result<()> {
        let mut places = self.queue.places_for_polls();
        while places > 0
            && !self.to_arm.is_empty()
            && self.queue.make_room(&mut self.counters)?
            && let Some(name) = self.to_arm.pop_front()
        {
            if self.watches.arm(name) {
                self.queue.push_poll(name);
                places -= 1;
            }
        }
        Ok(())
    }

    /// Hands over what was pushed, and sleeps until there is a completion if `timeout` lets it.
    /// At least `due` completions are known to be on their way.
    fn enter(&mut self, due: usize, timeout: Option<Duration>) -> io::Result<()> {
        self.counters.wait_calls += 1;
        match self.queue.enter(due, timeout) {
            Err(error) if error.raw_os_error() == Some(libc::EBADR) => self.replace_all_polls(),
            result => result?,
        }
        Ok(())
    }

    /// Takes completions until the batch is full or the queue is empty; how many it took.
    fn reap(&mut self, ready: &mut Vec<Ready>) -> usize {
        let mut reaped = 0;
        while ready.len() < BATCH
            && let Some(completion) = self.queue.pop()
        {
            reaped += 1;
            self.complete(&completion, ready);
        }
        self.counters.completions += reaped as u64;
        reaped
    }

    /// Asks again while a call looks as if it had stopped at its share, so that what is ready
    /// together is reported together: the loop makes one record and one batch of it. True if the
    /// batch was full first.
    fn gather(&mut self, ready: &mut Vec<Ready>) -> io::Result<bool> {
        let mut total = 0;
        loop {
            let taken = self.reap(ready);
            total += taken;
            if total >= BATCH || ready.len() >= BATCH {
                return Ok(true);
            }
            if taken < SHARE_OF_A_CALL {
                return Ok(false);
            }
            self.enter(0, NO_TIME)?;
        }
    }

    /// Lets the kernel do all task work there is; completions stay in the queue.
    fn finish_task_work(&mut self) -> io::Result<()> {
        let mut came = SHARE_OF_A_CALL;
        while came >= SHARE_OF_A_CALL {
            let before = self.queue.len();
            self.enter(0, NO_TIME)?;
            came = self.queue.len() - before;
        }
        Ok(())
    }

    /// Reports sockets in doubt as readable, as many as the batch has room for, and some in any case. Those that are in
    /// doubt no more, or are gone, take no room.
    fn settle_doubts(&mut self, ready: &mut Vec<Ready>) {
        let most = BATCH.max(ready.len() + DOUBTS_AT_LEAST);
        while ready.len() < most
            && let Some(name) = self.in_doubt.pop_front()
        {
            if self.watches.settle(name) {
                self.watches
                    .report(name, libc::EPOLLIN as u32, self.wait_number, ready);
            }
        }
        if self.in_doubt.is_empty() {
            self.waits_in_doubt = 0;
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry, ready: &mut Vec<Ready>) {
        // The other kind is the answer to a cancellation. It says whether the poll was still
        // there, and it need not have been: the poll may have ended on its own just before.
        let Some(name) = PollName::from_user_data(completion.user_data()) else {
            return;
        };
        let result = completion.result();
        let (outcome, bits) = verdict(result, cqueue::more(completion.flags()));
        if !self.watches.complete(name, outcome) {
            // The end of a cancelled poll is expected; readiness of a forgotten one is late.
            self.counters.late_completions += u64::from(result != -libc::ECANCELED);
            return;
        }
        if outcome == Outcome::Requeue {
            self.counters.rearms += 1;
            self.to_arm.push_back(name);
        }
        if name.fd() == self.listeners.fd() {
            return self.listeners.ready();
        }
        if let Some(bits) = bits {
            self.watches.report(name, bits, self.wait_number, ready);
        }
    }

    /// The kernel had no memory even to remember completions and has dropped some, nobody knows
    /// which. Every poll is replaced; arming reports the state of each socket anew.
    fn replace_all_polls(&mut self) {
        tracing::warn!("io_uring dropped completions for want of memory; all polls are renewed");
        self.to_arm.clear();
        for (old, new) in self.watches.rename_all() {
            self.to_cancel.extend(old);
            self.to_arm.push_back(new);
            self.counters.rearms += 1;
        }
    }
}

impl Backend for Uring {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn watch(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let name = self
            .watches
            .insert(fd, token)
            .ok_or(io::ErrorKind::AlreadyExists)?;
        self.to_arm.push_back(name);
        Ok(())
    }

    fn watch_listener(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        match self.watch(self.listeners.fd(), SET) {
            // The poll of the set stays when the last listener goes.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.listeners.watch(fd, token),
        }
    }

    fn forget(&mut self, fd: RawFd, token: Token) {
        if !self.listeners.forget(fd, token) {
            self.to_cancel.extend(self.watches.remove(fd, token));
        }
    }

    fn send_batch(&mut self, batch: &mut [Outgoing<'_>]) {
        self.sender.send(batch, &mut self.counters);
    }

    fn wait(&mut self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        self.wait_number = self.wait_number.wrapping_add(1);
        self.counters.overflows += u64::from(self.queue.has_overflown());
        let cancelled = self.submit_cancels()?;
        self.arm()?;
        // Completions that wait to be taken need no mention: with them the call does not sleep.
        let may_sleep = cancelled == 0
            && self.to_cancel.is_empty()
            && self.to_arm.is_empty()
            && !self.listeners.is_ready();
        let timeout = match may_sleep {
            false => NO_TIME,
            true if self.in_doubt.is_empty() => timeout,
            true => Some(timeout.map_or(DOUBT_TIME, |timeout| timeout.min(DOUBT_TIME))),
        };
        self.enter(cancelled, timeout)?;
        if self.gather(ready)? && cancelled > 0 {
            self.finish_task_work()?;
        }
        self.listeners.take(ready)?;
        if !self.in_doubt.is_empty() {
            self.waits_in_doubt += 1;
            let is_quiet = ready.is_empty() && timeout != NO_TIME;
            if is_quiet || self.waits_in_doubt >= WAITS_IN_DOUBT {
                self.settle_doubts(ready);
            }
        }
        Ok(())
    }

    fn recv(&mut self, fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
        let result = socket::recv(fd, buffer);
        match &result {
            Ok(count) if (1..buffer.len()).contains(count) => {
                self.in_doubt.extend(self.watches.doubt(fd));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.watches.believe(fd),
            _ => {}
        }
        result
    }

    fn counters(&self) -> Counters {
        let of_listeners = self.listeners.counters();
        Counters {
            wait_calls: self.counters.wait_calls + of_listeners.wait_calls,
            watch_calls: self.counters.watch_calls + of_listeners.watch_calls,
            ..self.counters
        }
    }
}

impl Drop for Uring {
    /// Takes all polls back, so that sockets outlive the backend without a hidden reference.
    fn drop(&mut self) {
        self.to_cancel.extend(self.watches.armed());
        // When that fails the kernel does the same in its own time, after the ring is closed.
        if let Ok(cancelled) = self.submit_cancels() {
            let _ = self.queue.enter(cancelled, NO_TIME);
            let _ = self.finish_task_work();
        }
    }
}

/// What a poll's completion says of the poll, and of the descriptor: nothing where the poll ended for want of
/// something, as the next one reports the state anew.
fn verdict(result: i32, has_more: bool) -> (Outcome, Option<u32>) {
    match result {
        0.. if has_more => (Outcome::Keep, Some(result as u32)),
        // Out of room for completions.
        0.. => (Outcome::Requeue, Some(result as u32)),
        // Out of memory: that passes, too.
        code if code == -libc::ENOMEM || code == -libc::ECANCELED => (Outcome::Requeue, None),
        // Not a descriptor, or none that can be polled: gone for its owner.
        _ => (Outcome::Fail, Some(libc::EPOLLHUP as u32)),
    }
}

/// Pieces of task work that the kernel does in a call that waits for one completion (since Linux
/// 6.14; before, all there are).
const SHARE_OF_A_CALL: usize = 20;

/// Of the poll of the listeners' set, which nobody but this backend hears of.
const SET: Token = Token::new(0, 0, 0);

/// How long what is behind the mark of urgent data waits when nothing else comes.
const DOUBT_TIME: Duration = Duration::from_millis(10);

/// The same in waits, while other things keep coming.
const WAITS_IN_DOUBT: u32 = 256;

/// Settled in each wait from then on, also where a batch is full without them.
const DOUBTS_AT_LEAST: usize = 16;

const NO_TIME: Option<Duration> = Some(Duration::ZERO);

impl fmt::Debug for Uring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Uring")
            .field("task_run", &self.task_run)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every wait fills its batch, and connections come and go.
    #[test]
    fn doubts_are_settled_beside_full_batches() {
        let Ok(mut backend) = Uring::open(&Settings::default()) else {
            eprintln!("io_uring is not available here");
            return;
        };
        let token = |index| Token::new(1, 0, index);
        let (_near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&far);
        for index in 0..1_000 {
            backend.watch(fd, token(index)).expect("watched");
            backend.in_doubt.extend(backend.watches.doubt(fd));
            backend.forget(fd, token(index));
        }
        backend.watch(fd, token(1_000)).expect("watched");
        backend.in_doubt.extend(backend.watches.doubt(fd));
        let other = Ready::from_bits(token(2_000), libc::EPOLLIN as u32);
        let mut ready = vec![other; BATCH];
        backend.settle_doubts(&mut ready);
        assert!(backend.in_doubt.is_empty());
        assert_eq!(ready.last().map(|last| last.token), Some(token(1_000)));
    }

    /// A socket whose poll the kernel had no memory for is as it was before.
    #[test]
    fn a_poll_that_ended_for_want_of_memory_says_nothing_of_its_socket() {
        for code in [libc::ENOMEM, libc::ECANCELED] {
            assert_eq!(verdict(-code, false), (Outcome::Requeue, None));
        }
        let hangup = Some(libc::EPOLLHUP as u32);
        assert_eq!(verdict(-libc::EBADF, false), (Outcome::Fail, hangup));
        assert_eq!(verdict(5, true), (Outcome::Keep, Some(5)));
        assert_eq!(verdict(5, false), (Outcome::Requeue, Some(5)));
    }
}
