//! Servers that are away, refuse, or are not who they should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What lies between a node and the server: a network that can be cut.
struct Network {
    port: u16,
    up: Arc<AtomicBool>,
    cut: broadcast::Sender<()>,
}

impl Network {
    async fn new(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, _) = broadcast::channel(1);
        let up = Arc::new(AtomicBool::new(true));
        let (is_up, cuts) = (Arc::clone(&up), cut.clone());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (is_up, mut cut) = (Arc::clone(&is_up), cuts.subscribe());
                tokio::spawn(async move {
                    if !is_up.load(Ordering::SeqCst) {
                        return;
                    }
                    let mut far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    tokio::select! {
                        _ = cut.recv() => {}
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Self { port, up, cut }
    }

    fn set(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
        if !up {
            let _ = self.cut.send(());
        }
    }
}

#[tokio::test]
async fn while_the_server_is_away_operations_fail_and_afterwards_work_again() {
    let Some(database) = Database::new() else {
        return;
    };
    database.url().await;
    let network = Network::new(database.server.port).await;
    let url = format!(
        "postgres://tester@127.0.0.1:{}/{}",
        network.port,
        database.name()
    );
    let clock = ManualClock::new();
    let url = PostgresUrl::parse(&url).unwrap();
    let store = PostgresStore::open(&url, Limits::default(), clock.clock()).await;
    let store = store.unwrap_or_else(|error| panic!("{error}"));
    let mut changes = store.changes();
    let now = clock.now();
    let tunnel = open(&store, now, "t").await;
    network.set(false);
    let refused = store.close(now, &tunnel.id, true).await;
    assert_eq!(refused, Err(TunnelError::Unavailable));
    let use_ = presented(Mode::Source, &tunnel.source, None);
    let refused = store.spend_token(now, use_.clone()).await;
    assert_eq!(refused.unwrap_err(), Refusal::Unavailable);
    assert_eq!(
        store.expire(now).await.unwrap_err(),
        TunnelError::Unavailable
    );
    network.set(true);
    store.spend_token(now, use_).await.unwrap();
    // What was said meanwhile is lost, so everything has to be looked at.
    let heard = tokio::time::timeout(Duration::from_secs(10), changes.next());
    assert_eq!(heard.await.unwrap(), Change::Everything);
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_named_with_what_it_said() {
    let Some(database) = Database::new() else {
        return;
    };
    database.url().await;
    let clock = ManualClock::new().clock();
    let server = database.server.url("nowhere");
    for (url, said) in [
        (server.as_str(), "database \"nowhere\" does not exist"),
        ("postgres://tester:tweet@127.0.0.1:1/d", "refused"),
    ] {
        let url = PostgresUrl::parse(url).unwrap();
        let error = PostgresStore::open(&url, Limits::default(), clock.clone()).await;
        let text = error.err().unwrap().to_string();
        let start = format!("cannot use the PostgreSQL server {url}: ");
        assert!(text.starts_with(&start), "{text}");
        assert!(text.contains(said) && !text.contains("tweet"), "{text}");
    }
}

#[tokio::test]
async fn tables_of_a_newer_version_are_left_alone() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    database.node(&clock).await.shut_down().await;
    database.run("UPDATE adit_schema SET version = 99").await;
    let url = database.url().await;
    let error = PostgresStore::open(&url, Limits::default(), clock.clock()).await;
    let text = error.err().unwrap().to_string();
    assert!(
        text.contains("newer version of this program (format 99"),
        "{text}"
    );
}

#[tokio::test]
async fn with_tls_the_server_has_to_be_who_it_says() {
    let Some(database) = Database::new() else {
        return;
    };
    database.url().await;
    let clock = ManualClock::new().clock();
    let (port, name) = (database.server.port, database.name());
    let ca = database
        .server
        .directory
        .join("ca.pem")
        .display()
        .to_string();
    let url = format!("postgres://tester@127.0.0.1:{port}/{name}?sslmode=require");
    let trusted = PostgresUrl::parse(&format!("{url}&sslrootcert={ca}")).unwrap();
    let store = PostgresStore::open(&trusted, Limits::default(), clock.clone()).await;
    let store = store.unwrap_or_else(|error| panic!("{error}"));
    let client = store.pool.get().await.unwrap();
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert!(client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
    let unknown = PostgresUrl::parse(&url).unwrap();
    let error = PostgresStore::open(&unknown, Limits::default(), clock).await;
    let text = error.err().unwrap().to_string();
    assert!(text.to_lowercase().contains("certificate"), "{text}");
}
