//! Source, relay and destination on real loops over loopback sockets, without TLS: every byte
//! arrives, on both backends.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test talks to the world"
)]

#[expect(dead_code, reason = "of the other tests of the path")]
mod path;

use adit_engine::ring::IoChoice;
use adit_engine::tunnel::limits::Limits;
use path::{Stack, both, connect, runtime};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// One tunnel with `services`, the destination dialling `targets`.
fn stack(io: IoChoice, services: &[&str], targets: &[u16]) -> Stack {
    path::stack(io, services, targets, path::plain)
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

/// Longer than any test runs.
const HOURS: Duration = Duration::from_secs(3600 * 24);

fn with_grace(io: IoChoice, target: u16, half_close_grace: Duration) -> Stack {
    let limits = Limits {
        half_close_grace,
        ..Limits::default()
    };
    path::stack_with(io, &["A"], &[target], path::plain, limits, true)
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let port = listener.local_addr().expect("address").port();
    (listener, port)
}

/// As `(printf question; sleep 1) | nc -N` does when the service answers slowly.
#[test]
fn the_rest_of_an_answer_comes_after_the_application_has_ended_its_half() {
    both(|io| {
        let (listener, port) = listen();
        let stack = with_grace(io, port, HOURS);
        let mut client = connect(stack.ports[0]);
        client.write_all(b"question").expect("write");
        let (mut server, _) = listener.accept().expect("accept");
        server.read_exact(&mut [0; 8]).expect("read");
        server.write_all(b"begun, ").expect("write");
        let mut answer = [0; 7];
        client.read_exact(&mut answer).expect("read");
        client.shutdown(Shutdown::Write).expect("shut down");
        thread::sleep(Duration::from_millis(200));
        let rest = pattern(9, 500_000);
        let expected = rest.clone();
        let writer = thread::spawn(move || server.write_all(&rest).expect("write"));
        let mut read = Vec::new();
        // The grace time has not passed: the service's end is what ends it.
        client.read_to_end(&mut read).expect("read to the end");
        assert!(read == expected, "{} bytes on {io:?}", read.len());
        writer.join().expect("the server");
        no_connections(&stack);
    });
}

#[test]
fn an_application_that_has_closed_ends_the_service_with_the_first_bytes_it_refuses() {
    both(|io| {
        let (listener, port) = listen();
        let stack = with_grace(io, port, HOURS);
        let mut client = connect(stack.ports[0]);
        client.write_all(b"question").expect("write");
        let (mut server, _) = listener.accept().expect("accept");
        server.read_exact(&mut [0; 8]).expect("read");
        server.write_all(b"begun").expect("write");
        client.read_exact(&mut [0; 5]).expect("read");
        drop(client);
        thread::sleep(Duration::from_millis(200));
        // One write, whose refusal only a reset tells of.
        server.write_all(b"more").expect("write");
        server
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("timeout");
        assert!(matches!(server.read(&mut [0]), Ok(0)), "on {io:?}");
        no_connections(&stack);
    });
}

#[test]
fn connections_that_services_end_are_not_held_for_the_grace_time() {
    both(|io| {
        let (listener, port) = listen();
        let stack = with_grace(io, port, HOURS);
        for _ in 0..200 {
            let mut client = connect(stack.ports[0]);
            client.write_all(b"question").expect("write");
            let (mut server, _) = listener.accept().expect("accept");
            server.read_exact(&mut [0; 8]).expect("read");
            server.write_all(b"answer").expect("write");
            drop(server);
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).expect("read");
            assert_eq!(answer, b"answer");
        }
        no_connections(&stack);
    });
}

#[test]
fn connections_that_applications_end_are_held_for_the_grace_time_and_no_longer() {
    both(|io| {
        let stack = with_grace(io, echo_server(), Duration::from_millis(300));
        for _ in 0..200 {
            let mut client = connect(stack.ports[0]);
            client.write_all(b"question").expect("write");
            client.read_exact(&mut [0; 8]).expect("read");
        }
        no_connections(&stack);
    });
}

/// Connections that the source has reset because they held up others.
fn stalled_count(stack: &Stack) -> u64 {
    let status = runtime().block_on(stack.handles[0].status(path::SOURCE));
    status.expect("a proxy").counters.stalled
}

/// Waits until neither proxy has any.
fn no_connections(stack: &Stack) {
    let runtime = runtime();
    let start = Instant::now();
    loop {
        let proxies = [
            (&stack.handles[0], path::SOURCE),
            (&stack.handles[2], path::DESTINATION),
        ];
        let open = proxies.map(|(handle, id)| {
            let status = runtime.block_on(handle.status(id));
            status.expect("a proxy").connections
        });
        if open == [0, 0] {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{open:?} are held"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// RFC 6093: what is sent as urgent data belongs to the stream.
#[test]
fn bytes_around_urgent_data_arrive_in_their_order_and_wait_for_nothing() {
    both(|io| {
        let (listener, port) = listen();
        let stack = with_grace(io, port, HOURS);
        let mut client = connect(stack.ports[0]);
        client.write_all(b"begin").expect("write");
        let (mut server, _) = listener.accept().expect("accept");
        socket2::SockRef::from(&server)
            .set_out_of_band_inline(true)
            .expect("inline");
        server
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("timeout");
        server.read_exact(&mut [0; 5]).expect("read");
        for _ in 0..200 {
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (mut from, mut to) = (from, to);
                from.write_all(b"before").expect("write");
                let urgent = socket2::SockRef::from(from).send_out_of_band(b"!");
                assert_eq!(urgent.expect("write"), 1);
                from.write_all(b"behind").expect("write");
                let mut read = [0; 13];
                to.read_exact(&mut read).expect("all of it");
                assert_eq!(&read, b"before!behind", "on {io:?}");
            }
        }
    });
}

/// A service that sends to who says 1, as fast as it is read, bytes that do not depend on who reads them.
fn source_of_bytes() -> u16 {
    let (listener, port) = listen();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let bytes = pattern(3, BLOCK);
                while stream.write_all(&bytes).is_ok() {}
            });
        }
    });
    port
}

const BLOCK: usize = 100_000;

/// Reads some blocks of such a service.
fn read_blocks(stream: &mut TcpStream, blocks: usize) {
    let expected = pattern(3, BLOCK);
    let mut block = vec![0; BLOCK];
    for _ in 0..blocks {
        stream.read_exact(&mut block).expect("read");
        assert!(block == expected, "bytes of somebody else");
    }
}

/// Both ends keep to credit, so nothing waits for the application that does not read, and nothing is
/// taken from it: far more goes to the others than all queues and socket buffers hold, and then it reads
/// on.
#[test]
fn an_application_that_does_not_read_holds_up_nobody_and_loses_nothing() {
    both(|io| {
        let limits = Limits {
            // Would it hold up the others for longer than this, it would be reset. Twelve tests share the machine: a
            // tenth of a second can pass without any of them having a turn.
            stall_timeout: Duration::from_secs(1),
            ..Limits::default()
        };
        let stack = path::stack_with(io, &["A"], &[source_of_bytes()], path::plain, limits, true);
        let mut streams: Vec<TcpStream> = (0..4).map(|_| connect(stack.ports[0])).collect();
        for stream in &mut streams {
            read_blocks(stream, 10);
        }
        let (stalled, others) = streams.split_first_mut().expect("four streams");
        for _ in 0..20 {
            for stream in others.iter_mut() {
                read_blocks(stream, 50);
            }
        }
        read_blocks(stalled, 300);
        assert_eq!(stalled_count(&stack), 0, "on {io:?}");
    });
}

/// A slow application that goes on reading is never reset, however long its queue is full, also where
/// the peer knows nothing of credit and the tunnel waits for it.
#[test]
fn a_slow_application_is_waited_for_where_there_is_no_credit() {
    both(|io| {
        let limits = Limits {
            stall_timeout: Duration::from_secs(1),
            connection_buffer: 128 * 1024,
            ..Limits::default()
        };
        let stack = path::stack_with(io, &["A"], &[source_of_bytes()], path::plain, limits, false);
        let mut slow = connect(stack.ports[0]);
        let mut other = connect(stack.ports[0]);
        let reading =
            thread::spawn(
                move || while other.read(&mut [0; 65_536]).is_ok_and(|count| count > 0) {},
            );
        for _ in 0..30 {
            read_blocks(&mut slow, 10);
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(stalled_count(&stack), 0, "on {io:?}");
        drop(stack);
        reading.join().expect("the other one");
    });
}
