//! Where tunnels are kept. The operations are the domain's own, so that a durable store can do each
//! one in a transaction of its own.

use std::future::Future;
use std::sync::{Mutex, MutexGuard};

use adit_proto::{Mode, TunnelId};

use crate::clock::Now;
use crate::tunnels::{
    Admitted, Connected, Expired, Limits, ListRequest, NewTunnel, Page, Presented, Refusal,
    Rotation, Tags, TunnelError, TunnelView, Tunnels,
};

/// What a store can do. The meaning of each operation is that of the method of the same name on
/// [`Tunnels`].
///
/// Contract: an operation that has returned is durable, as far as the store is; operations on one
/// tunnel take effect one after the other. So of any number of simultaneous
/// [`spend_token`](Self::spend_token) with one token, exactly one sees it unused.
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

/// Tunnels that end with the process.
pub struct MemoryStore(Mutex<Tunnels>);

impl MemoryStore {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        Self(Mutex::new(Tunnels::new(limits)))
    }

    fn table(&self) -> MutexGuard<'_, Tunnels> {
        self.0
            .lock()
            .expect("no operation of the table panics half-way")
    }
}

impl Store for MemoryStore {
    async fn open_tunnel(&self, now: Now, new: NewTunnel) -> Result<(), TunnelError> {
        self.table().open(now, new)
    }

    async fn describe(&self, now: Now, id: &TunnelId) -> Result<TunnelView, TunnelError> {
        self.table().describe(now, id)
    }

    async fn list(&self, now: Now, request: ListRequest) -> Result<Page, TunnelError> {
        Ok(self.table().list(now, &request))
    }

    async fn rotate(&self, now: Now, id: &TunnelId, rotation: Rotation) -> Result<(), TunnelError> {
        self.table().rotate(now, id, &rotation)
    }

    async fn close(&self, now: Now, id: &TunnelId, delete: bool) -> Result<(), TunnelError> {
        self.table().close(now, id, delete)
    }

    async fn tag(&self, id: &TunnelId, tags: Tags) -> Result<(), TunnelError> {
        self.table().tag(id, tags)
    }

    async fn untag(&self, id: &TunnelId, keys: Vec<String>) -> Result<(), TunnelError> {
        self.table().untag(id, &keys)
    }

    async fn tags(&self, id: &TunnelId) -> Result<Tags, TunnelError> {
        self.table().tags(id)
    }

    async fn spend_token(&self, now: Now, presented: Presented) -> Result<Admitted, Refusal> {
        self.table().spend_token(now, &presented)
    }

    async fn set_connected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Result<Connected, TunnelError> {
        Ok(self.table().set_connected(now, id, mode, session))
    }

    async fn set_disconnected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Result<(), TunnelError> {
        self.table().set_disconnected(now, id, mode, session);
        Ok(())
    }

    async fn expire(&self, now: Now) -> Result<Expired, TunnelError> {
        Ok(self.table().expire(now))
    }
}
