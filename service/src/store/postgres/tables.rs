//! The tables that hold what both databases treat alike.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use deadpool_postgres::{GenericClient, Pool, Transaction};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::{Fault, PostgresStore, bounded, bounded_change, commit, node, url};
use crate::audit::{AuditError, AuditLog, AuditSink, Record};
use crate::clock::Timestamp;
use crate::notify::{Mailbox, MailboxError, Message, Opened, Qos, Queued, SessionStart};
use crate::registry::{
    ByAge, ByKey, Certificate, CertificateId, CertificateStatus, ChangeSender, Changes, Device,
    NewThing, Page, Policy, PolicyName, Registry, RegistryError, Thing, ThingPage, ThingQuery,
    ThingUpdate,
};
use crate::store::Change;
use crate::store::error::Unavailable;
use crate::store::relational::dispatch::{
    Certain, audit_in_tables, certain, mailbox_in_tables, registry_in_tables,
};
use crate::store::relational::{News, Row, Sql, Trouble, Value, audit, mailbox, registry};
use crate::tunnels::ThingName;

use crate::tunnels::NodeId;

/// What the first node does with these tables; in the time that all nodes share.
pub(super) async fn begin(
    transaction: &Transaction<'_>,
    shared: i64,
) -> Result<(), tokio_postgres::Error> {
    for sql in mailbox::BEGIN {
        transaction.execute(sql, &[]).await?;
    }
    for sql in mailbox::CLAMP {
        transaction.execute(sql, &[&shared]).await?;
    }
    Ok(())
}

/// Tells those that hold connections of devices what other nodes have changed, for ever.
pub(super) async fn pass_on(mut heard: broadcast::Receiver<Change>, changes: ChangeSender) {
    loop {
        let change = match heard.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => Change::Everything,
            Err(RecvError::Closed) => return,
        };
        if let Some(lost) = News::of_registry(&change) {
            changes.send(lost);
        }
    }
}

/// What an operation needs of the store, although its caller may give up.
struct Tables {
    pool: Pool,
    node: NodeId,
    changes: ChangeSender,
}

impl PostgresStore {
    fn tables(&self) -> Tables {
        Tables {
            pool: self.pool.clone(),
            node: self.begun.node,
            changes: self.registry_changes.clone(),
        }
    }

    fn shared_time(&self, own: Timestamp) -> Timestamp {
        self.begun.shared(own)
    }

    fn own_time(&self, shared: Timestamp) -> Timestamp {
        self.own(shared)
    }
}

/// Runs an operation to its end, whether the caller waits for it or not: what it has changed is told in
/// any case.
async fn kept_on<T, E>(
    operation: impl Future<Output = Result<T, Fault<E>>> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: Unavailable + Send + 'static,
{
    let running = tokio::spawn(bounded_change(operation));
    running.await.unwrap_or_else(|_| Err(E::unavailable()))
}

macro_rules! change {
    ($store:ident, $db:ident => $operation:expr) => {{
        let tables = $store.tables();
        let operation = async move {
            let mut client = tables.pool.get().await?;
            let connection = Connection::new(client.transaction().await?, tables.node);
            let $db = &connection;
            let value = $operation.await?;
            connection.commit(&tables.changes).await?;
            Ok(value)
        };
        kept_on(operation).await
    }};
}

macro_rules! look {
    ($store:ident, $db:ident => $operation:expr) => {{
        let look = async {
            let client = $store.pool.get().await?;
            let connection = Connection::new(client, $store.begun.node);
            let $db = &connection;
            $operation.await
        };
        bounded(look).await
    }};
}

registry_in_tables!(PostgresStore, change, look);
mailbox_in_tables!(PostgresStore, change, look);
audit_in_tables!(PostgresStore, change, look);

/// A transaction, or a connection that only reads; and what is to be told of it on this node.
struct Connection<C> {
    client: C,
    node: NodeId,
    news: Mutex<Vec<News>>,
}

impl<C> Connection<C> {
    fn new(client: C, node: NodeId) -> Self {
        Self {
            client,
            node,
            news: Mutex::default(),
        }
    }
}

impl Connection<Transaction<'_>> {
    async fn commit<E>(self, changes: &ChangeSender) -> Result<(), Fault<E>> {
        let news = self.news.into_inner();
        // Also when the commit fails: it may have taken effect before the connection broke.
        let _tell_then = TellThen {
            news: news.unwrap_or_else(PoisonError::into_inner),
            changes,
        };
        commit(self.client).await
    }
}

/// Tells this node when it is dropped.
struct TellThen<'a> {
    news: Vec<News>,
    changes: &'a ChangeSender,
}

impl Drop for TellThen<'_> {
    fn drop(&mut self) {
        for news in self.news.drain(..) {
            // Who queues a message wakes the device itself when it is at this node.
            if let News::Registry(change) = news {
                self.changes.send(change);
            }
        }
    }
}

impl<C: Asked> Connection<C> {
    async fn run(&self, sql: &str, values: &[Value]) -> Result<u64, tokio_postgres::Error> {
        let client = self.client.asked();
        let statement = client.prepare_cached(sql).await?;
        client.execute(&statement, &parameters(values)).await
    }

    async fn rows(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, tokio_postgres::Error> {
        let client = self.client.asked();
        let statement = client.prepare_cached(sql).await?;
        let rows = client.query(&statement, &parameters(values)).await?;
        rows.iter().map(row).collect()
    }
}

/// What can be asked through the pool's cache of statements.
trait Asked: Sync {
    type Client: GenericClient;

    fn asked(&self) -> &Self::Client;
}

impl Asked for deadpool_postgres::Object {
    type Client = deadpool_postgres::Client;

    fn asked(&self) -> &Self::Client {
        self
    }
}

impl<'a> Asked for Transaction<'a> {
    type Client = Transaction<'a>;

    fn asked(&self) -> &Self::Client {
        self
    }
}

/// The planner does not get to guess how many these are. By statistics from before they were added they are a good
/// part of the table, and it would read all of it each time.
pub(super) const PRUNE_RECORDS: &str = "DELETE FROM audit WHERE sequence = ANY (ARRAY(\
                                        SELECT sequence FROM audit WHERE sequence <= $1 \
                                        ORDER BY sequence LIMIT 1024))";

impl<C: Asked> Sql for Connection<C> {
    const NEXT_CONNECTION: &'static str = "SELECT nextval('connections')";
    const APPEND_RECORDS: &'static str = "INSERT INTO audit (record) \
                                          SELECT value FROM json_array_elements_text(($1::text)::json) \
                                          WITH ORDINALITY AS line (value, place) ORDER BY place RETURNING sequence";
    const PRUNE_RECORDS: &'static str = PRUNE_RECORDS;
    // Those that somebody else has locked are on their way out: whoever ends several tunnels takes their messages
    // away in another order, and each would wait for the other.
    const TRIM_MESSAGES: &'static str = "DELETE FROM messages WHERE id IN \
                                         (SELECT id FROM messages WHERE thing = $1 ORDER BY id DESC OFFSET $2 \
                                         FOR UPDATE SKIP LOCKED)";
    const MAY_TELL_LOCKED: &'static str = "SELECT 1 FROM tunnels WHERE id = $1 AND destination_token = $2 \
                                           AND is_open AND deadline_ms > $3 FOR UPDATE";

    async fn query(&self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>, Trouble> {
        self.rows(sql, values).await.map_err(trouble)
    }

    async fn execute(&self, sql: &'static str, values: &[Value]) -> Result<u64, Trouble> {
        self.run(sql, values).await.map_err(trouble)
    }

    async fn lock(&self, name: &str) -> Result<(), Trouble> {
        // Two names with one hash wait for each other, and that is all.
        let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 1633970548))";
        self.run(sql, &[name.into()])
            .await
            .map(drop)
            .map_err(trouble)
    }

    async fn tell(&self, news: News) -> Result<(), Trouble> {
        let said = node::said(self.node, &news.said());
        let told = self.run(node::TELL, &[Value::Text(said)]).await;
        told.map_err(trouble)?;
        let mut kept = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(news);
        Ok(())
    }
}

fn parameters(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as _).collect()
}

fn row(row: &tokio_postgres::Row) -> Result<Row, tokio_postgres::Error> {
    let values = row.columns().iter().enumerate().map(|(index, column)| {
        Ok(match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(index)?.into(),
            Type::INT4 => row.try_get::<_, Option<i32>>(index)?.map(i64::from).into(),
            Type::BYTEA => row.try_get::<_, Option<&[u8]>>(index)?.into(),
            _ => row.try_get::<_, Option<&str>>(index)?.into(),
        })
    });
    values.collect::<Result<_, _>>().map(Row)
}

fn trouble(error: tokio_postgres::Error) -> Trouble {
    Trouble::Database(url::with_causes(&error))
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Number(number) => number.to_sql_checked(kind, out),
            Self::Text(text) => text.to_sql_checked(kind, out),
            Self::Bytes(bytes) => bytes.to_sql_checked(kind, out),
        }
    }

    /// What a value is decides, when it is sent.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
