use super::*;
use crate::handshake::{encode_accept, encode_refusal};
use crate::ids::Subprotocol;

const KEY: &[u8; 16] = b"the sample nonce";

const GOOD: [&str; 6] = [
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    "sec-websocket-protocol: aws.iot.securetunneling-3.0",
    "channel-id: 0123-abc",
];

fn head(lines: &[&str]) -> Vec<u8> {
    let mut text = lines.join("\r\n");
    text.push_str("\r\n\r\n");
    text.into_bytes()
}

/// The good answer with one line replaced by any number of others.
fn replaced(old: &str, new: &[&str]) -> Vec<u8> {
    assert_eq!(GOOD.iter().filter(|line| line.starts_with(old)).count(), 1);
    let lines: Vec<&str> = GOOD
        .iter()
        .flat_map(|line| match line.starts_with(old) {
            true => new.to_vec(),
            false => vec![*line],
        })
        .collect();
    head(&lines)
}

type Parsed = Result<Option<(UpgradeResponse, usize)>, HandshakeError>;

/// Reads an answer whole, cut anywhere, and a byte at a time: always the same.
fn parse(bytes: &[u8]) -> Parsed {
    fuzz_upgrade_response(bytes);
    let whole = parse_upgrade_response(bytes, KEY);
    let mut decided = false;
    for size in 0..bytes.len() {
        let part = parse_upgrade_response(&bytes[..size], KEY);
        assert!(part == Ok(None) || part == whole, "{size} bytes: {part:?}");
        assert!(
            !decided || part == whole,
            "changed its mind at {size} bytes"
        );
        decided = part != Ok(None);
    }
    whole
}

fn accepted(bytes: &[u8]) -> (Option<String>, String) {
    match parse(bytes) {
        Ok(Some((
            UpgradeResponse::Accepted {
                channel_id,
                subprotocol,
                ..
            },
            size,
        ))) => {
            assert_eq!(size, bytes.len());
            (channel_id, subprotocol)
        }
        other => panic!("{other:?}"),
    }
}

fn refused(bytes: &[u8]) -> (Refusal, usize) {
    match parse(bytes) {
        Ok(Some((UpgradeResponse::Refused(refusal), size))) => (refusal, size),
        other => panic!("{other:?}"),
    }
}

fn error(bytes: &[u8]) -> HandshakeError {
    parse(bytes).expect_err("the answer is refused")
}

/// Status line, headers and body of a refusal.
fn refusal(lines: &[&str], body: &str) -> Vec<u8> {
    let mut bytes = head(&[&["HTTP/1.1 400 Bad Request"], lines].concat());
    bytes.extend(body.as_bytes());
    bytes
}

#[test]
fn credit_is_carried_by_who_says_so_in_this_version() {
    for (line, expected) in [
        (None, false),
        (Some("adit-credit: 1"), true),
        (Some("adit-credit: 2"), false),
    ] {
        let lines: Vec<&str> = GOOD.into_iter().chain(line).collect();
        let Ok(Some((UpgradeResponse::Accepted { carries_credit, .. }, _))) = parse(&head(&lines))
        else {
            panic!("it is a good answer");
        };
        assert_eq!(carries_credit, expected, "{line:?}");
    }
}

#[test]
fn a_good_answer_is_read() {
    let (channel_id, subprotocol) = accepted(&head(&GOOD));
    assert_eq!(channel_id.as_deref(), Some("0123-abc"));
    assert_eq!(subprotocol, "aws.iot.securetunneling-3.0");
}

#[test]
fn what_our_service_writes_is_read() {
    let mut bytes = Vec::new();
    encode_accept(
        "dGhlIHNhbXBsZSBub25jZQ==",
        Subprotocol::V2,
        "c-1",
        &mut bytes,
    );
    let expected = (Some("c-1".to_owned()), Subprotocol::V2.name().to_owned());
    assert_eq!(accepted(&bytes), expected);

    let mut bytes = Vec::new();
    encode_refusal(503, "Full: try again later.", "c-2", &mut bytes);
    let (refusal, size) = refused(&bytes);
    assert_eq!(size, bytes.len());
    assert_eq!(
        (refusal.status, refusal.reason.as_str()),
        (503, "Service Unavailable")
    );
    assert_eq!(refusal.body, "Full: try again later.");
    assert_eq!(
        refusal.status_reason.as_deref(),
        Some("Full: try again later.")
    );
    assert_eq!(refusal.channel_id.as_deref(), Some("c-2"));
    assert!(refusal.is_retryable());
}

/// The guide's example adds a date and a length to the 101.
#[test]
fn headers_that_do_not_matter_are_passed_over() {
    let extra = ["Date: Tue, 15 Nov 1994 08:12:31 GMT", "Content-Length: 0"];
    accepted(&head(&[&GOOD[..], &extra].concat()));
}

#[test]
fn frames_behind_the_answer_are_left_alone() {
    let mut bytes = head(&GOOD);
    let size = bytes.len();
    bytes.extend(b"\x82\x04\x00\x02\x08\x05");
    let parsed = parse_upgrade_response(&bytes, KEY).unwrap().unwrap();
    assert_eq!(parsed.1, size);
}

#[test]
fn a_101_must_be_an_upgrade() {
    for (name, header, bad) in [
        ("Upgrade", "Upgrade", &[][..]),
        ("Upgrade", "Upgrade", &["Upgrade: h2c"]),
        ("Connection", "Connection", &[]),
        ("Connection", "Connection", &["Connection: close"]),
        ("Sec-WebSocket-Accept", "Sec-WebSocket-Accept", &[]),
        (
            "Sec-WebSocket-Accept",
            "Sec-WebSocket-Accept",
            &["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOp="],
        ),
        (
            "Sec-WebSocket-Accept",
            "Sec-WebSocket-Accept",
            &[GOOD[3], GOOD[3]],
        ),
        (
            "sec-websocket-protocol",
            "Sec-WebSocket-Protocol",
            &[GOOD[4], GOOD[4]],
        ),
        (
            "sec-websocket-protocol",
            "Sec-WebSocket-Protocol",
            &["sec-websocket-protocol: "],
        ),
    ] {
        let expected = HandshakeError::NotUpgraded { header };
        assert_eq!(error(&replaced(name, bad)), expected, "{bad:?}");
    }
}

/// Defect Q-09: the reference tries again thirty times a second.
#[test]
fn a_missing_subprotocol_is_an_error_of_its_own() {
    let error = error(&replaced("sec-websocket-protocol", &[]));
    assert_eq!(error, HandshakeError::MissingSubprotocol);
    assert!(!error.is_retryable());
}

#[test]
fn an_extension_is_refused() {
    let bytes = head(&[&GOOD[..], &["Sec-WebSocket-Extensions: permessage-deflate"]].concat());
    assert_eq!(error(&bytes), HandshakeError::UnexpectedExtension);
}

#[test]
fn the_known_refusals_are_read() {
    let text =
        "Invalid access token: The access token was previously used and can not be used again.";
    let length = format!("Content-Length: {}", text.len());
    let bytes = refusal(&[&length, "channel-id: c"], text);
    let (refusal, size) = refused(&bytes);
    assert_eq!(size, bytes.len());
    assert_eq!(
        (refusal.status, refusal.reason.as_str()),
        (400, "Bad Request")
    );
    assert_eq!(refusal.body, text);
    assert_eq!(refusal.text(), text);
    assert_eq!(refusal.channel_id.as_deref(), Some("c"));
    assert!(!refusal.is_retryable());
}

#[test]
fn only_5xx_is_worth_another_try() {
    for (status, retryable) in [
        (200, false),
        (301, false),
        (403, false),
        (499, false),
        (500, true),
        (599, true),
    ] {
        let bytes = head(&[&format!("HTTP/1.1 {status} X"), "Content-Length: 0"]);
        assert_eq!(refused(&bytes).0.is_retryable(), retryable, "{status}");
    }
}

#[test]
fn the_text_is_the_most_telling_there_is() {
    let none = head(&["HTTP/1.1 403 Forbidden", "Content-Length: 0"]);
    assert_eq!(refused(&none).0.text(), "Forbidden");
    let header = head(&[
        "HTTP/1.1 403 Forbidden",
        "Content-Length: 0",
        "X-Status-Reason: why",
    ]);
    assert_eq!(refused(&header).0.text(), "why");
    let nothing = head(&["HTTP/1.1 403", "Content-Length: 0"]);
    assert_eq!(refused(&nothing).0.text(), "");
}

#[test]
fn a_body_of_known_length_is_waited_for() {
    for size in 0..5 {
        let bytes = refusal(&["Content-Length: 5"], &"hello"[..size]);
        assert_eq!(parse(&bytes), Ok(None));
        // The service hung up early: what came is still worth showing.
        let Ok(UpgradeResponse::Refused(refusal)) = finish_at_eof(&bytes, KEY) else {
            panic!("a cut body is a body");
        };
        assert_eq!(refusal.body, "hello"[..size]);
    }
    let bytes = refusal(&["Content-Length: 5"], "hello and more");
    let parsed = parse_upgrade_response(&bytes, KEY).unwrap().unwrap();
    assert_eq!(parsed.1, bytes.len() - " and more".len());
}

#[test]
fn a_body_without_a_length_ends_with_the_connection() {
    for lines in [
        &[][..],
        &["Content-Length: x"],
        &["Content-Length: 2", "Content-Length: 3"],
    ] {
        let bytes = refusal(lines, "hello\r\n");
        assert_eq!(parse(&bytes), Ok(None), "{lines:?}");
        let Ok(UpgradeResponse::Refused(refusal)) = finish_at_eof(&bytes, KEY) else {
            panic!("the body ended");
        };
        assert_eq!(refusal.body, "hello");
    }
}

#[test]
fn one_kibibyte_of_a_body_is_enough() {
    let long = "x".repeat(5_000);
    let chunked = format!("1388\r\n{long}\r\n0\r\n\r\n");
    for (line, body) in [
        ("Content-Length: 5000", &long),
        ("Content-Length: 99999999999999999999", &long),
        ("X-Nothing: 1", &long),
        ("Transfer-Encoding: chunked", &chunked),
    ] {
        let (refusal, _) = refused(&refusal(&[line], body));
        assert_eq!(refusal.body, "x".repeat(1_024), "{line}");
    }
}

#[test]
fn chunks_are_put_together() {
    let body = "5\r\nhello\r\n1;ext=1\r\n,\r\n6 \r\n world\r\n0\r\n";
    let bytes = refusal(&["Transfer-Encoding: chunked"], body);
    let (refusal_read, size) = refused(&bytes);
    assert_eq!(refusal_read.body, "hello, world");
    assert_eq!(size, bytes.len());

    let trailing = refusal(&["Transfer-Encoding: chunked"], "0\r\nX: 1\r\n\r\n");
    assert_eq!(refused(&trailing).0.body, "");
}

#[test]
fn chunks_fill_a_kibibyte_and_are_not_waited_for_behind_it() {
    let part = format!("300\r\n{}\r\n", "x".repeat(0x300));
    // The second one has room for a part, and the last byte of the other is the last one that came.
    for body in [part.repeat(2), format!("400\r\n{}", "x".repeat(0x400))] {
        let bytes = refusal(&["Transfer-Encoding: chunked"], &body);
        assert_eq!(refused(&bytes).0.body, "x".repeat(1_024));
    }
}

#[test]
fn broken_chunks_end_the_body() {
    for (body, kept) in [
        ("zz\r\nhello", ""),
        ("5\r\nhelloXX5\r\nagain", "hello"),
        ("5\r\nhello\r\n-1\r\n", "hello"),
        ("fffffffffffffffffffffff\r\nhello", ""),
    ] {
        let bytes = refusal(&["Transfer-Encoding: chunked"], body);
        assert_eq!(refused(&bytes).0.body, kept, "{body:?}");
    }
}

#[test]
fn chunks_that_never_come_to_an_end_are_given_up() {
    let extension = format!("5;{}", "x".repeat(MAX_CHUNKED_BODY_SIZE));
    let bytes = refusal(&["Transfer-Encoding: chunked"], &extension);
    assert_eq!(refused(&bytes).0.body, "");
    let cut = refusal(&["Transfer-Encoding: chunked"], "5\r\nhel");
    assert_eq!(parse(&cut), Ok(None));
    let Ok(UpgradeResponse::Refused(read)) = finish_at_eof(&cut, KEY) else {
        panic!("the body ended");
    };
    assert_eq!(read.body, "hel");
}

#[test]
fn chunks_are_looked_at_up_to_8_kib() {
    // One byte in each chunk of a hundred: 81 are inside the limit, and part of the next.
    let body = format!("1;{}\r\nx\r\n", "e".repeat(93)).repeat(200);
    let bytes = refusal(&["Transfer-Encoding: chunked"], &body);
    assert_eq!(refused(&bytes).0.body, "x".repeat(81));
}

#[test]
fn some_answers_have_no_body() {
    for status in [204, 304] {
        let bytes = head(&[&format!("HTTP/1.1 {status} X")]);
        assert_eq!(refused(&bytes).0.status, status);
    }
}

/// Threat T-22: nothing a service sends moves a cursor.
#[test]
fn texts_are_escaped_and_bounded() {
    let body = format!("\x1b[2J{}\u{202e}", "\x07".repeat(2_000));
    let (refusal, _) = refused(&refusal(
        &["channel-id: a\u{9b}b", "X-Status-Reason: \u{202e}"],
        &body,
    ));
    assert!(refusal.body.starts_with("\\u{1b}[2J\\u{7}"));
    assert_eq!(refusal.body.len(), 1_024);
    assert_eq!(refusal.channel_id.as_deref(), Some("a\\u{9b}b"));
    assert_eq!(refusal.status_reason.as_deref(), Some("\\u{202e}"));
    assert!(!format!("{refusal:?}").contains(char::is_control));
}

#[test]
fn interim_answers_come_first() {
    let mut bytes = head(&["HTTP/1.1 100 Continue"]);
    bytes.extend(head(&["HTTP/1.1 103 Early Hints", "Link: </x>"]));
    bytes.extend(head(&GOOD));
    assert_eq!(accepted(&bytes).1, "aws.iot.securetunneling-3.0");

    let endless = head(&["HTTP/1.1 100 Continue"]).repeat(1_000);
    assert_eq!(
        parse_upgrade_response(&endless, KEY).map(drop),
        Err(HeadError::TooLong {
            max: MAX_RESPONSE_HEAD_SIZE
        }
        .into())
    );
}

#[test]
fn a_head_is_complete_and_within_16_kib() {
    let bytes = head(&GOOD);
    for size in 0..bytes.len() {
        let closed = HandshakeError::Closed { received: size };
        assert_eq!(finish_at_eof(&bytes[..size], KEY), Err(closed.clone()));
        assert!(closed.is_retryable());
    }
    let padded = |padding: usize| {
        let line = format!("X-Padding: {}", "x".repeat(padding));
        head(&[&GOOD[..], &[&line]].concat())
    };
    let room = 16_384 - padded(0).len();
    let longest = parse_upgrade_response(&padded(room), KEY);
    assert_eq!(longest.unwrap().unwrap().1, 16_384);
    let max = MAX_RESPONSE_HEAD_SIZE;
    assert_eq!(
        parse_upgrade_response(&padded(room + 1), KEY),
        Err(HeadError::TooLong { max }.into())
    );
}

#[test]
fn what_is_not_http_is_refused() {
    for bad in [
        "SSH-2.0-x\r\n\r\n",
        "\r\n\r\n",
        "HTTP/1.1 1x1 A\r\n\r\n",
        "HTTP/1.1 101 A\r\nX Y: 1\r\n\r\n",
    ] {
        assert!(
            matches!(
                error(bad.as_bytes()),
                HandshakeError::Head(HeadError::Malformed(_))
            ),
            "{bad:?}"
        );
    }
    assert_eq!(error(b"HTTP/1.1 400 X\n\n"), HeadError::LineBreak.into());
    let folded = head(&[&GOOD[..], &["X: 1\r\n folded"]].concat());
    assert!(matches!(
        error(&folded),
        HandshakeError::Head(HeadError::Malformed(_))
    ));
}
