//! Names with several addresses, some of them dead.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use super::super::{Deadlines, DialError, DialSettings, Dialer, LinkError};
use super::super::{dial_tcp, happy_eyeballs, resolve};
use super::support::{PATIENCE, settings};

/// An address that nobody listens at.
async fn dead(host: &str) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    listener.local_addr().unwrap()
}

/// An address that drops connection requests: its queue is full and stays so.
struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _queue: Vec<Socket>,
}

impl BlackHole {
    fn new(address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let listener = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let queue = (0..4)
            .map(|_| {
                let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&address.into());
                socket
            })
            .collect();
        std::thread::sleep(Duration::from_millis(50));
        Self {
            address,
            _listener: listener,
            _queue: queue,
        }
    }
}

#[tokio::test]
async fn a_refused_address_does_not_delay_the_next() {
    let mut addresses = Vec::new();
    for _ in 0..16 {
        addresses.push(dead("127.0.0.1").await);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    addresses.push(listener.local_addr().unwrap());
    let start = Instant::now();
    let stream = happy_eyeballs(&addresses, None, PATIENCE).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), *addresses.last().unwrap());
    assert!(stream.nodelay().unwrap());
    // Sixteen delays would be four seconds.
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_silent_address_delays_the_next_by_a_quarter_second() {
    let hole = BlackHole::new("127.0.0.1:0");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap();
    let start = Instant::now();
    let stream = happy_eyeballs(&[hole.address, good], None, PATIENCE)
        .await
        .unwrap();
    assert_eq!(stream.peer_addr().unwrap(), good);
    let elapsed = start.elapsed();
    assert!(
        elapsed >= Duration::from_millis(240),
        "the hole was asked first: {elapsed:?}"
    );
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
}

#[tokio::test]
async fn the_other_family_is_next() {
    if TcpListener::bind("[::1]:0").await.is_err() {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    }
    for (silent, other) in [("[::1]:0", "127.0.0.1:0"), ("127.0.0.1:0", "[::1]:0")] {
        let holes: Vec<BlackHole> = (0..10).map(|_| BlackHole::new(silent)).collect();
        let listener = TcpListener::bind(other).await.unwrap();
        let good = listener.local_addr().unwrap();
        let mut addresses: Vec<SocketAddr> = holes.iter().map(|hole| hole.address).collect();
        addresses.push(good);
        let start = Instant::now();
        let stream = happy_eyeballs(&addresses, None, PATIENCE).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        // Second in turn, after a quarter of a second; the eleventh would be after 2.5 s.
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
    }
}

#[tokio::test]
async fn every_failure_is_told() {
    let addresses = [dead("127.0.0.1").await, dead("127.0.0.1").await];
    let error = happy_eyeballs(&addresses, None, PATIENCE)
        .await
        .unwrap_err();
    let text = error.to_string();
    for address in addresses {
        assert!(
            text.contains(&format!("{address}: Connection refused")),
            "{text}"
        );
    }
    // What failed before time was up is told, too.
    let hole = BlackHole::new("127.0.0.1:0");
    let addresses = [addresses[0], hole.address];
    let error = happy_eyeballs(&addresses, None, Duration::from_millis(500)).await;
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("refused") && text.contains("no answer within 0.5 s"),
        "{text}"
    );
    let none = happy_eyeballs(&[], None, PATIENCE).await;
    assert!(matches!(none, Err(DialError::NoAddress)));
}

#[tokio::test]
async fn a_local_address_leaves_out_the_other_family() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap();
    let other: SocketAddr = "[::1]:1".parse().unwrap();
    let local = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let stream = happy_eyeballs(&[other, good], Some(local), PATIENCE)
        .await
        .unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), local);
    let none = happy_eyeballs(&[other], Some(local), PATIENCE).await;
    assert!(matches!(none, Err(DialError::NoAddress)));
}

#[tokio::test]
async fn names_and_addresses_are_resolved() {
    let cases = [
        ("127.0.0.1", "127.0.0.1:7"),
        ("::1", "[::1]:7"),
        ("[::1]", "[::1]:7"),
    ];
    for (host, address) in cases {
        assert_eq!(resolve(host, 7).await.unwrap(), [address.parse().unwrap()]);
    }
    let local = resolve("localhost", 7).await.unwrap();
    assert!(local.iter().all(|it| it.ip().is_loopback()));
    let error = resolve("no such host", 7).await.unwrap_err();
    assert!(
        error.to_string().starts_with("cannot resolve no such host"),
        "{error}"
    );
}

#[tokio::test]
async fn dialling_has_one_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    dial_tcp("localhost", port, Duration::from_secs(10))
        .await
        .unwrap();

    let hole = BlackHole::new("127.0.0.1:0");
    let start = Instant::now();
    let error = dial_tcp("127.0.0.1", hole.address.port(), Duration::from_millis(300)).await;
    let text = error.unwrap_err().to_string();
    let expected = format!("cannot connect: {}: no answer within 0.3 s", hole.address);
    assert_eq!(text, expected);
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_may_be_tried_again() {
    let short = Duration::from_millis(300);
    let hole = BlackHole::new("127.0.0.1:0");
    let error = Dialer::new(DialSettings {
        deadlines: Deadlines {
            connect: short,
            ..Deadlines::default()
        },
        ..settings(hole.address)
    });
    let error = error.dial().await.unwrap_err();
    assert!(
        error.to_string().ends_with("no answer within 0.3 s"),
        "{error}"
    );
    assert!(error.is_retryable() && error.hint().is_some());

    let error = Dialer::new(settings(dead("127.0.0.1").await));
    let error = error.dial().await.unwrap_err();
    assert!(matches!(error, LinkError::Dial { .. }), "{error:?}");
    assert!(error.is_retryable() && error.hint().is_some());
    assert!(error.to_string().contains("Connection refused"), "{error}");
}
