//! Where tunnels are kept. The operations are the domain's own, so that a durable store can do each
//! one in a transaction of its own.

mod memory;
mod snapshot_file;
mod writer;

use std::future::Future;

use adit_proto::{Mode, TunnelId};

use crate::clock::Now;
use crate::tunnels::{
    Admitted, Connected, Expired, ListRequest, NewTunnel, Page, Presented, Refusal, Rotation, Tags,
    TunnelError, TunnelView,
};

pub use memory::MemoryStore;

/// What a store can do. The meaning of each operation is that of the method of the same name on
/// [`Tunnels`].
///
/// Contract: an operation that has returned is durable, as far as the store is; operations on one
/// tunnel take effect one after the other. So of any number of simultaneous
/// [`spend_token`](Self::spend_token) with one token, exactly one sees it unused.
///
/// One that fails with `Unavailable` has not taken effect, so that it can be tried again: a token is
/// not spent by it. Only when the process ends before the next success may a restart find it done.
/// Who is connected, and what [`expire`](Self::expire) does, never needs the disk.
pub trait Store: Send + Sync + 'static {
    /// Adds an open tunnel.
    fn open_tunnel(
        &self,
        now: Now,
        new: NewTunnel,
    ) -> impl Future<Output = Result<(), TunnelError>> + Send;

    /// One tunnel, open or closed.
    fn describe(
        &self,
        now: Now,
        id: &TunnelId,
    ) -> impl Future<Output = Result<TunnelView, TunnelError>> + Send;

    /// One page of tunnels, the newest first.
    fn list(
        &self,
        now: Now,
        request: ListRequest,
    ) -> impl Future<Output = Result<Page, TunnelError>> + Send;

    /// Replaces the tokens of one side or both.
    fn rotate(
        &self,
        now: Now,
        id: &TunnelId,
        rotation: Rotation,
    ) -> impl Future<Output = Result<(), TunnelError>> + Send;

    /// Closes a tunnel, and forgets it when `delete` is set.
    fn close(
        &self,
        now: Now,
        id: &TunnelId,
        delete: bool,
    ) -> impl Future<Output = Result<(), TunnelError>> + Send;

    /// Adds tags, all or none.
    fn tag(
        &self,
        id: &TunnelId,
        tags: Tags,
    ) -> impl Future<Output = Result<(), TunnelError>> + Send;

    /// Removes tags.
    fn untag(
        &self,
        id: &TunnelId,
        keys: Vec<String>,
    ) -> impl Future<Output = Result<(), TunnelError>> + Send;

    /// The tags of a tunnel.
    fn tags(&self, id: &TunnelId) -> impl Future<Output = Result<Tags, TunnelError>> + Send;

    /// Decides on a handshake, and spends its token.
    fn spend_token(
        &self,
        now: Now,
        presented: Presented,
    ) -> impl Future<Output = Result<Admitted, Refusal>> + Send;

    /// A connection was handed to the relay.
    fn set_connected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> impl Future<Output = Result<Connected, TunnelError>> + Send;

    /// A connection is gone.
    fn set_disconnected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> impl Future<Output = Result<(), TunnelError>> + Send;

    /// What the passing of time did.
    fn expire(&self, now: Now) -> impl Future<Output = Result<Expired, TunnelError>> + Send;
}

#[cfg(test)]
mod tests;
