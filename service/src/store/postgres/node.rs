//! This run of the service among the others on the same database: its beginning, its heartbeat, and
//! what it hears of the others.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use adit_proto::{Mode, TunnelId};
use deadpool_postgres::Pool;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_postgres::AsyncMessage;
use tracing::{info, warn};

use super::operation::OPERATION_MAX;
use super::schema::MIGRATIONS;
use super::tls::Tls;
use super::url::{PostgresUrl, with_causes};
use crate::clock::{Anchor, Clock, Timestamp};
use crate::notify::KeyCheck;
use crate::store::relational::counts;
use crate::store::row::{number, timestamp};
use crate::store::{Change, StoreError};
use crate::tunnels::{Limits, NodeId};

/// What a node knows from its beginning.
#[derive(Clone)]
pub(super) struct Begun {
    pub(super) node: NodeId,
    /// Added to the steady time of this process, it is that of all nodes, in milliseconds: so their
    /// clocks need not agree. It only grows.
    offset: Arc<AtomicI64>,
}

impl Begun {
    /// A moment of this process by the time that all nodes share.
    pub(super) fn shared(&self, own: Timestamp) -> Timestamp {
        let offset = self.offset.load(Ordering::Relaxed);
        timestamp(number(own.millis()).saturating_add(offset))
    }

    /// A moment of all nodes by the time of this process.
    pub(super) fn own(&self, shared: Timestamp) -> Timestamp {
        let offset = self.offset.load(Ordering::Relaxed);
        timestamp(number(shared.millis()).saturating_sub(offset))
    }
}

/// Brings the tables to the current version and enters this node, one node at a time. One whose key is not that of the
/// nodes that live is not entered, so that among those that start together it is in nobody's way.
pub(super) async fn begin(
    pool: &Pool,
    url: &PostgresUrl,
    limits: &Limits,
    key: Option<KeyCheck>,
    clock: &Clock,
) -> Result<Begun, StoreError> {
    let fault = |problem: String| StoreError::Server {
        server: url.to_string(),
        problem,
    };
    let client = pool.get().await;
    let mut client = client.map_err(|error| fault(with_causes(&error)))?;
    let failed = |error: tokio_postgres::Error| fault(with_causes(&error));
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.batch_execute(LOCK).await.map_err(failed)?;
    let version: i64 = match transaction.query_one(VERSION, &[]).await {
        Ok(row) => row.get(0),
        Err(error) => return Err(failed(error)),
    };
    let known = MIGRATIONS.len() as i64;
    if version > known {
        return Err(StoreError::Newer {
            server: url.to_string(),
            version,
            known,
        });
    }
    let done = usize::try_from(version).unwrap_or(0);
    for migration in &MIGRATIONS[done..] {
        transaction.batch_execute(migration).await.map_err(failed)?;
    }
    let set = "UPDATE adit_schema SET version = $1";
    transaction.execute(set, &[&known]).await.map_err(failed)?;
    if let Some(key) = key
        && !share_key(&transaction, key).await.map_err(failed)?
    {
        return Err(StoreError::OtherKey);
    }
    let begun = enter(&transaction, limits, clock).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(begun)
}

/// Whether this key is that of the nodes that live; when none does, it is theirs from now on.
async fn share_key(
    transaction: &deadpool_postgres::Transaction<'_>,
    key: KeyCheck,
) -> Result<bool, tokio_postgres::Error> {
    let row = transaction.query_one(NOTIFY_KEY, &[]).await?;
    let (known, is_alone): (Option<Vec<u8>>, bool) = (row.try_get(0)?, row.try_get(1)?);
    let own = key.as_bytes().as_slice();
    match known {
        Some(known) if known == own => return Ok(true),
        Some(_) if !is_alone => return Ok(false),
        Some(_) => warn!(
            "notify.key is another one than the last node's: notifications that wait for devices \
             do not open any more; rotation sends new ones"
        ),
        None => {}
    }
    transaction.execute(SET_NOTIFY_KEY, &[&own]).await?;
    Ok(true)
}

/// The time of the nodes that live, of the one that is furthest; when none does, that which this machine has had since
/// its boot, if a node of it has been here before; else the server's. When none lives, nothing has more left than its
/// full length, whatever clocks did meanwhile. Those before are struck off, so that one that was only late finds out
/// that its devices were taken for gone.
async fn enter(
    transaction: &deadpool_postgres::Transaction<'_>,
    limits: &Limits,
    clock: &Clock,
) -> Result<Begun, tokio_postgres::Error> {
    let row = transaction.query_one(TIMES, &[]).await?;
    let (server, nodes): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let steady = || number(clock.now().steady.millis());
    let by_others = nodes.map(|others| others - steady());
    let by_boot = match clock.anchor() {
        Some(anchor) => offset_of_boot(transaction, anchor).await?,
        None => None,
    };
    let offset = by_others.or(by_boot);
    let offset = offset.unwrap_or_else(|| server - steady());
    if nodes.is_none() {
        let retention = i64::try_from(limits.retention.as_millis()).unwrap_or(i64::MAX / 2);
        // Nobody changes a tunnel between the two.
        transaction.batch_execute(HOLD).await?;
        let shared = steady() + offset;
        transaction.execute(CLAMP, &[&shared, &retention]).await?;
        recount(transaction).await?;
        super::tables::begin(transaction, shared).await?;
        transaction.execute(STRIKE_OFF, &[]).await?;
    }
    if nodes.is_none() && by_boot.is_none() {
        // They have had another time.
        transaction.execute(FORGET_BOOTS, &[]).await?;
    }
    if let Some(anchor) = clock.anchor() {
        keep_boot(transaction, anchor, offset).await?;
    }
    let enter = "INSERT INTO nodes (beat, steady_ms) VALUES (clock_timestamp(), $1) RETURNING id";
    let shared = steady() + offset;
    let row = transaction.query_one(enter, &[&shared]).await?;
    Ok(Begun {
        node: NodeId(row.try_get(0)?),
        offset: Arc::new(AtomicI64::new(offset)),
    })
}

/// What was added to the steady time of this boot before.
async fn offset_of_boot(
    transaction: &deadpool_postgres::Transaction<'_>,
    anchor: Anchor,
) -> Result<Option<i64>, tokio_postgres::Error> {
    let boot = anchor.boot.to_string();
    let Some(row) = transaction.query_opt(BOOTED, &[&boot]).await? else {
        return Ok(None);
    };
    let booted: i64 = row.try_get(0)?;
    Ok(Some(booted.saturating_sub(anchor.booted)))
}

async fn keep_boot(
    transaction: &deadpool_postgres::Transaction<'_>,
    anchor: Anchor,
    offset: i64,
) -> Result<(), tokio_postgres::Error> {
    let (boot, booted) = (
        anchor.boot.to_string(),
        anchor.booted.saturating_add(offset),
    );
    transaction.execute(FORGET_BOOT, &[&boot]).await?;
    transaction.execute(KEEP_BOOT, &[&boot, &booted]).await?;
    transaction.execute(FORGET_OLD_BOOTS, &[]).await?;
    Ok(())
}

/// Counts again what the triggers count, so that a restored or repaired database leaves nobody at a limit.
async fn recount(
    transaction: &deadpool_postgres::Transaction<'_>,
) -> Result<(), tokio_postgres::Error> {
    let miscounted: i64 = transaction
        .query_one(counts::MISCOUNTED, &[])
        .await?
        .try_get(0)?;
    if miscounted > 0 {
        warn!(
            miscounted,
            "the store's counts of tunnels were wrong: counted again"
        );
        transaction.batch_execute(counts::RECOUNT).await?;
    }
    Ok(())
}

/// Says every few seconds that this node lives, for ever.
pub(super) async fn beat(pool: Pool, begun: Begun, clock: Clock) {
    let mut failing = false;
    loop {
        tokio::time::sleep(BEAT).await;
        let result = beat_once(&pool, &begun, &clock).await;
        match &result {
            Err(problem) if !failing => warn!(problem, "the PostgreSQL server is away"),
            Ok(()) if failing => info!("the PostgreSQL server is back"),
            Ok(()) | Err(_) => {}
        }
        failing = result.is_err();
    }
}

pub(super) async fn beat_once(pool: &Pool, begun: &Begun, clock: &Clock) -> Result<(), String> {
    let beating = async {
        let mut client = pool.get().await.map_err(|error| with_causes(&error))?;
        let failed = |error: tokio_postgres::Error| with_causes(&error);
        catch_up(&mut client, begun, clock).await.map_err(failed)?;
        let steady = number(begun.shared(clock.now().steady).millis());
        let said = client.execute(SAY, &[&begun.node.0, &steady]).await;
        said.map_err(failed)?;
        let forgotten = client.execute(FORGET, &[]).await;
        forgotten.map_err(failed)
    };
    let beaten = tokio::time::timeout(OPERATION_MAX, beating).await;
    beaten
        .unwrap_or_else(|_| Err("it does not answer".to_owned()))
        .map(drop)
}

/// Goes on to the time of the others where this process has been left behind: a virtual machine that is paused does
/// not count the time meanwhile, and what is opened there would be over at once for the others.
async fn catch_up(
    client: &mut deadpool_postgres::Client,
    begun: &Begun,
    clock: &Clock,
) -> Result<(), tokio_postgres::Error> {
    let row = client.query_one(OTHERS, &[&begun.node.0]).await?;
    let Some(others) = row.try_get::<_, Option<i64>>(0)? else {
        return Ok(());
    };
    // Only now: the time that the answer took is not taken for one that is missing.
    let behind = others - number(begun.shared(clock.now().steady).millis());
    if behind <= BEHIND_MAX {
        return Ok(());
    }
    warn!(
        behind,
        "the time of this node has stood still for some milliseconds: it goes on with that of the others"
    );
    let offset = begun.offset.fetch_add(behind, Ordering::Relaxed) + behind;
    if let Some(anchor) = clock.anchor() {
        let transaction = client.transaction().await?;
        keep_boot(&transaction, anchor, offset).await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// Takes this node out, so that its links are over at once.
pub(super) async fn leave(pool: &Pool, node: NodeId) {
    let leaving = async {
        if let Ok(client) = pool.get().await {
            let sql = "DELETE FROM nodes WHERE id = $1";
            // Without it, the others notice within the time of a few beats.
            let _ = client.execute(sql, &[&node.0]).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), leaving).await;
}

/// Hears of what the others change, for ever, on a connection of its own.
pub(super) async fn listen(
    url: PostgresUrl,
    tls: Tls,
    node: NodeId,
    changes: broadcast::Sender<Change>,
    hears: Arc<watch::Sender<bool>>,
) {
    loop {
        // However it ends, it is begun again: the heartbeat is what reports a server that is away.
        let _ = listen_once(&url, &tls, node, &changes, &hears).await;
        hears.send_replace(false);
        tokio::time::sleep(RELISTEN).await;
    }
}

async fn listen_once(
    url: &PostgresUrl,
    tls: &Tls,
    node: NodeId,
    changes: &broadcast::Sender<Change>,
    hears: &watch::Sender<bool>,
) -> Result<(), tokio_postgres::Error> {
    // Of its own, the library bounds the TCP connection alone, and not what the server has to say then.
    let until = Instant::now() + LISTEN_MAX;
    let Ok(connected) = timeout_at(until, url.config.connect(tls.clone())).await else {
        return Ok(());
    };
    let (client, mut connection) = connected?;
    let mut listening = std::pin::pin!(client.batch_execute("LISTEN adit_changes"));
    let mut listens = false;
    loop {
        tokio::select! {
            () = sleep_until(until), if !listens => return Ok(()),
            done = &mut listening, if !listens => {
                done?;
                listens = true;
                // What was said before is lost.
                let _ = changes.send(Change::Everything);
                hears.send_replace(true);
            }
            message = poll_fn(|context| connection.poll_message(context)) => match message {
                Some(Ok(AsyncMessage::Notification(said))) => {
                    if let Some(change) = heard(said.payload(), node) {
                        // Nobody may be listening yet.
                        let _ = changes.send(change);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
        }
    }
}

/// Says something to all nodes, once the transaction is committed.
pub(super) const TELL: &str = "SELECT pg_notify('adit_changes', $1)";

/// What to say about a change: `node kind what`, far below the 8,000 bytes that PostgreSQL takes.
pub(super) fn said(node: NodeId, change: &Change) -> String {
    match change {
        Change::Tunnel(id) => format!("{} tunnel {id}", node.0),
        Change::Side(id, mode) => format!("{} {mode} {id}", node.0),
        Change::Other(topic, what) => format!("{} other {topic} {what}", node.0),
        Change::Everything => format!("{} everything", node.0),
    }
}

/// What another node said; `None` for our own words.
fn heard(payload: &str, own: NodeId) -> Option<Change> {
    let mut words = payload.splitn(3, ' ');
    let node: i64 = words.next()?.parse().ok()?;
    if node == own.0 {
        return None;
    }
    let (kind, what) = (words.next()?, words.next().unwrap_or_default());
    let id = || what.parse::<TunnelId>().ok();
    let change = match kind {
        "tunnel" => id().map(Change::Tunnel),
        "source" => id().map(|id| Change::Side(id, Mode::Source)),
        "destination" => id().map(|id| Change::Side(id, Mode::Destination)),
        "other" => what
            .split_once(' ')
            .map(|(topic, what)| Change::Other(topic.to_owned(), what.to_owned())),
        _ => None,
    };
    // A newer program may say what this one does not know.
    Some(change.unwrap_or(Change::Everything))
}

const BEAT: Duration = Duration::from_secs(4);
const RELISTEN: Duration = Duration::from_secs(1);

/// For a connection to be made and to listen.
const LISTEN_MAX: Duration = Duration::from_secs(5);

/// In milliseconds. A server whose clock is set makes a beat look 15 s older at most, and nobody follows that.
const BEHIND_MAX: i64 = 20_000;

const LOCK: &str = "SELECT pg_advisory_xact_lock(1633970548); \
                    CREATE TABLE IF NOT EXISTS adit_schema (version bigint NOT NULL); \
                    INSERT INTO adit_schema SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM adit_schema)";
const VERSION: &str = "SELECT version FROM adit_schema";
const TIMES: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
                     (SELECT max(steady_ms + (extract(epoch FROM clock_timestamp() - beat) * 1000)::bigint) FROM nodes \
                      WHERE beat BETWEEN clock_timestamp() - interval '15 seconds' \
                      AND clock_timestamp() + interval '15 seconds')";
const OTHERS: &str = "SELECT max(steady_ms + (extract(epoch FROM clock_timestamp() - beat) * 1000)::bigint) FROM nodes \
                      WHERE id <> $1 AND beat BETWEEN clock_timestamp() - interval '15 seconds' \
                      AND clock_timestamp() + interval '15 seconds'";
const NOTIFY_KEY: &str = "SELECT notify_key, NOT EXISTS (SELECT 1 FROM nodes \
                          WHERE beat BETWEEN clock_timestamp() - interval '15 seconds' \
                          AND clock_timestamp() + interval '15 seconds') FROM adit_schema";
const SET_NOTIFY_KEY: &str = "UPDATE adit_schema SET notify_key = $1";
const BOOTED: &str = "SELECT booted_ms FROM boots WHERE boot = $1";
const FORGET_BOOTS: &str = "DELETE FROM boots";
const FORGET_BOOT: &str = "DELETE FROM boots WHERE boot = $1";
const KEEP_BOOT: &str = "INSERT INTO boots (boot, booted_ms) VALUES ($1, $2)";
/// Those that entered last stay, a thousand.
const FORGET_OLD_BOOTS: &str = "DELETE FROM boots WHERE sequence IN \
                                (SELECT sequence FROM boots ORDER BY sequence DESC OFFSET 1000)";
const CLAMP: &str = "UPDATE tunnels SET deadline_ms = \
                     $1 + CASE WHEN is_open THEN lifetime_minutes * 60000 ELSE $2 END \
                     WHERE deadline_ms > $1 + CASE WHEN is_open THEN lifetime_minutes * 60000 ELSE $2 END";
const HOLD: &str = "LOCK TABLE tunnels IN SHARE ROW EXCLUSIVE MODE";
const STRIKE_OFF: &str = "DELETE FROM nodes";
/// A node that was struck off tells all of them, itself included, to look at everything again. No node has
/// the number 0, so nobody takes it for its own word. `xmax` is 0 in a row that was inserted.
const SAY: &str = "WITH said AS (\
                       INSERT INTO nodes (id, beat, steady_ms) OVERRIDING SYSTEM VALUE \
                       VALUES ($1, clock_timestamp(), $2) ON CONFLICT (id) \
                       DO UPDATE SET beat = excluded.beat, steady_ms = excluded.steady_ms \
                       RETURNING xmax = 0 AS struck_off) \
                   SELECT pg_notify('adit_changes', '0 everything') FROM said WHERE struck_off";
const FORGET: &str = "DELETE FROM nodes WHERE beat < clock_timestamp() - interval '1 hour'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_node_says_the_others_hear() {
        let id: TunnelId = "t:1=+_-".parse().unwrap();
        for change in [
            Change::Tunnel(id.clone()),
            Change::Side(id.clone(), Mode::Source),
            Change::Side(id, Mode::Destination),
            Change::Other("mailbox".to_owned(), "press 7".to_owned()),
            Change::Everything,
        ] {
            let payload = said(NodeId(7), &change);
            assert_eq!(heard(&payload, NodeId(8)), Some(change));
            assert_eq!(heard(&payload, NodeId(7)), None, "our own words");
        }
        assert_eq!(heard("9 later-kind x", NodeId(8)), Some(Change::Everything));
        assert_eq!(heard("no number", NodeId(8)), None);
    }
}
