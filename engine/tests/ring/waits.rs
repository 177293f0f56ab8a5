//! How long a wait takes, and how another thread ends it.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use adit_engine::ring::{AnyBackend, Backend, Ready, WakeSource};

use crate::support::*;

const WAKE: adit_engine::ring::Token = token(7);

on_every_backend! {
    a_wait_takes_as_long_as_it_was_told,
    a_wait_of_no_time_does_not_sleep,
    the_longest_timeout_is_taken,
    another_thread_ends_a_wait_without_end,
    ten_thousand_wakes_announce_ten_thousand_messages,
}

fn a_wait_takes_as_long_as_it_was_told(backend: &mut AnyBackend) {
    let mut ready = Vec::new();
    for millis in [1, 20, 50] {
        let timeout = Duration::from_millis(millis);
        let start = Instant::now();
        backend.wait(&mut ready, Some(timeout)).expect("wait works");
        assert!(
            start.elapsed() >= timeout,
            "{:?} of {timeout:?}",
            start.elapsed()
        );
        assert!(start.elapsed() < LONG);
        assert_eq!(ready, []);
    }
}

fn a_wait_of_no_time_does_not_sleep(backend: &mut AnyBackend) {
    let start = Instant::now();
    let mut ready = Vec::new();
    for _ in 0..1000 {
        backend
            .wait(&mut ready, Some(Duration::ZERO))
            .expect("wait works");
    }
    // A millisecond each would already be a second.
    assert!(start.elapsed() < Duration::from_millis(900));
}

fn the_longest_timeout_is_taken(backend: &mut AnyBackend) {
    let source = WakeSource::new().expect("an eventfd");
    backend.watch(source.fd(), WAKE).expect("watched");
    source.waker().wake();
    let mut ready = Vec::new();
    while ready.is_empty() {
        backend
            .wait(&mut ready, Some(Duration::MAX))
            .expect("wait works");
    }
    assert_eq!(ready[0].token, WAKE);
}

fn another_thread_ends_a_wait_without_end(backend: &mut AnyBackend) {
    let source = WakeSource::new().expect("an eventfd");
    backend.watch(source.fd(), WAKE).expect("watched");
    for _ in 0..5 {
        let waker = source.waker();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(10));
            waker.wake();
        });
        let mut ready: Vec<Ready> = Vec::new();
        while !ready
            .iter()
            .any(|event| event.token == WAKE && event.readable)
        {
            backend.wait(&mut ready, None).expect("wait works");
        }
        assert!(source.acknowledge());
        thread.join().expect("no panic");
    }
    assert_eq!(settle(backend), []);
}

fn ten_thousand_wakes_announce_ten_thousand_messages(backend: &mut AnyBackend) {
    const THREADS: usize = 4;
    const EACH: usize = 2_500;
    let source = WakeSource::new().expect("an eventfd");
    backend.watch(source.fd(), WAKE).expect("watched");
    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (sender, waker) = (sender.clone(), source.waker());
            thread::spawn(move || {
                for number in 0..EACH {
                    sender.send(number).expect("the receiver lives");
                    waker.wake();
                    if number % 64 == 0 {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut received = 0;
    let mut ready = Vec::new();
    let deadline = Instant::now() + LONG;
    while received < THREADS * EACH {
        // A lost wake would leave messages behind and make this wait end empty-handed.
        backend.wait(&mut ready, Some(LONG)).expect("wait works");
        assert!(Instant::now() < deadline, "{received} received");
        if ready.iter().any(|event| event.token == WAKE) {
            source.acknowledge();
            received += receiver.try_iter().count();
        }
    }
    for thread in threads {
        thread.join().expect("no panic");
    }
}
