//! Clients that are slow, silent, rude, too many or gone.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::super::{DialSettings, Dialer, FailureLimit, LinkError, ServeConfig};
use super::support::{PATIENCE, Relay, TOKEN, ask, converse, header, request, settings, tls};
use crate::tls::RecordsChoice;
use crate::tls::tests::support::Certificate;
use adit_proto::AccessToken;

fn with_token(relay: &Relay, token: &str) -> DialSettings {
    DialSettings {
        access_token: AccessToken::new(token.to_owned()).unwrap(),
        ..settings(relay.address)
    }
}

/// Waits for the relay to close `socket` and returns what it said.
async fn said(socket: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    let _ = read.expect("an end in time");
    answer
}

#[tokio::test]
async fn silent_clients_are_closed_at_the_deadline_and_others_let_in() {
    let deadline = Duration::from_millis(500);
    for with_tls in [false, true] {
        let (client, server) = tls(Certificate::Good, RecordsChoice::InPlace);
        let mut relay = Relay::start(ServeConfig {
            deadline,
            tls: server.tls.filter(|_| with_tls),
            ..ServeConfig::default()
        })
        .await;
        let start = Instant::now();
        let mut silent = Vec::new();
        for count in 0..100 {
            let mut socket = TcpStream::connect(relay.address).await.unwrap();
            // Some have begun: a record, a request.
            let begun: &[u8] = if with_tls {
                &[22, 3, 1, 2, 0, 1]
            } else {
                b"GET /tunnel"
            };
            socket
                .write_all(&begun[..count % begun.len()])
                .await
                .unwrap();
            silent.push(socket);
        }
        let good = DialSettings {
            host: "localhost".to_owned(),
            tls: with_tls.then_some(client),
            ..settings(relay.address)
        };
        let (near, far) = relay.connect(good).await;
        converse(near, far, 1000).await;
        for socket in &mut silent {
            assert_eq!(said(socket).await, b"");
        }
        assert!(start.elapsed() >= deadline);
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );
    }
}

#[tokio::test]
async fn a_client_that_drips_is_closed_at_the_same_deadline() {
    let relay = Relay::start(ServeConfig {
        deadline: Duration::from_millis(500),
        ..ServeConfig::default()
    })
    .await;
    let mut socket = TcpStream::connect(relay.address).await.unwrap();
    let start = Instant::now();
    for byte in request(TOKEN, &format!("x: {}\r\n", "y".repeat(3000))).bytes() {
        if socket.write_all(&[byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(relay.doorman.heard(), [""; 0]);
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let mut relay = Relay::start(ServeConfig::default()).await;
    let mut socket = TcpStream::connect(relay.address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let start = Instant::now();
    for byte in request(TOKEN, &format!("x: {}\r\n", "y".repeat(3700))).bytes() {
        socket.write_all(&[byte]).await.unwrap();
    }
    relay.next_link().await;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn the_oldest_silent_client_makes_room() {
    let mut relay = Relay::start(ServeConfig {
        handshakes_max: 8,
        ..ServeConfig::default()
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(relay.address).await.unwrap());
    }
    let (near, far) = relay.connect(settings(relay.address)).await;
    converse(near, far, 1000).await;
    let (old, young) = silent.split_at_mut(32);
    for socket in old {
        assert_eq!(said(socket).await, b"");
    }
    // The youngest are still being waited for.
    let youngest = young.last_mut().unwrap();
    youngest
        .write_all(request("late", "").as_bytes())
        .await
        .unwrap();
    assert_eq!(relay.next_link().await.0.tunnel.as_str(), "late");
}

/// Faster than their deadlines end them.
#[tokio::test]
async fn silent_clients_that_make_room_for_others_of_their_address_have_failed() {
    let relay = Relay::start(ServeConfig {
        handshakes_max: 8,
        failures: Some(FailureLimit {
            per_second: NonZeroU32::MIN,
            burst_seconds: 20,
            spares_loopback: false,
            ..FailureLimit::default()
        }),
        ..ServeConfig::default()
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.extend(TcpStream::connect(relay.address).await);
    }
    let refused = match TcpStream::connect(relay.address).await {
        Ok(mut last) => last.read(&mut [0]).await.map(drop),
        Err(refused) => Err(refused),
    };
    let refused = refused.map_err(|error| error.kind());
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn refusals_say_why() {
    let relay = Relay::start(ServeConfig::default()).await;
    let good = request(TOKEN, "");
    let long = request(TOKEN, &format!("x: {}\r\n", "y".repeat(4096)));
    let cases = [
        ("path", good.replace("/tunnel", "/"), "400", "Invalid path"),
        (
            "mode",
            good.replace("=source", "=both"),
            "400",
            "Invalid mode",
        ),
        (
            "no token",
            good.replace("access-token", "x"),
            "400",
            "Missing access token",
        ),
        (
            "two tokens",
            request(TOKEN, "access-token: x\r\n"),
            "400",
            "Repeated access token",
        ),
        (
            "no upgrade",
            good.replace("Upgrade: websocket\r\n", ""),
            "426",
            "Upgrade required",
        ),
        ("POST", good.replace("GET", "POST"), "405", "Invalid method"),
        ("too long", long, "431", "exceeds 4096 bytes"),
        ("without end", "x".repeat(5000), "431", "exceeds 4096 bytes"),
        (
            "bytes behind",
            good.clone() + "frame",
            "400",
            "nothing behind it",
        ),
        (
            "denied",
            request("deny-403", ""),
            "403",
            "Not you: the token is not good.",
        ),
        ("denied for now", request("deny-503", ""), "503", "Not you"),
        ("denied with 200", request("deny-200", ""), "500", "Not you"),
    ];
    for (what, bytes, status, words) in cases {
        let answer = ask(relay.address, bytes.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{what}: {answer}"
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.contains(words), "{what}: {answer}");
        assert!(
            header(head, "X-Status-Reason").contains(words),
            "{what}: {answer}"
        );
        assert_eq!(header(head, "channel-id").len(), 36);
        assert_eq!(header(head, "Connection"), "close");
        assert!(!answer.contains(TOKEN), "{what}");
    }
    assert!(
        !relay
            .doorman
            .heard()
            .iter()
            .any(|it| it.starts_with("connected"))
    );
}

#[tokio::test]
async fn a_client_reads_the_refusal_in_tls_too() {
    for records in [RecordsChoice::Library, RecordsChoice::InPlace] {
        let (client, server) = tls(Certificate::Good, records);
        let relay = Relay::start(server).await;
        let error = Dialer::new(DialSettings {
            host: "localhost".to_owned(),
            tls: Some(client),
            ..with_token(&relay, "deny-400")
        });
        let error = error.dial().await.unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("Not you: the token is not good."),
            "{error}"
        );
        assert!(matches!(error, LinkError::Refused { .. }));
    }
}

/// Closing with bytes unread would reset the connection: the client's next write would fail, and
/// it would not even try to read the reason.
#[tokio::test]
async fn the_refusal_arrives_although_the_client_talks_on() {
    let relay = Relay::start(ServeConfig::default()).await;
    let mut socket = TcpStream::connect(relay.address).await.unwrap();
    let mut bytes = request("deny-400", "").into_bytes();
    bytes.truncate(bytes.len() - 2);
    socket.write_all(&bytes).await.unwrap();
    for _ in 0..5 {
        socket.write_all(&b"x: y\r\n".repeat(900)).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    let answer = String::from_utf8(said(&mut socket).await).unwrap();
    assert!(answer.contains("exceeds 4096 bytes"), "{answer}");
}

#[tokio::test]
async fn a_refused_client_that_stays_is_closed_soon() {
    let relay = Relay::start(ServeConfig::default()).await;
    let start = Instant::now();
    let mut socket = TcpStream::connect(relay.address).await.unwrap();
    socket
        .write_all(request("deny-400", "").as_bytes())
        .await
        .unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    // It has said its last word, but the socket is still ours to write to.
    let mut writes = 0;
    while socket.write_all(b"still here").await.is_ok() {
        writes += 1;
        sleep(Duration::from_millis(20)).await;
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    assert!(writes > 10, "{writes}");
}

#[tokio::test]
async fn a_panic_costs_one_connection() {
    let mut relay = Relay::start(ServeConfig::default()).await;
    for token in ["panic-in-admission", "break-the-relay"] {
        let error = Dialer::new(with_token(&relay, token)).dial().await;
        // The second has its 101 already when the relay breaks.
        assert_eq!(error.is_err(), token.starts_with("panic"));
        let (near, far) = relay.connect(settings(relay.address)).await;
        converse(near, far, 1000).await;
    }
    relay.doorman.hears("disconnected break-the-relay").await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_gone_when_it_is_admitted_is_reported() {
    let mut relay = Relay::start(ServeConfig::default()).await;
    let mut socket = TcpStream::connect(relay.address).await.unwrap();
    socket
        .write_all(request("slow-1", "").as_bytes())
        .await
        .unwrap();
    relay.doorman.hears("admit slow-1").await;
    // A reset, so that the answer cannot be written.
    socket2::SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(socket);
    relay.doorman.hears("disconnected slow-1").await;
    assert!(
        !relay
            .doorman
            .heard()
            .contains(&"connected slow-1".to_owned())
    );
    let (near, far) = relay.connect(settings(relay.address)).await;
    converse(near, far, 1000).await;
}

#[tokio::test]
async fn on_shutdown_the_silent_are_dropped_and_the_admitted_answered() {
    let mut relay = Relay::start(ServeConfig::default()).await;
    let mut silent = TcpStream::connect(relay.address).await.unwrap();
    silent.write_all(b"GET /tunnel").await.unwrap();
    let mut admitted = TcpStream::connect(relay.address).await.unwrap();
    admitted
        .write_all(request("slow-2", "").as_bytes())
        .await
        .unwrap();
    relay.doorman.hears("admit slow-2").await;
    let address = relay.address;
    let start = Instant::now();
    let (links, doorman) = (relay.take_links(), relay.doorman.clone());
    relay.stop().await.unwrap();
    // Not the ten seconds of the silent one's deadline.
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(said(&mut silent).await, b"");
    assert!(doorman.heard().contains(&"connected slow-2".to_owned()));
    drop(links);
    assert!(said(&mut admitted).await.starts_with(b"HTTP/1.1 101 "));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn what_is_not_tls_is_closed_at_once() {
    let (_, server) = tls(Certificate::Good, RecordsChoice::Library);
    let relay = Relay::start(server).await;
    let start = Instant::now();
    let mut socket = TcpStream::connect(relay.address).await.unwrap();
    socket
        .write_all(request(TOKEN, "").as_bytes())
        .await
        .unwrap();
    let answer = said(&mut socket).await;
    // At most an alert; certainly not the answer to the request.
    assert!(answer.len() < 10, "{answer:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(relay.doorman.heard(), [""; 0]);
}

#[tokio::test]
async fn an_address_that_keeps_failing_is_refused_before_it_costs_anything_and_then_forgiven() {
    let limit = FailureLimit {
        per_second: NonZeroU32::new(2).unwrap(),
        all_per_second: NonZeroU32::new(1_000).unwrap(),
        burst_seconds: 5,
        spares_loopback: false,
    };
    let relay = Relay::start(ServeConfig {
        failures: Some(limit),
        ..ServeConfig::default()
    })
    .await;
    let bad = request("deny-400", "");
    let mut answered = 0;
    loop {
        let mut socket = TcpStream::connect(relay.address).await.unwrap();
        let _ = socket.write_all(bad.as_bytes()).await;
        if said(&mut socket).await.is_empty() {
            break;
        }
        answered += 1;
    }
    // The burst, the one that overdraws it, and those forgiven meanwhile.
    assert!(answered >= 11, "{answered}");
    let asked = relay.doorman.heard().len();
    assert_eq!(
        asked, answered,
        "who is refused at the door is not asked about"
    );
    // A client that shares the address is let in by and by.
    let start = Instant::now();
    while Dialer::new(settings(relay.address)).dial().await.is_err() {
        assert!(start.elapsed() < PATIENCE);
        sleep(Duration::from_millis(50)).await;
    }
}
