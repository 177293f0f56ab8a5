//! Where tunnels are kept. The operations are the domain's own, so that each store can do each one in
//! a transaction of its own.
//!
//! ```text
//! TunnelStore ─┬─ MemoryStore     ends with the process
//!              ├─ SqliteStore     one file in the data directory, one node
//!              └─ PostgresStore   a server, any number of nodes
//! ```
//!
//! The rules are in [`tunnels`](crate::tunnels), the same for all of them; what a store adds is that
//! they are applied one after the other, and that what was answered is kept.

mod any;
mod changes;
#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod crash;
mod error;
mod memory;
mod operations;
mod postgres;
mod relational;
mod row;
mod sqlite;
#[cfg(test)]
pub(crate) mod troubled;

use crate::notify::MailboxLimits;
use crate::registry::RegistryLimits;
use crate::tunnels::Limits;

pub use any::{AnyStore, StoreChoice};
pub use changes::{Change, Changes};
pub use error::StoreError;
pub use memory::MemoryStore;
pub use operations::{Store, TunnelStore};
pub use postgres::{PostgresStore, PostgresUrl};
pub use sqlite::SqliteStore;

/// Bounds of everything that one store keeps.
#[derive(Clone, Debug, Default)]
pub struct StoreLimits {
    /// Of tunnels.
    pub tunnels: Limits,
    /// Of things, certificates and policies.
    pub registry: RegistryLimits,
    /// Of sessions and messages of devices.
    pub mailbox: MailboxLimits,
}

impl From<Limits> for StoreLimits {
    fn from(tunnels: Limits) -> Self {
        Self {
            tunnels,
            ..Self::default()
        }
    }
}
