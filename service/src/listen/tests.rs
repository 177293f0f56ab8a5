//! Clients that do nothing right, on real sockets.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::MQTT_ALPN;
use crate::service::Running;
use crate::settings::{ConnectionLimits, Settings};
use crate::testing::{Client, StartedRelay, client_config, connect, request, settings, start};

const SHORT: Duration = Duration::from_millis(300);
/// Enough for anything that happens after `SHORT`, on a busy machine.
const LONG: Duration = Duration::from_secs(10);

fn impatient(change: impl FnOnce(&mut ConnectionLimits)) -> Settings {
    let mut settings = settings();
    change(&mut settings.api.connections);
    settings
}

/// How long until the server ends the connection.
async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let end = timeout(LONG, stream.read_to_end(&mut bytes)).await;
    let _ = end.expect("the server should have ended the connection");
    bytes
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_cut() {
    let running = start(impatient(|l| l.handshake_timeout = SHORT)).await;
    let mut socket = TcpStream::connect(running.api_address).await.unwrap();
    assert!(read_to_end(&mut socket).await.is_empty());
    // And one that speaks plain HTTP is told so by an alert, not by a page.
    let mut socket = TcpStream::connect(running.api_address).await.unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let answer = read_to_end(&mut socket).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_sends_its_head_slowly_is_cut() {
    let running = start(impatient(|l| l.head_timeout = SHORT)).await;
    for start in [&b""[..], b"POST / HTTP/1.1\r\nHost: loc"] {
        let mut stream = connect(&running).await;
        stream.write_all(start).await.unwrap();
        read_to_end(&mut stream).await;
    }
    // An idle connection ends the same way, after an answer.
    let mut stream = connect(&running).await;
    let get = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(get).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with(b"HTTP/1.1 405"));
}

#[tokio::test]
async fn a_client_that_sends_its_body_slowly_is_answered_in_json() {
    let running = start(impatient(|l| l.body_timeout = SHORT)).await;
    let mut stream = connect(&running).await;
    let head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\
                 X-Amz-Target: IoTSecuredTunneling.ListTunnels\r\n\r\n{";
    stream.write_all(head).await.unwrap();
    let answer = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(
        answer.contains(r#""__type":"RequestTimeoutException""#),
        "{answer}"
    );
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_answered_in_json_with_an_id() {
    let running = start(settings()).await;
    let (large, unreadable) = ("RequestEntityTooLargeException", "SerializationException");
    let get = "GET / HTTP/1.1\r\nHost: localhost\r\n";
    let long = "x".repeat(70_000);
    let many = (0..150)
        .map(|n| format!("X-{n}: 1\r\n"))
        .collect::<String>();
    for (head, status, code) in [
        (format!("{get}X-Long: {long}\r\n\r\n"), 431, large),
        (format!("{get}{many}\r\n"), 431, large),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 431, large),
        ("what is this\r\n\r\n".to_owned(), 400, unreadable),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 400, unreadable),
        (format!("{get}no colon\r\n\r\n"), 400, unreadable),
        (format!("{get}Content-Length: -1\r\n\r\n"), 400, unreadable),
        (
            format!("{get}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            400,
            unreadable,
        ),
    ] {
        // Also as the second request, sent with the first.
        for first in ["", get] {
            let mut stream = connect(&running).await;
            let sent = match first {
                "" => head.clone(),
                first => format!("{first}\r\n{head}"),
            };
            stream.write_all(sent.as_bytes()).await.unwrap();
            let answer = String::from_utf8(read_to_end(&mut stream).await).unwrap();
            let shown = head.get(..60).unwrap_or(&head);
            let answers: Vec<_> = answer.matches("HTTP/1.1 ").collect();
            assert_eq!(
                answers.len(),
                if first.is_empty() { 1 } else { 2 },
                "{shown}: {answer}"
            );
            let last = &answer[answer.rfind("HTTP/1.1 ").unwrap()..];
            assert!(
                last.starts_with(&format!("HTTP/1.1 {status} ")),
                "{shown}: {answer}"
            );
            let (head, body) = last.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("\r\nx-amzn-requestid: "), "{shown}: {answer}");
            assert!(
                head.contains(&format!("\r\ncontent-length: {}", body.len())),
                "{head}"
            );
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["__type"], code, "{shown}");
        }
    }
}

#[tokio::test]
async fn a_connection_ends_after_its_lifetime_and_the_next_one_works() {
    let running = start(impatient(|l| l.lifetime = SHORT)).await;
    let mut stream = connect(&running).await;
    assert!(read_to_end(&mut stream).await.is_empty());
    Client::new(&running)
        .await
        .ok("ListTunnels", json!({}))
        .await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let running = start(impatient(|l| {
        l.connections_max = 2;
        l.head_timeout = LONG;
        l.patience = LONG;
    }))
    .await;
    let first = connect(&running).await;
    let second = connect(&running).await;
    // The third one is taken, and nobody answers it.
    let third = connect(&running);
    tokio::pin!(third);
    assert!(timeout(SHORT, third.as_mut()).await.is_err());
    drop(first);
    timeout(LONG, third).await.unwrap();
    drop(second);
}

#[tokio::test]
async fn beyond_a_quarter_of_all_places_a_caller_has_a_connection_for_each_call() {
    let running = start(impatient(|l| l.connections_max = 8)).await;
    let mut clients = Vec::new();
    for number in 1..=4 {
        let mut client = Client::new(&running).await;
        let answered = client.call("ListTunnels", &json!({})).await;
        assert_eq!(answered.head.status(), 200);
        let closes = answered.head.headers().get("connection");
        assert_eq!(closes.is_some_and(|it| it == "close"), number > 2);
        clients.push(client);
    }
    for client in &mut clients[..2] {
        client.ok("ListTunnels", json!({})).await;
    }
}

#[tokio::test]
async fn protocols_other_than_http_1_are_refused_in_the_handshake() {
    let running = start(settings()).await;
    for (offered, good) in [
        (&[&b"http/1.1"[..]][..], true),
        (&[b"h2", b"http/1.1"], true),
        (&[], true),
        (&[b"h2"], false),
        (&[b"x-amzn-http-ca"], false),
    ] {
        let mut config = client_config(&running.ca_pem);
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let socket = TcpStream::connect(running.api_address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connected = TlsConnector::from(Arc::new(config))
            .connect(name, socket)
            .await;
        assert_eq!(connected.is_ok(), good, "{offered:?}");
        if let (Ok(stream), false) = (connected, offered.is_empty()) {
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        }
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_many_clients_work_at_once() {
    let running = start(settings()).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(Client::new(&running).await);
    }
    let work = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            for _ in 0..20 {
                client.ok("OpenTunnel", json!({})).await;
            }
        })
    });
    for worker in work.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    let page = Client::new(&running)
        .await
        .ok("ListTunnels", json!({}))
        .await;
    assert_eq!(page["tunnelSummaries"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn stopping_ends_idle_connections_at_once_and_busy_ones_soon() {
    let running = start(impatient(|l| l.drain_timeout = SHORT)).await;
    let address = running.api_address;
    let mut idle = connect(&running).await;
    let mut busy = connect(&running).await;
    let head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\
                 X-Amz-Target: IoTSecuredTunneling.ListTunnels\r\n\r\n{";
    busy.write_all(head).await.unwrap();
    let mut client = Client::new(&running).await;
    client.send(request("ListTunnels", "{}")).await;
    timeout(LONG, running.stop()).await.unwrap().unwrap();
    assert!(read_to_end(&mut idle).await.is_empty());
    assert!(read_to_end(&mut busy).await.is_empty());
    assert!(TcpStream::connect(address).await.is_err());
}

/// Connections that fill all places and say nothing, not much, or nothing good.
async fn flood(running: &Running<StartedRelay>, count: usize) -> Vec<Box<dyn Any>> {
    let mut held: Vec<Box<dyn Any>> = Vec::new();
    for index in 0..count {
        match index % 3 {
            0 => held.push(Box::new(connect_silently(running).await)),
            1 => held.push(Box::new(connect(running).await)),
            _ => {
                let mut client = Client::new(running).await;
                let refused = client
                    .refused("OpenTunnel", json!({"description": 7}))
                    .await;
                assert_eq!(refused.0, 400);
                held.push(Box::new(client));
            }
        }
    }
    held
}

async fn connect_silently(running: &Running<StartedRelay>) -> TcpStream {
    TcpStream::connect(running.api_address).await.unwrap()
}

#[tokio::test]
async fn clients_that_do_nothing_keep_nobody_out() {
    let running = start(impatient(|l| {
        l.connections_max = 6;
        l.patience = SHORT;
        // Nobody goes for another reason.
        l.handshake_timeout = LONG * 60;
        l.head_timeout = LONG * 60;
    }))
    .await;
    let mut known = Client::new(&running).await;
    known.ok("OpenTunnel", json!({})).await;
    let _held = flood(&running, 12).await;
    for _ in 0..10 {
        let mut good = Client::new(&running).await;
        let answered = timeout(LONG, good.ok("ListTunnels", json!({}))).await;
        answered.expect("a good client is served");
    }
    // Who was known stays connected.
    known.ok("ListTunnels", json!({})).await;
}

#[tokio::test]
async fn devices_that_do_nothing_keep_no_other_device_out_of_the_shared_port() {
    let mut settings = settings();
    settings.mqtt.limits.strangers_max = 4;
    settings.mqtt.limits.patience = SHORT;
    settings.mqtt.limits.handshake_timeout = LONG * 60;
    settings.api.connections.handshake_timeout = LONG * 60;
    let running = start(settings).await;
    let mut config = client_config(&running.ca_pem);
    config.alpn_protocols = vec![MQTT_ALPN.to_vec()];
    let config = Arc::new(config);
    let mut held = Vec::new();
    for _ in 0..12 {
        let mut socket = connect_silently(&running).await;
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        socket.write_all(&hello).await.unwrap();
        // The service goes on with the handshake, and waits for the client in vain.
        let answer = timeout(LONG, socket.read_u8()).await;
        assert_eq!(
            answer.expect("an answer to each greeting").unwrap(),
            HANDSHAKE
        );
        held.push(socket);
    }
}

/// First byte of a TLS record that shakes hands.
const HANDSHAKE: u8 = 22;
