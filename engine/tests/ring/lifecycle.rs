//! The end of a watch and of its socket, and what may come after it.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use adit_engine::ring::{AnyBackend, Backend, Ready, Token};

use crate::support::*;

on_every_backend! {
    what_is_forgotten_is_not_reported,
    a_watch_forgotten_before_any_wait_leaves_no_trace,
    a_descriptor_is_watched_once,
    a_descriptor_watched_again_reports_its_state_again,
    a_reused_number_hears_nothing_of_its_past,
    the_peer_sees_the_end_in_the_turn_of_the_close,
    an_end_is_not_delayed_by_a_wait_that_sleeps,
    a_reset_reaches_the_peer_as_one,
}

fn what_is_forgotten_is_not_reported(backend: &mut AnyBackend) {
    let (ours, mut theirs) = tcp_pair(backend);
    backend.watch(ours.as_raw_fd(), token(1)).expect("watched");
    settle(backend);
    theirs.write_all(b"x").expect("room");
    backend.forget(ours.as_raw_fd(), token(1));
    theirs.write_all(b"y").expect("room");
    assert_eq!(settle(backend), []);
    drop(theirs);
    assert_eq!(settle(backend), []);
}

fn a_watch_forgotten_before_any_wait_leaves_no_trace(backend: &mut AnyBackend) {
    let (ours, _theirs) = tcp_pair(backend);
    backend.watch(ours.as_raw_fd(), token(1)).expect("watched");
    backend.forget(ours.as_raw_fd(), token(1));
    backend.forget(ours.as_raw_fd(), token(1));
    backend.watch(ours.as_raw_fd(), token(2)).expect("watched");
    let events = settle(backend);
    assert!(!events.is_empty());
    assert!(
        events.iter().all(|event| event.token == token(2)),
        "{events:?}"
    );
}

fn a_descriptor_is_watched_once(backend: &mut AnyBackend) {
    let (ours, _theirs) = tcp_pair(backend);
    backend.watch(ours.as_raw_fd(), token(1)).expect("watched");
    let error = backend
        .watch(ours.as_raw_fd(), token(2))
        .expect_err("twice");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let error = backend.watch(-1, token(3)).expect_err("no descriptor");
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    let events = settle(backend);
    assert!(
        events.iter().all(|event| event.token == token(1)),
        "{events:?}"
    );
}

fn a_descriptor_watched_again_reports_its_state_again(backend: &mut AnyBackend) {
    let (ours, mut theirs) = tcp_pair(backend);
    theirs.write_all(b"unread").expect("room");
    for generation in 0..10 {
        let token = Token::new(1, generation, 1);
        backend.watch(ours.as_raw_fd(), token).expect("watched");
        wait_for(backend, token, |event| event.readable);
        backend.forget(ours.as_raw_fd(), token);
    }
    assert_eq!(settle(backend), []);
}

fn a_reused_number_hears_nothing_of_its_past(backend: &mut AnyBackend) {
    let mut ready = Vec::new();
    let mut reused = 0;
    let (mut ours, mut theirs) = unix_pair();
    for generation in 0..200 {
        let token = Token::new(1, generation, 1);
        backend.watch(ours.as_raw_fd(), token).expect("watched");
        if generation % 2 == 0 {
            backend
                .wait(&mut ready, Some(Duration::ZERO))
                .expect("wait works");
        }
        // An edge that the kernel may have seen but nobody has taken.
        theirs.write_all(b"past").expect("room");
        let number = ours.as_raw_fd();
        backend.forget_and_close(ours, token);
        drop(theirs);

        (ours, theirs) = unix_pair();
        reused += usize::from(ours.as_raw_fd() == number);
        let next = Token::new(1, generation + 1, 1);
        backend.watch(ours.as_raw_fd(), next).expect("watched");
        for event in settle_briefly(backend) {
            assert_eq!(event.token, next);
            assert!(
                event.writable && !event.readable && !event.hangup,
                "{event:?}"
            );
        }
        backend.forget(ours.as_raw_fd(), next);
    }
    // Other tests of this process open descriptors too, so not always, but often.
    assert!(reused > 20, "{reused}");
}

fn the_peer_sees_the_end_in_the_turn_of_the_close(backend: &mut AnyBackend) {
    let mut ready = Vec::new();
    let (tcp, mut tcp_peer) = tcp_pair(backend);
    let (unix, mut unix_peer) = unix_pair();
    backend.watch(tcp.as_raw_fd(), token(1)).expect("watched");
    backend.watch(unix.as_raw_fd(), token(2)).expect("watched");
    settle(backend);
    send(backend, tcp.as_raw_fd(), b"bye").expect("room");
    backend.forget_and_close(tcp, token(1));
    backend.forget_and_close(unix, token(2));
    backend
        .wait(&mut ready, Some(Duration::ZERO))
        .expect("wait works");
    // No further wait: what has not left by now would never leave.
    let mut bytes = Vec::new();
    tcp_peer
        .read_to_end(&mut bytes)
        .expect("the end, not a timeout");
    assert_eq!(bytes, b"bye");
    assert_eq!(
        unix_peer.read(&mut [0; 1]).expect("the end, not a timeout"),
        0
    );
}

fn an_end_is_not_delayed_by_a_wait_that_sleeps(backend: &mut AnyBackend) {
    let (ours, mut theirs) = tcp_pair(backend);
    backend.watch(ours.as_raw_fd(), token(1)).expect("watched");
    settle(backend);
    let peer = std::thread::spawn(move || {
        let outcome = theirs.read(&mut [0; 1]);
        drop(theirs);
        outcome
    });
    backend.forget_and_close(ours, token(1));
    backend
        .wait(&mut Vec::new(), Some(Duration::from_millis(200)))
        .expect("wait works");
    assert_eq!(peer.join().expect("no panic").expect("the end"), 0);
}

fn a_reset_reaches_the_peer_as_one(backend: &mut AnyBackend) {
    let (ours, mut theirs) = tcp_pair(backend);
    backend.watch(ours.as_raw_fd(), token(1)).expect("watched");
    settle(backend);
    backend.forget_and_reset(ours, token(1));
    backend
        .wait(&mut Vec::new(), Some(Duration::ZERO))
        .expect("wait works");
    let error = theirs.read(&mut [0; 1]).expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// One turn is enough unless the completion queue is smaller than what happens in it.
#[test]
fn many_closes_in_one_turn_all_leave() {
    for shape in ROOMY {
        run(shape, |backend| close_three_hundred(backend, one_turn));
    }
    run(Shape::Tiny, |backend| {
        close_three_hundred(backend, |backend| drop(settle(backend)));
    });
}

fn close_three_hundred(backend: &mut AnyBackend, turn: impl Fn(&mut AnyBackend)) {
    let pairs: Vec<_> = (0..300).map(|_| tcp_pair(backend)).collect();
    for (index, (ours, _)) in pairs.iter().enumerate() {
        backend
            .watch(ours.as_raw_fd(), token(index as u32))
            .expect("watched");
    }
    settle(backend);
    let mut peers = Vec::new();
    for (index, (ours, theirs)) in pairs.into_iter().enumerate() {
        backend.forget_and_close(ours, token(index as u32));
        peers.push(theirs);
    }
    turn(backend);
    for theirs in &mut peers {
        let end = theirs.read(&mut [0; 1]).expect("the end, not a timeout");
        assert_eq!(end, 0);
    }
    assert_eq!(settle(backend), []);
    assert_eq!(backend.counters().late_completions, 0);
}

#[test]
fn closes_do_not_queue_behind_a_full_batch() {
    for shape in ROOMY {
        run(shape, |backend| close_behind_events(backend, one_turn));
    }
    run(Shape::Tiny, |backend| {
        close_behind_events(backend, |backend| drop(settle(backend)));
    });
}

fn close_behind_events(backend: &mut AnyBackend, turn: impl Fn(&mut AnyBackend)) {
    let mut pairs: Vec<_> = (0..350).map(|_| unix_pair()).collect();
    for (index, (ours, _)) in pairs.iter().enumerate() {
        backend
            .watch(ours.as_raw_fd(), token(index as u32))
            .expect("watched");
    }
    settle(backend);
    let closing = pairs.split_off(300);
    for (_, theirs) in &mut pairs {
        theirs.write_all(b"x").expect("room");
    }
    let mut peers = Vec::new();
    for (index, (ours, theirs)) in closing.into_iter().enumerate() {
        backend.forget_and_close(ours, token(300 + index as u32));
        peers.push(theirs);
    }
    turn(backend);
    for theirs in &mut peers {
        let end = theirs.read(&mut [0; 1]).expect("the end, not a timeout");
        assert_eq!(end, 0);
    }
}

/// Where the kernel posts completions as they happen, readiness can be in the queue when the
/// loop forgets the socket; epoll and deferred task work have no such gap.
#[test]
fn a_late_completion_is_dropped_and_counted() {
    run(Shape::Interrupting, |backend| {
        let (ours, mut theirs) = unix_pair();
        backend.watch(ours.as_raw_fd(), token(1)).expect("watched");
        settle(backend);
        theirs.write_all(b"x").expect("room");
        backend.forget(ours.as_raw_fd(), token(1));
        backend.watch(ours.as_raw_fd(), token(2)).expect("watched");
        let events = settle(backend);
        assert!(
            events.iter().all(|event| event.token == token(2)),
            "{events:?}"
        );
        assert_eq!(backend.counters().late_completions, 1);
    });
}

#[test]
fn sockets_outlive_their_backend() {
    for shape in ROOMY.into_iter().chain([Shape::Tiny]) {
        let Ok(mut backend) = open_shape(shape) else {
            continue;
        };
        let mut pairs: Vec<(OwnedFd, UnixStream)> = (0..20).map(|_| unix_pair()).collect();
        for (index, (ours, _)) in pairs.iter().enumerate() {
            backend
                .watch(ours.as_raw_fd(), token(index as u32))
                .expect("watched");
        }
        settle(&mut backend);
        drop(backend);
        let (ours, mut theirs) = pairs.pop().expect("twenty");
        UnixStream::from(ours)
            .write_all(b"still here")
            .expect("open");
        // Not a wait: the end must have come with the close.
        theirs.set_nonblocking(true).expect("settable");
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).expect("closed by now");
        assert_eq!(bytes, b"still here", "{shape:?}");
    }
}

const ROOMY: [Shape; 4] = [
    Shape::Epoll,
    Shape::Deferred,
    Shape::Cooperative,
    Shape::Interrupting,
];

/// The end of a turn of the loop.
fn one_turn(backend: &mut AnyBackend) {
    let mut ready = Vec::new();
    backend
        .wait(&mut ready, Some(Duration::ZERO))
        .expect("wait works");
    assert!(ready.len() <= adit_engine::ring::BATCH);
}

/// Everything that is due, without the pauses of `settle`.
fn settle_briefly(backend: &mut AnyBackend) -> Vec<Ready> {
    let mut all = Vec::new();
    let mut ready = Vec::new();
    for _ in 0..3 {
        backend
            .wait(&mut ready, Some(Duration::ZERO))
            .expect("wait works");
        all.append(&mut ready);
    }
    all
}
