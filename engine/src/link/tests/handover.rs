//! What comes out of a successful handshake on both sides.

use adit_proto::Mode;
use rustls::SupportedCipherSuite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::super::channel::Channel;
use super::super::{DialSettings, Dialer, LinkTls, ServeConfig};
use super::support::{
    End, Relay, TOKEN, accepted, converse, header, read_head, scripted, settings, tls,
};
use crate::tls::tests::support::{Certificate, configs, tls12_suites, tls13_suites};
use crate::tls::{self, RecordsChoice};

#[tokio::test]
async fn both_ends_of_a_link_talk() {
    let mut relay = Relay::start(ServeConfig::default()).await;
    let (near, far) = relay.connect(settings(relay.address)).await;
    assert_eq!(near.channel_id, far.channel_id);
    assert_eq!(near.channel_id.len(), 36);
    assert_eq!(near.subprotocol, "aws.iot.securetunneling-3.0");
    assert_eq!(near.subprotocol, far.subprotocol);
    assert_eq!(
        relay.doorman.heard(),
        [format!("admit {TOKEN}"), format!("connected {TOKEN}")]
    );
    for link in [&near, &far] {
        let socket = socket2::SockRef::from(&link.socket);
        assert!(socket.tcp_nodelay().unwrap() && socket.nonblocking().unwrap());
        assert!(socket.keepalive().unwrap());
        // It would cut a tunnel whose peer only does not read.
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    }
    converse(near, far, 300_000).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn both_ends_talk_in_tls_of_each_kind() {
    let suites: [SupportedCipherSuite; 2] = [tls13_suites()[0], tls12_suites()[0]];
    for suite in suites {
        for records in [RecordsChoice::Library, RecordsChoice::InPlace] {
            let (client, server) = configs(suite);
            let mut relay = Relay::start(ServeConfig {
                tls: Some(server),
                records,
                ..ServeConfig::default()
            })
            .await;
            let (near, far) = relay
                .connect(DialSettings {
                    host: "localhost".to_owned(),
                    mode: Mode::Destination,
                    tls: Some(LinkTls::new(client, records)),
                    ..settings(relay.address)
                })
                .await;
            converse(near, far, 300_000).await;
        }
    }
}

#[tokio::test]
async fn the_request_is_the_references() {
    let (address, server) = scripted(|mut socket: TcpStream| async move {
        let head = read_head(&mut socket).await;
        socket.write_all(accepted(&head).as_bytes()).await.unwrap();
        head
    })
    .await;
    let dialer = Dialer::new(DialSettings {
        host: "localhost".to_owned(),
        client_token: Some(adit_proto::ClientToken::strict("c".repeat(32)).unwrap()),
        ..settings(address)
    });
    let link = dialer.dial().await.unwrap();
    assert_eq!(link.channel_id, "one");
    let head = server.await.unwrap();
    let key = header(&head, "Sec-WebSocket-Key");
    let expected = format!(
        "GET /tunnel?local-proxy-mode=source HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: aws.iot.securetunneling-3.0\r\naccess-token: {TOKEN}\r\n\
         client-token: {}\r\nUser-Agent: test\r\n\r\n",
        "c".repeat(32)
    );
    assert_eq!(head, expected);
    let shown = format!("{dialer:?}");
    assert!(
        !shown.contains(TOKEN) && !shown.contains("ccccc"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_host_that_is_an_address_is_written_in_brackets_if_it_must_be() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    };
    let address = listener.local_addr().unwrap();
    for host in ["::1", "[::1]"] {
        let dial = Dialer::new(DialSettings {
            host: host.to_owned(),
            ..settings(address)
        });
        let (dialled, head) = tokio::join!(dial.dial(), async {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_head(&mut socket).await
        });
        assert!(dialled.is_err());
        assert_eq!(header(&head, "Host"), "[::1]");
    }
}

/// The service's first frames may come in the same packet, even in the same record.
#[tokio::test]
async fn what_comes_with_the_answer_is_kept_in_order() {
    let (address, _server) = scripted(|mut socket: TcpStream| async move {
        let head = read_head(&mut socket).await;
        let answer = accepted(&head) + "first frame";
        socket.write_all(answer.as_bytes()).await.unwrap();
        socket
    })
    .await;
    let link = Dialer::new(settings(address)).dial().await.unwrap();
    End::new(link).hears(b"first frame").await;

    for records in [RecordsChoice::Library, RecordsChoice::InPlace] {
        let (client, server) = tls(Certificate::Good, records);
        let server = server.tls.unwrap();
        let (address, _server) = scripted(move |mut socket: TcpStream| async move {
            let session = tls::accept(&mut socket, &server, records).await.unwrap();
            let mut channel = Channel::new(socket, session.records, session.unread);
            while !channel.opened.ends_with(b"\r\n\r\n") {
                assert!(channel.receive().await.unwrap());
            }
            let head = String::from_utf8(std::mem::take(&mut channel.opened)).unwrap();
            channel
                .send((accepted(&head) + "one ").as_bytes())
                .await
                .unwrap();
            channel.send(b"two ").await.unwrap();
            channel.send(b"three").await.unwrap();
            channel
        })
        .await;
        let link = Dialer::new(DialSettings {
            host: "localhost".to_owned(),
            tls: Some(client),
            ..settings(address)
        });
        let link = link.dial().await.unwrap();
        assert_eq!(link.opened, b"one ");
        End::new(link).hears(b"one two three").await;
    }
}
