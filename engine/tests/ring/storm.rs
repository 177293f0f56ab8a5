//! Everything at once, at random: no edge may be lost and no byte go to the wrong socket.

use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use adit_engine::ring::{AnyBackend, Backend, Ready, Token};

use crate::support::*;

const SLOTS: usize = 40;
const STEPS: usize = 6_000;

/// One connection: the peer writes a counted sequence, we read only when told to.
struct Slot {
    generation: u16,
    ours: OwnedFd,
    theirs: UnixStream,
    written: u64,
    read: u64,
}

impl Slot {
    fn open(generation: u16) -> Self {
        let (ours, theirs) = unix_pair();
        theirs.set_nonblocking(true).expect("settable");
        Slot {
            generation,
            ours,
            theirs,
            written: 0,
            read: 0,
        }
    }

    fn token(&self, index: usize) -> Token {
        Token::new(1, self.generation, index as u32)
    }

    fn write(&mut self, count: usize) {
        let bytes: Vec<u8> = (0..count as u64)
            .map(|i| (self.written + i) as u8)
            .collect();
        match self.theirs.write(&bytes) {
            Ok(count) => self.written += count as u64,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }

    fn read(&mut self, backend: &mut AnyBackend) {
        let mut bytes = Vec::new();
        assert!(drain(backend, self.ours.as_raw_fd(), &mut bytes));
        for byte in bytes {
            assert_eq!(byte, self.read as u8);
            self.read += 1;
        }
    }
}

on_every_backend! {
    a_storm_loses_no_edge,
}

fn a_storm_loses_no_edge(backend: &mut AnyBackend) {
    let seed = std::env::var("ADIT_SEED").map_or(0x5eed, |seed| seed.parse().expect("a number"));
    eprintln!("ADIT_SEED={seed}");
    let mut random = Random(seed);
    let mut slots: Vec<_> = (0..SLOTS).map(|_| Slot::open(0)).collect();
    for (index, slot) in slots.iter().enumerate() {
        backend
            .watch(slot.ours.as_raw_fd(), slot.token(index))
            .expect("watched");
    }
    let mut ready = Vec::new();
    for _ in 0..STEPS {
        let index = random.below(SLOTS);
        match random.below(100) {
            0..60 => {
                let count = 1 + random.below(2_000);
                slots[index].write(count);
            }
            60..70 => replace(backend, &mut slots, index),
            70..75 => rewatch(backend, &mut slots, index),
            _ => {
                let timeout = Duration::from_millis(random.below(2) as u64);
                backend.wait(&mut ready, Some(timeout)).expect("wait works");
                read_ready(backend, &mut slots, &ready);
            }
        }
    }
    let deadline = Instant::now() + LONG;
    while slots.iter().any(|slot| slot.read < slot.written) {
        assert!(Instant::now() < deadline, "an edge was lost");
        backend
            .wait(&mut ready, Some(Duration::from_secs(1)))
            .expect("wait works");
        read_ready(backend, &mut slots, &ready);
    }
}

/// Reads what the events name; an event of a slot's past must not come after its end.
fn read_ready(backend: &mut AnyBackend, slots: &mut [Slot], ready: &[Ready]) {
    for event in ready {
        let index = event.token.index() as usize;
        assert_eq!(event.token, slots[index].token(index), "a stale event");
        assert!(!event.hangup, "no peer of a live slot is gone");
        if event.readable {
            slots[index].read(backend);
        }
    }
}

/// Closes a connection, with whatever is unread, and opens another in its place.
fn replace(backend: &mut AnyBackend, slots: &mut [Slot], index: usize) {
    let generation = slots[index].generation.wrapping_add(1);
    let token = slots[index].token(index);
    // The old pair goes first, so that the new one gets its numbers.
    let spare = Slot::open(generation);
    let old = std::mem::replace(&mut slots[index], spare);
    backend.forget_and_close(old.ours, token);
    drop(old.theirs);
    let slot = &mut slots[index];
    *slot = Slot::open(generation);
    backend
        .watch(slot.ours.as_raw_fd(), slot.token(index))
        .expect("watched");
}

/// Forgets a connection and watches it again under another token; unread bytes are reported anew.
fn rewatch(backend: &mut AnyBackend, slots: &mut [Slot], index: usize) {
    let slot = &mut slots[index];
    backend.forget(slot.ours.as_raw_fd(), slot.token(index));
    slot.generation = slot.generation.wrapping_add(1);
    backend
        .watch(slot.ours.as_raw_fd(), slot.token(index))
        .expect("watched");
}
