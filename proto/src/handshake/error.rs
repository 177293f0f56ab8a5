//! Why a handshake cannot go on, by whose fault.

use crate::ids::UnknownMode;
use crate::secret::InvalidToken;

/// Why bytes are not the head of an HTTP/1.1 message as we take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// No empty line within the limit.
    #[error("HTTP head exceeds {max} bytes")]
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// A CR without LF or an LF without CR: readers disagree about where such a line ends.
    #[error("bare CR or LF in the HTTP head")]
    LineBreak,
    /// More header fields than [`MAX_HEADER_FIELDS`](crate::limits::MAX_HEADER_FIELDS).
    #[error("too many header fields")]
    TooManyFields,
    /// Not HTTP/1.1 grammar.
    #[error("malformed HTTP head: {0}")]
    Malformed(&'static str),
}

/// Why a client's handshake with a service or a web proxy failed, other than by a clear refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Not an HTTP answer.
    #[error("answer is not usable: {0}")]
    Head(#[from] HeadError),
    /// The connection ended inside the answer.
    #[error("connection closed after {received} bytes of an answer")]
    Closed {
        /// What had come, in bytes.
        received: usize,
    },
    /// 101 without a header that an upgrade must have, or with a wrong or repeated one.
    #[error("the 101 answer has a missing, wrong or repeated `{header}` header")]
    NotUpgraded {
        /// The header's name.
        header: &'static str,
    },
    /// 101 without `Sec-WebSocket-Protocol`. A misconfigured service: trying again at once makes a
    /// tight loop (defect Q-09).
    #[error("the service did not choose a subprotocol")]
    MissingSubprotocol,
    /// 101 with an extension. We offer none.
    #[error("the service chose an extension that was not offered")]
    UnexpectedExtension,
    /// Our own request: a value would have broken out of its line.
    #[error("{what} has a character that a header cannot carry")]
    HeaderValue {
        /// Which value.
        what: &'static str,
    },
    /// Our own request: no service would read it.
    #[error(
        "upgrade request of {size} bytes exceeds the service's limit of {max}; the access token is probably too long"
    )]
    RequestTooLong {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
}

impl HandshakeError {
    /// Whether the same request may succeed later. Everything that a broken middle box could have
    /// done may; what we ourselves ask wrongly may not.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Head(_) | Self::Closed { .. } | Self::NotUpgraded { .. } => true,
            Self::MissingSubprotocol
            | Self::UnexpectedExtension
            | Self::HeaderValue { .. }
            | Self::RequestTooLong { .. } => false,
        }
    }
}

/// Why a client's upgrade request is refused (wire specification, section 1.3).
///
/// The text goes into the response body: it says what is wrong and what to do, and never repeats
/// what the client sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not HTTP/1.1 as we take it, or too long.
    #[error("Invalid request: {0}.")]
    Head(#[from] HeadError),
    /// Not GET.
    #[error("Invalid method: use GET.")]
    Method,
    /// Not HTTP/1.1.
    #[error("Invalid HTTP version: use HTTP/1.1.")]
    HttpVersion,
    /// Not `/tunnel`.
    #[error("Invalid path: use /tunnel.")]
    Path,
    /// The mode is missing, repeated or unknown.
    #[error("Invalid mode: give local-proxy-mode=source or local-proxy-mode=destination, once.")]
    Mode,
    /// `Host` missing or repeated (RFC 9112 §3.2).
    #[error("Invalid request: send one Host header.")]
    Host,
    /// A body, or a header that announces one.
    #[error("Invalid request: an upgrade request has no body.")]
    Body,
    /// Not a WebSocket upgrade.
    #[error("Upgrade required: send `Upgrade: websocket` and `Connection: Upgrade`.")]
    Upgrade,
    /// Another WebSocket version.
    #[error("Invalid WebSocket version: send `Sec-WebSocket-Version: 13`, once.")]
    WebSocketVersion,
    /// No good key.
    #[error("Invalid WebSocket key: send one Sec-WebSocket-Key of 16 bytes in base64.")]
    WebSocketKey,
    /// No subprotocol that we know.
    #[error(
        "Invalid subprotocol: offer aws.iot.securetunneling-1.0, -2.0 or -3.0 in Sec-WebSocket-Protocol."
    )]
    Subprotocol,
    /// No access token at all.
    #[error(
        "Missing access token: send it in the access-token header or the awsiot-tunnel-token cookie."
    )]
    AccessTokenMissing,
    /// More than one access token, counting headers and cookies.
    #[error("Repeated access token: send exactly one, as a header or as a cookie.")]
    AccessTokenRepeated,
    /// An access token that cannot be one.
    #[error("Invalid access token: {0}.")]
    AccessToken(InvalidToken),
    /// More than one client token.
    #[error("Repeated client token: send at most one client-token header.")]
    ClientTokenRepeated,
    /// A client token that cannot be one.
    #[error("Invalid client token: {0}; use letters, digits and hyphens.")]
    ClientToken(InvalidToken),
}

impl RequestError {
    /// The HTTP status to answer with: always 4xx, so that clients do not try the same again.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Head(HeadError::TooLong { .. } | HeadError::TooManyFields) => 431,
            Self::Method => 405,
            Self::Upgrade | Self::WebSocketVersion => 426,
            Self::Head(HeadError::LineBreak | HeadError::Malformed(_))
            | Self::HttpVersion
            | Self::Path
            | Self::Mode
            | Self::Host
            | Self::Body
            | Self::WebSocketKey
            | Self::Subprotocol
            | Self::AccessTokenMissing
            | Self::AccessTokenRepeated
            | Self::AccessToken(_)
            | Self::ClientTokenRepeated
            | Self::ClientToken(_) => 400,
        }
    }
}

impl From<UnknownMode> for RequestError {
    fn from(_: UnknownMode) -> Self {
        Self::Mode
    }
}
