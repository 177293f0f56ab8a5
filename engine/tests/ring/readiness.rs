//! What counts as an edge, and that none is lost.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use adit_engine::ring::{AnyBackend, Backend};
use socket2::SockRef;

use crate::support::*;

const TOKEN: adit_engine::ring::Token = token(1);

on_every_backend! {
    a_new_watch_reports_the_state_it_finds,
    arriving_bytes_are_an_edge_and_one_only,
    bytes_behind_unread_bytes_are_an_edge_too,
    ordinary_bytes_are_not_reported_as_urgent,
    what_is_behind_urgent_data_is_heard_of,
    room_after_a_full_socket_is_an_edge,
    a_short_send_is_followed_by_an_edge,
    a_transfer_driven_by_edges_alone_never_stalls,
    the_peers_end_is_a_hangup_behind_its_last_bytes,
    a_reset_is_a_hangup_and_an_error,
    a_unix_peer_that_is_gone_is_a_hangup,
}

fn a_new_watch_reports_the_state_it_finds(backend: &mut AnyBackend) {
    let (idle, _peer) = tcp_pair(backend);
    let (waiting, mut writer) = unix_pair();
    writer.write_all(b"early").expect("room");
    backend.watch(idle.as_raw_fd(), TOKEN).expect("watched");
    backend
        .watch(waiting.as_raw_fd(), token(2))
        .expect("watched");

    let events = settle(backend);
    let idle = events.iter().find(|e| e.token == TOKEN).expect("an event");
    assert!(idle.writable && !idle.readable && !idle.hangup, "{idle:?}");
    let waiting = events
        .iter()
        .find(|e| e.token == token(2))
        .expect("an event");
    assert!(
        waiting.writable && waiting.readable && !waiting.hangup,
        "{waiting:?}"
    );
}

fn arriving_bytes_are_an_edge_and_one_only(backend: &mut AnyBackend) {
    let (ours, mut theirs) = tcp_pair(backend);
    backend.watch(ours.as_raw_fd(), TOKEN).expect("watched");
    settle(backend);
    for round in 0..20 {
        theirs.write_all(&[round]).expect("room");
        wait_for(backend, TOKEN, |e| e.readable && !e.hangup);
        let mut bytes = Vec::new();
        assert!(drain(backend, ours.as_raw_fd(), &mut bytes));
        assert_eq!(bytes, [round]);
    }
    assert_eq!(settle(backend), []);
}

/// Or each read would be followed by one that finds nothing.
fn ordinary_bytes_are_not_reported_as_urgent(backend: &mut AnyBackend) {
    let (ours, mut theirs) = tcp_pair(backend);
    backend.watch(ours.as_raw_fd(), TOKEN).expect("watched");
    settle(backend);
    for round in 0..20 {
        theirs.write_all(&[round]).expect("room");
        let event = wait_for(backend, TOKEN, |e| e.readable);
        assert!(!event.reads_short(), "{event:?}");
    }
}

/// By the rule of [`Ready`](adit_engine::ring::Ready): a read that gives less is the last one, unless the socket was
/// said to read short.
fn what_is_behind_urgent_data_is_heard_of(backend: &mut AnyBackend) {
    let (ours, mut theirs) = tcp_pair(backend);
    backend.watch(ours.as_raw_fd(), TOKEN).expect("watched");
    settle(backend);
    let mut reads_short = false;
    for _ in 0..20 {
        theirs.write_all(b"before").expect("room");
        let sent = SockRef::from(&theirs).send_out_of_band(b"!");
        assert_eq!(sent.expect("room"), 1);
        theirs.write_all(b"behind").expect("room");
        let mut bytes = Vec::new();
        while bytes.len() < 13 {
            let event = wait_for(backend, TOKEN, |e| e.readable);
            reads_short |= event.reads_short();
            if reads_short {
                drain(backend, ours.as_raw_fd(), &mut bytes);
                continue;
            }
            let mut buffer = [0; 64];
            if let Ok(count) = backend.recv(ours.as_raw_fd(), &mut buffer) {
                bytes.extend_from_slice(&buffer[..count]);
            }
        }
        assert_eq!(bytes, b"before!behind");
    }
}

fn bytes_behind_unread_bytes_are_an_edge_too(backend: &mut AnyBackend) {
    let (tcp, mut tcp_peer) = tcp_pair(backend);
    let (unix, mut unix_peer) = unix_pair();
    backend.watch(tcp.as_raw_fd(), token(1)).expect("watched");
    backend.watch(unix.as_raw_fd(), token(2)).expect("watched");
    settle(backend);
    for _ in 0..10 {
        tcp_peer.write_all(b"x").expect("room");
        unix_peer.write_all(b"x").expect("room");
        let events = settle(backend);
        for token in [token(1), token(2)] {
            assert!(
                events.iter().any(|e| e.token == token && e.readable),
                "{token:?}"
            );
        }
        // Unread bytes alone are no edge.
        assert_eq!(settle(backend), []);
    }
    for fd in [tcp.as_raw_fd(), unix.as_raw_fd()] {
        let mut bytes = Vec::new();
        drain(backend, fd, &mut bytes);
        assert_eq!(bytes, b"xxxxxxxxxx");
    }
}

fn room_after_a_full_socket_is_an_edge(backend: &mut AnyBackend) {
    let (tcp, mut tcp_peer) = tcp_pair(backend);
    let (unix, mut unix_peer) = unix_pair();
    SockRef::from(&tcp)
        .set_send_buffer_size(64 * 1024)
        .expect("a small buffer");
    backend.watch(tcp.as_raw_fd(), token(1)).expect("watched");
    backend.watch(unix.as_raw_fd(), token(2)).expect("watched");
    settle(backend);
    for _ in 0..3 {
        let (in_tcp, in_unix) = (fill(backend, &tcp), fill(backend, &unix));
        let early = settle(backend);
        // The kernel may move bytes from our queue to the peer's and so make room once more.
        let more = if early.is_empty() {
            0
        } else {
            fill(backend, &tcp)
        };
        assert_eq!(fill(backend, &unix), 0);

        tcp_peer
            .read_exact(&mut vec![0; in_tcp + more])
            .expect("what was sent");
        wait_for(backend, token(1), |e| e.writable);
        unix_peer
            .read_exact(&mut vec![0; in_unix])
            .expect("what was sent");
        wait_for(backend, token(2), |e| e.writable);
    }
}

fn a_short_send_is_followed_by_an_edge(backend: &mut AnyBackend) {
    let (tcp, mut tcp_peer) = tcp_pair(backend);
    let (unix, mut unix_peer) = unix_pair();
    SockRef::from(&tcp)
        .set_send_buffer_size(64 * 1024)
        .expect("a small buffer");
    let bytes = vec![7; 64 << 20];
    for (fd, peer) in [
        (tcp.as_raw_fd(), &mut tcp_peer as &mut dyn Read),
        (unix.as_raw_fd(), &mut unix_peer),
    ] {
        backend.watch(fd, TOKEN).expect("watched");
        settle(backend);
        let taken = send(backend, fd, &bytes).expect("some room");
        assert!(taken < bytes.len());
        // The kernel may move bytes on to the peer's queue, and the edge comes before reading.
        let early = settle(backend);
        peer.read_exact(&mut vec![0; taken]).expect("what was sent");
        if !early.iter().any(|event| event.writable) {
            wait_for(backend, TOKEN, |event| event.writable);
        }
        backend.forget(fd, TOKEN);
    }
}

/// Also with the kernel's unsent queue kept short, where the edge comes not from freed memory but
/// from bytes that went on their way.
fn a_transfer_driven_by_edges_alone_never_stalls(backend: &mut AnyBackend) {
    const SIZE: usize = 16 << 20;
    for unsent_mark in [None, Some(128 * 1024), Some(4 * 1024)] {
        let (ours, mut theirs) = tcp_pair(backend);
        if let Some(mark) = unsent_mark {
            let ours = SockRef::from(&ours);
            ours.set_tcp_notsent_lowat(mark).expect("settable");
        }
        let reader = std::thread::spawn(move || {
            let mut total = 0;
            let mut buffer = vec![0; 100_000];
            loop {
                match theirs.read(&mut buffer).expect("more or the end") {
                    0 => return total,
                    count => total += count,
                }
            }
        });
        let bytes = vec![7; 64 * 1024];
        let mut left = SIZE;
        backend.watch(ours.as_raw_fd(), TOKEN).expect("watched");
        while left > 0 {
            wait_for(backend, TOKEN, |event| event.writable);
            // Until a short send or `WouldBlock`: each of them promises an edge.
            loop {
                let offer = &bytes[..bytes.len().min(left)];
                let taken = send(backend, ours.as_raw_fd(), offer).unwrap_or(0);
                left -= taken;
                if taken < bytes.len() {
                    break;
                }
            }
        }
        backend.forget_and_close(ours, TOKEN);
        settle(backend);
        assert_eq!(reader.join().expect("no panic"), SIZE, "{unsent_mark:?}");
    }
}

fn the_peers_end_is_a_hangup_behind_its_last_bytes(backend: &mut AnyBackend) {
    let (ours, mut theirs) = tcp_pair(backend);
    backend.watch(ours.as_raw_fd(), TOKEN).expect("watched");
    settle(backend);
    theirs.write_all(b"last").expect("room");
    theirs.shutdown(Shutdown::Write).expect("open");
    wait_for(backend, TOKEN, |e| e.readable && e.hangup);
    let mut bytes = Vec::new();
    assert!(
        !drain(backend, ours.as_raw_fd(), &mut bytes),
        "the end was reached"
    );
    assert_eq!(bytes, b"last");
    // The other direction goes on, and the ended one is not reported again and again.
    assert_eq!(send(backend, ours.as_raw_fd(), b"answer").expect("room"), 6);
    settle(backend);
    assert_eq!(settle(backend), []);
    backend
        .shutdown(ours.as_raw_fd(), Shutdown::Write)
        .expect("open");
    let mut answer = String::new();
    theirs.read_to_string(&mut answer).expect("our end");
    assert_eq!(answer, "answer");
    // Both directions are over.
    let events = settle(backend);
    assert!(
        events.iter().all(|e| e.token == TOKEN && e.hangup),
        "{events:?}"
    );
    let before = backend.counters();
    assert_eq!(settle(backend), []);
    assert_eq!(
        backend.counters().rearms,
        before.rearms,
        "no poll goes round in circles"
    );
}

fn a_reset_is_a_hangup_and_an_error(backend: &mut AnyBackend) {
    let (ours, theirs) = tcp_pair(backend);
    backend.watch(ours.as_raw_fd(), TOKEN).expect("watched");
    settle(backend);
    SockRef::from(&theirs)
        .set_linger(Some(std::time::Duration::ZERO))
        .expect("settable");
    drop(theirs);
    wait_for(backend, TOKEN, |e| e.readable && e.writable && e.hangup);
    let error = backend
        .recv(ours.as_raw_fd(), &mut [0; 8])
        .expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    settle(backend);
    let before = backend.counters();
    assert_eq!(settle(backend), []);
    assert_eq!(
        backend.counters().rearms,
        before.rearms,
        "no poll goes round in circles"
    );
}

fn a_unix_peer_that_is_gone_is_a_hangup(backend: &mut AnyBackend) {
    let (ours, theirs) = unix_pair();
    backend.watch(ours.as_raw_fd(), TOKEN).expect("watched");
    settle(backend);
    drop(theirs);
    wait_for(backend, TOKEN, |e| e.readable && e.hangup);
    assert_eq!(
        backend
            .recv(ours.as_raw_fd(), &mut [0; 8])
            .expect("the end"),
        0
    );
    let error = send(backend, ours.as_raw_fd(), b"x").expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}
