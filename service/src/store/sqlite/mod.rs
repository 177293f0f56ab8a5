//! One SQLite file in the data directory.

mod database;
mod import;
mod journal;
mod readers;
mod schema;
mod sums;
mod tables;
mod tunnels;
mod writer;

use std::fmt::Display;
use std::sync::Arc;

use adit_proto::{Mode, TunnelId};
use rusqlite::{Connection, TransactionBehavior};
use tracing::{error, warn};

use self::readers::Readers;
use self::writer::Writer;
use super::error::Unavailable;
use super::relational::counts;
use super::{Changes, Store, StoreLimits, TunnelStore, error};
use crate::clock::Now;
use crate::data_dir::{DataDir, DataDirError};
use crate::notify::MailboxLimits;
use crate::registry::{ChangeSender, RegistryLimits};
use crate::token::TokenHash;
use crate::tunnels::{
    Admitted, Connected, Expired, Found, Limits, ListRequest, NewTunnel, NodeId, Page, Presented,
    Record, Refusal, Rotation, Tags, TunnelError, TunnelView,
};

/// Everything in `adit.db`: there again after the process, however it ended.
///
/// Writing is one thread's, which commits for all that wait at one time together; reading goes on
/// beside it. A commit is durable (`synchronous=FULL`) before anything of it is answered or seen.
pub struct SqliteStore {
    limits: Arc<Limits>,
    registry_limits: Arc<RegistryLimits>,
    mailbox_limits: MailboxLimits,
    registry_changes: ChangeSender,
    writer: Arc<Writer>,
    readers: Readers,
    /// This run. Links of earlier ones are gone.
    node: NodeId,
}

impl SqliteStore {
    /// The store of this directory. Both sides of every tunnel begin disconnected; lifetimes have gone
    /// on. The directory's lock is held until the store is [shut down](Store::shut_down) or dropped.
    ///
    /// # Errors
    /// A file that is damaged, of a newer version, or of another program; a directory that cannot be
    /// written.
    pub fn open(
        dir: Arc<DataDir>,
        limits: impl Into<StoreLimits>,
        now: Now,
    ) -> Result<Self, DataDirError> {
        let all = limits.into();
        let limits = all.tunnels;
        let mut connection = database::open(&dir)?;
        let old = import::read(&dir, limits.retention, now)?;
        let path = dir.file(database::FILE);
        let node = begin(&mut connection, old, &limits, now)
            .map_err(|error| database::fault(&path, error))?;
        import::finish(&dir)?;
        let readers = Readers::open(&dir)?;
        Ok(Self {
            limits: Arc::new(limits),
            registry_limits: Arc::new(all.registry),
            mailbox_limits: all.mailbox,
            registry_changes: ChangeSender::new(),
            writer: Arc::new(Writer::start(connection, dir)?),
            readers,
            node,
        })
    }

    /// Applies a rule to the tunnel of this id.
    async fn change<T: Send + 'static>(
        &self,
        id: &TunnelId,
        rule: impl FnOnce(&mut Record, &Limits) -> Result<T, TunnelError> + Send + 'static,
    ) -> Result<T, TunnelError> {
        let (id, limits) = (id.clone(), Arc::clone(&self.limits));
        let change = move |connection: &Connection| {
            let record = tunnels::by_id(connection, &id)?;
            tunnels::change(connection, &limits, &record, |record| rule(record, &limits))
        };
        self.writer.change(change).await
    }

    async fn record(&self, id: &TunnelId) -> Result<Record, TunnelError> {
        let id = id.clone();
        let read = move |connection: &Connection| tunnels::by_id(connection, &id);
        self.readers.read(read).await
    }
}

/// What the first transaction of a run does.
fn begin(
    connection: &mut Connection,
    old: Vec<Record>,
    limits: &Limits,
    now: Now,
) -> rusqlite::Result<NodeId> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for record in &old {
        // There already when the last run ended before it could remove the old file.
        if !tunnels::exists(&transaction, &record.id)? {
            tunnels::insert(&transaction, record)?;
        }
    }
    tunnels::clamp(&transaction, now, limits)?;
    recount(&transaction)?;
    tables::begin(&transaction, now)?;
    let sql = "UPDATE counters SET value = value + 1 WHERE name = 'node' RETURNING value";
    let node = transaction.query_row(sql, [], |row| row.get(0))?;
    transaction.commit()?;
    Ok(NodeId(node))
}

/// Counts again what the triggers count, so that a repaired file leaves nobody at a limit.
fn recount(connection: &Connection) -> rusqlite::Result<()> {
    let miscounted: i64 = connection.query_row(counts::MISCOUNTED, [], |row| row.get(0))?;
    if miscounted > 0 {
        warn!(
            miscounted,
            "the store's counts of tunnels were wrong: counted again"
        );
        connection.execute_batch(counts::RECOUNT)?;
    }
    Ok(())
}

impl Store for SqliteStore {
    fn changes(&self) -> Changes {
        Changes::none()
    }

    async fn shut_down(&self) {
        self.readers.drain().await;
        let writer = Arc::clone(&self.writer);
        // Its end takes a commit and a checkpoint.
        let _ = tokio::task::spawn_blocking(move || writer.stop()).await;
    }
}

impl Drop for SqliteStore {
    /// Waits for the commit under way, so that whoever takes the directory next finds it at rest.
    fn drop(&mut self) {
        self.readers.stop();
        self.writer.stop();
    }
}

impl TunnelStore for SqliteStore {
    async fn open_tunnel(&self, now: Now, new: NewTunnel) -> Result<(), TunnelError> {
        let limits = Arc::clone(&self.limits);
        let open = move |connection: &Connection| tunnels::open(connection, now, &limits, new);
        self.writer.change(open).await
    }

    async fn describe(&self, now: Now, id: &TunnelId) -> Result<TunnelView, TunnelError> {
        let record = self.record(id).await?;
        Ok(record.view(now, |node| node == self.node))
    }

    async fn list(&self, now: Now, request: ListRequest) -> Result<Page, TunnelError> {
        let read = move |connection: &Connection| tunnels::list(connection, now, &request);
        self.readers.read(read).await
    }

    async fn rotate(&self, now: Now, id: &TunnelId, rotation: Rotation) -> Result<(), TunnelError> {
        self.change(id, move |record, limits| {
            record.rotate(now, limits, &rotation)
        })
        .await
    }

    async fn has_token(
        &self,
        id: &TunnelId,
        mode: Mode,
        token: TokenHash,
    ) -> Result<bool, TunnelError> {
        // Behind what is queued for the writer.
        let look = self.change(id, move |record, _| Ok(record.side(mode).token == token));
        match look.await {
            Err(TunnelError::NotFound(_)) => Ok(false),
            other => other,
        }
    }

    async fn close(&self, now: Now, id: &TunnelId, delete: bool) -> Result<Found, TunnelError> {
        if !delete {
            let close =
                move |record: &mut Record, limits: &Limits| Ok(record.close(now, limits.retention));
            return self.change(id, close).await;
        }
        let id = id.clone();
        let delete = move |connection: &Connection| {
            let record = tunnels::by_id(connection, &id)?;
            tunnels::delete(connection, &record)?;
            Ok(record.found(now))
        };
        self.writer.change(delete).await
    }

    async fn tag(&self, id: &TunnelId, tags: Tags) -> Result<(), TunnelError> {
        self.change(id, |record, limits| record.tag(limits, tags))
            .await
    }

    async fn untag(&self, id: &TunnelId, keys: Vec<String>) -> Result<(), TunnelError> {
        let untag = move |record: &mut Record, _: &Limits| {
            record.untag(&keys);
            Ok(())
        };
        self.change(id, untag).await
    }

    async fn tags(&self, id: &TunnelId) -> Result<Tags, TunnelError> {
        Ok(self.record(id).await?.tags)
    }

    async fn spend_token(&self, now: Now, presented: Presented) -> Result<Admitted, Refusal> {
        // Whoever is refused does not reach the writer: a flood of them costs reads only.
        let look = presented.clone();
        let read = move |connection: &Connection| {
            let record = tunnels::presented(connection, &look)?;
            record.judge(now, &look).map_err(Fault::Refused)
        };
        self.readers.read(read).await?;
        let limits = Arc::clone(&self.limits);
        let spend = move |connection: &Connection| {
            let record = tunnels::presented(connection, &presented)?;
            tunnels::change(connection, &limits, &record, |record| {
                record.admit(now, &presented)
            })
        };
        self.writer.change(spend).await
    }

    async fn set_connected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Result<Connected, TunnelError> {
        let node = self.node;
        let connected = self.change(id, move |record, _| {
            Ok(record.connect(now, mode, session, node))
        });
        match connected.await {
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
        let disconnected = self.change(id, move |record, _| {
            record.disconnect(now, mode, session);
            Ok(())
        });
        match disconnected.await {
            Err(TunnelError::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    async fn expire(&self, now: Now) -> Result<Expired, TunnelError> {
        // Most often nothing is due, and then nothing is written.
        let read = move |connection: &Connection| Ok(tunnels::next_deadline(connection)?);
        let next = self.readers.read::<_, TunnelError, rusqlite::Error>(read);
        let next = next.await?;
        if next.is_none_or(|next| next > now.steady) {
            let (ended, forgotten) = (Vec::new(), 0);
            return Ok(Expired {
                ended,
                forgotten,
                next,
            });
        }
        let limits = Arc::clone(&self.limits);
        let expire = move |connection: &Connection| tunnels::expire(connection, now, &limits);
        self.writer.change(expire).await
    }
}

/// How one operation failed inside.
type Fault<E> = error::Fault<E, rusqlite::Error>;

impl<E> From<rusqlite::Error> for Fault<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// What the caller of an operation hears; the rest is for the log.
fn answer<E: Unavailable, D: Display>(fault: error::Fault<E, D>) -> E {
    match fault {
        error::Fault::Refused(refused) => return refused,
        // Its commits are answered by this very process.
        error::Fault::Database(error) | error::Fault::Lost(error) => {
            error!(%error, "an operation of the store failed")
        }
        error::Fault::Damaged(what) => {
            error!(what, "the store holds what cannot be");
            return E::damaged();
        }
    }
    E::unavailable()
}

#[cfg(test)]
mod tests;
