//! The store in a real directory, with a clock that the test moves.

mod broken;
mod cost;
mod damage;
mod durability;
mod import;
mod plans;
mod restart;
mod tables;

use std::path::{Path, PathBuf};

use super::*;
use crate::clock::manual::ManualClock;
use crate::store::conformance::{Opened, Place, config, prepare, presented, suite};

/// A directory that outlives the stores that a test starts in it.
struct Rig {
    parent: tempfile::TempDir,
    clock: ManualClock,
    limits: Limits,
}

impl Rig {
    fn new() -> Self {
        Self {
            parent: tempfile::tempdir().unwrap(),
            clock: ManualClock::new(),
            limits: Limits::default(),
        }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn path(&self) -> PathBuf {
        self.parent.path().join(database::FILE)
    }

    /// The next start is in the same boot of the machine. Nothing runs in the directory.
    fn restart(&self) {
        self.clock
            .restart(&DataDir::open(self.parent.path()).unwrap());
    }

    fn try_start(&self) -> Result<SqliteStore, DataDirError> {
        start_in(self.parent.path(), self.limits.clone(), self.now())
    }

    fn start(&self) -> SqliteStore {
        self.try_start().unwrap_or_else(|error| panic!("{error}"))
    }

    /// What a process finds that starts after this moment's `kill -9`.
    fn after_a_kill(&self) -> Self {
        let other = Self::new();
        for suffix in ["", "-wal"] {
            let name = format!("{}{suffix}", database::FILE);
            let from = self.parent.path().join(&name);
            std::fs::copy(from, other.parent.path().join(name)).unwrap();
        }
        Self {
            clock: self.clock.clone(),
            limits: self.limits.clone(),
            ..other
        }
    }
}

fn start_in(path: &Path, limits: Limits, now: Now) -> Result<SqliteStore, DataDirError> {
    let dir = Arc::new(DataDir::open(path)?);
    SqliteStore::open(dir, limits, now)
}

async fn open(store: &SqliteStore, now: Now, name: &str) -> Result<Opened, TunnelError> {
    let (opened, new) = prepare(name);
    store.open_tunnel(now, new).await.map(|()| opened)
}

async fn spend(
    store: &SqliteStore,
    now: Now,
    tunnel: &Opened,
    mode: Mode,
    client: Option<&str>,
) -> Result<Admitted, Refusal> {
    let presented = presented(mode, tunnel.token(mode), client);
    store.spend_token(now, presented).await
}

impl SqliteStore {
    /// Any statement, in the thread that writes.
    async fn write(&self, sql: impl Into<String>) {
        let sql = sql.into();
        let write = move |connection: &Connection| Ok(connection.execute_batch(&sql)?);
        self.writer
            .change::<_, TunnelError, rusqlite::Error>(write)
            .await
            .unwrap();
    }

    async fn number(&self, sql: &'static str) -> i64 {
        let read =
            move |connection: &Connection| Ok(connection.query_row(sql, [], |row| row.get(0))?);
        self.readers
            .read::<_, TunnelError, rusqlite::Error>(read)
            .await
            .unwrap()
    }

    async fn is_open(&self, now: Now, name: &str) -> Option<bool> {
        let view = self.describe(now, &name.parse().unwrap()).await.ok()?;
        Some(view.summary.status == crate::tunnels::Status::Open)
    }
}

/// The store and the directory that it is in.
struct Directory(tempfile::TempDir);

impl Place for Directory {
    type Store = SqliteStore;

    async fn empty_store(&self, limits: Limits, clock: &ManualClock) -> SqliteStore {
        let path = self.0.path().join(uuid::Uuid::new_v4().to_string());
        start_in(&path, limits, clock.now()).unwrap()
    }

    async fn check(&self, store: &SqliteStore) {
        let wrong = store.number(
            "WITH counted AS (\
                SELECT 'key', owner, count(*) FROM tunnels \
                WHERE is_open = 1 AND owner IS NOT NULL GROUP BY owner \
                UNION ALL SELECT 'thing', thing, count(*) FROM tunnels \
                WHERE is_open = 1 AND thing IS NOT NULL GROUP BY thing) \
             SELECT (SELECT value FROM counters WHERE name = 'open') <> \
                (SELECT count(*) FROM tunnels WHERE is_open = 1) \
             OR (SELECT value FROM counters WHERE name = 'closed') <> \
                (SELECT count(*) FROM tunnels WHERE is_open = 0) \
             OR (SELECT count(*) FROM client_tokens) <> \
                (SELECT count(source_client) + count(destination_client) FROM tunnels WHERE is_open = 1) \
             OR EXISTS (SELECT * FROM open_tunnels EXCEPT SELECT * FROM counted) \
             OR EXISTS (SELECT * FROM counted EXCEPT SELECT * FROM open_tunnels)",
        );
        assert_eq!(wrong.await, 0);
    }

    fn seeds(&self) -> u64 {
        3
    }

    fn races(&self) -> usize {
        200
    }
}

suite! { Some(Directory(tempfile::tempdir().unwrap())) }

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    crate::store::crash::killed_at_random_moments_loses_nothing(place, 10).await;
}
