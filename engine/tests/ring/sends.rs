//! Batches: every item is sent once, and none of them disturbs the others.

use std::io::{ErrorKind, IoSlice, Read};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use adit_engine::ring::{AnyBackend, Backend, Outgoing};
use socket2::SockRef;

use crate::support::*;

on_every_backend! {
    batches_of_every_size_arrive_whole,
    one_sick_socket_does_not_spoil_the_batch,
    a_full_socket_takes_a_part_and_then_nothing,
    buffers_are_ours_again_when_the_call_returns,
    items_of_one_socket_keep_their_order,
    more_parts_than_the_kernel_takes_are_a_short_send,
    nothing_to_send_is_sent,
    sends_are_counted,
}

fn batches_of_every_size_arrive_whole(backend: &mut AnyBackend) {
    for size in [0, 1, 2, 3, 4, 5, 63, 300] {
        let mut pairs: Vec<_> = (0..size).map(|_| tcp_pair(backend)).collect();
        let heads: Vec<_> = (0..size).map(|i| format!("<{i} of ")).collect();
        let tail = format!("{size}>");
        let parts: Vec<_> = heads
            .iter()
            .map(|head| [IoSlice::new(head.as_bytes()), IoSlice::new(tail.as_bytes())])
            .collect();
        let mut batch: Vec<_> = pairs
            .iter()
            .zip(&parts)
            .map(|((ours, _), parts)| Outgoing::new(ours.as_raw_fd(), parts))
            .collect();
        backend.send_batch(&mut batch);
        for (index, item) in batch.iter().enumerate() {
            let size = heads[index].len() + tail.len();
            assert_eq!(item.result.as_ref().expect("room"), &size);
        }
        drop(batch);
        for (index, (ours, mut theirs)) in pairs.drain(..).enumerate() {
            drop(ours);
            let mut text = String::new();
            theirs.read_to_string(&mut text).expect("our end");
            assert_eq!(text, format!("<{index} of {size}>"));
        }
    }
}

fn one_sick_socket_does_not_spoil_the_batch(backend: &mut AnyBackend) {
    let mut pairs: Vec<_> = (0..300).map(|_| tcp_pair(backend)).collect();
    for (index, pair) in pairs.iter_mut().enumerate() {
        make_sick(backend, pair, index);
    }
    let parts = [IoSlice::new(b"he"), IoSlice::new(b"llo")];
    let mut batch: Vec<_> = pairs
        .iter()
        .map(|(ours, _)| Outgoing::new(ours.as_raw_fd(), &parts))
        .collect();
    // A number that is no descriptor, and one that is no socket.
    let file = std::fs::File::open("/dev/null").expect("openable");
    batch.insert(100, Outgoing::new(-1, &parts));
    batch.insert(200, Outgoing::new(file.as_raw_fd(), &parts));
    backend.send_batch(&mut batch);
    let file = batch.remove(200).result.expect_err("not a socket");
    assert_eq!(file.raw_os_error(), Some(libc::ENOTSOCK));
    let nothing = batch.remove(100).result.expect_err("not a descriptor");
    assert_eq!(nothing.raw_os_error(), Some(libc::EBADF));
    for (index, item) in batch.iter().enumerate() {
        let outcome = item.result.as_ref().map_err(|error| error.kind());
        match index % 10 {
            3 => assert!(
                matches!(
                    outcome,
                    Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
                ),
                "{index}: {outcome:?}"
            ),
            5 => assert_eq!(outcome, Err(ErrorKind::WouldBlock), "{index}"),
            7 => assert_eq!(outcome, Err(ErrorKind::BrokenPipe), "{index}"),
            _ => assert_eq!(outcome, Ok(&5), "{index}"),
        }
    }
    drop(batch);
    for (index, (ours, mut theirs)) in pairs.into_iter().enumerate() {
        drop(ours);
        if !matches!(index % 10, 3 | 5 | 7) {
            let mut text = String::new();
            theirs.read_to_string(&mut text).expect("our end");
            assert_eq!(text, "hello", "{index}");
        }
    }
}

fn a_full_socket_takes_a_part_and_then_nothing(backend: &mut AnyBackend) {
    let (ours, mut theirs) = tcp_pair(backend);
    SockRef::from(&ours)
        .set_send_buffer_size(64 * 1024)
        .expect("a small buffer");
    let bytes: Vec<u8> = (0..16 << 20).map(|i: u32| (i ^ (i >> 8)) as u8).collect();
    let (front, back) = bytes.split_at(1000);
    let parts = [IoSlice::new(front), IoSlice::new(back)];
    let (other, mut other_peer) = tcp_pair(backend);
    let small = [IoSlice::new(b"small")];
    let mut batch = [
        Outgoing::new(ours.as_raw_fd(), &parts),
        Outgoing::new(other.as_raw_fd(), &small),
    ];
    backend.send_batch(&mut batch);
    let [first, second] = batch;
    let taken = first.result.expect("some room");
    assert!(taken > 1000 && taken < bytes.len(), "{taken}");
    assert_eq!(second.result.expect("room"), 5);
    // The kernel moves bytes on from our queue to the peer's until both are full.
    let more = fill_for_good(backend, &ours);
    let error = send(backend, ours.as_raw_fd(), b"x").expect_err("full");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);

    let mut received = vec![0; taken];
    theirs.read_exact(&mut received).expect("what was taken");
    assert_eq!(received, bytes[..taken]);
    theirs
        .read_exact(&mut vec![0; more])
        .expect("what was taken");
    other_peer
        .read_exact(&mut received[..5])
        .expect("what was taken");
    assert_eq!(&received[..5], b"small");
}

fn buffers_are_ours_again_when_the_call_returns(backend: &mut AnyBackend) {
    let mut pairs: Vec<_> = (0..40).map(|_| tcp_pair(backend)).collect();
    let mut buffer = vec![0; 100];
    for round in 1..=50 {
        buffer.fill(round);
        let parts = [IoSlice::new(&buffer)];
        let mut batch: Vec<_> = pairs
            .iter()
            .map(|(ours, _)| Outgoing::new(ours.as_raw_fd(), &parts))
            .collect();
        backend.send_batch(&mut batch);
        assert!(batch.iter().all(|item| matches!(item.result, Ok(100))));
        drop(batch);
        buffer.fill(0xff);
    }
    for (_, theirs) in &mut pairs {
        let mut received = [0; 50 * 100];
        theirs.read_exact(&mut received).expect("what was sent");
        for (round, bytes) in received.chunks(100).enumerate() {
            assert_eq!(bytes, [round as u8 + 1; 100]);
        }
    }
}

fn items_of_one_socket_keep_their_order(backend: &mut AnyBackend) {
    let (ours, mut theirs) = tcp_pair(backend);
    let texts: Vec<_> = (0..20).map(|i| format!("{i};")).collect();
    let parts: Vec<_> = texts
        .iter()
        .map(|text| [IoSlice::new(text.as_bytes())])
        .collect();
    let mut batch: Vec<_> = parts
        .iter()
        .map(|parts| Outgoing::new(ours.as_raw_fd(), parts))
        .collect();
    backend.send_batch(&mut batch);
    backend.close(ours);
    let mut text = String::new();
    theirs.read_to_string(&mut text).expect("our end");
    assert_eq!(text, texts.concat());
}

fn more_parts_than_the_kernel_takes_are_a_short_send(backend: &mut AnyBackend) {
    let (ours, mut theirs) = unix_pair();
    let parts = [IoSlice::new(b"x"); 1500];
    for items in 1..=2 {
        let mut batch: Vec<_> = (0..items)
            .map(|_| Outgoing::new(ours.as_raw_fd(), &parts))
            .collect();
        backend.send_batch(&mut batch);
        for item in batch {
            assert_eq!(item.result.expect("room"), 1024);
        }
    }
    theirs
        .read_exact(&mut [0; 3 * 1024])
        .expect("what was taken");
}

fn nothing_to_send_is_sent(backend: &mut AnyBackend) {
    let (ours, _theirs) = tcp_pair(backend);
    let empty = [IoSlice::new(b"")];
    let mut batch = [
        Outgoing::new(ours.as_raw_fd(), &[]),
        Outgoing::new(ours.as_raw_fd(), &empty),
    ];
    backend.send_batch(&mut batch);
    for item in batch {
        assert_eq!(item.result.expect("nothing refused"), 0);
    }
}

fn sends_are_counted(backend: &mut AnyBackend) {
    let pairs: Vec<_> = (0..300).map(|_| tcp_pair(backend)).collect();
    let parts = [IoSlice::new(b"x")];
    let mut batch: Vec<_> = pairs
        .iter()
        .map(|(ours, _)| Outgoing::new(ours.as_raw_fd(), &parts))
        .collect();
    let before = backend.counters();
    backend.send_batch(&mut batch);
    backend.send_batch(&mut batch[..1]);
    let after = backend.counters();
    assert_eq!(after.sends - before.sends, 301);
    let calls = after.send_calls - before.send_calls;
    if backend.name() == "epoll" {
        assert_eq!(calls, 301);
    } else {
        // 256 and 44, then one; with places for four it is 75 and one.
        assert!(calls == 3 || calls == 76, "{calls}");
    }
}

/// By its place in the batch: reset by the peer, full, shut down by ourselves, or well.
fn make_sick(backend: &mut AnyBackend, pair: &mut (OwnedFd, TcpStream), index: usize) {
    match index % 10 {
        3 => {
            let (ours, theirs) = pair;
            SockRef::from(&*theirs)
                .set_linger(Some(Duration::ZERO))
                .expect("settable");
            // Closes the peer's end; another connection takes its place in the pair.
            *theirs = tcp_pair(backend).1;
            let mut buffer = [0; 1];
            let token = token(index as u32);
            backend.watch(ours.as_raw_fd(), token).expect("watched");
            wait_for(backend, token, |e| e.hangup);
            backend.forget(ours.as_raw_fd(), token);
            let _ = backend.recv(ours.as_raw_fd(), &mut buffer);
        }
        5 => {
            SockRef::from(&pair.0)
                .set_send_buffer_size(4096)
                .expect("settable");
            SockRef::from(&pair.1)
                .set_recv_buffer_size(4096)
                .expect("settable");
            fill_for_good(backend, &pair.0);
        }
        7 => backend
            .shutdown(pair.0.as_raw_fd(), std::net::Shutdown::Write)
            .expect("open"),
        _ => {}
    }
}

/// Fills until even a while later nothing more goes in; how much went in.
fn fill_for_good(backend: &mut AnyBackend, socket: &OwnedFd) -> usize {
    let mut total = 0;
    loop {
        match fill(backend, socket) {
            0 => return total,
            more => total += more,
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
