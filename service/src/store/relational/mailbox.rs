//! Sessions and messages of devices in tables. What concerns one device holds the lock of its name.

use std::time::Duration;

use adit_proto::TunnelId;

use super::{Failure, News, Row, Sql, Trouble, Value, count, counted, first};
use crate::clock::Timestamp;
use crate::notify::{MailboxError, MailboxLimits, Message, Opened, Qos, Queued, SessionStart};
use crate::store::row::number;
use crate::token::TokenHash;
use crate::tunnels::ThingName;

type Result<T, E = Failure<MailboxError>> = std::result::Result<T, E>;

async fn lock(db: &impl Sql, thing: &ThingName) -> Result<()> {
    Ok(db.lock(thing.as_str()).await?)
}

pub(in crate::store) async fn open<D: Sql>(
    db: &D,
    limits: &MailboxLimits,
    now: Timestamp,
    thing: &ThingName,
    start: SessionStart,
) -> Result<Opened> {
    lock(db, thing).await?;
    let old = find(db, thing).await?;
    let present = old
        .as_ref()
        .is_some_and(|s| !start.clean && s.resumable && s.until > now);
    let connection = super::scalar(db, D::NEXT_CONNECTION, &[]).await?;
    let life = millis(start.until.since(now));
    let state = [
        thing.as_str().into(),
        connection.into(),
        start.resumable.into(),
        start.until.into(),
        life.into(),
    ];
    // On PostgreSQL, it may have run out for another node meanwhile.
    let present = present && db.execute(RESUME, &state).await? > 0;
    if !present {
        match old {
            Some(_) => end(db, thing).await?,
            None => drop_messages(db, thing).await?,
        }
        make_room(db, limits, now).await?;
        db.execute(START, &state).await?;
        count(db, SESSIONS, 1).await?;
    }
    let kept = old.filter(|_| present);
    Ok(Opened {
        connection: crate::store::row::unsigned(connection),
        present,
        subscription: kept.and_then(|session| session.subscription),
    })
}

async fn make_room(db: &impl Sql, limits: &MailboxLimits, now: Timestamp) -> Result<()> {
    let max = limits.sessions_max;
    if counted(db, SESSIONS).await? >= max {
        expire(db, now).await?;
        if counted(db, SESSIONS).await? >= max {
            return Err(Failure::Refused(MailboxError::Full { max }));
        }
    }
    Ok(())
}

pub(in crate::store) async fn renew(
    db: &impl Sql,
    thing: &ThingName,
    connection: u64,
    until: Timestamp,
) -> Result<bool> {
    let values = [thing.as_str().into(), connection.into(), until.into()];
    let sql = "UPDATE sessions SET until_ms = $3 \
               WHERE thing = $1 AND connection = $2 AND connected = 1";
    Ok(db.execute(sql, &values).await? > 0)
}

pub(in crate::store) async fn close(
    db: &impl Sql,
    now: Timestamp,
    thing: &ThingName,
    connection: u64,
    keep: Duration,
) -> Result<()> {
    lock(db, thing).await?;
    if current(db, thing, connection).await?.is_none() {
        return Ok(());
    }
    if keep.is_zero() {
        return Ok(end(db, thing).await?);
    }
    let values = [
        thing.as_str().into(),
        now.after(keep).into(),
        millis(keep).into(),
    ];
    let sql = "UPDATE sessions SET connected = 0, resumable = 1, until_ms = $2, life_ms = $3 \
               WHERE thing = $1";
    db.execute(sql, &values).await?;
    Ok(())
}

pub(in crate::store) async fn subscribe(
    db: &impl Sql,
    thing: &ThingName,
    connection: u64,
    subscription: Option<Qos>,
) -> Result<bool> {
    lock(db, thing).await?;
    if current(db, thing, connection).await?.is_none() {
        return Ok(false);
    }
    let values = [thing.as_str().into(), subscription.map(qos_number).into()];
    let sql = "UPDATE sessions SET subscription = $2 WHERE thing = $1";
    db.execute(sql, &values).await?;
    if subscription.is_none() {
        drop_messages(db, thing).await?;
    }
    Ok(true)
}

pub(in crate::store) async fn push<D: Sql>(
    db: &D,
    limits: &MailboxLimits,
    now: Timestamp,
    thing: &ThingName,
    message: &Message,
) -> Result<bool> {
    lock(db, thing).await?;
    // Whoever rotates the token waits until this message is there to be thrown away, and who queues an
    // older token comes too late.
    if !may_tell(db, D::MAY_TELL_LOCKED, now, &message.tunnel, &message.token).await? {
        return Ok(false);
    }
    let about = [message.tunnel.as_str().into()];
    db.execute(SILENCE, &about).await?;
    let Some(session) = find(db, thing).await? else {
        return Ok(false);
    };
    let wanted = match session.subscription {
        Some(Qos::AtLeastOnce) => true,
        Some(Qos::AtMostOnce) => session.connected,
        None => false,
    };
    if !wanted || session.until <= now {
        return Ok(false);
    }
    let others = limits.queued_max.saturating_sub(1);
    db.execute(D::TRIM_MESSAGES, &[thing.as_str().into(), others.into()])
        .await?;
    let values = [
        thing.as_str().into(),
        message.tunnel.as_str().into(),
        message.expires.into(),
        millis(message.expires.since(now)).into(),
        (&*message.sealed).into(),
        message.token.as_bytes().into(),
    ];
    db.execute(ADD, &values).await?;
    db.tell(News::Mailbox(thing.clone())).await?;
    Ok(true)
}

/// Whether [`next`] has anything to look for: most often it has not, and then nothing is written.
pub(in crate::store) async fn has_messages(db: &impl Sql, thing: &ThingName) -> Result<bool> {
    let sql = "SELECT id FROM messages WHERE thing = $1 LIMIT 1";
    let found = first(db, sql, &[thing.as_str().into()]).await?;
    Ok(found.is_some())
}

pub(in crate::store) async fn next(
    db: &impl Sql,
    now: Timestamp,
    thing: &ThingName,
    connection: u64,
) -> Result<Option<Queued>> {
    lock(db, thing).await?;
    let name = Value::from(thing.as_str());
    let over = "DELETE FROM messages WHERE thing = $1 AND expires_ms <= $2";
    db.execute(over, &[name.clone(), now.into()]).await?;
    let session = current(db, thing, connection).await?;
    let Some(qos) = session.and_then(|session| session.subscription) else {
        return Ok(None);
    };
    let queued = loop {
        let Some(row) = first(db, FIRST, std::slice::from_ref(&name)).await? else {
            return Ok(None);
        };
        let queued = queued(&row, qos)?;
        let message = &queued.message;
        if may_tell(db, MAY_TELL, now, &message.tunnel, &message.token).await? {
            break queued;
        }
        // Queued by a node that did not look at the token.
        db.execute(DROP, &[queued.id.into()]).await?;
    };
    let id = [queued.id.into()];
    match qos {
        Qos::AtMostOnce => db.execute(DROP, &id).await?,
        Qos::AtLeastOnce if queued.again => 0,
        Qos::AtLeastOnce => {
            db.execute("UPDATE messages SET sent = 1 WHERE id = $1", &id)
                .await?
        }
    };
    Ok(Some(queued))
}

pub(in crate::store) async fn settle(
    db: &impl Sql,
    thing: &ThingName,
    connection: u64,
    id: u64,
) -> Result<()> {
    lock(db, thing).await?;
    if current(db, thing, connection).await?.is_some() {
        let values = [id.into(), thing.as_str().into()];
        let sql = "DELETE FROM messages WHERE id = $1 AND thing = $2";
        db.execute(sql, &values).await?;
    }
    Ok(())
}

/// Whether a device may be told of this token of this tunnel: [`Record::may_tell`] as a statement.
///
/// [`Record::may_tell`]: crate::tunnels::Record::may_tell
async fn may_tell(
    db: &impl Sql,
    sql: &'static str,
    now: Timestamp,
    tunnel: &TunnelId,
    token: &TokenHash,
) -> Result<bool> {
    let values = [tunnel.as_str().into(), token.as_bytes().into(), now.into()];
    Ok(first(db, sql, &values).await?.is_some())
}

/// Part of the deletion of the thing.
pub(super) async fn forget(db: &impl Sql, thing: &ThingName) -> Result<(), Trouble> {
    db.lock(thing.as_str()).await?;
    end(db, thing).await
}

/// At most a batch of sessions and one of messages.
pub(in crate::store) async fn expire(db: &impl Sql, now: Timestamp) -> Result<usize> {
    let values = [now.into(), BATCH.into()];
    let over = db.query(SESSIONS_OVER, &values).await?;
    let mut removed = 0;
    for row in &over {
        let values = [row.text(0)?.into(), now.into()];
        // Renewed meanwhile, or not: only its row says so.
        let sql = "DELETE FROM sessions WHERE thing = $1 AND until_ms <= $2";
        if db.execute(sql, &values).await? > 0 {
            let sql = "DELETE FROM messages WHERE thing = $1";
            db.execute(sql, &values[..1]).await?;
            removed += 1;
        }
    }
    let messages = db.execute(MESSAGES_OVER, &values).await?;
    if removed > 0 {
        count(db, SESSIONS, -removed).await?;
    }
    let removed = usize::try_from(removed).unwrap_or(0);
    Ok(removed + usize::try_from(messages).unwrap_or(0))
}

/// At the beginning of a run that nobody else shares the tables with: connections of earlier ones are
/// gone, and nothing has more left than its full length, whatever clocks did meanwhile.
pub(in crate::store) const BEGIN: [&str; 4] = [
    "DELETE FROM messages WHERE thing IN (SELECT thing FROM sessions WHERE resumable = 0)",
    "UPDATE counters SET value = (SELECT count(*) FROM sessions WHERE resumable = 1) \
     WHERE name = 'sessions'",
    "DELETE FROM sessions WHERE resumable = 0",
    "UPDATE sessions SET connected = 0",
];

/// The same; `$1` is now.
pub(in crate::store) const CLAMP: [&str; 2] = [
    "UPDATE sessions SET until_ms = $1 + life_ms WHERE until_ms > $1 + life_ms",
    "UPDATE messages SET expires_ms = $1 + life_ms WHERE expires_ms > $1 + life_ms",
];

struct Session {
    connection: u64,
    connected: bool,
    resumable: bool,
    until: Timestamp,
    subscription: Option<Qos>,
}

async fn find(db: &impl Sql, thing: &ThingName) -> Result<Option<Session>> {
    let Some(row) = first(db, FIND, &[thing.as_str().into()]).await? else {
        return Ok(None);
    };
    Ok(Some(Session {
        connection: row.unsigned(0)?,
        connected: row.flag(1)?,
        resumable: row.flag(2)?,
        until: row.time(3)?,
        subscription: match row.is_null(4) {
            true => None,
            false if row.number(4)? == AT_MOST_ONCE => Some(Qos::AtMostOnce),
            false => Some(Qos::AtLeastOnce),
        },
    }))
}

/// The session, if it is this connection's.
async fn current(db: &impl Sql, thing: &ThingName, connection: u64) -> Result<Option<Session>> {
    let session = find(db, thing).await?;
    Ok(session.filter(|session| session.connected && session.connection == connection))
}

async fn end(db: &impl Sql, thing: &ThingName) -> Result<(), Trouble> {
    drop_messages(db, thing).await?;
    let sql = "DELETE FROM sessions WHERE thing = $1";
    if db.execute(sql, &[thing.as_str().into()]).await? > 0 {
        count(db, SESSIONS, -1).await?;
    }
    Ok(())
}

async fn drop_messages(db: &impl Sql, thing: &ThingName) -> Result<(), Trouble> {
    let sql = "DELETE FROM messages WHERE thing = $1";
    db.execute(sql, &[thing.as_str().into()]).await?;
    Ok(())
}

fn queued(row: &Row, qos: Qos) -> Result<Queued, Trouble> {
    let tunnel = row.text(2)?.parse();
    Ok(Queued {
        id: row.unsigned(0)?,
        again: row.flag(1)?,
        qos,
        message: Message {
            tunnel: tunnel.map_err(|_| Trouble::Damaged("an id is malformed"))?,
            token: TokenHash::from_bytes(row.bytes(5)?).unwrap_or(TokenHash::NONE),
            expires: row.time(3)?,
            sealed: row.bytes(4)?.into(),
        },
    })
}

fn qos_number(qos: Qos) -> i64 {
    match qos {
        Qos::AtMostOnce => AT_MOST_ONCE,
        Qos::AtLeastOnce => AT_LEAST_ONCE,
    }
}

fn millis(duration: Duration) -> i64 {
    // Lifetimes are far below the bound, which keeps sums with moments in range.
    i64::try_from(duration.as_millis())
        .unwrap_or(i64::MAX)
        .min(number(1 << 60))
}

const SESSIONS: &str = "sessions";

/// Values of the column `subscription`, as in MQTT.
const AT_MOST_ONCE: i64 = 0;
const AT_LEAST_ONCE: i64 = 1;

/// Two statements each, some 20 microseconds.
const BATCH: i64 = 1_024;

const FIND: &str = "SELECT connection, connected, resumable, until_ms, subscription FROM sessions \
                    WHERE thing = $1";
const START: &str = "INSERT INTO sessions \
                     (thing, connection, connected, resumable, until_ms, life_ms) \
                     VALUES ($1, $2, 1, $3, $4, $5)";
const RESUME: &str = "UPDATE sessions SET connection = $2, connected = 1, resumable = $3, \
                      until_ms = $4, life_ms = $5 WHERE thing = $1";
const ADD: &str = "INSERT INTO messages (thing, tunnel, sent, expires_ms, life_ms, sealed, token) \
                   VALUES ($1, $2, 0, $3, $4, $5, $6)";
const DROP: &str = "DELETE FROM messages WHERE id = $1";
/// The message about a tunnel; part of every change that makes its token good for nothing.
pub(in crate::store) const SILENCE: &str = "DELETE FROM messages WHERE tunnel = $1";
pub(in crate::store) const MAY_TELL: &str = "SELECT 1 FROM tunnels WHERE id = $1 \
                                             AND destination_token = $2 AND is_open AND deadline_ms > $3";
const FIRST: &str = "SELECT id, sent, tunnel, expires_ms, sealed, token FROM messages \
                     WHERE thing = $1 ORDER BY id LIMIT 1";

const SESSIONS_OVER: &str =
    "SELECT thing FROM sessions WHERE until_ms <= $1 ORDER BY until_ms LIMIT $2";
const MESSAGES_OVER: &str = "DELETE FROM messages WHERE id IN \
                             (SELECT id FROM messages WHERE expires_ms <= $1 ORDER BY expires_ms LIMIT $2)";
