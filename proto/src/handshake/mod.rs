//! HTTP/1.1 exchanges that come before the tunnel: the WebSocket upgrade and a web proxy's CONNECT.
//!
//! All parsers take everything received so far and answer `Ok(None)` for "need more bytes". They are
//! strict: lines end in CRLF, nothing is folded, every header that matters comes once. Text of a peer
//! that they hand on is escaped and bounded.

mod accept_key;
mod answer;
mod connect;
mod error;
mod head;
#[cfg(test)]
mod properties;
mod request;
mod response;
mod server_request;

pub use accept_key::{accept_key, encode_key};
pub use answer::{encode_accept, encode_refusal};
pub use connect::{ConnectRequest, fuzz_connect_reply, parse_connect_reply};
pub use error::{HandshakeError, HeadError, RequestError};
pub use request::{UpgradeRequest, fuzz_tokens};
pub use response::{
    Refusal, UpgradeResponse, finish_at_eof, fuzz_upgrade_response, parse_upgrade_response,
};
pub use server_request::{ServerRequest, fuzz_upgrade_request, parse_upgrade_request};

/// The header of an answer by which a relay says that it carries
/// [`Credit`](crate::message::Credit); its value is 1. Other clients skip it.
pub const CREDIT_HEADER: &str = "adit-credit";

/// The one way to give credit that there is.
const CREDIT_VERSION: &str = "1";

/// Header names of the wire (wire specification, sections 1.2 and 1.4), lower case.
mod name {
    pub(super) const ACCESS_TOKEN: &str = "access-token";
    pub(super) const CHANNEL_ID: &str = "channel-id";
    pub(super) const CLIENT_TOKEN: &str = "client-token";
    pub(super) const CONNECTION: &str = "connection";
    pub(super) const CONTENT_LENGTH: &str = "content-length";
    pub(super) const COOKIE: &str = "cookie";
    pub(super) const HOST: &str = "host";
    pub(super) const STATUS_REASON: &str = "x-status-reason";
    pub(super) const TRANSFER_ENCODING: &str = "transfer-encoding";
    pub(super) const UPGRADE: &str = "upgrade";
    pub(super) const USER_AGENT: &str = "user-agent";
    pub(super) const WEBSOCKET_ACCEPT: &str = "sec-websocket-accept";
    pub(super) const WEBSOCKET_EXTENSIONS: &str = "sec-websocket-extensions";
    pub(super) const WEBSOCKET_KEY: &str = "sec-websocket-key";
    pub(super) const WEBSOCKET_PROTOCOL: &str = "sec-websocket-protocol";
    pub(super) const WEBSOCKET_VERSION: &str = "sec-websocket-version";
}

/// The cookie that carries an access token from a browser, which cannot set headers.
const TOKEN_COOKIE: &str = "awsiot-tunnel-token";

/// The only path (wire specification, section 1.1).
const PATH: &str = "/tunnel";

/// The query parameter that says which end a client is.
const MODE_PARAMETER: &str = "local-proxy-mode";
