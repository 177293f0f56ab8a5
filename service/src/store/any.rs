//! The store that the settings ask for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use adit_proto::{Mode, TunnelId};

use super::{
    Changes, MemoryStore, PostgresStore, PostgresUrl, SqliteStore, Store, StoreError, StoreLimits,
    TunnelStore,
};
use crate::audit::MemoryAudit;
use crate::clock::{Clock, Now};
use crate::data_dir::DataDir;
use crate::notify::{KeyCheck, MemoryMailbox};
use crate::registry::MemoryRegistry;
use crate::token::TokenHash;
use crate::tunnels::{
    Admitted, Connected, Expired, Found, ListRequest, NewTunnel, Page, Presented, Refusal,
    Rotation, Tags, TunnelError, TunnelView,
};

/// Which store to use.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreChoice {
    /// Nothing outlives the process.
    Memory,
    /// `adit.db` in the data directory.
    Sqlite,
    /// A server, shared by any number of nodes.
    Postgres(Box<PostgresUrl>),
}

impl FromStr for StoreChoice {
    type Err = StoreError;

    /// `memory`, `sqlite`, or the URL of a server.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        match text {
            "memory" => Ok(Self::Memory),
            "sqlite" => Ok(Self::Sqlite),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                let url = PostgresUrl::parse(url)?;
                Ok(Self::Postgres(Box::new(url)))
            }
            // Not the text itself: a slip may have a password in it.
            _ => Err(StoreError::Choice {
                shown: text.split(':').next().unwrap_or_default().to_owned(),
                problem: "there is no such store".to_owned(),
            }),
        }
    }
}

impl fmt::Debug for StoreChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("Memory"),
            Self::Sqlite => f.write_str("Sqlite"),
            Self::Postgres(url) => write!(f, "Postgres({url})"),
        }
    }
}

/// Any of the stores.
pub enum AnyStore {
    /// In memory.
    Memory(Box<InMemory>),
    /// In the data directory.
    Sqlite(Box<SqliteStore>),
    /// On a server.
    Postgres(Box<PostgresStore>),
}

/// What ends with the process, each kind by itself.
pub struct InMemory {
    tunnels: Arc<MemoryStore>,
    registry: MemoryRegistry,
    mailbox: MemoryMailbox,
    audit: MemoryAudit,
}

impl InMemory {
    fn new(limits: StoreLimits) -> Self {
        let tunnels = Arc::new(MemoryStore::new(limits.tunnels));
        let asked = Arc::clone(&tunnels);
        Self {
            tunnels,
            registry: MemoryRegistry::new(limits.registry),
            mailbox: MemoryMailbox::new(limits.mailbox, move |now, tunnel, token| {
                asked.may_tell(now, tunnel, token)
            }),
            audit: MemoryAudit::new(AUDIT_RECORDS_MAX),
        }
    }
}

impl AnyStore {
    /// Opens what was chosen; without a choice, SQLite where there is a directory, else memory. `key` is what
    /// notifications are sealed with, if any wait in the store: all nodes on a server have the same.
    ///
    /// # Errors
    /// SQLite without a directory; a file or a server that cannot be used; nodes with another key.
    pub async fn open(
        choice: Option<&StoreChoice>,
        dir: Option<&Arc<DataDir>>,
        limits: impl Into<StoreLimits>,
        key: Option<KeyCheck>,
        clock: &Clock,
    ) -> Result<Self, StoreError> {
        let limits = limits.into();
        match (choice, dir) {
            (Some(StoreChoice::Postgres(url)), _) => {
                let store = PostgresStore::join(url, limits, key, clock.clone()).await?;
                Ok(Self::Postgres(Box::new(store)))
            }
            (Some(StoreChoice::Sqlite) | None, Some(dir)) => {
                let store = SqliteStore::open(Arc::clone(dir), limits, clock.now())?;
                Ok(Self::Sqlite(Box::new(store)))
            }
            (Some(StoreChoice::Sqlite), None) => Err(StoreError::Choice {
                shown: "sqlite".to_owned(),
                problem: "it needs a data directory".to_owned(),
            }),
            (Some(StoreChoice::Memory), _) | (None, None) => {
                Ok(Self::Memory(Box::new(InMemory::new(limits))))
            }
        }
    }
}

/// The same operation of whichever store there is.
macro_rules! each {
    ($self:ident, $part:ident, $store:ident => $operation:expr) => {
        match $self {
            AnyStore::Memory(parts) => {
                let $store = &parts.$part;
                $operation
            }
            AnyStore::Sqlite($store) => $operation,
            AnyStore::Postgres($store) => $operation,
        }
    };
}

mod devices;

impl AnyStore {
    /// In memory, a message whose token is good for nothing is not given out, but has to be thrown away
    /// apart; the other stores do it in the same transaction.
    fn silence<'a>(&self, tunnels: impl IntoIterator<Item = &'a TunnelId>) {
        if let Self::Memory(parts) = self {
            tunnels.into_iter().for_each(|id| parts.mailbox.revoke(id));
        }
    }
}

impl Store for AnyStore {
    fn changes(&self) -> Changes {
        each!(self, tunnels, store => store.changes())
    }

    async fn shut_down(&self) {
        each!(self, tunnels, store => store.shut_down().await)
    }
}

impl TunnelStore for AnyStore {
    async fn open_tunnel(&self, now: Now, new: NewTunnel) -> Result<(), TunnelError> {
        each!(self, tunnels, store => store.open_tunnel(now, new).await)
    }

    async fn describe(&self, now: Now, id: &TunnelId) -> Result<TunnelView, TunnelError> {
        each!(self, tunnels, store => store.describe(now, id).await)
    }

    async fn list(&self, now: Now, request: ListRequest) -> Result<Page, TunnelError> {
        each!(self, tunnels, store => store.list(now, request).await)
    }

    async fn rotate(&self, now: Now, id: &TunnelId, rotation: Rotation) -> Result<(), TunnelError> {
        let silences = rotation.destination.is_some();
        each!(self, tunnels, store => store.rotate(now, id, rotation).await)?;
        self.silence(silences.then_some(id));
        Ok(())
    }

    async fn has_token(
        &self,
        id: &TunnelId,
        mode: Mode,
        token: TokenHash,
    ) -> Result<bool, TunnelError> {
        each!(self, tunnels, store => store.has_token(id, mode, token).await)
    }

    async fn close(&self, now: Now, id: &TunnelId, delete: bool) -> Result<Found, TunnelError> {
        let found = each!(self, tunnels, store => store.close(now, id, delete).await)?;
        self.silence([id]);
        Ok(found)
    }

    async fn tag(&self, id: &TunnelId, tags: Tags) -> Result<(), TunnelError> {
        each!(self, tunnels, store => store.tag(id, tags).await)
    }

    async fn untag(&self, id: &TunnelId, keys: Vec<String>) -> Result<(), TunnelError> {
        each!(self, tunnels, store => store.untag(id, keys).await)
    }

    async fn tags(&self, id: &TunnelId) -> Result<Tags, TunnelError> {
        each!(self, tunnels, store => store.tags(id).await)
    }

    async fn spend_token(&self, now: Now, presented: Presented) -> Result<Admitted, Refusal> {
        each!(self, tunnels, store => store.spend_token(now, presented).await)
    }

    async fn set_connected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Result<Connected, TunnelError> {
        each!(self, tunnels, store => store.set_connected(now, id, mode, session).await)
    }

    async fn set_disconnected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Result<(), TunnelError> {
        each!(self, tunnels, store => store.set_disconnected(now, id, mode, session).await)
    }

    async fn expire(&self, now: Now) -> Result<Expired, TunnelError> {
        let expired = each!(self, tunnels, store => store.expire(now).await)?;
        self.silence(&expired.ended);
        Ok(expired)
    }
}

/// Of a service that keeps nothing; about 500 bytes each.
const AUDIT_RECORDS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::conformance;

    conformance::mailbox_rules!(|mailbox| async move {
        let limits = StoreLimits {
            mailbox,
            ..StoreLimits::default()
        };
        Box::new(AnyStore::Memory(Box::new(InMemory::new(limits))))
    });
}
