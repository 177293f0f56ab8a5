//! A store that makes trouble when a test wants it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use adit_proto::{Mode, TunnelId};

use super::{Changes, MemoryStore, Store, TunnelStore};
use crate::clock::Now;
use crate::token::TokenHash;
use crate::tunnels::{
    Admitted, Connected, Expired, Found, Limits, ListRequest, NewTunnel, Page, Presented, Refusal,
    Rotation, Tags, TunnelError, TunnelView,
};

/// What happens to one operation.
pub(crate) enum Trouble {
    /// It is carried out.
    None,
    /// It is not carried out, and fails so.
    Refused(TunnelError),
    /// It is carried out, and fails so all the same: its answer is lost.
    Lost(TunnelError),
    /// It is carried out once this is over.
    Later(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// Asked before each operation on one tunnel, by its name in [`TunnelStore`].
type Plan = Box<dyn FnMut(&'static str, &TunnelId) -> Trouble + Send>;

/// Tunnels in memory, with trouble by plan.
pub(crate) struct TroubledStore {
    inner: MemoryStore,
    plan: Mutex<Plan>,
}

impl TroubledStore {
    /// Without trouble yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            inner: MemoryStore::new(limits),
            plan: Mutex::new(Box::new(|_, _| Trouble::None)),
        }
    }

    /// Makes this trouble from now on.
    pub(crate) fn plan(
        &self,
        plan: impl FnMut(&'static str, &TunnelId) -> Trouble + Send + 'static,
    ) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(plan);
    }

    async fn run<T, E: From<TunnelError>>(
        &self,
        name: &'static str,
        id: &TunnelId,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let trouble = (self.plan.lock().unwrap_or_else(PoisonError::into_inner))(name, id);
        match trouble {
            Trouble::None => operation.await,
            Trouble::Refused(error) => Err(error.into()),
            Trouble::Lost(error) => operation.await.and(Err(error.into())),
            Trouble::Later(moment) => {
                moment.await;
                operation.await
            }
        }
    }
}

impl Store for TroubledStore {
    fn changes(&self) -> Changes {
        self.inner.changes()
    }

    async fn shut_down(&self) {
        self.inner.shut_down().await;
    }
}

impl TunnelStore for TroubledStore {
    async fn open_tunnel(&self, now: Now, new: NewTunnel) -> Result<(), TunnelError> {
        let id = new.id.clone();
        self.run("open_tunnel", &id, self.inner.open_tunnel(now, new))
            .await
    }

    async fn describe(&self, now: Now, id: &TunnelId) -> Result<TunnelView, TunnelError> {
        self.run("describe", id, self.inner.describe(now, id)).await
    }

    async fn list(&self, now: Now, request: ListRequest) -> Result<Page, TunnelError> {
        self.inner.list(now, request).await
    }

    async fn rotate(&self, now: Now, id: &TunnelId, rotation: Rotation) -> Result<(), TunnelError> {
        self.run("rotate", id, self.inner.rotate(now, id, rotation))
            .await
    }

    async fn has_token(
        &self,
        id: &TunnelId,
        mode: Mode,
        token: TokenHash,
    ) -> Result<bool, TunnelError> {
        self.run("has_token", id, self.inner.has_token(id, mode, token))
            .await
    }

    async fn close(&self, now: Now, id: &TunnelId, delete: bool) -> Result<Found, TunnelError> {
        self.run("close", id, self.inner.close(now, id, delete))
            .await
    }

    async fn tag(&self, id: &TunnelId, tags: Tags) -> Result<(), TunnelError> {
        self.run("tag", id, self.inner.tag(id, tags)).await
    }

    async fn untag(&self, id: &TunnelId, keys: Vec<String>) -> Result<(), TunnelError> {
        self.run("untag", id, self.inner.untag(id, keys)).await
    }

    async fn tags(&self, id: &TunnelId) -> Result<Tags, TunnelError> {
        self.run("tags", id, self.inner.tags(id)).await
    }

    async fn spend_token(&self, now: Now, presented: Presented) -> Result<Admitted, Refusal> {
        self.inner.spend_token(now, presented).await
    }

    async fn set_connected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Result<Connected, TunnelError> {
        let operation = self.inner.set_connected(now, id, mode, session);
        self.run("set_connected", id, operation).await
    }

    async fn set_disconnected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Result<(), TunnelError> {
        let operation = self.inner.set_disconnected(now, id, mode, session);
        self.run("set_disconnected", id, operation).await
    }

    async fn expire(&self, now: Now) -> Result<Expired, TunnelError> {
        self.inner.expire(now).await
    }
}
