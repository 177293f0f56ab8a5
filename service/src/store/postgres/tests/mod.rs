//! The store on a real server, with a clock that the test moves.

mod cost;
mod keys;
mod nodes;
mod plans;
mod server;
mod tables;
mod trouble;

use super::*;
use crate::clock::manual::ManualClock;
use crate::store::conformance::{Opened, Place, config, prepare, presented, suite};
use crate::tunnels::{Lifetime, Seen, Status};

use self::server::{Server, server};

/// A database for one test.
struct Database {
    server: &'static Server,
    name: std::sync::OnceLock<String>,
}

impl Database {
    /// `None` when there is no server.
    fn new() -> Option<Self> {
        Some(Self {
            server: server()?,
            name: std::sync::OnceLock::new(),
        })
    }

    async fn url(&self) -> PostgresUrl {
        if self.name.get().is_none() {
            let name = self.server.database().await;
            self.name.set(name).unwrap();
        }
        PostgresUrl::parse(&self.server.url(&self.name())).unwrap()
    }

    fn name(&self) -> String {
        self.name.get().cloned().unwrap()
    }

    /// Runs statements behind the stores' backs.
    async fn run(&self, sql: &str) {
        self.server.run(&self.name(), sql).await;
    }

    /// One number.
    async fn number(&self, sql: &str) -> i64 {
        let config: tokio_postgres::Config = self.server.url(&self.name()).parse().unwrap();
        let client = self.server.connect(&config).await;
        client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// One more node.
    async fn node(&self, clock: &ManualClock) -> PostgresStore {
        let url = self.url().await;
        PostgresStore::open(&url, Limits::default(), clock.clock())
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.server.leave(name);
        }
    }
}

impl Place for Database {
    type Store = PostgresStore;

    async fn empty_store(&self, limits: Limits, clock: &ManualClock) -> PostgresStore {
        let url = self.url().await;
        self.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            .await;
        PostgresStore::open(&url, limits, clock.clock())
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    async fn check(&self, store: &PostgresStore) {
        let client = store.pool.get().await.unwrap();
        let wrong = client.query_one(
            "WITH counted AS (\
                SELECT 'key', owner, count(*) FROM tunnels \
                WHERE is_open AND owner IS NOT NULL GROUP BY owner \
                UNION ALL SELECT 'thing', thing, count(*) FROM tunnels \
                WHERE is_open AND thing IS NOT NULL GROUP BY thing) \
             SELECT (SELECT value FROM counters WHERE name = 'open') <> \
                (SELECT count(*) FROM tunnels WHERE is_open) \
             OR (SELECT value FROM counters WHERE name = 'closed') <> \
                (SELECT count(*) FROM tunnels WHERE NOT is_open) \
             OR (SELECT count(*) FROM client_tokens) <> \
                (SELECT count(source_client) + count(destination_client) FROM tunnels WHERE is_open) \
             OR EXISTS (SELECT * FROM open_tunnels EXCEPT SELECT * FROM counted) \
             OR EXISTS (SELECT * FROM counted EXCEPT SELECT * FROM open_tunnels)",
            &[],
        );
        assert!(!wrong.await.unwrap().get::<_, bool>(0));
    }

    fn seeds(&self) -> u64 {
        2
    }

    fn races(&self) -> usize {
        100
    }
}

suite! { Database::new() }

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_loses_nothing() {
    let Some(database) = Database::new() else {
        return;
    };
    database.url().await;
    let url = database.server.url(&database.name());
    crate::store::crash::killed_at_random_moments_loses_nothing(&url, 5).await;
}

async fn open(store: &PostgresStore, now: Now, name: &str) -> Opened {
    let (opened, new) = prepare(name);
    store.open_tunnel(now, new).await.unwrap();
    opened
}

async fn is_open(store: &PostgresStore, now: Now, name: &str) -> Option<bool> {
    let view = store.describe(now, &name.parse().unwrap()).await.ok()?;
    Some(view.summary.status == Status::Open)
}
