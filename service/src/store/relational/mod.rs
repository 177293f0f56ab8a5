//! What is written once for both databases: statements that SQLite and PostgreSQL understand alike, and
//! the rules that are applied between them.
//!
//! ```text
//! SqliteStore ────┐                         ┌─ registry   things, certificates, policies
//!                 ├─► a transaction: `Sql` ─┼─ mailbox    sessions and messages of devices
//! PostgresStore ──┘                         └─ audit      records
//! ```
//!
//! Parameters are `$1`, `$2`, …; whole numbers have 64 bits and are `bigint`; names and ids are compared
//! by their bytes (`COLLATE "C"`). The tables of tunnels have statements of their own in each store:
//! there, the two databases are locked in different ways.

pub(super) mod audit;
pub(super) mod counts;
pub(super) mod dispatch;
pub(super) mod mailbox;
pub(super) mod registry;

use std::future::Future;

use super::Change;
use super::error::Fault;
use super::row::{number, timestamp, unsigned};
use crate::clock::Timestamp;
use crate::registry::{CertificateId, Change as Lost};
use crate::tunnels::ThingName;

/// A transaction, or for what only reads, a connection.
///
/// Futures of SQLite are ready at once: it runs in a thread of its own.
pub(super) trait Sql {
    /// Gives a number that no connection of a device has had.
    const NEXT_CONNECTION: &'static str;
    /// Adds records of the audit out of a JSON array of texts, in its order; gives their numbers.
    const APPEND_RECORDS: &'static str;
    /// Drops records of the audit up to the number `$1`, the oldest first and 1,024 at most: more than are added
    /// from one time to the next.
    const PRUNE_RECORDS: &'static str;
    /// Drops all of a thing's messages but the newest `$2`.
    const TRIM_MESSAGES: &'static str;
    /// [`mailbox::MAY_TELL`], with the tunnel's row locked to the end of the transaction.
    const MAY_TELL_LOCKED: &'static str;

    /// Rows, in the order of the statement.
    fn query(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> impl Future<Output = Result<Vec<Row>, Trouble>> + Send;

    /// How many rows were changed.
    fn execute(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> impl Future<Output = Result<u64, Trouble>> + Send;

    /// Waits until no other transaction holds the lock of this name; ours holds it to its end.
    fn lock(&self, name: &str) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// What is to be told once it is committed.
    fn tell(&self, news: News) -> impl Future<Output = Result<(), Trouble>> + Send;
}

/// What other parts of the service, here and on other nodes, have to know of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Somebody may have lost a right.
    Registry(Lost),
    /// There may be a message for this device.
    Mailbox(ThingName),
}

/// How one operation failed inside.
pub(super) type Failure<E> = Fault<E, String>;

/// Why a statement gave nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What the database said.
    Database(String),
    /// What is stored cannot be; says nothing of the content.
    Damaged(&'static str),
}

impl News {
    /// What the other nodes hear.
    pub(super) fn said(&self) -> Change {
        let (topic, what) = match self {
            Self::Registry(Lost::Certificate(id)) => (CERTIFICATE, id.to_string()),
            Self::Registry(Lost::ThingDeleted(name)) => (THING, name.as_str().to_owned()),
            Self::Registry(Lost::Anything) => return Change::Everything,
            Self::Mailbox(thing) => (MAILBOX, thing.as_str().to_owned()),
        };
        Change::Other(topic.to_owned(), what)
    }

    /// What other nodes said about the registry; `None` for anything else.
    pub(super) fn of_registry(change: &Change) -> Option<Lost> {
        match change {
            Change::Everything => Some(Lost::Anything),
            Change::Other(topic, what) if topic == CERTIFICATE => {
                let id = CertificateId::from_hex(what).map(Lost::Certificate);
                Some(id.unwrap_or(Lost::Anything))
            }
            Change::Other(topic, what) if topic == THING => {
                let name = ThingName::new(what).map(Lost::ThingDeleted);
                Some(name.unwrap_or(Lost::Anything))
            }
            _ => None,
        }
    }
}

impl<E> From<Trouble> for Failure<E> {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Database(problem) => Self::Database(problem),
            Trouble::Damaged(what) => Self::Damaged(what),
        }
    }
}

/// What a column holds, or a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Number(number(value))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Number(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Number(value.into())
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        value.millis().into()
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_owned())
    }
}

impl From<&[u8; 32]> for Value {
    fn from(value: &[u8; 32]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row of an answer.
pub(super) struct Row(pub(super) Vec<Value>);

impl Row {
    pub(super) fn number(&self, index: usize) -> Result<i64, Trouble> {
        match self.0.get(index) {
            Some(Value::Number(value)) => Ok(*value),
            _ => Err(Trouble::Damaged("a column is no number")),
        }
    }

    pub(super) fn unsigned(&self, index: usize) -> Result<u64, Trouble> {
        self.number(index).map(unsigned)
    }

    pub(super) fn flag(&self, index: usize) -> Result<bool, Trouble> {
        Ok(self.number(index)? != 0)
    }

    pub(super) fn time(&self, index: usize) -> Result<Timestamp, Trouble> {
        self.number(index).map(timestamp)
    }

    pub(super) fn text(&self, index: usize) -> Result<&str, Trouble> {
        match self.0.get(index) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(Trouble::Damaged("a column is no text")),
        }
    }

    pub(super) fn bytes(&self, index: usize) -> Result<&[u8], Trouble> {
        match self.0.get(index) {
            Some(Value::Bytes(bytes)) => Ok(bytes),
            _ => Err(Trouble::Damaged("a column holds no bytes")),
        }
    }

    pub(super) fn is_null(&self, index: usize) -> bool {
        matches!(self.0.get(index), Some(Value::Null))
    }
}

/// The first row, if there is one.
async fn first(db: &impl Sql, sql: &'static str, values: &[Value]) -> Result<Option<Row>, Trouble> {
    Ok(db.query(sql, values).await?.into_iter().next())
}

/// A number that one row of one column holds.
async fn scalar(db: &impl Sql, sql: &'static str, values: &[Value]) -> Result<i64, Trouble> {
    let row = first(db, sql, values).await?;
    row.ok_or(Trouble::Damaged("a counter is missing"))?
        .number(0)
}

async fn counted(db: &impl Sql, counter: &str) -> Result<usize, Trouble> {
    let value = scalar(db, COUNTED, &[counter.into()]).await?;
    Ok(usize::try_from(value).unwrap_or(0))
}

async fn count(db: &impl Sql, counter: &str, change: i64) -> Result<(), Trouble> {
    let values = [counter.into(), change.into()];
    db.execute(COUNT, &values).await.map(drop)
}

const CERTIFICATE: &str = "certificate";
const THING: &str = "thing";
pub(super) const MAILBOX: &str = "mailbox";

const COUNTED: &str = "SELECT value FROM counters WHERE name = $1";
const COUNT: &str = "UPDATE counters SET value = value + $2 WHERE name = $1";
