//! What a client sends to open the WebSocket.

use super::head::is_header_text;
use super::{HandshakeError, MODE_PARAMETER, PATH, encode_key};
use crate::ids::Mode;
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
