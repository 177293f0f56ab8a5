//! Tunnels in memory.

mod table;

use adit_proto::{Mode, TunnelId};

use self::table::{NODE, Table};
use super::{Changes, Store, TunnelStore};
use crate::clock::{Now, Timestamp};
use crate::sync::{Mutex, MutexGuard};
use crate::token::TokenHash;
use crate::tunnels::{
    Admitted, Connected, Expired, Found, Limits, ListRequest, NewTunnel, Page, Presented, Refusal,
    Rotation, Tags, TunnelError, TunnelView,
};

/// Tunnels that end with the process; for tests, and for trying things out.
pub struct MemoryStore {
    table: Mutex<Table>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        Self {
            table: Mutex::new(Table::new(limits)),
        }
    }

    /// Whether a device may be told of this token of this tunnel.
    pub(super) fn may_tell(&self, now: Timestamp, id: &TunnelId, token: &TokenHash) -> bool {
        let table = self.table();
        table
            .record(id)
            .is_ok_and(|record| record.may_tell(now, token))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.table.lock();
        table.expect("no operation of the table panics half-way")
    }
}

impl Store for MemoryStore {
    fn changes(&self) -> Changes {
        Changes::none()
    }

    async fn shut_down(&self) {}
}

impl TunnelStore for MemoryStore {
    async fn open_tunnel(&self, now: Now, new: NewTunnel) -> Result<(), TunnelError> {
        self.table().open(now, new)
    }

    async fn describe(&self, now: Now, id: &TunnelId) -> Result<TunnelView, TunnelError> {
        let table = self.table();
        table.record(id).map(|record| record.view(now, |_| true))
    }

    async fn list(&self, now: Now, request: ListRequest) -> Result<Page, TunnelError> {
        Ok(self.table().list(now, &request))
    }

    async fn rotate(&self, now: Now, id: &TunnelId, rotation: Rotation) -> Result<(), TunnelError> {
        let mut table = self.table();
        table.change(id, |record, limits| record.rotate(now, limits, &rotation))
    }

    async fn has_token(
        &self,
        id: &TunnelId,
        mode: Mode,
        token: TokenHash,
    ) -> Result<bool, TunnelError> {
        let table = self.table();
        let record = table.record(id);
        Ok(record.is_ok_and(|record| record.side(mode).token == token))
    }

    async fn close(&self, now: Now, id: &TunnelId, delete: bool) -> Result<Found, TunnelError> {
        let mut table = self.table();
        if delete {
            let removed = table.remove(id);
            return removed
                .map(|record| record.found(now))
                .ok_or_else(|| TunnelError::NotFound(id.clone()));
        }
        table.change(id, |record, limits| Ok(record.close(now, limits.retention)))
    }

    async fn tag(&self, id: &TunnelId, tags: Tags) -> Result<(), TunnelError> {
        let mut table = self.table();
        table.change(id, |record, limits| record.tag(limits, tags))
    }

    async fn untag(&self, id: &TunnelId, keys: Vec<String>) -> Result<(), TunnelError> {
        self.table().change(id, |record, _| {
            record.untag(&keys);
            Ok(())
        })
    }

    async fn tags(&self, id: &TunnelId) -> Result<Tags, TunnelError> {
        let table = self.table();
        table.record(id).map(|record| record.tags.clone())
    }

    async fn spend_token(&self, now: Now, presented: Presented) -> Result<Admitted, Refusal> {
        let mut table = self.table();
        let id = table.find(&presented)?;
        let record = table.record(&id).map_err(|_| Refusal::UnknownToken)?;
        record.judge(now, &presented)?;
        if table.is_taken(record, &presented) {
            return Err(Refusal::ClientTokenTaken);
        }
        table.change(&id, |record, _| record.admit(now, &presented))
    }

    async fn set_connected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Result<Connected, TunnelError> {
        let connected = self
            .table()
            .change(id, |record, _| Ok(record.connect(now, mode, session, NODE)));
        match connected {
            Err(TunnelError::NotFound(_)) => Ok(Connected::TunnelEnded),
            other => other,
        }
    }

    async fn set_disconnected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Result<(), TunnelError> {
        let disconnected = self.table().change(id, |record, _| {
            record.disconnect(now, mode, session);
            Ok(())
        });
        match disconnected {
            Err(TunnelError::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    async fn expire(&self, now: Now) -> Result<Expired, TunnelError> {
        Ok(self.table().expire(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::manual::ManualClock;
    use crate::store::conformance::{Place, suite};

    struct Memory;

    impl Place for Memory {
        type Store = MemoryStore;

        async fn empty_store(&self, limits: Limits, _: &ManualClock) -> MemoryStore {
            MemoryStore::new(limits)
        }

        async fn check(&self, store: &MemoryStore) {
            store.table().check();
        }

        fn seeds(&self) -> u64 {
            30
        }

        fn races(&self) -> usize {
            300
        }
    }

    suite! { Some(Memory) }
}
