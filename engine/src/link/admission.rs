//! The seam between the data plane and whoever decides about tunnels.

use std::future::Future;
use std::sync::Arc;

use adit_proto::handshake::ServerRequest;
use adit_proto::{Mode, ServiceId, TunnelId};

/// A handshake that was let in.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The tunnel it belongs to.
    pub tunnel: TunnelId,
    /// The side that it is.
    pub mode: Mode,
    /// The services of the tunnel; empty when it was opened without.
    pub services: Arc<[ServiceId]>,
    /// Unique per admitted connection; of two connections of one side, the newer has the higher number.
    pub session: u64,
}

/// A handshake that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The HTTP status of the answer.
    pub status: u16,
    /// Goes to the body and to `X-Status-Reason`.
    pub text: String,
}

/// Decides who may connect, and is told who is.
pub trait Admission: Send + Sync + 'static {
    /// Asks for admission. The token is spent when this returns `Ok`, before the 101 leaves.
    fn admit(
        &self,
        request: &ServerRequest,
        channel_id: &str,
    ) -> impl Future<Output = Result<Grant, Denial>> + Send;

    /// The link was handed to the relay.
    fn connected(&self, grant: &Grant);

    /// The link is gone, also when the 101 could not be written. A stale session, which a newer one
    /// replaced, must not change the state.
    fn disconnected(&self, grant: &Grant);
}

/// What the decider may ask of the relay.
pub trait RelayControl: Send + Sync + 'static {
    /// Ends one side's link: a close frame to that side, stream resets to the other.
    fn end_side(&self, tunnel: &TunnelId, mode: Mode);

    /// Ends a tunnel: a close frame with code 1000 to both sides.
    fn end_tunnel(&self, tunnel: &TunnelId);
}
