//! Records of tunnels in the tables, and what holds between them.

use std::sync::LazyLock;

use adit_proto::TunnelId;
use rusqlite::{Connection, OptionalExtension, Params, params, params_from_iter};
use tracing::error;

use super::Fault;
use crate::clock::{Now, Timestamp};
use crate::store::error::Unavailable;
use crate::store::relational::mailbox::SILENCE;
use crate::store::row::{TunnelRow, number, timestamp, unsigned};
use crate::token::ClientTokenHash;
use crate::tunnels::{
    Cursor, Expired, Limits, ListRequest, NewTunnel, OPEN_TUNNELS, OPEN_TUNNELS_PER_KEY,
    OPEN_TUNNELS_PER_THING, Page, Presented, Record, Refusal, State, Status, TunnelError,
    TunnelSummary, at_most,
};

/// Has a new connection read the schema and the newest rows, and keep the statements that are asked for
/// most, so that its first caller waits no longer than others.
pub(super) fn rehearse(connection: &Connection) -> rusqlite::Result<()> {
    for sql in [BY_ID, BY_ROUTING_KEY] {
        connection.prepare_cached(sql)?.exists([""])?;
    }
    let newest = params![i64::MAX, 1];
    connection.prepare_cached(LIST)?.exists(newest)?;
    connection.prepare_cached(LIST_OF_THING).map(drop)
}

pub(super) fn by_id<E: From<TunnelError>>(
    connection: &Connection,
    id: &TunnelId,
) -> Result<Record, Fault<E>> {
    let found = one(connection, BY_ID, [id.as_str()])?;
    found.ok_or_else(|| Fault::Refused(TunnelError::NotFound(id.clone()).into()))
}

pub(super) fn exists(connection: &Connection, id: &TunnelId) -> rusqlite::Result<bool> {
    connection.prepare_cached(BY_ID)?.exists([id.as_str()])
}

/// The tunnel that this handshake would enter.
pub(super) fn presented(
    connection: &Connection,
    presented: &Presented,
) -> Result<Record, Fault<Refusal>> {
    let found = one(connection, BY_ROUTING_KEY, [presented.routing_key.as_str()])?;
    found.ok_or(Fault::Refused(Refusal::UnknownToken))
}

pub(super) fn open(
    connection: &Connection,
    now: Now,
    limits: &Limits,
    new: NewTunnel,
) -> Result<(), Fault<TunnelError>> {
    let id = new.id.clone();
    let key = new.routing_key;
    let taken = exists(connection, &id)?
        || connection
            .prepare_cached(BY_ROUTING_KEY)?
            .exists([key.as_str()])?;
    if taken {
        return Err(Fault::Refused(TunnelError::Taken(id)));
    }
    let max = limits.open_tunnels_max;
    if count(connection, OPEN)? >= max {
        let what = OPEN_TUNNELS;
        return Err(Fault::Refused(TunnelError::LimitExceeded { what, max }));
    }
    let record = Record::open(now, limits, 0, new).map_err(Fault::Refused)?;
    if let Some(owner) = &record.owner {
        let max = limits.open_tunnels_per_key_max;
        check_open(connection, "key", owner, max, OPEN_TUNNELS_PER_KEY)?;
    }
    check_thing(connection, limits, &record)?;
    insert(connection, &record).map_err(Fault::from)
}

/// Refuses when the thing of this record has too many open tunnels for one more.
fn check_thing<E: From<TunnelError>>(
    connection: &Connection,
    limits: &Limits,
    record: &Record,
) -> Result<(), Fault<E>> {
    let Some(thing) = record.thing() else {
        return Ok(());
    };
    let (thing, max) = (thing.as_str(), limits.open_tunnels_per_thing_max);
    check_open(connection, "thing", thing, max, OPEN_TUNNELS_PER_THING)
}

fn check_open<E: From<TunnelError>>(
    connection: &Connection,
    kind: &str,
    name: &str,
    max: usize,
    what: &'static str,
) -> Result<(), Fault<E>> {
    let mut select = connection.prepare_cached(OPEN_OF)?;
    let open = select.query_row([kind, name], |row| row.get::<_, i64>(0));
    let open = usize::try_from(open.optional()?.unwrap_or(0)).unwrap_or(0);
    at_most(open.saturating_add(1), max, what).map_err(|refused| Fault::Refused(refused.into()))
}

/// Applies a rule to this record and writes it back.
pub(super) fn change<T, E: Unavailable + From<TunnelError>>(
    connection: &Connection,
    limits: &Limits,
    old: &Record,
    rule: impl FnOnce(&mut Record) -> Result<T, E>,
) -> Result<T, Fault<E>> {
    let mut new = old.clone();
    let result = rule(&mut new).map_err(Fault::Refused)?;
    if new.thing() != old.thing() {
        check_thing(connection, limits, &new)?;
    }
    let row = TunnelRow::of(&new);
    let values = row.moving_sqlite().chain([&row.sequence as _]);
    let mut update = connection.prepare_cached(&UPDATE)?;
    update.execute(params_from_iter(values))?;
    if new.silences(old) {
        silence(connection, old)?;
    }
    let kept: Vec<_> = new.client_tokens().collect();
    for released in old.client_tokens().filter(|token| !kept.contains(token)) {
        release(connection, &released)?;
    }
    for claimed in new.claimed_since(old) {
        if !claim(connection, &claimed, row.sequence)? {
            return Err(Fault::Refused(E::client_token_taken()));
        }
    }
    if is_open(old) && !is_open(&new) {
        add(connection, OPEN, -1)?;
        add(connection, CLOSED, 1)?;
        forget_surplus(connection, limits)?;
    }
    Ok(result)
}

pub(super) fn delete(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    silence(connection, record)?;
    forget(connection, number(record.sequence))?;
    add(connection, if is_open(record) { OPEN } else { CLOSED }, -1)
}

pub(super) fn insert(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    let row = TunnelRow::of(record);
    let values = row.fixed_sqlite().chain(row.moving_sqlite());
    let mut insert = connection.prepare_cached(&INSERT)?;
    let sequence = insert.insert(params_from_iter(values))?;
    for token in record.client_tokens() {
        claim(connection, &token, sequence)?;
    }
    add(connection, if is_open(record) { OPEN } else { CLOSED }, 1)
}

pub(super) fn list(
    connection: &Connection,
    now: Now,
    request: &ListRequest,
) -> Result<Page, Fault<TunnelError>> {
    let before = request.after.map_or(i64::MAX, |cursor| number(cursor.0));
    // One more than asked for tells whether there is another page.
    let wanted = i64::try_from(request.count.get() + 1).unwrap_or(i64::MAX);
    let mut found = match &request.thing {
        None => summaries(connection, LIST, params![before, wanted], now)?,
        Some(thing) => {
            let params = params![before, wanted, thing.as_str()];
            summaries(connection, LIST_OF_THING, params, now)?
        }
    };
    let more = found.len() > request.count.get();
    found.truncate(request.count.get());
    let next = found.last().filter(|_| more);
    Ok(Page {
        next: next.map(|(sequence, _)| Cursor(*sequence)),
        tunnels: found.into_iter().map(|(_, summary)| summary).collect(),
    })
}

/// Tunnels whose lifetime is over and that are not closed yet.
fn due(connection: &Connection, now: Now) -> rusqlite::Result<Vec<TunnelRow>> {
    let mut due = connection.prepare_cached(DUE)?;
    let params = params![number(now.steady.millis()), BATCH];
    let rows = due.query_map(params, TunnelRow::from_sqlite)?;
    rows.collect()
}

/// Does what is due, at most a batch of it.
pub(super) fn expire(
    connection: &Connection,
    now: Now,
    limits: &Limits,
) -> Result<Expired, Fault<TunnelError>> {
    let closed = count(connection, CLOSED)?;
    let mut ended = Vec::new();
    for row in due(connection, now)? {
        let sequence = row.sequence;
        let record = match row.into_record() {
            Ok(record) => record,
            Err(what) => {
                // It can be of no use any more, and must not keep the others open.
                error!(
                    what,
                    sequence, "a damaged tunnel is forgotten at the end of its lifetime"
                );
                forget(connection, sequence)?;
                add(connection, OPEN, -1)?;
                continue;
            }
        };
        change(connection, limits, &record, |record| {
            record.expire(now, limits.retention);
            Ok::<_, TunnelError>(())
        })?;
        ended.push(record.id);
    }
    let params = params![number(now.steady.millis()), BATCH];
    let purged = connection.prepare_cached(PURGE)?.execute(params)?;
    add(connection, CLOSED, -i64::try_from(purged).unwrap_or(0))?;
    let forgotten = closed + ended.len() - count(connection, CLOSED)?;
    Ok(Expired {
        ended,
        forgotten,
        next: next_deadline(connection)?,
    })
}

pub(super) fn next_deadline(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let next = connection
        .prepare_cached(NEXT_DEADLINE)?
        .query_row([], |row| row.get::<_, Option<i64>>(0))?;
    Ok(next.map(timestamp))
}

/// After a restart: nothing has more left than its full length.
pub(super) fn clamp(connection: &Connection, now: Now, limits: &Limits) -> rusqlite::Result<()> {
    let retention = i64::try_from(limits.retention.as_millis()).unwrap_or(i64::MAX);
    let params = params![number(now.steady.millis()), retention];
    connection.execute(CLAMP, params).map(drop)
}

fn one<E>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Option<Record>, Fault<E>> {
    let mut select = connection.prepare_cached(sql)?;
    let row = select
        .query_row(params, TunnelRow::from_sqlite)
        .optional()?;
    let record = row.map(TunnelRow::into_record).transpose();
    record.map_err(Fault::Damaged)
}

fn summaries(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    now: Now,
) -> Result<Vec<(u64, TunnelSummary)>, Fault<TunnelError>> {
    const MALFORMED: Fault<TunnelError> = Fault::Damaged("an id is malformed");
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(1)?;
        let open = row.get::<_, bool>(3)? && now.steady < timestamp(row.get(4)?);
        let summary = TunnelSummary {
            id: id.parse().map_err(|_| MALFORMED)?,
            description: row.get::<_, Option<String>>(2)?.map(Into::into),
            status: if open { Status::Open } else { Status::Closed },
            created: timestamp(row.get(5)?),
            updated: timestamp(row.get(6)?),
        };
        found.push((unsigned(row.get(0)?), summary));
    }
    Ok(found)
}

/// Drops the closed tunnels beyond the limit, the one closed first before the others.
fn forget_surplus(connection: &Connection, limits: &Limits) -> rusqlite::Result<()> {
    let surplus = count(connection, CLOSED)?.saturating_sub(limits.closed_tunnels_max);
    if surplus > 0 {
        let surplus = i64::try_from(surplus).unwrap_or(i64::MAX);
        let params = params![i64::MAX, surplus];
        let dropped = connection.prepare_cached(PURGE)?.execute(params)?;
        add(connection, CLOSED, -i64::try_from(dropped).unwrap_or(0))?;
    }
    Ok(())
}

/// What its device was to be told is good for nothing any more.
fn silence(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached(SILENCE)?;
    delete.execute([record.id.as_str()]).map(drop)
}

fn forget(connection: &Connection, sequence: i64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM tunnels WHERE sequence = ?1";
    let mut delete = connection.prepare_cached(sql)?;
    delete.execute([sequence]).map(drop)
}

/// Returns whether it was free.
fn claim(
    connection: &Connection,
    token: &ClientTokenHash,
    sequence: i64,
) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO client_tokens (hash, tunnel) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    let params = params![token.as_bytes(), sequence];
    let claimed = connection.prepare_cached(sql)?.execute(params)?;
    Ok(claimed == 1)
}

fn release(connection: &Connection, token: &ClientTokenHash) -> rusqlite::Result<()> {
    let sql = "DELETE FROM client_tokens WHERE hash = ?1";
    let mut delete = connection.prepare_cached(sql)?;
    delete.execute([token.as_bytes()]).map(drop)
}

fn count(connection: &Connection, name: &str) -> rusqlite::Result<usize> {
    let sql = "SELECT value FROM counters WHERE name = ?1";
    let value: i64 = connection
        .prepare_cached(sql)?
        .query_row([name], |row| row.get(0))?;
    Ok(usize::try_from(value).unwrap_or(0))
}

fn add(connection: &Connection, name: &str, change: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE counters SET value = value + ?2 WHERE name = ?1";
    let mut update = connection.prepare_cached(sql)?;
    update.execute(params![name, change]).map(drop)
}

fn is_open(record: &Record) -> bool {
    matches!(record.state, State::Open { .. })
}

const OPEN: &str = "open";
const CLOSED: &str = "closed";

/// One record costs some 20 microseconds.
const BATCH: i64 = 1_024;

pub(super) const BY_ID: &str = "SELECT * FROM tunnels WHERE id = ?1";
pub(super) const BY_ROUTING_KEY: &str = "SELECT * FROM tunnels WHERE routing_key = ?1";
pub(super) const LIST: &str = "SELECT sequence, id, description, is_open, deadline_ms, created_ms, updated_ms \
                               FROM tunnels WHERE sequence < ?1 ORDER BY sequence DESC LIMIT ?2";
pub(super) const LIST_OF_THING: &str = "SELECT sequence, id, description, is_open, deadline_ms, created_ms, updated_ms \
                               FROM tunnels WHERE thing = ?3 AND sequence < ?1 ORDER BY sequence DESC LIMIT ?2";
pub(super) const OPEN_OF: &str = "SELECT count FROM open_tunnels WHERE kind = ?1 AND name = ?2";
pub(super) const DUE: &str = "SELECT * FROM tunnels WHERE is_open = 1 AND deadline_ms <= ?1 \
                              ORDER BY deadline_ms LIMIT ?2";
pub(super) const PURGE: &str = "DELETE FROM tunnels WHERE sequence IN (SELECT sequence FROM tunnels \
                                WHERE is_open = 0 AND deadline_ms <= ?1 ORDER BY deadline_ms LIMIT ?2)";
pub(super) const NEXT_DEADLINE: &str = "SELECT min(at) FROM (\
                                        SELECT min(deadline_ms) AS at FROM tunnels WHERE is_open = 0 \
                                        UNION ALL SELECT min(deadline_ms) FROM tunnels WHERE is_open = 1)";
const CLAMP: &str = "UPDATE tunnels SET deadline_ms = \
                     ?1 + CASE is_open WHEN 1 THEN lifetime_minutes * 60000 ELSE ?2 END \
                     WHERE deadline_ms > ?1 + CASE is_open WHEN 1 THEN lifetime_minutes * 60000 ELSE ?2 END";

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let columns: Vec<_> = [TunnelRow::FIXED, TunnelRow::MOVING].concat();
    let places = vec!["?"; columns.len()].join(", ");
    format!(
        "INSERT INTO tunnels ({}) VALUES ({places})",
        columns.join(", ")
    )
});

static UPDATE: LazyLock<String> = LazyLock::new(|| {
    let columns: Vec<_> = TunnelRow::MOVING
        .iter()
        .map(|name| format!("{name} = ?"))
        .collect();
    format!(
        "UPDATE tunnels SET {} WHERE sequence = ?",
        columns.join(", ")
    )
});
