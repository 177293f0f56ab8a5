//! Records of tunnels in the tables, and what holds between them.
//!
//! Whoever changes a record has locked its row; whoever counts does so last, so that nobody who holds
//! a count waits for a row.
//!
//! Statements that do not need each other's answers are sent together, in the order of their locks: on a busy
//! machine each round trip to the server waits for a core at both ends. They are prepared before, so that none
//! of them overtakes another.

use std::sync::LazyLock;
use std::time::Duration;

use adit_proto::{Mode, TunnelId};
use deadpool_postgres::{GenericClient, Transaction};
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tracing::error;

use super::node::{self, TELL};
use super::operation::Fault;
use crate::clock::{Now, Timestamp};
use crate::store::Change;
use crate::store::error::Unavailable;
use crate::store::relational::mailbox::SILENCE;
use crate::store::row::{TunnelRow, number, timestamp, unsigned};
use crate::token::RoutingKey;
use crate::tunnels::{
    Cursor, Expired, Limits, NodeId, OPEN_TUNNELS, OPEN_TUNNELS_PER_KEY, OPEN_TUNNELS_PER_THING,
    Page, Record, State, Status, TunnelError, TunnelSummary, at_most,
};

/// How a record is found.
#[derive(Clone)]
pub(super) enum Key {
    Id(TunnelId),
    Routing(RoutingKey),
}

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The record, which nobody else can change before the transaction ends; `None` when there is none.
pub(super) async fn lock<E>(
    transaction: &Transaction<'_>,
    key: &Key,
) -> Result<Option<Record>, Fault<E>> {
    let (sql, text) = match key {
        Key::Id(id) => (&LOCK_BY_ID, id.as_str()),
        Key::Routing(key) => (&LOCK_BY_ROUTING_KEY, key.as_str()),
    };
    let statement = transaction.prepare_cached(sql).await?;
    let row = transaction.query_opt(&statement, &[&text]).await?;
    row.as_ref().map(record).transpose()
}

pub(super) fn record<E>(row: &Row) -> Result<Record, Fault<E>> {
    TunnelRow::from_postgres(row)?
        .into_record()
        .map_err(Fault::Damaged)
}

/// Refuses what there is no room for by now. Neither a transaction nor a lock is needed for that: a flood of what is
/// refused costs a round trip each. [`open`] has the last word.
pub(super) async fn check(
    client: &impl GenericClient,
    limits: &Limits,
    record: &Record,
) -> Result<(), Fault<TunnelError>> {
    tokio::try_join!(
        biased;
        check_count(client, limits),
        check_room(client, limits, record),
    )?;
    Ok(())
}

pub(super) async fn open(
    transaction: &Transaction<'_>,
    limits: &Limits,
    record: &Record,
) -> Result<(), Fault<TunnelError>> {
    let row = TunnelRow::of(record);
    let values: Vec<_> = row.fixed_postgres().chain(row.moving_postgres()).collect();
    let max = limits.open_tunnels_max;
    let most = i64::try_from(max).unwrap_or(i64::MAX);
    let insert = transaction.prepare_cached(&INSERT).await?;
    // Last, since whoever opens or closes waits for it until the commit.
    let count = transaction.prepare_cached(COUNT_OPENED).await?;
    let (inserted, counted, ()) = tokio::try_join!(
        biased;
        async { Ok(transaction.execute(&insert, &values).await?) },
        async { Ok(transaction.execute(&count, &[&most]).await?) },
        // Who has counted has waited for all that opened before: it sees theirs, and its own is counted at
        // the commit.
        check_room(transaction, limits, record),
    )?;
    match (inserted, counted) {
        (0, _) => Err(Fault::Refused(TunnelError::Taken(record.id.clone()))),
        (_, 0) => Err(full(max)),
        _ => Ok(()),
    }
}

/// Refuses when there are as many open tunnels as there may be.
async fn check_count(
    client: &impl GenericClient,
    limits: &Limits,
) -> Result<(), Fault<TunnelError>> {
    let max = limits.open_tunnels_max;
    let statement = client.prepare_cached(COUNT_OF_OPEN).await?;
    let open: i64 = client.query_one(&statement, &[]).await?.try_get(0)?;
    if usize::try_from(open).unwrap_or(0) < max {
        return Ok(());
    }
    Err(full(max))
}

fn full(max: usize) -> Fault<TunnelError> {
    let what = OPEN_TUNNELS;
    Fault::Refused(TunnelError::LimitExceeded { what, max })
}

/// Refuses when the caller of this record, or its thing, has too many open tunnels for one more.
async fn check_room(
    client: &impl GenericClient,
    limits: &Limits,
    record: &Record,
) -> Result<(), Fault<TunnelError>> {
    let max = limits.open_tunnels_per_key_max;
    let key = async {
        match &record.owner {
            Some(key) => check_open(client, "key", key, max, OPEN_TUNNELS_PER_KEY).await,
            None => Ok(()),
        }
    };
    tokio::try_join!(biased; key, check_thing(client, limits, record))?;
    Ok(())
}

/// Refuses when the thing of this record has too many open tunnels for one more.
async fn check_thing<E: From<TunnelError>>(
    client: &impl GenericClient,
    limits: &Limits,
    record: &Record,
) -> Result<(), Fault<E>> {
    let Some(thing) = record.thing() else {
        return Ok(());
    };
    let (thing, max) = (thing.as_str(), limits.open_tunnels_per_thing_max);
    check_open(client, "thing", thing, max, OPEN_TUNNELS_PER_THING).await
}

async fn check_open<E: From<TunnelError>>(
    client: &impl GenericClient,
    kind: &str,
    name: &str,
    max: usize,
    what: &'static str,
) -> Result<(), Fault<E>> {
    let statement = client.prepare_cached(OPEN_OF).await?;
    let row = client.query_opt(&statement, &[&kind, &name]).await?;
    let open: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
    let open = usize::try_from(open).unwrap_or(0);
    at_most(open.saturating_add(1), max, what).map_err(|refused| Fault::Refused(refused.into()))
}

/// Writes a changed record back, whose row is locked.
pub(super) async fn write<E: Unavailable + From<TunnelError>>(
    transaction: &Transaction<'_>,
    limits: &Limits,
    old: &Record,
    new: &Record,
) -> Result<(), Fault<E>> {
    let row = TunnelRow::of(new);
    let sequence: &(dyn ToSql + Sync) = &row.sequence;
    let values: Vec<_> = row.moving_postgres().chain([sequence]).collect();
    let update = transaction.prepare_cached(&UPDATE).await?;
    let silence = transaction.prepare_cached(SILENCE).await?;
    let release = transaction.prepare_cached(RELEASE).await?;
    let (id, silences) = (old.id.as_str(), new.silences(old));
    let kept: Vec<_> = new.client_tokens().collect();
    let released = old.client_tokens().filter(|token| !kept.contains(token));
    let released: Vec<_> = released.map(|token| token.as_bytes().to_vec()).collect();
    tokio::try_join!(
        biased;
        async { transaction.execute(&update, &values).await },
        async {
            match silences {
                true => transaction.execute(&silence, &[&id]).await,
                false => Ok(0),
            }
        },
        async {
            match released.is_empty() {
                true => Ok(0),
                false => transaction.execute(&release, &[&released]).await,
            }
        },
    )?;
    for claimed in new.claimed_since(old) {
        // Waits for whoever is about to claim the same.
        let values: Parameters<'_> = &[&claimed.as_bytes(), sequence];
        if execute(transaction, CLAIM, values).await? == 0 {
            return Err(Fault::Refused(E::client_token_taken()));
        }
    }
    if new.thing() != old.thing() {
        // With whoever opens.
        add(transaction, OPEN, 0).await?;
        check_thing(transaction, limits, new).await?;
    }
    Ok(())
}

/// Forgets a record whose row is locked; `said` is for the other nodes.
pub(super) async fn delete<E>(
    transaction: &Transaction<'_>,
    record: &Record,
    said: &str,
) -> Result<(), Fault<E>> {
    let (id, sequence) = (record.id.as_str(), number(record.sequence));
    let name = if is_open(record) { OPEN } else { CLOSED };
    let tell = transaction.prepare_cached(TELL).await?;
    let silence = transaction.prepare_cached(SILENCE).await?;
    let forget = transaction.prepare_cached(FORGET).await?;
    let count = transaction.prepare_cached(ADD).await?;
    tokio::try_join!(
        biased;
        async { transaction.execute(&tell, &[&said]).await },
        async { transaction.execute(&silence, &[&id]).await },
        async { transaction.execute(&forget, &[&sequence]).await },
        async { transaction.execute(&count, &[&name, &-1_i64]).await },
    )?;
    Ok(())
}

/// Counts tunnels that were just closed, and drops the closed ones beyond the limit, the one closed
/// first before the others; returns how many.
pub(super) async fn count_closed<E>(
    transaction: &Transaction<'_>,
    limits: &Limits,
    closed: usize,
) -> Result<u64, Fault<E>> {
    let closed = i64::try_from(closed).unwrap_or(i64::MAX);
    transaction.prepare_cached(ADD).await?;
    let (_, kept) = tokio::try_join!(
        biased;
        add(transaction, OPEN, -closed),
        add(transaction, CLOSED, closed),
    )?;
    let max = i64::try_from(limits.closed_tunnels_max).unwrap_or(i64::MAX);
    if kept <= max {
        return Ok(0);
    }
    purge(transaction, i64::MAX, kept - max).await
}

/// Tunnels whose lifetime is over and that nobody else is closing now; their rows are locked. Damaged ones
/// are forgotten: they can be of no use any more, and must not keep the others open.
async fn due<E>(transaction: &Transaction<'_>, now: Now) -> Result<Vec<Record>, Fault<E>> {
    let statement = transaction.prepare_cached(&DUE).await?;
    let at = number(now.steady.millis());
    let rows = transaction.query(&statement, &[&at, &BATCH]).await?;
    let (mut due, mut damaged) = (Vec::new(), 0);
    for row in &rows {
        let row = TunnelRow::from_postgres(row)?;
        let sequence = row.sequence;
        match row.into_record() {
            Ok(record) => due.push(record),
            Err(what) => {
                error!(
                    what,
                    sequence, "a damaged tunnel is forgotten at the end of its lifetime"
                );
                execute(transaction, FORGET, &[&sequence]).await?;
                damaged += 1;
            }
        }
    }
    if damaged > 0 {
        add(transaction, OPEN, -damaged).await?;
    }
    Ok(due)
}

/// Does what is due, at most a batch of it, and no more than there is time for. Other nodes that have a link of a tunnel
/// are told of its end by `own`: one whose machine was paused learned of the deadline in a time that it has left since.
pub(super) async fn expire(
    transaction: &Transaction<'_>,
    now: Now,
    limits: &Limits,
    own: NodeId,
) -> Result<Expired, Fault<TunnelError>> {
    let until = Instant::now() + EXPIRE_MAX;
    let due = due(transaction, now).await?;
    let mut ended = Vec::new();
    for old in due {
        let mut new = old.clone();
        new.expire(now, limits.retention);
        write::<TunnelError>(transaction, limits, &old, &new).await?;
        if is_elsewhere(&old, own) {
            let said = node::said(own, &Change::Tunnel(old.id.clone()));
            execute(transaction, TELL, &[&said]).await?;
        }
        ended.push(old.id);
        if Instant::now() >= until {
            break;
        }
    }
    let mut forgotten = 0;
    if !ended.is_empty() {
        forgotten += count_closed(transaction, limits, ended.len()).await?;
    }
    forgotten += purge(transaction, number(now.steady.millis()), BATCH).await?;
    let statement = transaction.prepare_cached(NEXT_DEADLINE).await?;
    let next = transaction.query_one(&statement, &[]).await?;
    Ok(Expired {
        ended,
        forgotten: usize::try_from(forgotten).unwrap_or(usize::MAX),
        next: next.try_get::<_, Option<i64>>(0)?.map(timestamp),
    })
}

/// Whether another node has a link of the tunnel.
fn is_elsewhere(record: &Record, own: NodeId) -> bool {
    let sides = [Mode::Source, Mode::Destination].map(|mode| record.side(mode).connected);
    sides.iter().flatten().any(|link| link.node != own)
}

/// The page that these rows of [`LIST`] or [`LIST_OF_THING`] make.
pub(super) fn page(rows: &[Row], count: usize, now: Timestamp) -> Result<Page, Fault<TunnelError>> {
    let shown = rows.get(..count).unwrap_or(rows);
    let tunnels: Result<Vec<_>, _> = shown.iter().map(|row| summary(row, now)).collect();
    let next = match shown.last().filter(|_| rows.len() > count) {
        Some(last) => Some(Cursor(unsigned(last.try_get(0)?))),
        None => None,
    };
    Ok(Page {
        tunnels: tunnels?,
        next,
    })
}

fn summary(row: &Row, now: Timestamp) -> Result<TunnelSummary, Fault<TunnelError>> {
    let id: &str = row.try_get(1)?;
    let is_open = row.try_get::<_, bool>(3)? && now < timestamp(row.try_get(4)?);
    Ok(TunnelSummary {
        id: id
            .parse()
            .map_err(|_| Fault::Damaged("an id is malformed"))?,
        description: row.try_get::<_, Option<&str>>(2)?.map(Into::into),
        status: if is_open {
            Status::Open
        } else {
            Status::Closed
        },
        created: timestamp(row.try_get(5)?),
        updated: timestamp(row.try_get(6)?),
    })
}

/// Forgets closed tunnels whose time has come; returns how many.
async fn purge<E>(transaction: &Transaction<'_>, until: i64, most: i64) -> Result<u64, Fault<E>> {
    let purged = execute(transaction, PURGE, &[&until, &most]).await?;
    if purged > 0 {
        let change = i64::try_from(purged).unwrap_or(i64::MAX);
        add(transaction, CLOSED, -change).await?;
    }
    Ok(purged)
}

/// Returns the new count.
async fn add<E>(transaction: &Transaction<'_>, name: &str, change: i64) -> Result<i64, Fault<E>> {
    let statement = transaction.prepare_cached(ADD).await?;
    let row = transaction.query_one(&statement, &[&name, &change]).await?;
    Ok(row.try_get(0)?)
}

async fn execute(
    transaction: &Transaction<'_>,
    sql: &str,
    values: Parameters<'_>,
) -> Result<u64, tokio_postgres::Error> {
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, values).await
}

pub(super) fn is_open(record: &Record) -> bool {
    matches!(record.state, State::Open { .. })
}

const OPEN: &str = "open";
const CLOSED: &str = "closed";

/// A record costs a round trip to the server.
const BATCH: i64 = 128;

/// After so long no further record is begun: what is not committed when an operation's time is over was in vain, and
/// would be again. A server that is 25 ms away takes a batch in that time.
const EXPIRE_MAX: Duration = Duration::from_secs(3);

pub(super) const LIST: &str = "SELECT sequence, id, description, is_open, deadline_ms, created_ms, updated_ms \
                               FROM tunnels WHERE sequence < $1 ORDER BY sequence DESC LIMIT $2";
pub(super) const LIST_OF_THING: &str = "SELECT sequence, id, description, is_open, deadline_ms, created_ms, updated_ms \
                               FROM tunnels WHERE thing = $3 AND sequence < $1 ORDER BY sequence DESC LIMIT $2";
pub(super) const OPEN_OF: &str = "SELECT count FROM open_tunnels WHERE kind = $1 AND name = $2";
pub(super) const PURGE: &str = "DELETE FROM tunnels WHERE sequence IN (SELECT sequence FROM tunnels \
                                WHERE NOT is_open AND deadline_ms <= $1 ORDER BY deadline_ms LIMIT $2 \
                                FOR UPDATE SKIP LOCKED)";
pub(super) const NEXT_DEADLINE: &str = "SELECT least((SELECT min(deadline_ms) FROM tunnels WHERE is_open), \
                                        (SELECT min(deadline_ms) FROM tunnels WHERE NOT is_open))";
const COUNT_OF_OPEN: &str = "SELECT value FROM counters WHERE name = 'open'";
const COUNT_OPENED: &str =
    "UPDATE counters SET value = value + 1 WHERE name = 'open' AND value < $1";
const ADD: &str = "UPDATE counters SET value = value + $2 WHERE name = $1 RETURNING value";
const FORGET: &str = "DELETE FROM tunnels WHERE sequence = $1";
const RELEASE: &str = "DELETE FROM client_tokens WHERE hash = ANY($1)";
const CLAIM: &str =
    "INSERT INTO client_tokens (hash, tunnel) VALUES ($1, $2) ON CONFLICT DO NOTHING";

static LOCK_BY_ID: LazyLock<String> = LazyLock::new(|| format!("{} FOR UPDATE", by("id")));
static LOCK_BY_ROUTING_KEY: LazyLock<String> =
    LazyLock::new(|| format!("{} FOR UPDATE", *BY_ROUTING_KEY));
pub(super) static BY_ROUTING_KEY: LazyLock<String> = LazyLock::new(|| by("routing_key"));
/// A node is alive while it was heard of within three of its beats and a little.
pub(super) static BY_ID: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {}, ARRAY(SELECT nodes.id FROM nodes \
         WHERE beat > clock_timestamp() - interval '15 seconds') AS alive FROM tunnels WHERE id = $1",
        columns()
    )
});
pub(super) static DUE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM tunnels WHERE is_open AND deadline_ms <= $1 \
         ORDER BY deadline_ms LIMIT $2 FOR UPDATE SKIP LOCKED",
        columns()
    )
});

fn by(key: &str) -> String {
    format!("SELECT {} FROM tunnels WHERE {key} = $1", columns())
}

/// By name: a prepared `*` is refused once a newer version has added a column.
fn columns() -> String {
    [&["sequence"], TunnelRow::FIXED, TunnelRow::MOVING]
        .concat()
        .join(", ")
}

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let columns: Vec<_> = [TunnelRow::FIXED, TunnelRow::MOVING].concat();
    let places: Vec<_> = (1..=columns.len()).map(|n| format!("${n}")).collect();
    let (columns, places) = (columns.join(", "), places.join(", "));
    format!("INSERT INTO tunnels ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING")
});

static UPDATE: LazyLock<String> = LazyLock::new(|| {
    let columns = TunnelRow::MOVING.iter().enumerate();
    let columns: Vec<_> = columns
        .map(|(index, name)| format!("{name} = ${}", index + 1))
        .collect();
    let last = columns.len() + 1;
    format!(
        "UPDATE tunnels SET {} WHERE sequence = ${last}",
        columns.join(", ")
    )
});
