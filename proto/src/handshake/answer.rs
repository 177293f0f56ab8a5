//! What a service answers to an upgrade request.

use super::{CREDIT_HEADER, CREDIT_VERSION, accept_key, name};
use crate::escape::Escaped;
use crate::ids::Subprotocol;

/// Appends the 101 answer to a request with this `Sec-WebSocket-Key` (wire specification, section 1.4).
///
/// An empty `channel_id` is left out. The answer says that credit is carried.
pub fn encode_accept(key: &str, subprotocol: Subprotocol, channel_id: &str, out: &mut Vec<u8>) {
    line(out, &["HTTP/1.1 101 Switching Protocols"]);
    line(out, &["Upgrade: websocket"]);
    line(out, &["Connection: Upgrade"]);
    line(out, &["Sec-WebSocket-Accept: ", &accept_key(key)]);
    line(out, &[name::WEBSOCKET_PROTOCOL, ": ", subprotocol.name()]);
    if !channel_id.is_empty() {
        line(out, &[name::CHANNEL_ID, ": ", &printable(channel_id)]);
    }
    line(out, &[CREDIT_HEADER, ": ", CREDIT_VERSION]);
    line(out, &[]);
}

/// Seconds after which whoever was refused for want of something may try again.
const RETRY_AFTER: &str = "5";

/// Appends a refusal: the text is the body and, in one line, the `X-Status-Reason` header (section 1.6).
///
/// `status` is 4xx for "do not try the same again", 5xx for "try again later". Control characters in
/// `text` are escaped. An empty `channel_id` is left out.
pub fn encode_refusal(status: u16, text: &str, channel_id: &str, out: &mut Vec<u8>) {
    let body = Escaped(text).to_string();
    line(
        out,
        &["HTTP/1.1 ", &status.to_string(), " ", phrase(status)],
    );
    match status {
        // RFC 9110 §15.5.6: 405 says what is allowed.
        405 => line(out, &["Allow: GET"]),
        // RFC 9110 §15.5.22 and RFC 6455 §4.2.2: 426 says what to upgrade to.
        426 => line(out, &["Upgrade: websocket\r\nSec-WebSocket-Version: 13"]),
        503 => line(out, &["Retry-After: ", RETRY_AFTER]),
        _ => {}
    }
    if !channel_id.is_empty() {
        line(out, &[name::CHANNEL_ID, ": ", &printable(channel_id)]);
    }
    line(out, &["X-Status-Reason: ", &printable(text)]);
    line(out, &["Content-Type: text/plain; charset=utf-8"]);
    line(out, &["Content-Length: ", &body.len().to_string()]);
    line(out, &["Connection: close"]);
    line(out, &[]);
    out.extend_from_slice(body.as_bytes());
}

fn line(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// A header carries printable ASCII; anything else is escaped, so no value can start a line.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let plain = matches!(character, ' '..='~').then_some(character);
            let escaped = plain.is_none().then(|| character.escape_default());
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

const fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        // RFC 9112 §4: a client ignores the phrase, and it may be empty.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_acceptance_in_full() {
        let mut out = Vec::new();
        encode_accept("dGhlIHNhbXBsZSBub25jZQ==", Subprotocol::V3, "c-1", &mut out);
        let expected = "HTTP/1.1 101 Switching Protocols\r\n\
            Upgrade: websocket\r\n\
            Connection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
            sec-websocket-protocol: aws.iot.securetunneling-3.0\r\n\
            channel-id: c-1\r\n\
            adit-credit: 1\r\n\
            \r\n";
        assert_eq!(text(out), expected);
    }

    #[test]
    fn a_refusal_in_full() {
        let mut out = Vec::new();
        encode_refusal(400, "Invalid path: use /tunnel.", "c-1", &mut out);
        let expected = "HTTP/1.1 400 Bad Request\r\n\
            channel-id: c-1\r\n\
            X-Status-Reason: Invalid path: use /tunnel.\r\n\
            Content-Type: text/plain; charset=utf-8\r\n\
            Content-Length: 26\r\n\
            Connection: close\r\n\
            \r\n\
            Invalid path: use /tunnel.";
        assert_eq!(text(out), expected);
    }

    fn refusal(status: u16) -> String {
        let mut out = Vec::new();
        encode_refusal(status, "x", "", &mut out);
        text(out)
    }

    #[test]
    fn every_status_has_its_phrase() {
        for (status, phrase) in [
            (400, "Bad Request"),
            (401, "Unauthorized"),
            (403, "Forbidden"),
            (404, "Not Found"),
            (405, "Method Not Allowed"),
            (409, "Conflict"),
            (410, "Gone"),
            (426, "Upgrade Required"),
            (429, "Too Many Requests"),
            (431, "Request Header Fields Too Large"),
            (500, "Internal Server Error"),
            (503, "Service Unavailable"),
            (599, ""),
        ] {
            let line = format!("HTTP/1.1 {status} {phrase}\r\n");
            assert!(refusal(status).starts_with(&line), "{line}");
        }
    }

    #[test]
    fn some_refusals_say_what_else_to_do() {
        for (status, line) in [
            (405, "\r\nAllow: GET\r\n"),
            (426, "\r\nSec-WebSocket-Version: 13\r\n"),
            (426, "\r\nUpgrade: websocket\r\n"),
            (503, "\r\nRetry-After: 5\r\n"),
        ] {
            let text = refusal(status);
            assert!(text.contains(line), "{text}");
            assert!(!text.contains("channel-id"));
        }
    }

    /// Threat T-20: each of 256 bytes in each text leaves the number of lines alone.
    #[test]
    fn no_character_starts_a_line() {
        let head_lines = |reason: &str, channel_id: &str| {
            let mut out = Vec::new();
            encode_refusal(400, reason, channel_id, &mut out);
            let end = out.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
            let ends = out[..end]
                .iter()
                .filter(|byte| matches!(byte, b'\r' | b'\n'));
            ends.count()
        };
        let expected = head_lines("ab", "ab");
        for byte in 0..=255u8 {
            let text = format!("a{}b", char::from(byte));
            assert_eq!(head_lines(&text, "ab"), expected, "{byte}");
            assert_eq!(head_lines("ab", &text), expected, "{byte}");
        }
    }

    /// Threat T-20.
    #[test]
    fn no_text_starts_a_line() {
        let mut out = Vec::new();
        encode_refusal(400, "a\r\nX: 1\r\n\r\né\x1b", "c\r\nY: 2", &mut out);
        let text = text(out);
        assert!(
            text.contains("\r\nX-Status-Reason: a\\r\\nX: 1\\r\\n\\r\\n\\u{e9}\\u{1b}\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nchannel-id: c\\r\\nY: 2\r\n"), "{text}");
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "a\\r\\nX: 1\\r\\n\\r\\né\\u{1b}");
        assert!(text.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
    }
}
