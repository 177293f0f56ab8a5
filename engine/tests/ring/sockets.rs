//! Listening, accepting, connecting; over IPv4, IPv6 and Unix sockets.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Instant;

use adit_engine::ring::{Address, AnyBackend, Backend, local_address, peer_address};
use socket2::{Domain, SockRef, Socket, Type};

use crate::support::*;

const LISTENER: adit_engine::ring::Token = token(0);

on_every_backend! {
    a_burst_of_connections_is_accepted_to_the_last,
    accepted_sockets_are_as_the_loop_needs_them,
    connections_over_loopback_are_not_paced_and_others_are_as_the_system_says,
    a_connection_is_made_without_waiting,
    a_refused_connection_says_so,
    a_connection_in_progress_is_neither_made_nor_refused,
    a_unix_listener_replaces_only_a_dead_socket_file,
    a_listener_reopens_its_port_at_once,
    a_socket_in_blocking_mode_does_not_stop_the_loop,
}

fn a_burst_of_connections_is_accepted_to_the_last(backend: &mut AnyBackend) {
    let listener = backend.listen(&any_port("127.0.0.1")).expect("a port");
    backend
        .watch_listener(listener.as_raw_fd(), LISTENER)
        .expect("watched");
    settle(backend);
    let address = local_address(&listener).expect("bound");
    let clients: Vec<_> = (0..500)
        .map(|_| backend.connect(&address).expect("room in the backlog"))
        .collect();
    let mut accepted = Vec::new();
    while accepted.len() < clients.len() {
        wait_for(backend, LISTENER, |e| e.readable);
        accept_all(backend, &listener, &mut accepted);
    }
    let ours: BTreeSet<_> = clients
        .iter()
        .map(|c| local_address(c).expect("bound").to_string())
        .collect();
    let theirs: BTreeSet<_> = accepted
        .iter()
        .map(|a| peer_address(a).expect("connected").to_string())
        .collect();
    assert_eq!(ours, theirs);
}

fn connections_over_loopback_are_not_paced_and_others_are_as_the_system_says(
    backend: &mut AnyBackend,
) {
    let control = |socket: &OwnedFd| SockRef::from(socket).tcp_congestion().expect("TCP");
    let plain = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let of_the_system = SockRef::from(&plain).tcp_congestion().expect("TCP");
    for host in ["127.0.0.1", "127.8.8.8", "::1"] {
        let listener = backend.listen(&any_port(host)).expect("a port");
        let address = local_address(&listener).expect("bound");
        let near = backend.connect(&address).expect("room in the backlog");
        assert!(control(&near).starts_with(b"reno\0"), "to {host}");
        backend
            .watch_listener(listener.as_raw_fd(), LISTENER)
            .expect("watched");
        wait_for(backend, LISTENER, |e| e.readable);
        let mut accepted = Vec::new();
        accept_all(backend, &listener, &mut accepted);
        assert!(control(&accepted[0]).starts_with(b"reno\0"), "at {host}");
        backend.forget_and_close(listener, LISTENER);
    }
    for host in ["0.0.0.0", "::"] {
        let listener = backend.listen(&any_port(host)).expect("a port");
        assert_eq!(control(&listener), of_the_system, "at {host}");
    }
}

fn accepted_sockets_are_as_the_loop_needs_them(backend: &mut AnyBackend) {
    let directory = tempfile::tempdir().expect("a directory");
    let addresses = [
        any_port("127.0.0.1"),
        any_port("::1"),
        Address::Unix(directory.path().join("socket")),
    ];
    for (index, address) in addresses.iter().enumerate() {
        let listener = backend.listen(address).expect("listening");
        let token = token(index as u32);
        backend
            .watch_listener(listener.as_raw_fd(), token)
            .expect("watched");
        let empty = backend
            .accept(listener.as_raw_fd())
            .expect_err("nobody there");
        assert_eq!(empty.kind(), ErrorKind::WouldBlock);

        let address = local_address(&listener).expect("bound");
        let client = backend.connect(&address).expect("loopback connects");
        wait_for(backend, token, |e| e.readable);
        let served = backend
            .accept(listener.as_raw_fd())
            .expect("our connection");
        for socket in [&client, &served] {
            let socket = SockRef::from(socket);
            assert!(socket.nonblocking().expect("known"), "{address}");
            if !matches!(address, Address::Unix(_)) {
                assert!(socket.tcp_nodelay().expect("known"), "{address}");
            }
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", socket.as_raw_fd()));
            let flags = info.expect("readable");
            let flags = flags
                .lines()
                .find_map(|l| l.strip_prefix("flags:"))
                .expect("there");
            let flags = i32::from_str_radix(flags.trim(), 8).expect("octal");
            assert_ne!(flags & libc::O_CLOEXEC, 0, "{address}");
        }
        assert_eq!(
            peer_address(&client).expect("connected").to_string(),
            address.to_string()
        );
        assert_eq!(send(backend, client.as_raw_fd(), b"hi").expect("room"), 2);
        let mut bytes = [0; 2];
        let count = backend
            .recv(served.as_raw_fd(), &mut bytes)
            .expect("two bytes");
        assert_eq!(&bytes[..count], b"hi");
        backend.forget_and_close(listener, token);
    }
}

fn a_connection_is_made_without_waiting(backend: &mut AnyBackend) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let unix = UnixListener::bind(&path).expect("bound");
    let four = TcpListener::bind("127.0.0.1:0").expect("a port");
    let six = TcpListener::bind("[::1]:0").expect("a port");
    let addresses = [
        Address::Ip(four.local_addr().expect("bound")),
        Address::Ip(six.local_addr().expect("bound")),
        Address::Unix(path),
    ];
    for (index, address) in addresses.iter().enumerate() {
        let socket = backend.connect(address).expect("started");
        let token = token(index as u32);
        backend.watch(socket.as_raw_fd(), token).expect("watched");
        wait_for(backend, token, |e| e.writable && !e.hangup);
        backend
            .connect_result(socket.as_raw_fd())
            .expect("connected");
        backend.forget_and_close(socket, token);
    }
    drop(unix);
}

fn a_refused_connection_says_so(backend: &mut AnyBackend) {
    // Bound but not listening, so that nobody else can take the port meanwhile.
    let holder = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    holder
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("valid").into())
        .expect("a port");
    let address = Address::from(holder.local_addr().expect("bound").as_socket().expect("IP"));
    let error = match backend.connect(&address) {
        Ok(socket) => {
            backend
                .watch(socket.as_raw_fd(), token(1))
                .expect("watched");
            wait_for(backend, token(1), |e| e.writable && e.hangup);
            backend
                .connect_result(socket.as_raw_fd())
                .expect_err("refused")
        }
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    let directory = tempfile::tempdir().expect("a directory");
    let absent = Address::Unix(directory.path().join("absent"));
    assert_eq!(
        backend.connect(&absent).expect_err("absent").kind(),
        ErrorKind::NotFound
    );
    let stale = directory.path().join("stale");
    drop(UnixListener::bind(&stale).expect("bound"));
    let error = backend
        .connect(&Address::Unix(stale))
        .expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

fn a_connection_in_progress_is_neither_made_nor_refused(backend: &mut AnyBackend) {
    // A listener with a queue of one that nobody empties: the kernel ignores further SYNs.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("valid").into())
        .expect("a port");
    listener.listen(0).expect("listening");
    let address = Address::from(
        listener
            .local_addr()
            .expect("bound")
            .as_socket()
            .expect("IP"),
    );
    let deadline = Instant::now() + LONG;
    let mut sockets = Vec::new();
    let pending = loop {
        let socket = backend.connect(&address).expect("started");
        match backend.connect_result(socket.as_raw_fd()) {
            Ok(()) => sockets.push(socket),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break socket;
            }
        }
        assert!(Instant::now() < deadline);
    };
    backend
        .watch(pending.as_raw_fd(), token(1))
        .expect("watched");
    assert_eq!(settle(backend), []);
}

fn a_unix_listener_replaces_only_a_dead_socket_file(backend: &mut AnyBackend) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);

    let dead = path("dead");
    drop(UnixListener::bind(&dead).expect("bound"));
    assert!(dead.exists());
    let listener = backend
        .listen(&Address::Unix(dead.clone()))
        .expect("replaced");
    backend
        .watch_listener(listener.as_raw_fd(), LISTENER)
        .expect("watched");
    let client = backend
        .connect(&Address::Unix(dead.clone()))
        .expect("connected");
    wait_for(backend, LISTENER, |e| e.readable);
    drop(client);

    let _datagram = UnixDatagram::bind(path("datagram")).expect("bound");
    fs::write(path("file"), "precious").expect("written");
    for name in ["dead", "datagram", "file"] {
        let error = backend
            .listen(&Address::Unix(path(name)))
            .expect_err("in use");
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{name}");
    }
    assert_eq!(fs::read(path("file")).expect("still there"), b"precious");
}

fn a_listener_reopens_its_port_at_once(backend: &mut AnyBackend) {
    let listener = backend.listen(&any_port("127.0.0.1")).expect("a port");
    let address = local_address(&listener).expect("bound");
    let Address::Ip(ip) = address.clone() else {
        panic!("an IP address")
    };
    let mut client = TcpStream::connect(ip).expect("connected");
    let served = backend
        .accept(listener.as_raw_fd())
        .expect("our connection");
    // The listening side closes first and keeps the port in TIME_WAIT.
    backend.close(served);
    backend.close(listener);
    assert_eq!(client.read(&mut [0; 1]).expect("the end"), 0);
    drop(client);
    backend.listen(&address).expect("the port again");
}

fn a_socket_in_blocking_mode_does_not_stop_the_loop(backend: &mut AnyBackend) {
    let (ours, mut theirs) = unix_pair();
    SockRef::from(&ours)
        .set_nonblocking(false)
        .expect("settable");
    let error = backend
        .recv(ours.as_raw_fd(), &mut [0; 1])
        .expect_err("nothing there");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    fill(backend, &ours);
    theirs.write_all(b"x").expect("room");
    assert_eq!(
        backend.recv(ours.as_raw_fd(), &mut [0; 9]).expect("a byte"),
        1
    );
}

fn any_port(host: &str) -> Address {
    Address::from(SocketAddr::new(host.parse().expect("an address"), 0))
}

fn accept_all(backend: &mut AnyBackend, listener: &OwnedFd, into: &mut Vec<OwnedFd>) {
    loop {
        match backend.accept(listener.as_raw_fd()) {
            Ok(socket) => into.push(socket),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return;
            }
        }
    }
}
