//! What a client sends to open the WebSocket.

use super::head::is_header_text;
use super::{HandshakeError, MODE_PARAMETER, PATH, encode_key, parse_upgrade_request};
use crate::ids::{Mode, Subprotocol};
use crate::limits::MAX_REQUEST_HEAD_SIZE;
use crate::secret::{AccessToken, ClientToken};

/// An upgrade request (wire specification, section 1.2).
#[derive(Clone, Copy, Debug)]
pub struct UpgradeRequest<'a> {
    /// Name or address of the service, never with a port; IPv6 in brackets.
    pub host: &'a str,
    /// Which end of the tunnel this client is.
    pub mode: Mode,
    /// The one name to offer, normally [`Subprotocol::name`](crate::ids::Subprotocol::name).
    pub subprotocol: &'a str,
    /// The credential; used up by a successful handshake unless a client token goes with it.
    pub access_token: &'a AccessToken,
    /// What makes the access token usable again.
    pub client_token: Option<&'a ClientToken>,
    /// Informative.
    pub user_agent: &'a str,
    /// Sixteen random bytes, new for each request.
    pub key: [u8; 16],
}

impl UpgradeRequest<'_> {
    /// Appends the request, headers in the order of the reference client.
    ///
    /// It holds the access token: wipe `out` after sending. On an error nothing is appended.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        for (what, text) in [
            ("host", self.host),
            ("subprotocol", self.subprotocol),
            ("user agent", self.user_agent),
        ] {
            if !is_header_text(text) {
                return Err(HandshakeError::HeaderValue { what });
            }
        }
        if self.host.is_empty() || self.host.contains(' ') {
            return Err(HandshakeError::HeaderValue { what: "host" });
        }
        let key = encode_key(&self.key);
        let parts = self.parts(&key);
        let size = parts.iter().map(|part| part.len()).sum();
        if size > MAX_REQUEST_HEAD_SIZE {
            return Err(HandshakeError::RequestTooLong {
                size,
                max: MAX_REQUEST_HEAD_SIZE,
            });
        }
        // All at once: growing in between would leave a copy of the token behind.
        out.reserve(size);
        for part in parts {
            out.extend_from_slice(part.as_bytes());
        }
        Ok(())
    }

    fn parts<'p>(&'p self, key: &'p str) -> [&'p str; 19] {
        let (client_token_name, client_token) = match self.client_token {
            // A lenient token may have other characters than ASCII, but none that ends the line.
            Some(token) => ("\r\nclient-token: ", token.expose()),
            None => ("", ""),
        };
        let user_agent_name = match self.user_agent {
            "" => "",
            _ => "\r\nUser-Agent: ",
        };
        [
            "GET ",
            PATH,
            "?",
            MODE_PARAMETER,
            "=",
            self.mode.as_str(),
            " HTTP/1.1\r\nHost: ",
            self.host,
            "\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: ",
            key,
            "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ",
            self.subprotocol,
            "\r\naccess-token: ",
            self.access_token.expose(),
            client_token_name,
            client_token,
            user_agent_name,
            self.user_agent,
            "\r\n\r\n",
        ]
    }
}

/// Makes tokens and a request of any bytes: access token, client token, host and user agent, a line
/// feed between each. What is accepted arrives at a service as the same tokens, and as no header more.
pub fn fuzz_tokens(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split('\n');
    let mut part = || parts.next().unwrap_or_default();
    let Ok(access_token) = AccessToken::new(part().to_owned()) else {
        return;
    };
    let client_text = part();
    let strict = ClientToken::strict(client_text.to_owned()).ok();
    let client_token = ClientToken::lenient(client_text.to_owned()).ok();
    assert!(strict.is_none() || strict == client_token);
    let (host, user_agent) = (part(), part());
    let mut request = UpgradeRequest {
        host,
        mode: Mode::Source,
        subprotocol: Subprotocol::V3.name(),
        access_token: &access_token,
        client_token: client_token.as_ref(),
        user_agent,
        key: *b"the sample nonce",
    };
    for mode in [Mode::Source, Mode::Destination] {
        request.mode = mode;
        let mut written = Vec::new();
        if request.encode(&mut written).is_err() {
            assert!(written.is_empty());
            continue;
        }
        let read = parse_upgrade_request(&written);
        // Services take the documented shape only, without the spaces that a header loses.
        let expected = ClientToken::strict(client_text.trim_matches(' ').to_owned()).ok();
        if client_token.is_some() && expected.is_none() {
            assert!(read.is_err());
            continue;
        }
        let Ok(Some((read, size))) = read else {
            panic!("a request of ours is refused: {read:?}");
        };
        assert_eq!(size, written.len());
        assert_eq!((read.mode, read.offered), (mode, vec![Subprotocol::V3]));
        assert!(read.access_token == access_token);
        assert!(client_token.is_none() || read.client_token == expected);
        let fields = 7 + usize::from(client_token.is_some()) + usize::from(!user_agent.is_empty());
        let lines = written.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(
            lines,
            1 + fields + 1,
            "the request line, the fields, the empty line"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(request: &UpgradeRequest<'_>) -> Result<String, HandshakeError> {
        let mut out = b"before".to_vec();
        let result = request.encode(&mut out);
        let text = String::from_utf8(out).unwrap();
        let written = text.strip_prefix("before").unwrap().to_owned();
        assert!(result.is_ok() || written.is_empty());
        result.map(|()| written)
    }

    fn request(access_token: &AccessToken) -> UpgradeRequest<'_> {
        UpgradeRequest {
            host: "data.tunneling.iot.eu-west-1.amazonaws.com",
            mode: Mode::Source,
            subprotocol: Subprotocol::V3.name(),
            access_token,
            client_token: None,
            user_agent: "localproxy linux 64-bit",
            key: *b"the sample nonce",
        }
    }

    fn token(size: usize) -> AccessToken {
        AccessToken::new("t".repeat(size)).unwrap()
    }

    /// Wire specification, section 1.2: the reference's headers in the reference's order.
    #[test]
    fn a_request_in_full() {
        let access_token = token(3);
        let client_token = ClientToken::strict("c".repeat(32)).unwrap();
        let mut request = request(&access_token);
        request.client_token = Some(&client_token);
        let expected = "GET /tunnel?local-proxy-mode=source HTTP/1.1\r\n\
            Host: data.tunneling.iot.eu-west-1.amazonaws.com\r\n\
            Upgrade: websocket\r\n\
            Connection: upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Protocol: aws.iot.securetunneling-3.0\r\n\
            access-token: ttt\r\n\
            client-token: cccccccccccccccccccccccccccccccc\r\n\
            User-Agent: localproxy linux 64-bit\r\n\
            \r\n";
        assert_eq!(encode(&request).unwrap(), expected);
    }

    #[test]
    fn what_is_absent_leaves_no_header() {
        let access_token = token(3);
        let mut request = request(&access_token);
        request.user_agent = "";
        request.mode = Mode::Destination;
        let text = encode(&request).unwrap();
        assert!(text.starts_with("GET /tunnel?local-proxy-mode=destination HTTP/1.1\r\n"));
        assert!(text.ends_with("\r\naccess-token: ttt\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_request_has_at_most_4096_bytes() {
        let access_token = token(1);
        let rest = encode(&request(&access_token)).unwrap().len() - 1;
        let access_token = token(4096 - rest);
        assert_eq!(encode(&request(&access_token)).unwrap().len(), 4096);
        let access_token = token(4097 - rest);
        assert_eq!(
            encode(&request(&access_token)),
            Err(HandshakeError::RequestTooLong {
                size: 4097,
                max: 4096
            })
        );
    }

    /// Threat T-20: each of 256 bytes in each text is refused or leaves the number of lines alone.
    #[test]
    fn no_value_breaks_out_of_its_line() {
        let access_token = token(3);
        let plain = request(&access_token);
        let lines = |request: &UpgradeRequest<'_>| encode(request).map(|text| text.lines().count());
        let expected = lines(&plain).unwrap();
        for byte in 0..=255u8 {
            let text = format!("a{}b", char::from(byte));
            let printable = matches!(byte, b' '..=b'~');
            let result = lines(&UpgradeRequest {
                user_agent: &text,
                ..plain
            });
            assert_eq!(result.ok(), printable.then_some(expected), "{byte}");
            let result = lines(&UpgradeRequest {
                subprotocol: &text,
                ..plain
            });
            assert_eq!(result.ok(), printable.then_some(expected), "{byte}");
            let result = lines(&UpgradeRequest {
                host: &text,
                ..plain
            });
            assert_eq!(
                result.ok(),
                (printable && byte != b' ').then_some(expected),
                "{byte}"
            );
        }
        assert!(encode(&UpgradeRequest { host: "", ..plain }).is_err());
    }

    /// Threat T-20, for tokens: some never come to be, all others leave the number of lines alone.
    #[test]
    fn no_token_breaks_out_of_its_line() {
        for byte in 0..=255u8 {
            let character = char::from(byte);
            let text = format!("{character}{}", "a".repeat(40));
            let lines = |access_token: &AccessToken, client_token: Option<&ClientToken>| {
                let mut out = Vec::new();
                let request = UpgradeRequest {
                    client_token,
                    ..request(access_token)
                };
                request.encode(&mut out).expect("the tokens are tokens");
                let ends = out.iter().filter(|byte| matches!(byte, b'\r' | b'\n'));
                ends.count() / 2
            };
            let good = token(3);
            let (few, many) = (
                lines(&good, None),
                lines(&good, ClientToken::strict("a".repeat(40)).ok().as_ref()),
            );
            assert_eq!(many, few + 1);
            let behind = AccessToken::new(format!("a{character}b"));
            assert_eq!(behind.is_ok(), matches!(byte, b' '..=b'~'), "{byte}");
            if let Ok(token) = &behind {
                assert_eq!(lines(token, None), few, "{byte}");
            }
            let strict = ClientToken::strict(text.clone());
            assert_eq!(
                strict.is_ok(),
                byte.is_ascii_alphanumeric() || byte == b'-',
                "{byte}"
            );
            let lenient = ClientToken::lenient(text);
            assert_eq!(lenient.is_ok(), !byte.is_ascii_control(), "{byte}");
            if let Ok(token) = &lenient {
                assert_eq!(lines(&good, Some(token)), many, "{byte}");
            }
        }
    }

    #[test]
    fn debug_hides_the_tokens() {
        let access_token = AccessToken::new("canary".into()).unwrap();
        assert!(!format!("{:?}", request(&access_token)).contains("canary"));
    }
}
