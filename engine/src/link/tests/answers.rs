//! Services that do not let us in, each in its own way.

use std::time::{Duration, Instant};

use adit_proto::handshake::HandshakeError;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::super::{Deadlines, DialSettings, Dialer, LinkError, Step};
use super::support::{TOKEN, accepted, read_head, scripted, settings, tls};
use crate::tls::RecordsChoice;
use crate::tls::tests::support::Certificate;

/// What a client makes of `answer`, which may use the request's head.
async fn outcome(answer: impl FnOnce(&str) -> String + Send + 'static) -> LinkError {
    let (address, _server) = scripted(|mut socket: TcpStream| async move {
        let head = read_head(&mut socket).await;
        socket.write_all(answer(&head).as_bytes()).await.unwrap();
    })
    .await;
    let error = Dialer::new(settings(address)).dial().await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(TOKEN), "{shown}");
    error
}

#[tokio::test]
async fn an_answer_that_no_relay_gives_hints_at_the_endpoint() {
    for (status, body, hint) in [
        (400, "Invalid access token", Some("rotating")),
        (
            403,
            r#"{"__type":"MissingAuth","message":""}"#,
            Some("port"),
        ),
        (200, "<!doctype html>", Some("port")),
        (404, "nothing is here", Some("port")),
        (502, "<html>", None),
    ] {
        let size = body.len();
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {size}\r\n\r\n{body}");
        let error = outcome(move |_| answer).await;
        let given = error.hint().unwrap_or_default();
        assert!(given.contains(hint.unwrap_or("")), "{status}: {given}");
        assert_eq!(given.is_empty(), hint.is_none(), "{status}: {given}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_the_service_said() {
    let cases = [
        (400, false),
        (403, false),
        (404, false),
        (429, false),
        (200, false),
        (301, false),
        (500, true),
        (503, true),
        (599, true),
    ];
    for (status, is_retryable) in cases {
        let error = outcome(move |_| {
            format!(
                "HTTP/1.1 {status} Whatever\r\nchannel-id: c\r\nContent-Length: 30\r\n\r\n\
                 Invalid access token: too old."
            )
        })
        .await;
        let text = error.to_string();
        assert!(text.contains(&format!("status {status}")), "{text}");
        assert!(text.contains("Invalid access token: too old."), "{text}");
        assert_eq!(error.is_retryable(), is_retryable, "{status}");
        assert_eq!(error.hint().is_some(), status < 500, "{status}");
        let LinkError::Refused { refusal, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(refusal.channel_id.as_deref(), Some("c"));
    }
}

#[tokio::test]
async fn a_refusal_without_a_length_ends_with_the_connection() {
    let error = outcome(|_| "HTTP/1.1 400 Bad Request\r\n\r\nused up".to_owned()).await;
    assert!(error.to_string().ends_with("used up"), "{error}");
}

#[tokio::test]
async fn answers_that_are_none_are_told_apart() {
    let error = outcome(|_| String::new()).await;
    assert!(error.is_retryable(), "{error}");
    let error = outcome(|_| "HTTP/1.1 101 Swi".to_owned()).await;
    assert!(error.is_retryable(), "{error}");
    let error = outcome(|_| "SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned()).await;
    assert!(error.is_retryable(), "{error}");
    let error = outcome(|_| "x".repeat(20_000)).await;
    assert!(error.is_retryable(), "{error}");
    let error = outcome(|head| accepted(head).replace("Accept: ", "Accept: x")).await;
    assert!(
        error.to_string().contains("Sec-WebSocket-Accept"),
        "{error}"
    );
    // Q-09: with a backoff, not at once and not never.
    let error = outcome(|head| accepted(head).replace("sec-websocket-protocol", "x")).await;
    assert!(matches!(
        error,
        LinkError::Answer {
            source: HandshakeError::MissingSubprotocol,
            ..
        }
    ));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn what_we_ask_wrongly_is_not_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = Dialer::new(DialSettings {
        user_agent: "a\r\nb: c".to_owned(),
        ..settings(listener.local_addr().unwrap())
    });
    let error = error.dial().await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert!(error.to_string().contains("user agent"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_named_with_what_helps() {
    let cases = [
        (
            Certificate::Good,
            "127.0.0.1",
            "for another host",
            "by a name",
        ),
        (Certificate::Expired, "localhost", "has expired", "renew"),
        (
            Certificate::Stranger,
            "localhost",
            "unknown authority",
            "--capath",
        ),
        (
            Certificate::SelfSigned,
            "localhost",
            "unknown authority",
            "--capath",
        ),
    ];
    for (certificate, host, words, hint) in cases {
        let (client, server) = tls(certificate, RecordsChoice::Library);
        let (address, _server) = scripted(move |mut socket: TcpStream| async move {
            let server = server.tls.unwrap();
            let _ = crate::tls::accept(&mut socket, &server, RecordsChoice::Library).await;
        })
        .await;
        let error = Dialer::new(DialSettings {
            host: host.to_owned(),
            tls: Some(client),
            ..settings(address)
        });
        let error = error.dial().await.unwrap_err();
        assert!(matches!(error, LinkError::Tls { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(words) && text.contains(host), "{text}");
        assert!(error.hint().unwrap().contains(hint), "{text}");
        assert!(
            error.is_retryable(),
            "the clock or the certificate may be set right"
        );
    }
}

#[tokio::test]
async fn a_silent_service_is_given_up_at_the_step_it_is_silent_at() {
    // Accepted by the kernel, and by nobody else.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let short = Duration::from_millis(200);
    let (client, _) = tls(Certificate::Good, RecordsChoice::Library);
    let cases = [
        (
            Step::Upgrade,
            None,
            Deadlines {
                upgrade: short,
                ..Deadlines::default()
            },
        ),
        (
            Step::Tls,
            Some(client),
            Deadlines {
                tls: short,
                ..Deadlines::default()
            },
        ),
    ];
    for (expected, tls, deadlines) in cases {
        let start = Instant::now();
        let error = Dialer::new(DialSettings {
            tls,
            deadlines,
            ..settings(address)
        });
        let error = error.dial().await.unwrap_err();
        assert!(
            matches!(error, LinkError::TimedOut { step, .. } if step == expected),
            "{error}"
        );
        assert!(
            error.to_string().ends_with("took more than 0.2 s"),
            "{error}"
        );
        assert!(error.is_retryable());
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
