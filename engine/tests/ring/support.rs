//! Running a scenario on every backend, and the few things that all scenarios need.

use std::io::{self, IoSlice};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use adit_engine::ring::{
    AnyBackend, Backend, IoChoice, Outgoing, ProbeError, Ready, Settings, TaskRun, Token, open,
};

/// Turns each of the named scenarios into one test per backend.
macro_rules! on_every_backend {
    ($($scenario:ident,)*) => {$(
        mod $scenario {
            use crate::support::{Shape, run};

            #[test]
            fn epoll() {
                run(Shape::Epoll, super::$scenario);
            }

            #[test]
            fn uring_deferred() {
                run(Shape::Deferred, super::$scenario);
            }

            #[test]
            fn uring_cooperative() {
                run(Shape::Cooperative, super::$scenario);
            }

            #[test]
            fn uring_interrupting() {
                run(Shape::Interrupting, super::$scenario);
            }

            #[test]
            fn uring_tiny() {
                run(Shape::Tiny, super::$scenario);
            }
        }
    )*};
}

/// The backends that a scenario runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Epoll,
    Deferred,
    Cooperative,
    Interrupting,
    /// Four requests, eight completions, four sends.
    Tiny,
}

pub(crate) fn run(shape: Shape, scenario: fn(&mut AnyBackend)) {
    match open_shape(shape) {
        Ok(mut backend) => scenario(&mut backend),
        Err(reason @ ProbeError::Refused { .. })
            if std::env::var_os("ADIT_REQUIRE_URING").is_none() =>
        {
            eprintln!("skipped: {reason}");
        }
        Err(reason) => panic!("{reason}"),
    }
}

pub(crate) fn open_shape(shape: Shape) -> Result<AnyBackend, ProbeError> {
    let mut settings = Settings::default();
    let choice = match shape {
        Shape::Epoll => IoChoice::Epoll,
        _ => IoChoice::Uring,
    };
    let task_run = match shape {
        Shape::Cooperative => TaskRun::Cooperative,
        Shape::Interrupting => TaskRun::Interrupting,
        Shape::Epoll | Shape::Deferred | Shape::Tiny => TaskRun::Deferred,
    };
    settings.task_run = task_run;
    if shape == Shape::Tiny {
        settings.submission_entries = 4;
        settings.completion_entries = 8;
        settings.send_entries = 4;
    }
    open(choice, &settings)
}

/// No wait of a test takes this long unless it would never end.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) const fn token(index: u32) -> Token {
    Token::new(3, 1, index)
}

/// A TCP connection over loopback: our end, non-blocking, and the peer's, blocking with a limit.
pub(crate) fn tcp_pair(backend: &mut AnyBackend) -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").into();
    let ours = backend.connect(&address).expect("loopback connects");
    let (theirs, _) = listener.accept().expect("our connection");
    theirs.set_read_timeout(Some(LONG)).expect("a limit");
    theirs.set_nodelay(true).expect("no delay");
    (ours, theirs)
}

/// The same over a Unix socket.
pub(crate) fn unix_pair() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("non-blocking");
    theirs.set_read_timeout(Some(LONG)).expect("a limit");
    (ours.into(), theirs)
}

/// Waits until an event of `token` satisfies `wanted`.
pub(crate) fn wait_for(
    backend: &mut AnyBackend,
    token: Token,
    wanted: impl Fn(&Ready) -> bool,
) -> Ready {
    let deadline = Instant::now() + LONG;
    let mut ready = Vec::new();
    loop {
        backend.wait(&mut ready, Some(LONG)).expect("wait works");
        if let Some(event) = ready.iter().find(|e| e.token == token && wanted(e)) {
            return *event;
        }
        assert!(Instant::now() < deadline, "no such event of {token:?}");
    }
}

/// Takes all events until none has come for a while.
pub(crate) fn settle(backend: &mut AnyBackend) -> Vec<Ready> {
    let mut all = Vec::new();
    let mut ready = Vec::new();
    let mut empty_in_a_row = 0;
    while empty_in_a_row < 4 {
        let pause = Some(Duration::from_millis(10));
        backend.wait(&mut ready, pause).expect("wait works");
        empty_in_a_row = if ready.is_empty() {
            empty_in_a_row + 1
        } else {
            0
        };
        all.append(&mut ready);
        assert!(all.len() < 100_000, "events without end");
    }
    all
}

/// Sends one buffer in a batch of its own.
pub(crate) fn send(backend: &mut AnyBackend, fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let parts = [IoSlice::new(bytes)];
    let mut batch = [Outgoing::new(fd, &parts)];
    backend.send_batch(&mut batch);
    let [item] = batch;
    item.result
}

/// Sends until the socket takes no more; how much it took.
pub(crate) fn fill(backend: &mut AnyBackend, socket: &OwnedFd) -> usize {
    let bytes = vec![7; 64 * 1024];
    let mut total = 0;
    loop {
        match send(backend, socket.as_raw_fd(), &bytes) {
            Ok(count) => total += count,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                return total;
            }
        }
    }
}

/// Reads until `WouldBlock` (`true`) or the end (`false`).
pub(crate) fn drain(backend: &mut AnyBackend, fd: RawFd, into: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match backend.recv(fd, &mut buffer) {
            Ok(0) => return false,
            Ok(count) => into.extend_from_slice(&buffer[..count]),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                return true;
            }
        }
    }
}

/// A seeded stream of numbers (splitmix64), so that a failing run can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
