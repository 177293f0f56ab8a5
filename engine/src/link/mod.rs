//! Everything that happens once per tunnel connection, as ordinary async code: name resolution,
//! dialling, web proxies, TLS, the WebSocket upgrade; on the relay's side accepting and admitting.
//!
//! The result is a [`Link`]: a socket and what has to be known to go on with it. It belongs to no
//! runtime any more; a data-plane loop takes it from there.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this module is where the engine meets sockets, clocks and randomness"
)]

mod admission;
mod backoff;
mod bridge;
mod channel;
mod client;
mod dial;
mod error;
mod keeper;
mod listening;
mod lookups;
mod proxy;
mod relay;
mod server;
mod socket;
#[cfg(test)]
mod tests;
mod web_proxy;

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

pub use admission::{Admission, Denial, Grant, RelayControl};
pub use backoff::{Backoff, BackoffPolicy};
pub use client::{Deadlines, DialSettings, Dialer, LinkTls};
pub use dial::{DialError, dial_tcp, happy_eyeballs, resolve};
pub use error::{LinkError, ProxyError, Step};
pub use keeper::{Keeper, KeeperSettings, Notice, Outcome};
pub use listening::Ports;
pub use lookups::Lookups;
pub use proxy::{Way, dial_through};
pub use relay::Relay;
pub use server::{FailureLimit, ServeConfig, serve, source_of};
pub use web_proxy::{ProxyCredentials, ProxyScheme, ProxyUrlError, WebProxy, fuzz_web_proxy};

use adit_proto::ids::Subprotocol;

use crate::tls::Records;

/// A tunnel connection after its WebSocket upgrade, on either side.
///
/// What the peer sends comes in this order: `opened`, then `unread` (still to be opened by
/// `records`), then what the socket gives.
#[derive(Debug)]
pub struct Link {
    /// The connection: a TCP socket with `TCP_NODELAY`, or, through a TLS web proxy, one end of a
    /// local socket pair. Non-blocking.
    pub socket: OwnedFd,
    /// Seals and opens.
    pub records: Records,
    /// Plaintext that came in the same record as the end of the upgrade. Usually empty.
    pub opened: Vec<u8>,
    /// Bytes read from the socket and not opened yet. Usually empty.
    pub unread: Vec<u8>,
    /// The service's name for this session, escaped; empty if it gave none. For support.
    pub channel_id: String,
    /// The subprotocol that was agreed on, escaped.
    pub subprotocol: String,
    /// The relay at the other end passes credit on. Of no meaning at a relay.
    pub carries_credit: bool,
    /// The client has no name for itself (`User-Agent`), as those of AWS's SDKs. Of meaning at a relay alone.
    pub is_nameless: bool,
}

impl Link {
    /// A link of V3 of which nothing has been read, and for which the service gave no name. For who has connected by
    /// other means than a [`Dialer`] or a relay's listener.
    ///
    /// # Errors
    /// The socket cannot be set to send at once and not to block.
    pub fn fresh(stream: TcpStream, records: Records) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            socket: OwnedFd::from(stream),
            records,
            opened: Vec::new(),
            unread: Vec::new(),
            channel_id: String::new(),
            subprotocol: Subprotocol::V3.name().to_owned(),
            carries_credit: false,
            is_nameless: false,
        })
    }
}
