//! What the loop may ask of the kernel, the same on io_uring and on epoll.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::socket::{self, Address};
use super::token::Token;

/// Most events that one [`Backend::wait`] reports.
///
/// Bounds the work between two looks at timers: 256 events of one 16 KiB record each are 4 MiB,
/// about 2 ms of a core.
pub const BATCH: usize = 256;

/// Readiness of one watched descriptor, reported on *edges*.
///
/// An edge is reported when something changed, also when the descriptor was ready before: bytes
/// that arrive behind unread bytes are an edge of their own. All flags show the state at the
/// time of the edge, so `writable` is nearly always set. A report may be spurious; the call it
/// allows then fails with `WouldBlock`. No edge is lost: after a `WouldBlock`, or a send that took
/// less than it was offered, the descriptor will be heard of again. The same holds for a read of a
/// stream socket that gave less than it was asked for, unless the socket was ever reported with
/// [`reads_short`](Self::reads_short): then read on until `WouldBlock` or the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What was passed to [`Backend::watch`].
    pub token: Token,
    /// `recv` (or `accept`) gives bytes, the end, or an error.
    pub readable: bool,
    /// `send` takes bytes or gives an error; a connect in progress has ended.
    pub writable: bool,
    /// The peer ended its direction (RDHUP), both are over (HUP), or there is an error (ERR).
    /// Bytes may still be waiting to be read.
    pub hangup: bool,
    /// Both are over, or there is an error: `send` takes nothing any more.
    pub gone: bool,
    /// There is a mark of urgent data, which no read goes beyond, whatever is behind it. Only epoll
    /// knows; io_uring reports a socket anew after such a read.
    pub urgent: bool,
}

impl Ready {
    /// Whether a read may from now on give less than there is: it stops at the mark of urgent data,
    /// and an end shows only when nothing is before it any more.
    pub fn reads_short(&self) -> bool {
        self.hangup || self.urgent
    }

    /// Reads the event bits, which have the same values in `poll(2)` and `epoll(7)`.
    pub(super) fn from_bits(token: Token, bits: u32) -> Self {
        let over = libc::EPOLLHUP | libc::EPOLLERR;
        let any = |mask: i32| bits & mask as u32 != 0;
        Ready {
            token,
            readable: any(libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLRDHUP | over),
            writable: any(libc::EPOLLOUT | over),
            hangup: any(libc::EPOLLRDHUP | over),
            gone: any(over),
            urgent: any(libc::EPOLLPRI),
        }
    }
}

/// One send of a batch: what to send where, and how it went.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// A connected stream socket. Two items of one batch may name the same one; they are sent
    /// in order, but a short send of the first does not hold back the second, so do not.
    pub fd: RawFd,
    /// Sent in order as if it were one buffer; at most 1_024 parts of it in one call.
    pub parts: &'a [IoSlice<'a>],
    /// Bytes taken by the socket, which may be fewer than offered; `WouldBlock` when none.
    /// Whatever is in here before the call is overwritten.
    pub result: io::Result<usize>,
}

impl<'a> Outgoing<'a> {
    /// An item that was not sent yet.
    pub fn new(fd: RawFd, parts: &'a [IoSlice<'a>]) -> Self {
        Outgoing {
            fd,
            parts,
            result: Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// How often each thing happened since the backend was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// System calls that waited for or asked about readiness.
    pub wait_calls: u64,
    /// System calls that changed what is watched and did nothing else.
    pub watch_calls: u64,
    /// System calls that sent; a whole batch may be one.
    pub send_calls: u64,
    /// Items sent, whatever came of them.
    pub sends: u64,
    /// Events (epoll) or completions (io_uring) taken from the kernel, sends not counted.
    pub completions: u64,
    /// Readiness that came for a watch already forgotten, and was dropped.
    pub late_completions: u64,
    /// Polls that the kernel ended on its own and that were armed again.
    pub rearms: u64,
    /// Waits that found more completions than the queue could hold.
    pub overflows: u64,
    /// Requests that had to be handed over early because the submission queue was full.
    pub submission_full: u64,
}

/// The loop's view of the kernel: edge-triggered readiness, direct reads, batched sends.
///
/// Contract: one thread uses a backend for its whole life, the one that opened it. Every socket
/// is non-blocking. A descriptor is watched at most once, and forgotten before it is closed.
/// Once per turn of the loop, after everything else, call [`wait`](Backend::wait): what was
/// watched or forgotten takes effect there at the latest.
pub trait Backend {
    /// `"io_uring"` or `"epoll"`, for logs and metrics.
    fn name(&self) -> &'static str;

    /// Starts to report edges of `fd` under `token`. The state at this moment counts as an edge.
    ///
    /// Errors: `AlreadyExists` when it is watched; what the kernel says of a descriptor that
    /// cannot be watched (io_uring says that only in the next `wait`, as a hangup).
    fn watch(&mut self, fd: RawFd, token: Token) -> io::Result<()>;

    /// [`watch`](Self::watch) for a socket that listens. Only its descriptors keep the socket alive, so the address of
    /// a process that is killed is free when the process is gone.
    ///
    /// Errors: those of `watch`.
    fn watch_listener(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        self.watch(fd, token)
    }

    /// Stops it. No later `wait` reports this watch, even if its descriptor number or its token
    /// is used again at once; events that an earlier `wait` has put into the caller's hands are
    /// the caller's to compare by generation. Unknown descriptors are ignored.
    fn forget(&mut self, fd: RawFd, token: Token);

    /// Sends each item once and fills in its `result`. Never blocks, never raises SIGPIPE, and
    /// when it returns the kernel has no interest in any of the buffers.
    fn send_batch(&mut self, batch: &mut [Outgoing<'_>]);

    /// Replaces `ready` by up to [`BATCH`] events; waits for the first one for `timeout`, or for
    /// as long as it takes when `None`.
    ///
    /// May return early with nothing ready: after a signal, after a `forget`, or some milliseconds
    /// after a read that gave less than it was asked for.
    ///
    /// Errors: only if the backend itself is broken; the loop cannot go on.
    fn wait(&mut self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()>;

    /// What happened so far.
    fn counters(&self) -> Counters;

    /// Opens a listener (address reuse on, backlog [`LISTEN_BACKLOG`](super::LISTEN_BACKLOG)).
    /// A Unix socket file that nobody listens on is replaced.
    fn listen(&mut self, address: &Address) -> io::Result<OwnedFd> {
        socket::listen(address)
    }

    /// Takes one waiting connection; `WouldBlock` when there is none.
    ///
    /// Any other error (no descriptors left, above all) leaves the connection in the queue
    /// *without a further edge*: try again after a while.
    fn accept(&mut self, listener: RawFd) -> io::Result<OwnedFd> {
        socket::accept(listener)
    }

    /// Starts a connection. Watch it; at its first edge ask [`connect_result`](Self::connect_result).
    ///
    /// Errors that are known at once are returned here, such as a Unix socket that nobody
    /// listens on, or whose queue is full (`WouldBlock`; nothing will report when it is not).
    fn connect(&mut self, address: &Address) -> io::Result<OwnedFd> {
        socket::connect(address)
    }

    /// How the connection attempt ended; `WouldBlock` while it has not.
    fn connect_result(&mut self, fd: RawFd) -> io::Result<()> {
        socket::connect_result(fd)
    }

    /// Reads what is there; `Ok(0)` is the peer's end (or an empty `buffer`).
    fn recv(&mut self, fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
        socket::recv(fd, buffer)
    }

    /// Ends one direction or both; unsent bytes still go out before the end does.
    fn shutdown(&mut self, fd: RawFd, how: Shutdown) -> io::Result<()> {
        socket::shutdown(fd, how)
    }

    /// Gives up an unwatched descriptor; unsent bytes still go out.
    fn close(&mut self, fd: OwnedFd) {
        drop(fd);
    }

    /// Forgets and closes.
    fn forget_and_close(&mut self, fd: OwnedFd, token: Token) {
        self.forget(fd.as_raw_fd(), token);
        self.close(fd);
    }

    /// Forgets and closes so that the peer sees a reset rather than an end (TCP; a Unix socket
    /// is closed as usual). Unsent bytes are dropped.
    fn forget_and_reset(&mut self, fd: OwnedFd, token: Token) {
        self.forget(fd.as_raw_fd(), token);
        socket::reset(fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_hangup_allows_the_call_that_shows_it() {
        let token = Token::new(1, 2, 3);
        let of = |bits: i32| {
            let ready = Ready::from_bits(token, bits as u32);
            assert_eq!(ready.gone, ready.hangup && ready.writable);
            (ready.readable, ready.writable, ready.hangup)
        };
        assert_eq!(of(0), (false, false, false));
        assert_eq!(of(libc::EPOLLIN), (true, false, false));
        assert_eq!(of(libc::EPOLLOUT), (false, true, false));
        assert_eq!(of(libc::EPOLLRDHUP), (true, false, true));
        assert_eq!(of(libc::EPOLLHUP), (true, true, true));
        assert_eq!(of(libc::EPOLLERR), (true, true, true));
    }

    #[test]
    fn poll_and_epoll_share_their_bits() {
        assert_eq!(i32::from(libc::POLLIN), libc::EPOLLIN);
        assert_eq!(i32::from(libc::POLLPRI), libc::EPOLLPRI);
        assert_eq!(i32::from(libc::POLLOUT), libc::EPOLLOUT);
        assert_eq!(i32::from(libc::POLLERR), libc::EPOLLERR);
        assert_eq!(i32::from(libc::POLLHUP), libc::EPOLLHUP);
        assert_eq!(i32::from(libc::POLLRDHUP), libc::EPOLLRDHUP);
    }
}
