//! A PostgreSQL server that any number of nodes share.

mod node;
mod operation;
mod pool;
mod schema;
mod tables;
mod tls;
mod tunnels;
mod url;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit_proto::{Mode, TunnelId};
use deadpool_postgres::{Pool, Transaction};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use self::node::Begun;
use self::operation::{Fault, bounded, bounded_change, commit};
use self::pool::pool;
use self::tls::Tls;
use self::tunnels::Key;
use super::error::Unavailable;
use super::row::number;
use super::{Change, Changes, Store, StoreError, StoreLimits, TunnelStore};
use crate::clock::{Clock, Now, Timestamp};
use crate::notify::{KeyCheck, MailboxLimits};
use crate::registry::{ChangeSender, RegistryLimits};
use crate::token::TokenHash;
use crate::tunnels::{
    Admitted, Connected, Expired, Found, Limits, ListRequest, NewTunnel, NodeId, Page, Presented,
    Record, Refusal, Rotation, Tags, TunnelError, TunnelView,
};

pub use url::PostgresUrl;

/// Everything on a PostgreSQL server, which several services may share as nodes.
///
/// An operation is one transaction, which has the rows that it decides on locked. While the server is
/// away, operations fail as unavailable within ten seconds, and work again when it is back.
pub struct PostgresStore {
    pool: Pool,
    limits: Limits,
    registry_limits: Arc<RegistryLimits>,
    mailbox_limits: MailboxLimits,
    registry_changes: ChangeSender,
    begun: Begun,
    changes: broadcast::Sender<Change>,
    /// Tunnels that were ended by commits that the server has not answered: told with the next ones.
    unanswered: Mutex<Vec<TunnelId>>,
    /// The heartbeat and the listener.
    tasks: Mutex<JoinSet<()>>,
}

impl PostgresStore {
    /// Brings the tables of the database to the current version, and joins the nodes that use it, as one that seals
    /// nothing.
    ///
    /// # Errors
    /// A server that cannot be reached or refuses; tables of a newer version.
    pub async fn open(
        url: &PostgresUrl,
        limits: impl Into<StoreLimits>,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        Self::join(url, limits, None, clock).await
    }

    /// [`open`](Self::open), as a node that seals notifications with this key; the first node decides which one it is.
    ///
    /// # Errors
    /// Also when the nodes that live have another key: [`StoreError::OtherKey`].
    pub(crate) async fn join(
        url: &PostgresUrl,
        limits: impl Into<StoreLimits>,
        key: Option<KeyCheck>,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let all = limits.into();
        let limits = all.tunnels;
        let fault = |problem: String| StoreError::Server {
            server: url.to_string(),
            problem,
        };
        let tls = Tls::new(url).map_err(|error| fault(error.to_string()))?;
        let pool = pool(url, &tls).map_err(|error| fault(error.to_string()))?;
        let begun = tokio::time::timeout(BEGIN_MAX, node::begin(&pool, url, &limits, key, &clock));
        let begun = begun
            .await
            .unwrap_or_else(|_| Err(fault("it does not answer".to_owned())))?;
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let (hears, mut hearing) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(node::beat(pool.clone(), begun.clone(), clock));
        let listener = node::listen(
            url.clone(),
            tls,
            begun.node,
            changes.clone(),
            Arc::new(hears),
        );
        tasks.spawn(listener);
        let heard = tokio::time::timeout(BEGIN_MAX, hearing.wait_for(|hears| *hears));
        if !matches!(heard.await, Ok(Ok(_))) {
            return Err(fault("it does not let us listen for changes".to_owned()));
        }
        let registry_changes = ChangeSender::new();
        let heard = changes.subscribe();
        tasks.spawn(tables::pass_on(heard, registry_changes.clone()));
        Ok(Self {
            pool,
            limits,
            registry_limits: Arc::new(all.registry),
            mailbox_limits: all.mailbox,
            registry_changes,
            begun,
            changes,
            unanswered: Mutex::default(),
            tasks: Mutex::new(tasks),
        })
    }

    /// The same moment by the time that all nodes share.
    fn shared(&self, now: Now) -> Now {
        Now {
            steady: self.begun.shared(now.steady),
            ..now
        }
    }

    /// The same moment by the time of this process.
    fn own(&self, shared: Timestamp) -> Timestamp {
        self.begun.own(shared)
    }

    /// Applies a rule to the tunnel found by this key, in one transaction, and tells the other nodes
    /// what it says they have to know.
    async fn change<T: Send, E: Unavailable + From<TunnelError> + Send>(
        &self,
        key: Key,
        missing: E,
        rule: impl FnOnce(&mut Record) -> Result<(T, Option<Change>), E> + Send,
    ) -> Result<T, E> {
        let change = async {
            let mut client = self.pool.get().await?;
            let transaction = client.transaction().await?;
            let Some(old) = tunnels::lock(&transaction, &key).await? else {
                return Err(Fault::Refused(missing));
            };
            let mut new = old.clone();
            let (result, change) = rule(&mut new).map_err(Fault::Refused)?;
            let write = tunnels::write(&transaction, &self.limits, &old, &new);
            let say = async {
                match &change {
                    Some(change) => Ok(self.say(&transaction, change).await?),
                    None => Ok(()),
                }
            };
            tokio::try_join!(biased; write, say)?;
            if tunnels::is_open(&old) && !tunnels::is_open(&new) {
                tunnels::count_closed(&transaction, &self.limits, 1).await?;
            }
            commit(transaction).await?;
            Ok(result)
        };
        bounded_change(change).await
    }

    /// What the other nodes hear when the transaction is committed.
    async fn say(
        &self,
        transaction: &Transaction<'_>,
        change: &Change,
    ) -> Result<(), tokio_postgres::Error> {
        let statement = transaction.prepare_cached(node::TELL).await?;
        let said = node::said(self.begun.node, change);
        transaction.execute(&statement, &[&said]).await.map(drop)
    }

    /// The tunnel of this id, and which nodes live.
    async fn record(&self, id: &TunnelId) -> Result<(Record, Vec<i64>), TunnelError> {
        let read = async {
            let client = self.pool.get().await?;
            let statement = client.prepare_cached(&tunnels::BY_ID).await?;
            let row = client.query_opt(&statement, &[&id.as_str()]).await?;
            let row = row.ok_or_else(|| Fault::Refused(TunnelError::NotFound(id.clone())))?;
            Ok((tunnels::record(&row)?, row.try_get("alive")?))
        };
        bounded(read).await
    }

    fn not_answered_yet(&self, ended: &[TunnelId]) {
        let mut unanswered = locked(&self.unanswered);
        // What was not committed after all is due again, and is here already; unless another node has
        // ended it meanwhile, which then tells of it as well.
        unanswered.retain(|id| !ended.contains(id));
        unanswered.extend_from_slice(ended);
    }

    fn is_alive(&self, node: NodeId, alive: &[i64]) -> bool {
        node == self.begun.node || alive.contains(&node.0)
    }
}

impl Store for PostgresStore {
    fn changes(&self) -> Changes {
        Changes::new(self.changes.subscribe())
    }

    async fn shut_down(&self) {
        let mut tasks = std::mem::take(&mut *locked(&self.tasks));
        tasks.shutdown().await;
        if !self.pool.is_closed() {
            node::leave(&self.pool, self.begun.node).await;
        }
        self.pool.close();
    }
}

impl TunnelStore for PostgresStore {
    async fn open_tunnel(&self, now: Now, new: NewTunnel) -> Result<(), TunnelError> {
        let now = self.shared(now);
        let open = async {
            let mut client = self.pool.get().await?;
            let record = Record::open(now, &self.limits, 0, new).map_err(Fault::Refused)?;
            tunnels::check(&client, &self.limits, &record).await?;
            let transaction = client.transaction().await?;
            tunnels::open(&transaction, &self.limits, &record).await?;
            commit(transaction).await
        };
        bounded_change(open).await
    }

    async fn describe(&self, now: Now, id: &TunnelId) -> Result<TunnelView, TunnelError> {
        let (record, alive) = self.record(id).await?;
        Ok(record.view(self.shared(now), |node| self.is_alive(node, &alive)))
    }

    async fn list(&self, now: Now, request: ListRequest) -> Result<Page, TunnelError> {
        let now = self.shared(now).steady;
        let before = request.after.map_or(i64::MAX, |cursor| number(cursor.0));
        let count = request.count.get();
        // One more than asked for tells whether there is another page.
        let wanted = i64::try_from(count + 1).unwrap_or(i64::MAX);
        let read = async {
            let client = self.pool.get().await?;
            let rows = match &request.thing {
                None => {
                    let statement = client.prepare_cached(tunnels::LIST).await?;
                    client.query(&statement, &[&before, &wanted]).await?
                }
                Some(thing) => {
                    let statement = client.prepare_cached(tunnels::LIST_OF_THING).await?;
                    let thing = thing.as_str();
                    client
                        .query(&statement, &[&before, &wanted, &thing])
                        .await?
                }
            };
            tunnels::page(&rows, count, now)
        };
        bounded(read).await
    }

    async fn rotate(&self, now: Now, id: &TunnelId, rotation: Rotation) -> Result<(), TunnelError> {
        let now = self.shared(now);
        let rotate = |record: &mut Record| {
            record.rotate(now, &self.limits, &rotation)?;
            let change = match (rotation.source, rotation.destination) {
                (Some(_), None) => Change::Side(id.clone(), Mode::Source),
                (None, Some(_)) => Change::Side(id.clone(), Mode::Destination),
                (Some(_), Some(_)) | (None, None) => Change::Tunnel(id.clone()),
            };
            Ok(((), Some(change)))
        };
        let missing = TunnelError::NotFound(id.clone());
        self.change(Key::Id(id.clone()), missing, rotate).await
    }

    async fn has_token(
        &self,
        id: &TunnelId,
        mode: Mode,
        token: TokenHash,
    ) -> Result<bool, TunnelError> {
        let look = async {
            let mut client = self.pool.get().await?;
            // Ends without a commit, and has waited for a commit that was under way.
            let transaction = client.transaction().await?;
            let record = tunnels::lock(&transaction, &Key::Id(id.clone())).await?;
            Ok(record.is_some_and(|record| record.side(mode).token == token))
        };
        bounded(look).await
    }

    async fn close(&self, now: Now, id: &TunnelId, delete: bool) -> Result<Found, TunnelError> {
        let now = self.shared(now);
        let (key, missing) = (Key::Id(id.clone()), TunnelError::NotFound(id.clone()));
        let change = Change::Tunnel(id.clone());
        if !delete {
            let close = |record: &mut Record| {
                let found = record.close(now, self.limits.retention);
                Ok((found, Some(change)))
            };
            return self.change(key, missing, close).await;
        }
        let delete = async {
            let mut client = self.pool.get().await?;
            let transaction = client.transaction().await?;
            let record = tunnels::lock(&transaction, &key).await?;
            let record = record.ok_or(Fault::Refused(missing))?;
            let said = node::said(self.begun.node, &change);
            tunnels::delete(&transaction, &record, &said).await?;
            commit(transaction).await?;
            Ok(record.found(now))
        };
        bounded_change(delete).await
    }

    async fn tag(&self, id: &TunnelId, tags: Tags) -> Result<(), TunnelError> {
        let tag = |record: &mut Record| Ok((record.tag(&self.limits, tags)?, None));
        let missing = TunnelError::NotFound(id.clone());
        self.change(Key::Id(id.clone()), missing, tag).await
    }

    async fn untag(&self, id: &TunnelId, keys: Vec<String>) -> Result<(), TunnelError> {
        let untag = |record: &mut Record| {
            record.untag(&keys);
            Ok(((), None))
        };
        let missing = TunnelError::NotFound(id.clone());
        self.change(Key::Id(id.clone()), missing, untag).await
    }

    async fn tags(&self, id: &TunnelId) -> Result<Tags, TunnelError> {
        Ok(self.record(id).await?.0.tags)
    }

    async fn spend_token(&self, now: Now, presented: Presented) -> Result<Admitted, Refusal> {
        let now = self.shared(now);
        let key = presented.routing_key;
        // Whoever is refused locks nothing: a flood of them costs reads only.
        let look = async {
            let client = self.pool.get().await?;
            let statement = client.prepare_cached(&tunnels::BY_ROUTING_KEY).await?;
            let row = client.query_opt(&statement, &[&key.as_str()]).await?;
            let row = row.ok_or(Fault::Refused(Refusal::UnknownToken))?;
            let record = tunnels::record(&row)?;
            record.judge(now, &presented).map_err(Fault::Refused)
        };
        bounded(look).await?;
        let admit = |record: &mut Record| Ok((record.admit(now, &presented)?, None));
        let admitted = self.change(Key::Routing(key), Refusal::UnknownToken, admit);
        let mut admitted = admitted.await?;
        admitted.ends = self.own(admitted.ends);
        Ok(admitted)
    }

    async fn set_connected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Result<Connected, TunnelError> {
        let (now, node) = (self.shared(now), self.begun.node);
        let connect = |record: &mut Record| {
            let before = record.side(mode).connected;
            let connected = record.connect(now, mode, session, node);
            // The node that has the older link has to cut it.
            let elsewhere = before.is_some_and(|link| link.node != node);
            let moved = connected == Connected::Current && elsewhere;
            let change = moved.then(|| Change::Side(id.clone(), mode));
            Ok((connected, change))
        };
        let missing = TunnelError::NotFound(id.clone());
        match self.change(Key::Id(id.clone()), missing, connect).await {
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
        let now = self.shared(now);
        let disconnect = |record: &mut Record| {
            record.disconnect(now, mode, session);
            Ok(((), None))
        };
        let missing = TunnelError::NotFound(id.clone());
        match self.change(Key::Id(id.clone()), missing, disconnect).await {
            Err(TunnelError::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    async fn expire(&self, now: Now) -> Result<Expired, TunnelError> {
        let now = self.shared(now);
        let expire = async {
            let mut client = self.pool.get().await?;
            let transaction = client.transaction().await?;
            let expired = tunnels::expire(&transaction, now, &self.limits, self.begun.node).await?;
            self.not_answered_yet(&expired.ended);
            let committed = commit(transaction).await;
            if matches!(committed, Err(Fault::Database(_))) {
                locked(&self.unanswered).retain(|id| !expired.ended.contains(id));
            }
            committed.map(|()| expired)
        };
        let mut expired = bounded_change(expire).await?;
        expired.ended = std::mem::take(&mut *locked(&self.unanswered));
        expired.next = expired.next.map(|next| self.own(next));
        Ok(expired)
    }
}

/// Nothing panics while one of these is locked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Migrations may take longer than operations.
const BEGIN_MAX: Duration = Duration::from_secs(60);

/// Changes that were heard and not yet looked at; when more come, everything is looked at again.
const CHANGES_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
