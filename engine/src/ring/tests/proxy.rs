//! The proxies' driver.

use super::support::{PATIENCE, ProxyBench, both, control, data, hold};
use crate::tunnel::limits::Limits;
use adit_proto::ids::Mode;
use adit_proto::message::Kind;
use socket2::{Domain, SockAddr, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// The queue of a connection that is being dialled is full, so the tunnel is not read; then the
/// dial fails at once. Nothing but the proxy itself is there to go on with what it had read.
#[test]
fn reading_goes_on_after_a_dial_that_failed_at_once() {
    both(|io| {
        let mapping = "A=/nonexistent/adit-test.sock";
        // The least: a single byte that waits pauses the tunnel.
        let limits = Limits {
            connection_buffer: 65_535,
            // It would bring a turn of its own.
            ping_interval: Duration::from_secs(3600),
            ..Limits::default()
        };
        let (bench, mut service) = ProxyBench::new(io, Mode::Destination, mapping, limits);
        let mut burst = Vec::new();
        control(Kind::StreamStart, 1, 1, &mut burst);
        burst.extend(data(b"waits for the dial"));
        control(Kind::StreamStart, 2, 1, &mut burst);
        let held = hold(&bench.event_loop);
        service.says(&burst);
        drop(held);
        for _ in 0..2 {
            assert_eq!(service.hears_kind(), Kind::StreamReset);
        }
    });
}

/// A listener that answers nobody: its queue is full of these.
fn deaf_listener() -> (Vec<Socket>, u16) {
    let new = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    let listener = new();
    let any: SockAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
    listener.bind(&any).expect("bind");
    listener.listen(0).expect("listen");
    let address = listener.local_addr().expect("address");
    let mut sockets = vec![listener];
    for _ in 0..3 {
        let socket = new();
        socket.set_nonblocking(true).expect("non-blocking");
        let _ = socket.connect(&address);
        sockets.push(socket);
    }
    std::thread::sleep(Duration::from_millis(50));
    let port = address.as_socket().expect("an address").port();
    (sockets, port)
}

/// Sockets of this machine that are being connected to a port of the loopback interface.
fn connecting_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
    let remote = format!("0100007F:{port:04X}");
    let fields = table.lines().map(|line| line.split_whitespace());
    fields
        .filter(|fields| {
            let mut fields = fields.clone().skip(2);
            // SYN_SENT
            fields.next() == Some(&remote) && fields.next() == Some("02")
        })
        .count()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_dial_ends_with_its_connection_and_with_its_proxy() {
    both(|io| {
        let (_sockets, port) = deaf_listener();
        let before = connecting_to(port);
        let mapping = format!("A=127.0.0.1:{port}");
        let limits = Limits::default();
        let (mut bench, mut service) = ProxyBench::new(io, Mode::Destination, &mapping, limits);
        let mut starts = Vec::new();
        control(Kind::StreamStart, 1, 1, &mut starts);
        control(Kind::ConnectionStart, 1, 2, &mut starts);
        service.says(&starts);
        until("two dials", || connecting_to(port) == before + 2);
        let mut reset = Vec::new();
        control(Kind::ConnectionReset, 1, 1, &mut reset);
        service.says(&reset);
        until("one dial", || connecting_to(port) == before + 1);
        assert_eq!(bench.status().connections, 1);
        bench.event_loop.drain(ProxyBench::ID, Duration::ZERO);
        bench.is_over();
        assert_eq!(connecting_to(port), before);
    });
}
