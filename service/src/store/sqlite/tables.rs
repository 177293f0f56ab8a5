//! The tables that hold what both databases treat alike.

use std::cell::RefCell;
use std::future::{Future, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use super::SqliteStore;
use crate::audit::{AuditError, AuditLog, AuditSink, Record};
use crate::clock::{Now, Timestamp};
use crate::notify::{Mailbox, MailboxError, Message, Opened, Qos, Queued, SessionStart};
use crate::registry::{
    ByAge, ByKey, Certificate, CertificateId, CertificateStatus, Changes, Device, NewThing, Page,
    Policy, PolicyName, Registry, RegistryError, Thing, ThingPage, ThingQuery, ThingUpdate,
};
use crate::store::error::Unavailable;
use crate::store::relational::dispatch::{
    Certain, audit_in_tables, certain, mailbox_in_tables, registry_in_tables,
};
use crate::store::relational::{Failure, News, Row, Sql, Trouble, Value, audit, mailbox, registry};
use crate::store::row::number;
use crate::tunnels::ThingName;

/// What the first transaction of a run does with these tables.
pub(super) fn begin(connection: &Connection, now: Now) -> rusqlite::Result<()> {
    for sql in mailbox::BEGIN {
        connection.execute(sql, [])?;
    }
    let now = number(now.steady.millis());
    for sql in mailbox::CLAMP {
        connection.execute(&numbered(sql), [now])?;
    }
    Ok(())
}

impl SqliteStore {
    async fn change_tables<T, E>(
        &self,
        operation: impl FnOnce(&Lite<'_>) -> Result<T, Failure<E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Unavailable + Send + 'static,
    {
        let change = move |connection: &Connection| {
            let lite = Lite::new(connection);
            let value = operation(&lite)?;
            Ok::<_, Failure<E>>((value, lite.news.into_inner()))
        };
        let changes = self.registry_changes.clone();
        let then = move |(value, news)| {
            for news in news {
                // Who queues a message wakes the device itself, which can be nowhere else.
                if let News::Registry(change) = news {
                    changes.send(change);
                }
            }
            value
        };
        self.writer.change_then(change, then).await
    }

    async fn look_at_tables<T, E>(
        &self,
        operation: impl FnOnce(&Lite<'_>) -> Result<T, Failure<E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Unavailable + Send + 'static,
    {
        let look = move |connection: &Connection| operation(&Lite::new(connection));
        self.readers.read(look).await
    }

    /// There is no other node.
    fn shared_time(&self, own: Timestamp) -> Timestamp {
        own
    }

    fn own_time(&self, shared: Timestamp) -> Timestamp {
        shared
    }
}

macro_rules! change {
    ($store:ident, $db:ident => $operation:expr) => {
        $store.change_tables(move |$db| finish($operation)).await
    };
}

macro_rules! look {
    ($store:ident, $db:ident => $operation:expr) => {
        $store.look_at_tables(move |$db| finish($operation)).await
    };
}

registry_in_tables!(SqliteStore, change, look);
mailbox_in_tables!(SqliteStore, change, look);
audit_in_tables!(SqliteStore, change, look);

/// A connection, and what is to be told of what was done with it.
struct Lite<'a> {
    connection: &'a Connection,
    news: RefCell<Vec<News>>,
}

impl<'a> Lite<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            news: RefCell::default(),
        }
    }

    fn rows(&self, sql: &str, values: &[Value]) -> rusqlite::Result<Vec<Row>> {
        let mut statement = self.connection.prepare_cached(&numbered(sql))?;
        let columns = statement.column_count();
        let rows = statement.query_map(params_from_iter(values), |row| {
            let values = (0..columns).map(|index| row.get_ref(index).map(value));
            values.collect::<Result<_, _>>().map(Row)
        })?;
        rows.collect()
    }

    fn change(&self, sql: &str, values: &[Value]) -> rusqlite::Result<u64> {
        let mut statement = self.connection.prepare_cached(&numbered(sql))?;
        let changed = statement.execute(params_from_iter(values))?;
        Ok(changed as u64)
    }
}

impl Sql for Lite<'_> {
    const NEXT_CONNECTION: &'static str =
        "UPDATE counters SET value = value + 1 WHERE name = 'connection' RETURNING value";
    const APPEND_RECORDS: &'static str = "INSERT INTO audit (record) SELECT value FROM json_each($1) \
                                          ORDER BY key RETURNING sequence";
    const PRUNE_RECORDS: &'static str = "DELETE FROM audit WHERE sequence IN (\
                                         SELECT sequence FROM audit WHERE sequence <= $1 \
                                         ORDER BY sequence LIMIT 1024)";
    const TRIM_MESSAGES: &'static str = "DELETE FROM messages WHERE thing = $1 AND id NOT IN \
                                         (SELECT id FROM messages WHERE thing = $1 ORDER BY id DESC LIMIT $2)";
    const MAY_TELL_LOCKED: &'static str = mailbox::MAY_TELL;

    fn query(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> impl Future<Output = Result<Vec<Row>, Trouble>> + Send {
        ready(self.rows(sql, values).map_err(trouble))
    }

    fn execute(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> impl Future<Output = Result<u64, Trouble>> + Send {
        ready(self.change(sql, values).map_err(trouble))
    }

    /// There is one thread that writes.
    fn lock(&self, _: &str) -> impl Future<Output = Result<(), Trouble>> + Send {
        ready(Ok(()))
    }

    fn tell(&self, news: News) -> impl Future<Output = Result<(), Trouble>> + Send {
        self.news.borrow_mut().push(news);
        ready(Ok(()))
    }
}

/// Runs an operation to its end: none of [`Lite`]'s futures ever waits.
fn finish<T>(operation: impl Future<Output = T>) -> T {
    match pin!(operation).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("SQLite answers at once"),
    }
}

/// `$1` is a name to SQLite, `?1` a place.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

fn trouble(error: rusqlite::Error) -> Trouble {
    Trouble::Database(error.to_string())
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Number(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_owned()),
        // No column holds any.
        ValueRef::Real(_) => Value::Null,
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
