//! The handshake driver: ends, failures, and what comes along with the last record.

use std::io::Write;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::{HandshakeError, Opened, RecordsChoice, Session, accept, connect, server_name};
use super::support::{
    Certificate, Kind, configs, configs_for, pair_with, tls12_suites, tls13_suites,
};

const CHOICES: [RecordsChoice; 2] = [RecordsChoice::Library, RecordsChoice::InPlace];

/// Drives the library's buffered connection by hand, one read and one write at a time.
async fn drive_by_hand(connection: &mut rustls::Connection, socket: &mut DuplexStream) {
    let mut wire = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut wire).unwrap();
    }
    socket.write_all(&wire).await.unwrap();
    if connection.is_handshaking() {
        let mut chunk = vec![0; 64 * 1024];
        let size = socket.read(&mut chunk).await.unwrap();
        let mut rest = &chunk[..size];
        while !rest.is_empty() {
            connection.read_tls(&mut rest).unwrap();
            connection.process_new_packets().unwrap();
        }
    }
}

fn opened(session: &mut Session) -> Vec<u8> {
    match session.records.open(&mut session.unread).unwrap() {
        Opened::Data { plaintext, .. } => session.unread[plaintext].to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_keeps_data_that_came_with_the_clients_last_record() {
    for choice in CHOICES {
        let (client, server) = configs(tls13_suites()[0]);
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        let name = server_name("localhost").unwrap();
        let mut client: rustls::Connection =
            rustls::ClientConnection::new(client, name).unwrap().into();
        let by_hand = async {
            while client.is_handshaking() {
                drive_by_hand(&mut client, &mut near).await;
            }
            client.writer().write_all(b"at once").unwrap();
            drive_by_hand(&mut client, &mut near).await;
        };
        let (session, ()) = tokio::join!(accept(&mut far, &server, choice), by_hand);
        assert_eq!(opened(&mut session.unwrap()), b"at once");
    }
}

#[tokio::test]
async fn a_client_keeps_data_that_came_with_the_servers_last_record() {
    for choice in CHOICES {
        for suite in [tls13_suites()[0], tls12_suites()[0]] {
            let (client, server) = configs(suite);
            let mut server = Arc::unwrap_or_clone(server);
            server.send_half_rtt_data = true;
            let (mut near, mut far) = tokio::io::duplex(64 * 1024);
            let mut server: rustls::Connection = rustls::ServerConnection::new(Arc::new(server))
                .unwrap()
                .into();
            // The library sends it as soon as the server may write.
            server.writer().write_all(b"at once").unwrap();
            let by_hand = async {
                while server.is_handshaking() {
                    drive_by_hand(&mut server, &mut far).await;
                }
                drive_by_hand(&mut server, &mut far).await;
            };
            let name = server_name("localhost").unwrap();
            let client = connect(&mut near, &client, name, choice);
            let (session, ()) = tokio::join!(client, by_hand);
            assert_eq!(opened(&mut session.unwrap()), b"at once");
        }
    }
}

/// Such a server may write before it has heard the client's last word, but is not done yet.
#[tokio::test]
async fn a_server_that_may_write_early_still_waits_for_the_end() {
    for kind in [Kind::Library, Kind::InPlace] {
        let (client, server) = configs(tls13_suites()[0]);
        let mut server = Arc::unwrap_or_clone(server);
        server.send_half_rtt_data = true;
        let (mut near, mut far) = pair_with(client, Arc::new(server), kind, kind).await;
        let mut wire = Vec::new();
        near.send(b"data", &mut wire);
        far.receive(&wire).unwrap();
        assert_eq!(far.plaintext, b"data");
    }
}

/// Connects to a server with `certificate` and returns both sides' outcomes.
async fn outcome(
    certificate: Certificate,
    name: &str,
) -> (
    Result<Session, HandshakeError>,
    Result<Session, HandshakeError>,
) {
    let (client, server) = configs_for(tls13_suites()[0], certificate);
    let (mut near, mut far) = tokio::io::duplex(64 * 1024);
    let name = server_name(name).unwrap();
    let choice = RecordsChoice::Library;
    tokio::join!(
        connect(&mut near, &client, name, choice),
        accept(&mut far, &server, choice)
    )
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_refused_in_words() {
    let cases = [
        (
            Certificate::Good,
            "elsewhere.test",
            "for another host",
            "by a name",
        ),
        (Certificate::Expired, "localhost", "has expired", "renew"),
        (Certificate::NotYet, "localhost", "not valid yet", "clock"),
        (
            Certificate::Stranger,
            "localhost",
            "unknown authority",
            "--capath",
        ),
        (
            Certificate::SameName,
            "localhost",
            "another key",
            "--capath",
        ),
        (
            Certificate::SelfSigned,
            "localhost",
            "unknown authority",
            "--capath",
        ),
    ];
    for (certificate, name, words, hint) in cases {
        let (client, server) = outcome(certificate, name).await;
        let error = client.unwrap_err();
        assert!(error.is_certificate());
        assert!(
            error.to_string().contains(words),
            "{certificate:?}: {error}"
        );
        assert!(error.hint().unwrap().contains(hint), "{certificate:?}");
        // The other side hears why, too.
        let error = server.unwrap_err().to_string();
        assert!(error.contains("refused the TLS handshake"), "{error}");
    }
    assert!(outcome(Certificate::Good, "localhost").await.0.is_ok());
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_is_named_so() {
    let (client, server) = configs(tls13_suites()[0]);
    let (mut near, mut far) = tokio::io::duplex(1024);
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .unwrap();
    let name = server_name("localhost").unwrap();
    let error = connect(&mut near, &client, name, RecordsChoice::Library).await;
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "the peer does not speak TLS");

    let (mut near, mut far) = tokio::io::duplex(1024);
    near.write_all(b"GET /tunnel HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let error = accept(&mut far, &server, RecordsChoice::Library).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "the peer does not speak TLS"
    );
}

#[tokio::test]
async fn an_end_in_the_middle_is_an_error() {
    let (_, server) = configs(tls13_suites()[0]);
    let (mut near, mut far) = tokio::io::duplex(1024);
    near.write_all(&[22, 3, 1, 0, 200, 1]).await.unwrap();
    drop(near);
    let error = accept(&mut far, &server, RecordsChoice::Library).await;
    assert!(matches!(error, Err(HandshakeError::ClosedEarly)));
}

#[tokio::test]
async fn an_endless_handshake_is_cut_off() {
    let (_, server) = configs(tls13_suites()[0]);
    let (mut near, mut far) = tokio::io::duplex(64 * 1024);
    let flood = async move {
        // One handshake message of 60,000 bytes, a byte per record.
        let mut bytes = vec![1, 0, 0xea, 0x60];
        bytes.resize(60_004, 0);
        for byte in bytes {
            if near.write_all(&[22, 3, 1, 0, 1, byte]).await.is_err() {
                return;
            }
        }
    };
    let choice = RecordsChoice::Library;
    let (result, ()) = tokio::join!(
        async {
            let result = accept(&mut far, &server, choice).await;
            drop(far);
            result
        },
        flood
    );
    assert!(
        matches!(result, Err(HandshakeError::TooLarge { .. })),
        "{result:?}"
    );
}

#[test]
fn names_are_host_names_or_addresses() {
    for good in [
        "localhost",
        "a.b.example",
        "127.0.0.1",
        "::1",
        "[::1]",
        "under_score.test",
    ] {
        assert!(server_name(good).is_ok(), "{good}");
    }
    for bad in ["", "a b", "host:443", "[::1", "\r\n", "-.x"] {
        let error = server_name(bad).unwrap_err();
        assert!(matches!(error, HandshakeError::BadName(_)), "{bad}");
    }
}

#[tokio::test]
async fn a_session_says_what_was_agreed() {
    for suite in tls13_suites() {
        let (client, server) = configs(suite);
        let mut client = Arc::unwrap_or_clone(client);
        let mut server = Arc::unwrap_or_clone(server);
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (client, server) = (Arc::new(client), Arc::new(server));
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        let name = server_name("localhost").unwrap();
        let (near, far) = tokio::join!(
            connect(&mut near, &client, name, RecordsChoice::InPlace),
            accept(&mut far, &server, RecordsChoice::InPlace)
        );
        for session in [near.unwrap(), far.unwrap()] {
            assert_eq!(session.version, "TLSv1_3");
            assert_eq!(Some(session.suite.as_str()), suite.suite().as_str());
            assert_eq!(session.alpn.as_deref(), Some(&b"http/1.1"[..]));
        }
    }
}
