//! Batched sends: one system call for many sockets, over before the call returns.

use std::io::{self, IoSlice};
use std::mem;
use std::thread;

use io_uring::opcode::{Send, SendMsg};
use io_uring::types::Fd;
use io_uring::{IoUring, squeue};

use super::queue::is_passing;
use crate::ring::backend::{Counters, Outgoing};
use crate::ring::socket::{self, PARTS_MAX, SEND_FLAGS};

/// A ring that carries sends and nothing else.
///
/// Apart from the ring of the polls, so that its completion queue holds the answers to one batch
/// and nothing more: it cannot overflow, and no other completion must be put aside here.
pub(super) struct Sender {
    ring: IoUring,
    /// What the requests of the current batch point at; as many as the submission queue holds.
    /// Allocated once, because the entries must not move while the kernel may read them.
    headers: Box<[libc::msghdr]>,
    /// The kernel has refused the ring. It is never entered again, see [`Sender::give_up`].
    is_broken: bool,
}

impl Sender {
    /// Takes a ring whose completion queue is at least as long as its submission queue.
    pub(super) fn new(ring: IoUring) -> Self {
        let entries = ring.params().sq_entries() as usize;
        Sender {
            ring,
            headers: vec![message_header(&[]); entries].into_boxed_slice(),
            is_broken: false,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Sends each item once. A single item goes by a plain system call, which is cheaper.
    pub(super) fn send(&mut self, batch: &mut [Outgoing<'_>], counters: &mut Counters) {
        counters.sends += batch.len() as u64;
        for chunk in batch.chunks_mut(self.headers.len()) {
            if chunk.len() == 1 || self.is_broken {
                send_directly(chunk, counters);
            } else {
                self.send_chunk(chunk, counters);
            }
        }
    }

    /// Returns only when no request of `chunk` is left in the kernel; the buffers it names may
    /// be written to by their owner right after.
    fn send_chunk(&mut self, chunk: &mut [Outgoing<'_>], counters: &mut Counters) {
        let lent = Lent;
        self.push(chunk);
        // The requests complete while they are submitted: with MSG_DONTWAIT the kernel marks
        // them as never to be retried by a poll or a worker thread, so a full socket is -EAGAIN
        // at once. That keeps the wait below from blocking. That nothing is left in the kernel
        // does not hang on it: the wait is for the completion of every request.
        let mut missing = chunk.len();
        while missing > 0 {
            counters.send_calls += 1;
            let entered = self.ring.submit_and_wait(missing);
            for completion in self.ring.completion() {
                let item = &mut chunk[completion.user_data() as usize];
                item.result = outcome(completion.result(), item);
                missing -= 1;
            }
            match entered {
                Ok(_) => {}
                Err(error) if is_passing(&error) => thread::yield_now(),
                Err(error) if missing > 0 => self.give_up(chunk, missing, &error, counters),
                Err(_) => {}
            }
            if self.is_broken {
                break;
            }
        }
        mem::forget(lent);
    }

    /// Puts one request per item into the (empty) submission queue.
    fn push(&mut self, chunk: &[Outgoing<'_>]) {
        let mut submission = self.ring.submission();
        for (index, (item, header)) in chunk.iter().zip(&mut self.headers).enumerate() {
            let request = request(item, header).user_data(index as u64);
            // WHY: a batch of n sends becomes one system call instead of n.
            // SAFETY: the request points at the item's parts, which `send_chunk` borrows, either
            // directly or through `header`, which stays in its box until this sender is dropped.
            // `send_chunk` returns only after it has reaped the request's completion, or has
            // made sure that the kernel never took the request and never will (`give_up`); if it
            // unwound in between, `Lent` would end the process first.
            unsafe { submission.push(&request) }
                .expect("a chunk is no longer than the queue, and the last one has left it empty");
        }
    }

    /// The kernel refuses the ring itself (a seccomp filter came later, or someone closed its
    /// descriptor). What it had taken before is complete; the rest is still in the queue, with
    /// pointers that are about to dangle, so the ring must never be entered again.
    fn give_up(
        &mut self,
        chunk: &mut [Outgoing<'_>],
        missing: usize,
        error: &io::Error,
        counters: &mut Counters,
    ) {
        let untaken = self.ring.submission().len();
        tracing::error!(%error, untaken, missing, "io_uring refuses sends, going on without");
        if missing != untaken {
            // Some request is in the kernel and its completion cannot be had any more: the
            // buffers can be neither kept nor given back.
            std::process::abort();
        }
        self.is_broken = true;
        let first_untaken = chunk.len() - untaken;
        send_directly(&mut chunk[first_untaken..], counters);
    }
}

/// While it lives, the ring has pointers to buffers of callers. Unwinding past it would leave them there
/// for whoever goes on with the loop.
struct Lent;

impl Drop for Lent {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// The request that sends `item`; one of several parts goes by way of `header`.
fn request(item: &Outgoing<'_>, header: &mut libc::msghdr) -> squeue::Entry {
    let fd = Fd(item.fd);
    match item.parts {
        // The usual case, and cheaper for the kernel than a vector of one.
        [part] => {
            let size = part.len().min(SIZE_MAX) as u32;
            Send::new(fd, part.as_ptr(), size).flags(SEND_FLAGS).build()
        }
        parts => {
            *header = message_header(parts);
            SendMsg::new(fd, header).flags(SEND_FLAGS as u32).build()
        }
    }
}

/// What `sendmsg` reads: points at `parts`, owns nothing, and must not be read after them.
fn message_header(parts: &[IoSlice<'_>]) -> libc::msghdr {
    // WHY: the structure has private padding on some C libraries and cannot be written out.
    // SAFETY: it consists of integers and raw pointers, for which all zeroes are valid.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    // `IoSlice` is documented to have the layout of `iovec`.
    header.msg_iov = parts.as_ptr().cast_mut().cast();
    header.msg_iovlen = parts.len().min(PARTS_MAX) as _;
    header
}

fn send_directly(items: &mut [Outgoing<'_>], counters: &mut Counters) {
    for item in items {
        counters.send_calls += 1;
        item.result = socket::send(item.fd, item.parts);
    }
}

/// Reads a completion's result, which is a count or a negated error number.
fn outcome(result: i32, item: &Outgoing<'_>) -> io::Result<usize> {
    match usize::try_from(result) {
        Ok(count) => Ok(count),
        Err(_) if result == -libc::EINTR => socket::send(item.fd, item.parts),
        Err(_) => Err(io::Error::from_raw_os_error(-result)),
    }
}

/// Most bytes of one send; a count must fit the completion's `i32`.
const SIZE_MAX: usize = i32::MAX as usize;

#[cfg(test)]
#[expect(
    clippy::disallowed_types,
    reason = "the kernel is what is being tested here"
)]
mod tests {
    use super::*;
    use std::io::{IoSlice, Read};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_ring_that_the_kernel_refuses_is_given_up_without_losing_a_send() {
        let Ok(ring) = IoUring::new(8) else {
            eprintln!("skipped: no io_uring here");
            return;
        };
        let mut sender = Sender::new(ring);
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let other = std::fs::File::open("/dev/null").expect("a descriptor of another kind");
        // WHY: the one way to make the kernel refuse a ring that worked.
        // SAFETY: both descriptors are open; the ring's memory stays mapped, only its number now
        // means another file.
        let moved = unsafe { libc::dup2(other.as_raw_fd(), sender.ring.as_raw_fd()) };
        assert!(moved >= 0);

        let mut counters = Counters::default();
        for round in 0..2 {
            let parts = [IoSlice::new(b"ab"), IoSlice::new(b"c")];
            let mut batch = [
                Outgoing::new(ours.as_raw_fd(), &parts),
                Outgoing::new(ours.as_raw_fd(), &parts[1..]),
            ];
            sender.send(&mut batch, &mut counters);
            assert_eq!(batch[0].result.as_ref().ok(), Some(&3), "round {round}");
            assert_eq!(batch[1].result.as_ref().ok(), Some(&1), "round {round}");
        }
        assert!(sender.is_broken());
        assert_eq!(counters.sends, 4);
        assert_eq!(counters.send_calls, 5, "one refused enter, four direct");
        drop(ours);
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).expect("what was sent");
        assert_eq!(received, b"abccabcc");
    }
}
