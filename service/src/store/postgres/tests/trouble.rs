//! Servers that are away, refuse, or are not who they should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::audit::{self, AuditLog};
use crate::registry::{
    Certificate, CertificateId, CertificateOrigin, CertificateStatus, NewThing, Policy, PolicyName,
    Registry, RegistryError,
};
use crate::token::{RoutingKey, mint};
use crate::tunnels::ThingName;

/// What lies between a node and the server: a network that can be cut.
struct Network {
    port: u16,
    up: Arc<AtomicBool>,
    cut: broadcast::Sender<()>,
    /// The answer to the next commit is lost, with its connection.
    loses_commit: Arc<AtomicBool>,
    /// Says so then in the server's place, as a pooler does.
    is_pooler: Arc<AtomicBool>,
    /// How often something came for the server: what is sent together comes together.
    asked: Arc<AtomicUsize>,
    /// Whether new connections are taken, and never answered; how many have been.
    is_mute: Arc<AtomicBool>,
    unanswered: Arc<AtomicUsize>,
    /// How long what came is on its way to the server, in milliseconds.
    delay: Arc<AtomicU64>,
}

impl Network {
    async fn new(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, _) = broadcast::channel(1);
        let up = Arc::new(AtomicBool::new(true));
        let (is_up, cuts) = (Arc::clone(&up), cut.clone());
        let loses_commit = Arc::new(AtomicBool::new(false));
        let losing = Arc::clone(&loses_commit);
        let is_pooler = Arc::new(AtomicBool::new(false));
        let pooling = Arc::clone(&is_pooler);
        let asked = Arc::new(AtomicUsize::new(0));
        let asking = Arc::clone(&asked);
        let is_mute = Arc::new(AtomicBool::new(false));
        let unanswered = Arc::new(AtomicUsize::new(0));
        let (mute, ignored) = (Arc::clone(&is_mute), Arc::clone(&unanswered));
        let delay = Arc::new(AtomicU64::new(0));
        let delaying = Arc::clone(&delay);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (is_up, mut cut) = (Arc::clone(&is_up), cuts.subscribe());
                let (losing, asking) = (Arc::clone(&losing), Arc::clone(&asking));
                let pooling = Arc::clone(&pooling);
                let delaying = Arc::clone(&delaying);
                let (mute, ignored) = (Arc::clone(&mute), Arc::clone(&ignored));
                tokio::spawn(async move {
                    if mute.load(Ordering::SeqCst) {
                        ignored.fetch_add(1, Ordering::SeqCst);
                        // Until the other side gives it up.
                        let _ = near.read_to_end(&mut Vec::new()).await;
                        return;
                    }
                    if !is_up.load(Ordering::SeqCst) {
                        return;
                    }
                    let mut far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    tokio::select! {
                        _ = cut.recv() => {}
                        lost = carry(&mut near, &mut far, &losing, &asking, &delaying) => {
                            if lost.is_ok_and(|lost| lost) && pooling.load(Ordering::SeqCst) {
                                let _ = near.write_all(CONNECTION_LOST).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            port,
            up,
            cut,
            loses_commit,
            is_pooler,
            asked,
            is_mute,
            unanswered,
            delay,
        }
    }

    fn set(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
        if !up {
            let _ = self.cut.send(());
        }
    }
}

/// Carries bytes both ways, until an end or the commit whose answer is to be lost; then `true`.
async fn carry(
    near: &mut TcpStream,
    far: &mut TcpStream,
    losing: &AtomicBool,
    asking: &AtomicUsize,
    delay: &AtomicU64,
) -> std::io::Result<bool> {
    let (mut asked, mut answered) = ([0; 8_192], [0; 8_192]);
    loop {
        tokio::select! {
            size = near.read(&mut asked) => {
                let asked = &asked[..size?];
                asking.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(delay.load(Ordering::SeqCst))).await;
                far.write_all(asked).await?;
                let commits = asked.windows(6).any(|word| word == b"COMMIT");
                if asked.is_empty() {
                    return Ok(false);
                }
                if commits && losing.swap(false, Ordering::SeqCst) {
                    // It is committed now, and nobody hears of it.
                    return far.read(&mut answered).await.map(|_| true);
                }
            }
            size = far.read(&mut answered) => {
                let answered = &answered[..size?];
                if answered.is_empty() {
                    return Ok(false);
                }
                near.write_all(answered).await?;
            }
        }
    }
}

/// As PgBouncer has it.
const CONNECTION_LOST: &[u8] = b"E\0\0\0\x2dSFATAL\0VFATAL\0C08P01\0Mserver conn crash\0\0";

/// A node that reaches its server through a network.
async fn behind_a_network(database: &Database, clock: &ManualClock) -> (Network, PostgresStore) {
    database.url().await;
    let network = Network::new(database.server.port).await;
    let (port, name) = (network.port, database.name());
    let url = format!("postgres://tester@127.0.0.1:{port}/{name}");
    let url = PostgresUrl::parse(&url).unwrap();
    let store = PostgresStore::open(&url, Limits::default(), clock.clock()).await;
    (network, store.unwrap_or_else(|error| panic!("{error}")))
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_uncertain_until_it_is_asked_for() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let (network, store) = behind_a_network(&database, &clock).await;
    let now = clock.now();
    let tunnel = open(&store, now, "t").await;
    let lose = || network.loses_commit.store(true, Ordering::SeqCst);

    let token = TokenHash::of(&mint(RoutingKey::of(&tunnel.id)).unwrap());
    let rotation = Rotation {
        source: Some(token),
        destination: None,
        config: None,
        seen: Seen::Anything,
    };
    lose();
    let rotated = store.rotate(now, &tunnel.id, rotation).await;
    assert_eq!(rotated, Err(TunnelError::Uncertain));
    let has = store.has_token(&tunnel.id, Mode::Source, token).await;
    assert_eq!(has, Ok(true), "it was made");

    lose();
    let closed = store.close(now, &tunnel.id, false).await;
    assert_eq!(closed, Err(TunnelError::Uncertain));
    assert_eq!(store.close(now, &tunnel.id, false).await, Ok(Found::Closed));
    assert_eq!(is_open(&store, now, "t").await, Some(false));

    let (_, new) = prepare("other");
    let (id, token) = (new.id.clone(), new.source);
    lose();
    let opened = store.open_tunnel(now, new).await;
    assert_eq!(opened, Err(TunnelError::Uncertain));
    assert_eq!(store.has_token(&id, Mode::Source, token).await, Ok(true));

    clock.advance(Duration::from_secs(12 * 60 * 60));
    lose();
    let expired = store.expire(clock.now()).await;
    assert_eq!(
        expired.map(|expired| expired.ended),
        Err(TunnelError::Uncertain)
    );
    assert_eq!(is_open(&store, clock.now(), "other").await, Some(false));
    // Whoever keeps the audit hears of it nevertheless, and once.
    for ended in [vec![id], Vec::new()] {
        assert_eq!(store.expire(clock.now()).await.unwrap().ended, ended);
    }
}

#[tokio::test]
async fn what_a_pooler_says_of_a_commit_whose_answer_it_lost_is_uncertain() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let (network, store) = behind_a_network(&database, &clock).await;
    network.is_pooler.store(true, Ordering::SeqCst);
    let now = clock.now();
    let (_, new) = prepare("t");
    let (id, token) = (new.id.clone(), new.source);
    network.loses_commit.store(true, Ordering::SeqCst);
    let opened = store.open_tunnel(now, new).await;
    assert_eq!(opened, Err(TunnelError::Uncertain));
    assert_eq!(store.has_token(&id, Mode::Source, token).await, Ok(true));
}

/// As some servers are set up for speed: what was committed in the last half second is gone after a crash of theirs.
#[tokio::test]
async fn commits_are_on_disk_whatever_the_database_is_set_to() {
    let Some(database) = Database::new() else {
        return;
    };
    database.url().await;
    let name = database.name();
    let hasty = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    database.run(&hasty).await;
    let store = database.node(&ManualClock::new()).await;
    let client = store.pool.get().await.unwrap();
    let waits = client.query_one("SHOW synchronous_commit", &[]).await;
    assert_eq!(waits.unwrap().get::<_, String>(0), "on");
}

/// A server that copies another one: it answers what is asked of it, and writes nothing. Gives its port.
async fn standby() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 8_192];
                // Anybody is welcome.
                let _who = stream.read(&mut asked).await?;
                stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await?;
                loop {
                    let size = stream.read(&mut asked).await?;
                    if &asked[..size] != b"Q\0\0\0\x1fSHOW transaction_read_only\0" {
                        return std::io::Result::Ok(());
                    }
                    stream.write_all(READ_ONLY).await?;
                }
            });
        }
    });
    port
}

/// `transaction_read_only`, a text: `on`.
const READ_ONLY: &[u8] = b"T\0\0\0\x1a\0\x01x\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0\
    D\0\0\0\x0c\0\x01\0\0\0\x02onC\0\0\0\x09SHOW\0Z\0\0\0\x05I";

/// After a failover the first of two servers is one, and would refuse every change.
#[tokio::test]
async fn of_several_servers_the_one_that_can_be_written_is_taken() {
    let Some(database) = Database::new() else {
        return;
    };
    database.url().await;
    let (first, second, name) = (standby().await, database.server.port, database.name());
    let url = format!("postgres://tester@127.0.0.1:{first},127.0.0.1:{second}/{name}");
    let url = PostgresUrl::parse(&url).unwrap();
    let clock = ManualClock::new();
    let store = PostgresStore::open(&url, Limits::default(), clock.clock()).await;
    let store = store.unwrap_or_else(|error| panic!("{error}"));
    open(&store, clock.now(), "t").await;
}

#[tokio::test]
async fn what_is_registered_by_a_commit_whose_answer_is_lost_is_answered_as_done() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let (network, store) = behind_a_network(&database, &clock).await;
    let at = clock.now().wall;
    let lose = || network.loses_commit.store(true, Ordering::SeqCst);
    let policy = Policy {
        name: PolicyName::new("p").unwrap(),
        document: "{}".into(),
        version: 1,
        created: at,
    };
    lose();
    assert_eq!(store.create_policy(policy.clone()).await, Ok(()));
    let other = Policy {
        document: "[]".into(),
        ..policy.clone()
    };
    let exists = RegistryError::PolicyExists(policy.name.clone());
    assert_eq!(store.create_policy(other).await, Err(exists));
    let certificate = Certificate {
        id: CertificateId::of(b"der"),
        pem: "pem".into(),
        status: CertificateStatus::Inactive,
        origin: CertificateOrigin::Issued,
        created: at,
        updated: at,
        not_before: at,
        not_after: at,
    };
    lose();
    assert_eq!(store.add_certificate(certificate.clone()).await, Ok(()));
    lose();
    let deleted = store.delete_certificate(&certificate.id, false).await;
    assert_eq!(deleted, Ok(()));
    lose();
    assert_eq!(store.delete_policy(&policy.name).await, Ok(()));
    let gone = RegistryError::PolicyNotFound(policy.name.clone());
    assert_eq!(store.delete_policy(&policy.name).await, Err(gone));
    // What does no harm when it is said twice is for the caller to repeat.
    let new = NewThing {
        name: ThingName::new("press-7").unwrap(),
        id: uuid::Uuid::new_v4(),
        type_name: None,
        attributes: Default::default(),
    };
    lose();
    let created = store.create_thing(new.clone()).await;
    assert_eq!(created, Err(RegistryError::Uncertain));
    assert_eq!(store.create_thing(new.clone()).await.unwrap().id, new.id);
}

/// With three round trips for each, a batch took longer than an operation may, and the next attempt as long again.
#[tokio::test]
async fn tunnels_end_on_time_although_the_server_is_far_away() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let near = database.node(&clock).await;
    let now = clock.now();
    for number in 0..128 {
        let tunnel = open(&near, now, &format!("t-{number}")).await;
        for (mode, token) in [
            (Mode::Source, &tunnel.source),
            (Mode::Destination, &tunnel.destination),
        ] {
            let client = format!("{mode}-{number}");
            let used = presented(mode, token, Some(&client));
            near.spend_token(now, used).await.unwrap();
        }
    }
    let (network, far) = behind_a_network(&database, &clock).await;
    clock.advance(Duration::from_secs(12 * 60 * 60));
    for delay in [30, 200] {
        network.delay.store(delay, Ordering::SeqCst);
        let expired = far.expire(clock.now()).await.expect("in time");
        assert!(!expired.ended.is_empty());
        database.check(&near).await;
    }
}

/// The store and its connection take turns on one thread, so what is asked in one turn leaves in one write.
/// The heartbeat has turns of its own: the least of several times is what an operation takes.
#[tokio::test]
async fn statements_that_need_no_answer_go_together() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let (network, store) = behind_a_network(&database, &clock).await;
    let now = clock.now();
    let mut least = [usize::MAX; 4];
    for round in 0..6 {
        let (tunnel, mut new) = prepare(&format!("t-{round}"));
        new.config = Some(config(Some("press"), &["SSH"]));
        new.owner = Some("AKIAPRESS".into());
        let begun = network.asked.load(Ordering::SeqCst);
        store.open_tunnel(now, new).await.unwrap();
        let opened = network.asked.load(Ordering::SeqCst);
        store.describe(now, &tunnel.id).await.unwrap();
        let described = network.asked.load(Ordering::SeqCst);
        store.close(now, &tunnel.id, false).await.unwrap();
        let closed = network.asked.load(Ordering::SeqCst);
        store.close(now, &tunnel.id, true).await.unwrap();
        let deleted = network.asked.load(Ordering::SeqCst);
        let took = [
            opened - begun,
            described - opened,
            closed - described,
            deleted - closed,
        ];
        for (least, took) in least.iter_mut().zip(took) {
            *least = took.min(*least);
        }
    }
    // Each change: BEGIN, what is decided on (for an opening before that), what is changed, COMMIT; a closed
    // tunnel is counted after it was written.
    assert_eq!(least, [4, 1, 5, 4]);
}

#[tokio::test]
async fn records_of_the_audit_go_together() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let (network, store) = behind_a_network(&database, &clock).await;
    let mut least = usize::MAX;
    for round in 0..6 {
        let records = (0..50).map(|place| {
            Arc::new(audit::Record {
                time: Timestamp::from_millis(round * 50 + place),
                event: audit::Event::Tunnel {
                    id: "t".parse().unwrap(),
                    change: audit::Change::Opened,
                },
            })
        });
        let records: Vec<_> = records.collect();
        let begun = network.asked.load(Ordering::SeqCst);
        store.append_all(records).await.unwrap();
        least = least.min(network.asked.load(Ordering::SeqCst) - begun);
    }
    // BEGIN, all records, COMMIT; with what a batch that crosses a bound prunes, one more.
    assert_eq!(least, 3);
    let latest = store.latest(300).await.unwrap();
    assert!(
        latest.is_sorted_by(|newer, older| newer > older),
        "not in their order"
    );
    assert_eq!(latest.len(), 300);
}

#[tokio::test]
async fn while_the_server_is_away_operations_fail_and_afterwards_work_again() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let (network, store) = behind_a_network(&database, &clock).await;
    let mut changes = Store::changes(&store);
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
async fn a_listener_that_the_server_never_answers_comes_again() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let (network, store) = behind_a_network(&database, &clock).await;
    let mut changes = Store::changes(&store);
    network.is_mute.store(true, Ordering::SeqCst);
    network.set(false);
    network.set(true);
    // The heartbeat comes every four seconds at most: one of two is the listener.
    crate::testing::eventually("two that wait", async || {
        network.unanswered.load(Ordering::SeqCst) >= 2
    })
    .await;
    network.is_mute.store(false, Ordering::SeqCst);
    let heard = tokio::time::timeout(Duration::from_secs(20), changes.next());
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
