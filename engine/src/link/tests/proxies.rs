//! Web proxies, good and hostile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::super::{
    Deadlines, DialSettings, Dialer, Link, LinkError, LinkTls, ProxyError, Step, WebProxy,
};
use super::support::{
    End, PATIENCE, Relay, TOKEN, converse, read_head, read_rest, scripted, settings, tls,
};
use crate::tls::tests::support::{Certificate, configs, configs_from, identity, tls13_suites};
use crate::tls::{ClientTls, RecordsChoice, pin_of};

/// Reads a CONNECT, connects to `relay` whatever it asks for, and copies. Gives back the CONNECT.
async fn forward<S>(mut client: S, relay: SocketAddr) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let mut socket = TcpStream::connect(relay).await.unwrap();
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
        .await
        .unwrap();
    let _ = copy_bidirectional(&mut client, &mut socket).await;
    String::from_utf8(head).unwrap()
}

fn through(url: &str, proxy: SocketAddr, tls: LinkTls) -> DialSettings {
    DialSettings {
        // The proxy resolves the name, not we.
        host: "localhost".to_owned(),
        port: 443,
        tls: Some(tls),
        web_proxy: Some(WebProxy::parse(&url.replace("PROXY", &proxy.port().to_string())).unwrap()),
        ..settings(proxy)
    }
}

#[tokio::test]
async fn a_link_goes_through_a_proxy() {
    for (url, authorization) in [
        ("http://127.0.0.1:PROXY", ""),
        (
            "http://us%65r:pass+word@127.0.0.1:PROXY",
            "Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=\r\n",
        ),
    ] {
        let (client, server) = tls(Certificate::Good, RecordsChoice::InPlace);
        let mut relay = Relay::start(server).await;
        let address = relay.address;
        let (proxy, task) = scripted(move |socket: TcpStream| forward(socket, address)).await;
        let (near, far) = relay.connect(through(url, proxy, client)).await;
        converse(near, far, 300_000).await;
        let head = timeout(PATIENCE, task).await.unwrap().unwrap();
        let expected =
            format!("CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n{authorization}\r\n");
        assert_eq!(head, expected);
    }
}

/// A proxy that is spoken to in TLS, with a certificate of its own, in front of `relay`.
async fn tls_proxy(
    config: Arc<rustls::ServerConfig>,
    relay: SocketAddr,
) -> (SocketAddr, JoinHandle<String>) {
    scripted(move |socket: TcpStream| async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        forward(acceptor.accept(socket).await.unwrap(), relay).await
    })
    .await
}

#[tokio::test]
async fn a_link_goes_through_a_tls_proxy() {
    for records in [RecordsChoice::InPlace, RecordsChoice::Library] {
        // One authority for both, as one trust store serves both.
        let (client, server) = configs(tls13_suites()[0]);
        let mut relay = Relay::start(super::super::ServeConfig {
            tls: Some(Arc::clone(&server)),
            records,
            ..Default::default()
        })
        .await;
        let (proxy, task) = tls_proxy(server, relay.address).await;
        let tls = LinkTls::new(client, records);
        let (near, far) = relay
            .connect(through("https://localhost:PROXY", proxy, tls))
            .await;
        // The link ends when its socket is closed, and the proxy hears of it.
        converse(near, far, 1 << 20).await;
        let head = timeout(PATIENCE, task).await.unwrap().unwrap();
        assert!(head.starts_with("CONNECT localhost:443 "), "{head}");
    }
}

#[tokio::test]
async fn the_end_of_the_far_side_comes_through_a_tls_proxy_behind_its_last_bytes() {
    let (client, server) = configs(tls13_suites()[0]);
    let (link_tls, config) = (
        LinkTls::new(client, RecordsChoice::InPlace),
        super::super::ServeConfig {
            tls: Some(Arc::clone(&server)),
            ..Default::default()
        },
    );
    let mut relay = Relay::start(config).await;
    let (proxy, _task) = tls_proxy(server, relay.address).await;
    let (near, far) = relay
        .connect(through("https://localhost:PROXY", proxy, link_tls))
        .await;
    let (mut near, mut far) = (End::new(near), End::new(far));
    far.send(&[7; 100_000]).await;
    drop(far);
    near.hears(&[7; 100_000]).await;
    let start = Instant::now();
    near.ends().await;
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

/// Which has a key of its own, whatever the service must have.
#[tokio::test]
async fn a_pinned_key_is_not_asked_of_a_tls_proxy() {
    let service = identity(Certificate::Good);
    let trust = ClientTls {
        no_verify: true,
        pins: Some(pin_of(&service.0).unwrap().to_string().parse().unwrap()),
        ..ClientTls::default()
    };
    let tls = LinkTls::from_settings(&trust, RecordsChoice::InPlace).unwrap();
    let (_, config) = configs_from(tls13_suites()[0], service);
    let mut relay = Relay::start(super::super::ServeConfig {
        tls: Some(config),
        ..Default::default()
    })
    .await;
    let (_, others) = configs(tls13_suites()[0]);
    let (proxy, _task) = tls_proxy(others, relay.address).await;
    let (near, far) = relay
        .connect(through("https://localhost:PROXY", proxy, tls.clone()))
        .await;
    converse(near, far, 1 << 10).await;
    let (proxy, _task) = tls_proxy(configs(tls13_suites()[0]).1, relay.address).await;
    let swapped = LinkTls {
        web_proxy: Some(Arc::clone(&tls.config)),
        ..tls
    };
    let refused = Dialer::new(through("https://localhost:PROXY", proxy, swapped));
    let error = refused.dial().await.unwrap_err();
    assert!(
        error.to_string().contains("not one of those pinned"),
        "{error}"
    );
}

#[tokio::test]
async fn a_tls_proxy_must_prove_its_name() {
    let (client, _) = configs(tls13_suites()[0]);
    let (_, stranger) = configs(tls13_suites()[0]);
    let (proxy, _task) = scripted(move |socket: TcpStream| async move {
        let _ = tokio_rustls::TlsAcceptor::from(stranger)
            .accept(socket)
            .await;
    })
    .await;
    let tls = LinkTls::new(client, RecordsChoice::Library);
    let error = Dialer::new(through("https://localhost:PROXY", proxy, tls));
    let error = error.dial().await.unwrap_err();
    assert!(
        matches!(
            error,
            LinkError::Proxy {
                source: ProxyError::Tls(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("web proxy localhost:"),
        "{error}"
    );
    assert!(error.hint().is_some() && error.is_retryable());
}

/// Dials through a proxy that answers `reply` byte for byte. Gives back the outcome and all that
/// the proxy received behind the CONNECT.
async fn dial_through(reply: Vec<u8>, close: bool) -> (Result<Link, LinkError>, Vec<u8>) {
    let (proxy, task) = scripted(move |mut socket: TcpStream| async move {
        read_head(&mut socket).await;
        let _ = socket.write_all(&reply).await;
        if close {
            let _ = socket.shutdown().await;
        }
        timeout(PATIENCE, read_rest(&mut socket)).await.unwrap()
    })
    .await;
    let (client, _) = tls(Certificate::Good, RecordsChoice::Library);
    let short = Duration::from_millis(300);
    let outcome = Dialer::new(DialSettings {
        deadlines: Deadlines {
            proxy: short,
            tls: short,
            ..Deadlines::default()
        },
        ..through("http://user:secret-password@127.0.0.1:PROXY", proxy, client)
    });
    let outcome = outcome.dial().await;
    (outcome, task.await.unwrap())
}

/// T-21: hostile answers, delivered at least two hundred times: each with an end behind it, and without.
#[tokio::test]
async fn hostile_answers_of_a_proxy_neither_hang_nor_leak() {
    let mut replies: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |what: String, reply: &[u8]| replies.push((what, reply.to_vec()));
    for status in (100..=103)
        .chain(300..=308)
        .chain(400..=431)
        .chain(500..=511)
        .chain([0, 999])
    {
        add(
            format!("status {status}"),
            format!("HTTP/1.1 {status} x\r\n\r\n").as_bytes(),
        );
    }
    let good = b"HTTP/1.1 200 OK\r\n\r\n";
    for early in [
        &b"\x16\x03\x03\x00\x05hello"[..],
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"x",
        b"\r\n",
    ] {
        add(format!("early bytes {early:?}"), &[good, early].concat());
    }
    for end in 0..good.len() {
        add(format!("cut after {end}"), &good[..end]);
    }
    for at in 0..good.len() {
        let mut broken = good.to_vec();
        broken[at] ^= 0x80;
        add(format!("byte {at} broken"), &broken);
        broken.remove(at);
        add(format!("byte {at} missing"), &broken);
    }
    for line in [
        "\n",
        "\r",
        " ",
        ": x\r\n",
        "a\r\n",
        "a b: c\r\n",
        "a: \0\r\n",
        "a: b\r\n c\r\n",
    ] {
        add(
            format!("header {line:?}"),
            format!("HTTP/1.1 200 OK\r\n{line}\r\n").as_bytes(),
        );
    }
    for version in [
        "HTTP/2 200",
        "HTTP/1.2 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 2000",
    ] {
        add(version.to_owned(), format!("{version}\r\n\r\n").as_bytes());
    }
    add(
        "redirect".into(),
        b"HTTP/1.1 302 Found\r\nLocation: https://evil.test/\r\n\r\n",
    );
    add(
        "interim without end".into(),
        &b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000),
    );
    add(
        "headers without end".into(),
        &[&b"HTTP/1.1 200 OK\r\n"[..], &b"a: b\r\n".repeat(200_000)].concat(),
    );
    add(
        "a line without end".into(),
        &[&b"HTTP/1.1 200 "[..], &[b'x'; 100_000]].concat(),
    );
    add("not HTTP".into(), b"SSH-2.0-OpenSSH_9.9\r\n");
    add(
        "TLS at once".into(),
        b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76",
    );
    add("binary".into(), &[0xff; 9000]);

    let (mut tasks, mut checked) = (JoinSet::new(), 0);
    for (what, reply) in replies {
        for close in [true, false] {
            let (what, reply) = (what.clone(), reply.clone());
            tasks.spawn(async move { check_hostile(&what, reply, close).await });
            if tasks.len() >= 16 {
                tasks.join_next().await.unwrap().unwrap();
                checked += 1;
            }
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
        checked += 1;
    }
    assert!(checked >= 200, "{checked}");
}

async fn check_hostile(what: &str, reply: Vec<u8>, close: bool) {
    let start = Instant::now();
    let (outcome, received) = dial_through(reply, close).await;
    let Err(error) = outcome else {
        panic!("{what}: a link");
    };
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(10), "{what}: {elapsed:?}");
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains(TOKEN) && !shown.contains("secret-password"),
        "{shown}"
    );
    // A reply that says 200 in spite of all: then TLS begins, and gets nowhere.
    let in_tls = matches!(
        error,
        LinkError::TimedOut {
            step: Step::Tls,
            ..
        } | LinkError::Tls { .. }
    );
    let in_proxy = matches!(
        error,
        LinkError::TimedOut {
            step: Step::Proxy,
            ..
        } | LinkError::Proxy { .. }
    );
    assert!(in_tls || in_proxy, "{what}: {error:?}");
    assert!(
        received.is_empty() || in_tls && received[0] == 22,
        "{what}: {received:?}"
    );
    let leaked = received
        .windows(TOKEN.len())
        .any(|it| it == TOKEN.as_bytes());
    assert!(!leaked, "{what}");
}

#[tokio::test]
async fn bytes_behind_the_answer_of_a_proxy_are_not_taken_for_the_services() {
    let reply = b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03".to_vec();
    let (outcome, received) = dial_through(reply, false).await;
    let error = outcome.unwrap_err();
    let LinkError::Proxy {
        source: ProxyError::EarlyBytes { size: 3 },
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(received, b"");
}

#[tokio::test]
async fn what_a_proxy_says_decides_whether_to_try_again() {
    for (status, is_retryable) in [
        (301, true),
        (403, true),
        (407, false),
        (502, true),
        (503, true),
    ] {
        let reply = format!("HTTP/1.1 {status} x\r\n\r\n").into_bytes();
        let error = dial_through(reply, true).await.0.unwrap_err();
        assert_eq!(error.is_retryable(), is_retryable, "{status}");
        assert!(
            error.to_string().contains(&format!("status {status}")),
            "{error}"
        );
        assert_eq!(error.hint().is_some(), status == 407);
    }
}

#[tokio::test]
async fn a_proxy_that_drips_is_given_up_at_the_deadline() {
    let (proxy, _task) = scripted(|mut socket: TcpStream| async move {
        read_head(&mut socket).await;
        for byte in b"HTTP/1.1 200 OK\r\n"
            .iter()
            .chain(std::iter::repeat(&b'a'))
        {
            if socket.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let (client, _) = tls(Certificate::Good, RecordsChoice::Library);
    let start = Instant::now();
    let error = Dialer::new(DialSettings {
        deadlines: Deadlines {
            proxy: Duration::from_millis(500),
            ..Deadlines::default()
        },
        ..through("http://127.0.0.1:PROXY", proxy, client)
    });
    let error = error.dial().await.unwrap_err();
    assert!(
        matches!(
            error,
            LinkError::TimedOut {
                step: Step::Proxy,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    drop(listener);
    let (client, _) = tls(Certificate::Good, RecordsChoice::Library);
    let error = Dialer::new(through("http://127.0.0.1:PROXY", proxy, client));
    let error = error.dial().await.unwrap_err();
    assert!(matches!(error, LinkError::Dial { .. }), "{error:?}");
    assert!(error.to_string().contains(&proxy.to_string()), "{error}");
}
