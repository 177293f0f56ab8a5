//! Rings too small for what happens: slower, but nothing is lost and it ends.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use adit_engine::ring::{Address, AnyBackend, Backend, Ready, Token};

use crate::support::*;

const SOCKETS: u32 = 300;

on_every_backend! {
    three_hundred_sockets_at_once_all_report,
    idle_watches_are_all_armed_before_it_sleeps,
}

fn three_hundred_sockets_at_once_all_report(backend: &mut AnyBackend) {
    let mut pairs: Vec<_> = (0..SOCKETS).map(|_| unix_pair()).collect();
    for (index, (ours, _)) in pairs.iter().enumerate() {
        backend
            .watch(ours.as_raw_fd(), token(index as u32))
            .expect("watched");
    }
    wait_for_all(backend, |event| event.writable);
    for _ in 0..5 {
        settle(backend);
        for (_, theirs) in &mut pairs {
            theirs.write_all(b"x").expect("room");
        }
        wait_for_all(backend, |event| event.readable);
        for (ours, _) in &pairs {
            assert_eq!(
                backend.recv(ours.as_raw_fd(), &mut [0; 9]).expect("a byte"),
                1
            );
        }
    }
    for (index, (ours, _)) in pairs.iter().enumerate() {
        backend.forget(ours.as_raw_fd(), token(index as u32));
    }
    assert_eq!(settle(backend), []);
    let counters = backend.counters();
    if backend.name() == "epoll" {
        assert_eq!(
            counters.rearms + counters.overflows + counters.submission_full,
            0
        );
    }
}

#[test]
fn a_tiny_ring_takes_the_rare_ways_and_comes_to_rest() {
    run(Shape::Tiny, |backend| {
        let mut pairs: Vec<_> = (0..SOCKETS).map(|_| unix_pair()).collect();
        for (index, (ours, _)) in pairs.iter().enumerate() {
            backend
                .watch(ours.as_raw_fd(), token(index as u32))
                .expect("watched");
        }
        wait_for_all(backend, |event| event.writable);
        for (_, theirs) in &mut pairs {
            theirs.write_all(b"x").expect("room");
        }
        wait_for_all(backend, |event| event.readable);
        settle(backend);
        let rested = backend.counters();
        assert!(rested.overflows > 0, "{rested:?}");
        assert!(rested.rearms > 0, "{rested:?}");
        // Armed in portions that fit, each poll is lost once or twice; all at once, 20 times.
        assert!(rested.rearms < 5 * u64::from(SOCKETS), "{rested:?}");
        // At rest: all polls stay armed although every socket is still ready both ways.
        assert_eq!(settle(backend), []);
        assert_eq!(backend.counters().rearms, rested.rearms);

        for (index, (ours, _)) in pairs.iter().enumerate() {
            backend.forget(ours.as_raw_fd(), token(index as u32));
        }
        settle(backend);
        assert!(backend.counters().submission_full > rested.submission_full);
    });
}

/// Idle listeners are ready for nothing, so that arming them brings no completion that would
/// keep the wait awake.
fn idle_watches_are_all_armed_before_it_sleeps(backend: &mut AnyBackend) {
    let directory = tempfile::tempdir().expect("a directory");
    let addresses: Vec<_> = (0..40)
        .map(|index| Address::Unix(directory.path().join(index.to_string())))
        .collect();
    let mut listeners = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let listener = backend.listen(address).expect("listening");
        backend
            .watch(listener.as_raw_fd(), token(index as u32))
            .expect("watched");
        listeners.push(listener);
    }
    let address = addresses[39].clone();
    let client = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        let Address::Unix(path) = address else {
            unreachable!("they are all Unix sockets")
        };
        UnixStream::connect(path).expect("somebody listens")
    });
    let mut ready = Vec::new();
    let start = Instant::now();
    while ready.is_empty() {
        backend.wait(&mut ready, Some(LONG)).expect("wait works");
        assert!(start.elapsed() < LONG);
    }
    assert_eq!(ready[0].token, token(39));
    client.join().expect("no panic");
}

/// Until every one of the sockets had an event that satisfies `wanted`.
fn wait_for_all(backend: &mut AnyBackend, wanted: impl Fn(&Ready) -> bool) {
    let mut missing: BTreeSet<u32> = (0..SOCKETS).collect();
    let mut ready = Vec::new();
    let deadline = Instant::now() + LONG;
    while !missing.is_empty() {
        backend.wait(&mut ready, Some(LONG)).expect("wait works");
        assert!(Instant::now() < deadline, "missing {missing:?}");
        for event in ready.iter().filter(|event| wanted(event)) {
            assert_eq!(event.token, Token::new(3, 1, event.token.index()));
            missing.remove(&event.token.index());
        }
    }
}
