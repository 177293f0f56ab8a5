//! `cargo bench -p adit-bench --bench backend`: what both backends of the loop cost beside the
//! kernel, without a tunnel.
//!
//! Held fixed: loopback TCP with `reno`; on each connection one message of 64 bytes goes to and
//! fro, both ends on one backend. A hop is one edge, one read and one send; the kernel's own work
//! for it is most of its time.

use adit_bench::{Case, measure, sockets};
use adit_engine::ring::{
    AnyBackend, Backend, IoChoice, Outgoing, Ready, Settings, Token, open, raise_descriptor_limit,
};
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

const SIZE: usize = 64;

/// Hops of one run.
const HOPS: usize = 2_000;

fn main() {
    raise_descriptor_limit();
    let mut criterion = measure::criterion();
    let mut cases = Vec::new();
    for choice in [IoChoice::Epoll, IoChoice::Uring] {
        if let Err(reason) = open(choice, &Settings::default()) {
            eprintln!("skipped: {reason}");
            continue;
        }
        for connections in [1, 64, 1_000] {
            cases.push(hops(choice, connections));
        }
    }
    measure::time(&mut criterion, &cases);
    criterion.final_summary();
}

fn hops(choice: IoChoice, connections: usize) -> Case {
    let kind = match choice {
        IoChoice::Epoll => "epoll",
        IoChoice::Uring => "io_uring",
        IoChoice::Auto => unreachable!("it is one of the two"),
    };
    let name = format!("backend/hop/{kind}/{connections}_conn/64_B");
    Case::new(name, HOPS, SIZE, move || {
        let mut ring = Ring::new(choice, connections);
        move || ring.hop(HOPS)
    })
}

struct Ring {
    backend: AnyBackend,
    sockets: Vec<OwnedFd>,
    ready: Vec<Ready>,
    arrived: Vec<RawFd>,
}

impl Ring {
    fn new(choice: IoChoice, connections: usize) -> Self {
        let mut backend = open(choice, &Settings::default()).expect("it was there before");
        let mut sockets = Vec::new();
        for _ in 0..connections {
            let (near, far) = sockets::pair().expect("a connection");
            for stream in [near, far] {
                stream.set_nonblocking(true).expect("non-blocking");
                sockets.push(OwnedFd::from(stream));
            }
        }
        for (index, socket) in sockets.iter().enumerate() {
            let token = Token::new(3, 1, index as u32);
            backend
                .watch(socket.as_raw_fd(), token)
                .expect("it can be watched");
        }
        let mut ring = Self {
            backend,
            arrived: sockets.iter().step_by(2).map(AsRawFd::as_raw_fd).collect(),
            sockets,
            ready: Vec::new(),
        };
        ring.send();
        ring
    }

    fn hop(&mut self, hops: usize) {
        let mut done = 0;
        while done < hops {
            self.receive();
            done += self.arrived.len();
            self.send();
        }
    }

    /// Waits, and notes where a message came.
    fn receive(&mut self) {
        let patience = Some(Duration::from_secs(10));
        self.backend
            .wait(&mut self.ready, patience)
            .expect("the backend works");
        assert!(!self.ready.is_empty(), "a message is lost");
        let mut buffer = [0; 2 * SIZE];
        for event in self.ready.iter().filter(|event| event.readable) {
            let fd = self.sockets[event.token.index() as usize].as_raw_fd();
            match self.backend.recv(fd, &mut buffer) {
                Ok(size) => {
                    assert_eq!(size, SIZE);
                    self.arrived.push(fd);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    /// Sends a message from wherever one came.
    fn send(&mut self) {
        let message = [7; SIZE];
        let parts = [IoSlice::new(&message)];
        let mut batch: Vec<Outgoing<'_>> = self
            .arrived
            .drain(..)
            .map(|fd| Outgoing::new(fd, &parts))
            .collect();
        self.backend.send_batch(&mut batch);
        for sent in batch {
            assert_eq!(sent.result.expect("it has room"), SIZE);
        }
    }
}
