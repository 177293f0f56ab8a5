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
        if !is_header_text(self.host) || self.host.contains(' ') {
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
        let max = MAX_CONNECT_REPLY_SIZE - start;
        let Some(head_size) = find_end(&bytes[start..], max)? else {
            return Ok(None);
        };
        let mut fields = [EMPTY_HEADER; MAX_HEADER_FIELDS];
        let head = parse_head(&bytes[start..start + head_size], &mut fields)?;
        start += head_size;
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
