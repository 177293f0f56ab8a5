//! Why a link did not come about: at which step, with whom, and what may help.

use std::io;
use std::time::Duration;

use adit_proto::handshake::{HandshakeError, Refusal};

use super::DialError;
use crate::tls;

/// One step of building a link that has a deadline. Connecting has one, too, but says itself
/// what became of each address ([`DialError::Failed`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Resolving a name.
    Resolve,
    /// Asking the web proxy for a way through.
    Proxy,
    /// The TLS handshake with the service.
    Tls,
    /// The WebSocket upgrade.
    Upgrade,
}

impl Step {
    fn doing(self) -> &'static str {
        match self {
            Self::Resolve => "resolving the name of",
            Self::Proxy => "asking the web proxy",
            Self::Tls => "the TLS handshake with",
            Self::Upgrade => "the WebSocket upgrade by",
        }
    }
}

/// Why a link did not come about. `host` is always whom the step was about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A step took too long.
    #[error("{} {host} took more than {} s", .step.doing(), .after.as_secs_f32())]
    TimedOut {
        /// The step.
        step: Step,
        /// The service or the web proxy.
        host: String,
        /// The time allowed.
        after: Duration,
    },
    /// The name could not be resolved, or no address answered in time.
    #[error("no connection to {host}: {source}")]
    Dial {
        /// The service or the web proxy.
        host: String,
        /// Why.
        source: DialError,
    },
    /// The web proxy did not let us through.
    #[error("no way through the web proxy {proxy}: {source}")]
    Proxy {
        /// The web proxy, without credentials.
        proxy: String,
        /// Why.
        source: ProxyError,
    },
    /// The TLS handshake with the service failed.
    #[error("no TLS connection to {host}: {source}")]
    Tls {
        /// The service.
        host: String,
        /// Why.
        source: tls::HandshakeError,
    },
    /// The connection failed during the upgrade.
    #[error("the connection to {host} failed during the WebSocket upgrade: {source}")]
    Io {
        /// The service.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The service's answer to the upgrade cannot be used.
    #[error("no WebSocket connection to {host}: {source}")]
    Answer {
        /// The service.
        host: String,
        /// Why.
        source: HandshakeError,
    },
    /// The service refused, with a reason.
    #[error("{host} refused the connection with status {}: {}", .refusal.status, .refusal.text())]
    Refused {
        /// The service.
        host: String,
        /// Its answer.
        refusal: Refusal,
    },
}

impl LinkError {
    /// Whether the same attempt may succeed later.
    ///
    /// What the network or a broken middle box could have done may; so may a 5xx (wire
    /// specification, section 1.6), and a certificate that does not hold: it may be renewed, or
    /// this device's clock be set. Other statuses are final, and so is what we ask wrongly.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Dial { .. } | Self::Io { .. } => true,
            Self::Tls { source, .. } => !matches!(source, tls::HandshakeError::BadName(_)),
            Self::Proxy { source, .. } => source.is_retryable(),
            // a service that forgot it may remember it; the backoff prevents a tight loop.
            Self::Answer {
                source: HandshakeError::MissingSubprotocol,
                ..
            } => true,
            Self::Answer { source, .. } => source.is_retryable(),
            Self::Refused { refusal, .. } => refusal.is_retryable(),
        }
    }

    /// What a person can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Tls { source, .. }
            | Self::Proxy {
                source: ProxyError::Tls(source),
                ..
            } => source.hint(),
            Self::Proxy {
                source: ProxyError::Status { status: 407 },
                ..
            } => Some("give it user and password: https_proxy=http://user:password@host:port"),
            Self::Dial { .. }
            | Self::TimedOut {
                step: Step::Resolve,
                ..
            } => Some("check the endpoint and the network; behind a web proxy, set https_proxy"),
            // A relay says one sentence (wire specification, section 1.6). An API answers in JSON, a web server with
            // a page, and both say nothing of tokens.
            Self::Refused { refusal, .. }
                if refusal.status == 404
                    || refusal.status < 500 && refusal.body.starts_with(['{', '<']) =>
            {
                Some("a relay does not answer like that: check the endpoint's host and port")
            }
            Self::Refused { refusal, .. } if refusal.status < 500 => Some(
                "an access token works once, for one side of a tunnel; get a new one by rotating it",
            ),
            _ => None,
        }
    }
}

/// Why a web proxy did not let us through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The connection to it failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The TLS handshake with it failed.
    #[error(transparent)]
    Tls(tls::HandshakeError),
    /// It is to be spoken to in TLS, but there are no TLS settings.
    #[error("it wants TLS, but this connection has no TLS settings")]
    NoTls,
    /// Its answer cannot be used, or our request cannot be made.
    #[error(transparent)]
    Answer(#[from] HandshakeError),
    /// It refused.
    #[error("it answered with status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// It closed the connection before it had answered.
    #[error("it closed the connection after {received} bytes of an answer")]
    Closed {
        /// What had come, in bytes.
        received: usize,
    },
    /// Bytes came behind its answer, where only the service may speak, and it never does first.
    #[error("it sent {size} bytes in the name of the service")]
    EarlyBytes {
        /// How many had come.
        size: usize,
    },
}

impl ProxyError {
    /// Whether the same attempt may succeed later. A wrong password does not get better; any
    /// other status may (wire specification, section 14.4).
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Status { status } => *status != 407,
            Self::NoTls => false,
            Self::Tls(source) => !matches!(source, tls::HandshakeError::BadName(_)),
            Self::Answer(source) => source.is_retryable(),
            Self::Io(_) | Self::Closed { .. } | Self::EarlyBytes { .. } => true,
        }
    }
}
