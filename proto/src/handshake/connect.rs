//! Asking a web proxy for a way through: `CONNECT` (RFC 9110 §9.3.6; wire specification, section 14.4).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use httparse::EMPTY_HEADER;
use zeroize::Zeroizing;

use super::HandshakeError;
use super::head::{find_end, is_header_text};
use super::response::parse_head;
use crate::limits::{MAX_CONNECT_REPLY_SIZE, MAX_HEADER_FIELDS};
use crate::secret::Secret;

/// A request to a web proxy. It never holds the access token: the proxy is no party to the tunnel.
#[derive(Clone, Copy, Debug)]
pub struct ConnectRequest<'a> {
    /// Name or address of the service; IPv6 with or without brackets.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// User and password for the proxy, as they are, not percent-encoded.
    pub credentials: Option<(&'a str, &'a Secret)>,
}

impl ConnectRequest<'_> {
    /// Appends the request. It may hold the password: wipe `out` after sending.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        if !is_header_text(self.host) || self.host.is_empty() || self.host.contains(' ') {
            return Err(HandshakeError::HeaderValue { what: "host" });
        }
        let authority = Authority(self).to_string();
        let authorization = match self.credentials {
            Some((user, password)) => basic_authorization(user, password)?,
            None => Zeroizing::default(),
        };
        // RFC 9112 §3.2: every HTTP/1.1 request has a Host header.
        let parts = [
            "CONNECT ",
            &authority,
            " HTTP/1.1\r\nHost: ",
            &authority,
            &authorization,
            "\r\n\r\n",
        ];
        out.reserve(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            out.extend_from_slice(part.as_bytes());
        }
        Ok(())
    }
}

/// RFC 7617 §2: no control characters, and no colon in the user's name.
fn basic_authorization(user: &str, password: &Secret) -> Result<Zeroizing<String>, HandshakeError> {
    let password = password.expose();
    if user.contains(|character: char| character.is_control() || character == ':')
        || password.contains(char::is_control)
    {
        return Err(HandshakeError::HeaderValue {
            what: "proxy user or password",
        });
    }
    let pair = Zeroizing::new([user, ":", password].concat());
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    Ok(Zeroizing::new(
        ["\r\nProxy-Authorization: Basic ", &encoded].concat(),
    ))
}

/// `host:port`, IPv6 in brackets.
struct Authority<'a>(&'a ConnectRequest<'a>);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConnectRequest { host, port, .. } = self.0;
        if host.contains(':') && !host.starts_with('[') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// Reads a web proxy's answer from everything received so far: its status, and the size of its head.
///
/// `Ok(None)` means "need more bytes"; past 8 KiB it is an error. On a 2xx the tunnel's bytes start
/// behind the head. A TLS service never speaks first, so bytes already there come from the proxy:
/// treat them as an error, not as TLS (threat T-21). On any other status the connection is of no use.
pub fn parse_connect_reply(bytes: &[u8]) -> Result<Option<(u16, usize)>, HandshakeError> {
    let mut start = 0;
    loop {
        let Some(end) = find_end(bytes, start, MAX_CONNECT_REPLY_SIZE)? else {
            return Ok(None);
        };
        let mut fields = [EMPTY_HEADER; MAX_HEADER_FIELDS];
        let head = parse_head(&bytes[start..end], &mut fields)?;
        start = end;
        match head.code.unwrap_or_default() {
            // RFC 9110 §15.2: interim; 101 would be an upgrade that nobody asked for.
            100..=199 => {}
            status => return Ok(Some((status, start))),
        }
    }
}

/// Reads a web proxy's answer from any bytes.
pub fn fuzz_connect_reply(bytes: &[u8]) {
    if let Ok(Some((status, size))) = parse_connect_reply(bytes) {
        assert!(size <= bytes.len() && size <= MAX_CONNECT_REPLY_SIZE);
        assert!(!(100..200).contains(&status));
        assert_eq!(
            parse_connect_reply(&bytes[..size]),
            Ok(Some((status, size)))
        );
        assert_eq!(parse_connect_reply(&bytes[..size - 1]), Ok(None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::HeadError;

    fn encode(host: &str, credentials: Option<(&str, &Secret)>) -> Result<String, HandshakeError> {
        let mut out = Vec::new();
        let request = ConnectRequest {
            host,
            port: 443,
            credentials,
        };
        let result = request.encode(&mut out);
        assert!(result.is_ok() || out.is_empty());
        result.map(|()| String::from_utf8(out).unwrap())
    }

    fn parse(bytes: &[u8]) -> Result<Option<(u16, usize)>, HandshakeError> {
        fuzz_connect_reply(bytes);
        let whole = parse_connect_reply(bytes);
        let mut decided = false;
        for size in 0..bytes.len() {
            let part = parse_connect_reply(&bytes[..size]);
            assert!(part == Ok(None) || part == whole, "{size} bytes: {part:?}");
            assert!(
                !decided || part == whole,
                "changed its mind at {size} bytes"
            );
            decided = part != Ok(None);
        }
        whole
    }

    #[test]
    fn a_request_in_full() {
        assert_eq!(
            encode("data.example", None).unwrap(),
            "CONNECT data.example:443 HTTP/1.1\r\nHost: data.example:443\r\n\r\n"
        );
        // RFC 7617 §2
        let password = Secret::new("open sesame".into());
        assert_eq!(
            encode("data.example", Some(("Aladdin", &password))).unwrap(),
            "CONNECT data.example:443 HTTP/1.1\r\nHost: data.example:443\r\n\
             Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
        );
    }

    #[test]
    fn ipv6_gets_brackets_once() {
        for host in ["::1", "[::1]"] {
            let text = encode(host, None).unwrap();
            assert!(
                text.starts_with("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n"),
                "{text}"
            );
        }
    }

    /// Threat T-20.
    #[test]
    fn no_value_breaks_out_of_its_line() {
        let good = Secret::new("p".into());
        for byte in 0..=255u8 {
            let text = format!("a{}b", char::from(byte));
            let host_is_fine = matches!(byte, b'!'..=b'~');
            assert_eq!(encode(&text, None).is_ok(), host_is_fine, "{byte}");
            let is_control = char::from(byte).is_control();
            let user = encode("h", Some((&text, &good)));
            assert_eq!(user.is_ok(), !is_control && byte != b':', "{byte}");
            let password = Secret::new(text);
            let result = encode("h", Some(("u", &password)));
            assert_eq!(result.is_ok(), !is_control, "{byte}");
            assert!(result.is_err() || result.unwrap().lines().count() == 4);
        }
        assert!(encode("", None).is_err());
    }

    #[test]
    fn replies_are_read() {
        for (text, status) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", 200),
            ("HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n", 200),
            ("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", 200),
            ("HTTP/1.1 299 Odd\r\n\r\n", 299),
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
                407,
            ),
            ("HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", 302),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200),
        ] {
            assert_eq!(
                parse(text.as_bytes()),
                Ok(Some((status, text.len()))),
                "{text}"
            );
        }
    }

    #[test]
    fn what_follows_the_reply_is_left_alone() {
        let reply = b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03";
        assert_eq!(parse(reply), Ok(Some((200, reply.len() - 3))));
    }

    #[test]
    fn a_reply_has_at_most_8_kib() {
        let padded = |padding: usize| {
            let padding = "x".repeat(padding);
            format!("HTTP/1.1 200 OK\r\nX-Padding: {padding}\r\n\r\n").into_bytes()
        };
        let room = 8_192 - padded(0).len();
        assert_eq!(parse_connect_reply(&padded(room)), Ok(Some((200, 8_192))));
        let max = MAX_CONNECT_REPLY_SIZE;
        assert_eq!(
            parse_connect_reply(&padded(room + 1)),
            Err(HeadError::TooLong { max }.into())
        );
    }

    /// Threat T-21.
    #[test]
    fn hostile_replies_are_refused() {
        let max = MAX_CONNECT_REPLY_SIZE;
        let endless = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: 1\r\n".repeat(10_000)].concat();
        assert_eq!(
            parse_connect_reply(&endless),
            Err(HeadError::TooLong { max }.into())
        );
        assert_eq!(parse_connect_reply(&endless[..max - 1]), Ok(None));
        let many = [
            &b"HTTP/1.1 200 OK\r\n"[..],
            &b"X: 1\r\n".repeat(65),
            b"\r\n",
        ]
        .concat();
        assert_eq!(
            parse_connect_reply(&many),
            Err(HeadError::TooManyFields.into())
        );
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000);
        assert!(parse_connect_reply(&interim).is_err());
        for bad in [
            &b"HTTP/1.1 200 OK\n\n"[..],
            b"\x15\x03\x03\x00\x02\x02\x28\n",
            b"200 OK\r\n\r\n",
            b"\r\n\r\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_hides_the_password() {
        let password = Secret::new("canary".into());
        let request = ConnectRequest {
            host: "h",
            port: 1,
            credentials: Some(("u", &password)),
        };
        assert!(!format!("{request:?}").contains("canary"));
    }
}
