//! Source, relay and destination on real loops over loopback sockets, without TLS: every byte
//! arrives, on both backends.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test talks to the world"
)]

mod path;

use adit_engine::ring::IoChoice;
use adit_engine::tls::{PlainRecords, Records};
use path::{Stack, both, connect};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

/// One tunnel with `services`, the destination dialling `targets`.
fn stack(io: IoChoice, services: &[&str], targets: &[u16]) -> Stack {
    path::stack(io, services, targets, || {
        (Records::Plain(PlainRecords), Records::Plain(PlainRecords))
    })
}

fn echo_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let port = listener.local_addr().expect("address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn pattern(seed: u8, size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ seed)
        .collect()
}

#[test]
fn small_and_large_writes_come_back() {
    both(|io| {
        let stack = stack(io, &["A"], &[echo_server()]);
        let mut stream = connect(stack.ports[0]);
        for size in [1, 5, 126, 127, 128, 16_000, 16_384, 70_000] {
            let sent = pattern(size as u8, size);
            stream.write_all(&sent).expect("write");
            let mut back = vec![0; size];
            stream.read_exact(&mut back).expect("read");
            assert!(sent == back, "{size} bytes came back damaged on {io:?}");
        }
    });
}

#[test]
fn bulk_both_ways_at_once() {
    both(|io| {
        let stack = stack(io, &["A"], &[echo_server()]);
        let stream = connect(stack.ports[0]);
        let mut writer = stream.try_clone().expect("clone");
        let sent = pattern(3, 64 * 1024 * 1024);
        let expected = sent.clone();
        let thread = thread::spawn(move || writer.write_all(&sent).expect("write"));
        let mut back = vec![0; expected.len()];
        (&stream).read_exact(&mut back).expect("read");
        assert!(back == expected, "bulk data was damaged on {io:?}");
        thread.join().expect("writer");
    });
}

#[test]
fn two_services_and_many_connections_keep_their_bytes_apart() {
    both(|io| {
        let stack = stack(io, &["A", "B"], &[echo_server(), echo_server()]);
        let mut streams: Vec<TcpStream> = (0..200).map(|at| connect(stack.ports[at % 2])).collect();
        for round in 0..5 {
            for (at, stream) in streams.iter_mut().enumerate() {
                stream
                    .write_all(&pattern((at + round) as u8, 100 + at * 37))
                    .expect("write");
            }
            for (at, stream) in streams.iter_mut().enumerate() {
                let mut back = vec![0; 100 + at * 37];
                stream.read_exact(&mut back).expect("read");
                assert!(
                    back == pattern((at + round) as u8, 100 + at * 37),
                    "connection {at} on {io:?}"
                );
            }
        }
    });
}

#[test]
fn what_was_written_before_the_end_arrives_before_it() {
    both(|io| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let stack = stack(
            io,
            &["A"],
            &[listener.local_addr().expect("address").port()],
        );
        for round in 0..20 {
            let sent = pattern(round, 300_000 + 1000 * usize::from(round));
            let mut client = connect(stack.ports[0]);
            client.write_all(b"go").expect("write");
            let (mut server, _) = listener.accept().expect("accept");
            let answer = sent.clone();
            let thread = thread::spawn(move || {
                let mut go = [0; 2];
                server.read_exact(&mut go).expect("read");
                server.write_all(&answer).expect("write");
            });
            let mut back = Vec::new();
            client.read_to_end(&mut back).expect("read to the end");
            assert!(
                back == sent,
                "{} of {} bytes before the end on {io:?}",
                back.len(),
                sent.len()
            );
            thread.join().expect("server");
        }
    });
}

#[test]
fn a_service_that_is_down_ends_the_connection_at_once() {
    both(|io| {
        let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .expect("bind")
            .local_addr()
            .expect("address")
            .port();
        let stack = stack(io, &["A"], &[unused]);
        let mut client = connect(stack.ports[0]);
        let mut byte = [0];
        assert!(
            matches!(client.read(&mut byte), Ok(0) | Err(_)),
            "nothing can come"
        );
    });
}
