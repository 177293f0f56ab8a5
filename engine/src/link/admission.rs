//! The seam between the relay and whatever decides who may use it.

use std::future::Future;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::pin::Pin;
use std::sync::Arc;

use adit_proto::handshake::ServerRequest;
use adit_proto::{Mode, ServiceId, TunnelId};

/// Leave to take one side of one tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// The side.
    pub mode: Mode,
    /// The tunnel's services, in the order of its creation; may be empty.
    pub services: Arc<[ServiceId]>,
    /// Unique for each admitted connection: tells a connection from the one that replaced it.
    pub session: u64,
    /// Bytes that the tunnel may carry in a second, both directions and all streams together; over
    /// it, its sides are read later. The newest grant of a tunnel counts.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Connections that may be started in the tunnel in a second, likewise.
    pub connections_per_second: Option<NonZeroU32>,
}

/// Why a client may not come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// HTTP status: 4xx for "do not try the same again", 5xx for "try again later".
    pub status: u16,
    /// One sentence for the person at the other end; the body, and the `X-Status-Reason` header.
    pub text: String,
}

/// Decides who comes in, and hears what became of them.
///
/// For each `Ok` of [`admit`](Self::admit) there is exactly one
/// [`disconnected`](Self::disconnected), and in between at most one
/// [`connected`](Self::connected).
pub trait Admission: Send + Sync + 'static {
    /// Checks the tokens. They are spent, durably, when this returns `Ok`: before the client hears
    /// of it. The call is never abandoned half-way, so it must end by itself.
    ///
    /// `peer` is where the client's TCP connection comes from, and `channel_id` the name of this
    /// attempt, which the client is told for support.
    fn admit(
        &self,
        request: &ServerRequest,
        peer: SocketAddr,
        channel_id: &str,
    ) -> impl Future<Output = Result<Grant, Denial>> + Send;

    /// The relay has the client's link: from now on it can be ended. Called by whoever took it.
    fn connected(&self, grant: &Grant);

    /// The link is gone. Called by whoever took it, and by [`serve`](super::serve), without
    /// `connected`, when nobody did: the answer could not be sent.
    ///
    /// A session that a newer one has replaced may end after that one began, and must not change
    /// what is known of the tunnel's side.
    fn disconnected(&self, grant: &Grant);
}

/// What the control plane asks of the relay.
pub trait RelayControl: Send + Sync + 'static {
    /// Ends one side of a tunnel, as a rotation of its token does: a close frame to that side,
    /// resets of its streams to the other. A link whose session is later than `newest` stays: it
    /// was admitted by the new token while the word about the old one was on its way.
    fn end_side(&self, tunnel: &TunnelId, mode: Mode, newest: u64);

    /// Ends a tunnel: a close frame (1000) to both sides.
    fn end_tunnel(&self, tunnel: &TunnelId);

    /// Completes when a part of the relay has ended by itself, and says which: what it carried is
    /// gone, and it takes in nobody for it any more. By default, never.
    fn failed(&self) -> Pin<Box<dyn Future<Output = &'static str> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}
