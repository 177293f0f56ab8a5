//! The suites of registry and mailbox, and what other nodes hear.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::*;
use crate::notify::{Mailbox, Message, Qos, SessionStart, conformance};
use crate::registry::conformance::{limits, registry_conformance};
use crate::registry::{
    ByAge, Certificate, CertificateId, CertificateOrigin, CertificateStatus, NewThing, Policy,
    PolicyName, Registry,
};
use crate::store::{AnyStore, StoreChoice, StoreLimits};
use crate::token::{RoutingKey, TokenHash, mint};
use crate::tunnels::ThingName;
use tokio::task::JoinSet;

/// A store in a database of its own; in memory when there is no server.
struct OwnStore {
    store: AnyStore,
    _database: Option<Database>,
}

impl std::ops::Deref for OwnStore {
    type Target = AnyStore;

    fn deref(&self) -> &AnyStore {
        &self.store
    }
}

async fn store(limits: StoreLimits) -> OwnStore {
    let database = Database::new();
    let choice = match &database {
        Some(database) => StoreChoice::Postgres(Box::new(database.url().await)),
        None => StoreChoice::Memory,
    };
    let clock = ManualClock::new().clock();
    let store = AnyStore::open(Some(&choice), None, limits, None, &clock).await;
    OwnStore {
        store: store.unwrap_or_else(|error| panic!("{error}")),
        _database: database,
    }
}

mod registry {
    use super::*;

    async fn empty() -> OwnStore {
        let limits = StoreLimits {
            registry: limits(),
            ..StoreLimits::default()
        };
        store(limits).await
    }

    registry_conformance!(empty);
}

mod mailbox {
    use super::*;

    conformance::mailbox_rules!(|mailbox| async move {
        let limits = StoreLimits {
            mailbox,
            ..StoreLimits::default()
        };
        store(limits).await
    });
}

fn thing() -> ThingName {
    ThingName::new("press-7").unwrap()
}

async fn told(changes: &mut Changes) -> Change {
    let waiting = tokio::time::timeout(Duration::from_secs(10), changes.next());
    waiting.await.expect("a change is heard")
}

#[tokio::test]
async fn a_certificate_that_one_node_revokes_is_told_at_the_others() {
    use crate::registry::Change as Lost;

    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let (a, b) = (database.node(&clock).await, database.node(&clock).await);
    let at = clock.now().wall;
    let id = CertificateId::of(b"der");
    let certificate = Certificate {
        id,
        pem: "pem".into(),
        status: CertificateStatus::Active,
        origin: CertificateOrigin::Issued,
        created: at,
        updated: at,
        not_before: at,
        not_after: at,
    };
    a.add_certificate(certificate).await.unwrap();
    let mut heard = Registry::changes(&b);
    let revoked = a.set_certificate_status(at, &id, CertificateStatus::Revoked);
    revoked.await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_secs(10), heard.next());
    assert_eq!(waiting.await.unwrap(), Some(Lost::Certificate(id)));
    let device = b.device(&id).await.unwrap().unwrap();
    assert_eq!(device.status, CertificateStatus::Revoked);
}

#[tokio::test]
async fn a_session_that_goes_while_it_is_resumed_is_begun_anew() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let store = database.node(&clock).await;
    let now = clock.now().steady;
    let start = SessionStart {
        clean: false,
        resumable: true,
        until: now.after(Duration::from_secs(3600)),
    };
    let thing = thing();
    Mailbox::open(&store, now, &thing, start).await.unwrap();
    // Another node takes it for over, and has yet to commit that.
    let url = database.url().await;
    let (mut other, connection) = url.config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let going = other.transaction().await.unwrap();
    let end = "DELETE FROM sessions; UPDATE counters SET value = 0 WHERE name = 'sessions'";
    going.batch_execute(end).await.unwrap();
    let resume = Mailbox::open(&store, now, &thing, start);
    let go = async {
        crate::testing::eventually("it waits for the row", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                           AND wait_event_type = 'Lock'";
            database.number(waiting).await > 0
        })
        .await;
        going.commit().await.unwrap();
    };
    let (opened, ()) = tokio::join!(resume, go);
    let opened = opened.unwrap();
    assert!(!opened.present);
    let renewed = store.renew(&thing, opened.connection, start.until).await;
    assert_eq!(renewed, Ok(true));
}

/// As a node of a newer version does it, while this one has all its statements prepared.
#[tokio::test]
async fn columns_that_a_newer_version_adds_disturb_nobody() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let store = database.node(&clock).await;
    let now = clock.now();
    let id = CertificateId::of(b"der");
    let certificate = Certificate {
        id,
        pem: "pem".into(),
        status: CertificateStatus::Active,
        origin: CertificateOrigin::Issued,
        created: now.wall,
        updated: now.wall,
        not_before: now.wall,
        not_after: now.wall,
    };
    store.add_certificate(certificate.clone()).await.unwrap();
    let policy = Policy {
        name: PolicyName::new("p").unwrap(),
        document: "{}".into(),
        version: 1,
        created: now.wall,
    };
    store.create_policy(policy.clone()).await.unwrap();
    let new = NewThing {
        name: thing(),
        id: uuid::Uuid::new_v4(),
        type_name: None,
        attributes: Default::default(),
    };
    let kept = store.create_thing(new).await.unwrap();
    let tunnel = open(&store, now, "t").await;
    let use_everything = async |when: &str| {
        let presented = presented(Mode::Source, &tunnel.source, Some("c"));
        store.spend_token(now, presented).await.expect(when);
        store.tag(&tunnel.id, Tags::new()).await.expect(when);
        store.describe(now, &tunnel.id).await.expect(when);
        TunnelStore::expire(&store, now).await.expect(when);
        let all = ListRequest {
            thing: None,
            after: None,
            count: NonZeroUsize::MIN,
        };
        store.list(now, all).await.expect(when);
        assert_eq!(
            store.certificate(&id).await,
            Ok(certificate.clone()),
            "{when}"
        );
        assert_eq!(
            store.policy(&policy.name).await,
            Ok(policy.clone()),
            "{when}"
        );
        assert_eq!(store.thing(&kept.name).await, Ok(kept.clone()), "{when}");
        for ascending in [true, false] {
            let query = ByAge {
                ascending,
                after: None,
                count: NonZeroUsize::MIN,
            };
            store.list_certificates(query).await.expect(when);
            let query = ByAge {
                ascending,
                after: None,
                count: NonZeroUsize::MIN,
            };
            store.list_policies(query).await.expect(when);
        }
        assert!(store.device(&id).await.expect(when).is_some());
    };
    use_everything("before").await;
    for table in [
        "tunnels",
        "things",
        "certificates",
        "policies",
        "sessions",
        "messages",
        "audit",
        "nodes",
    ] {
        let add = format!("ALTER TABLE {table} ADD COLUMN later bigint");
        database.run(&add).await;
    }
    use_everything("after").await;
}

#[tokio::test]
async fn a_message_queued_at_one_node_is_told_and_given_out_at_another() {
    let Some(database) = Database::new() else {
        return;
    };
    let (clock, ahead) = (ManualClock::new(), ManualClock::new());
    // The clocks of nodes need not agree.
    ahead.jump_wall(3_600);
    ahead.reboot();
    let (a, b) = (database.node(&clock).await, database.node(&ahead).await);
    let (now, now_ahead) = (clock.now().steady, ahead.now().steady);
    let start = SessionStart {
        clean: true,
        resumable: true,
        until: now_ahead.after(Duration::from_secs(7_200)),
    };
    let opened = Mailbox::open(&b, now_ahead, &thing(), start).await;
    let (connection, qos) = (opened.unwrap().connection, Some(Qos::AtLeastOnce));
    b.subscribe(&thing(), connection, qos).await.unwrap();
    let mut heard = Store::changes(&b);
    let tunnel = open(&a, clock.now(), "t").await;
    let message = Message {
        tunnel: tunnel.id.clone(),
        token: TokenHash::of(&tunnel.destination),
        expires: now.after(Duration::from_secs(600)),
        sealed: b"sealed".as_slice().into(),
    };
    assert!(a.push(now, &thing(), message.clone()).await.unwrap());
    let expected = Change::Other("mailbox".to_owned(), "press-7".to_owned());
    assert_eq!(told(&mut heard).await, expected);
    let soon = now_ahead.after(Duration::from_secs(300));
    let queued = b.next(soon, &thing(), connection).await.unwrap().unwrap();
    assert_eq!(*queued.message.sealed, *b"sealed");
    assert!(queued.message.expires > soon);
    let late = now_ahead.after(Duration::from_secs(900));
    assert_eq!(b.next(late, &thing(), connection).await, Ok(None));

    // What one node rotates away no other gives out, nor takes in afterwards.
    assert!(a.push(now, &thing(), message.clone()).await.unwrap());
    let token = mint(RoutingKey::of(&tunnel.id)).unwrap();
    let rotation = Rotation {
        source: None,
        destination: Some(TokenHash::of(&token)),
        config: None,
        seen: Seen::Anything,
    };
    a.rotate(clock.now(), &tunnel.id, rotation).await.unwrap();
    assert_eq!(b.next(soon, &thing(), connection).await, Ok(None));
    let (again, expires) = (message.clone(), soon.after(Duration::from_secs(600)));
    let stale = Message { expires, ..again };
    assert!(!b.push(soon, &thing(), stale).await.unwrap());
    // One that a node of an earlier version has queued without looking.
    database
        .run(&format!(
            "INSERT INTO messages (thing, tunnel, sent, expires_ms, life_ms, sealed) \
             VALUES ('press-7', 't', 0, {}, 1, '')",
            i64::MAX
        ))
        .await;
    assert_eq!(b.next(soon, &thing(), connection).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_tokens_that_nodes_rotate_and_queue_at_once_the_last_is_told() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let nodes = [database.node(&clock).await, database.node(&clock).await].map(Arc::new);
    let now = clock.now();
    let tunnel = open(&nodes[0], now, "t").await;
    let start = SessionStart {
        clean: true,
        resumable: true,
        until: now.steady.after(Duration::from_secs(7_200)),
    };
    let opened = Mailbox::open(&*nodes[0], now.steady, &thing(), start).await;
    let (connection, qos) = (opened.unwrap().connection, Some(Qos::AtLeastOnce));
    nodes[0].subscribe(&thing(), connection, qos).await.unwrap();
    for round in 0..20 {
        let mut rotations = JoinSet::new();
        for number in 0..8 {
            let (node, id) = (Arc::clone(&nodes[number % 2]), tunnel.id.clone());
            rotations.spawn(async move {
                let token = TokenHash::of(&mint(RoutingKey::of(&id)).unwrap());
                let rotation = Rotation {
                    source: None,
                    destination: Some(token),
                    config: None,
                    seen: Seen::Anything,
                };
                node.rotate(now, &id, rotation).await.unwrap();
                let message = Message {
                    tunnel: id,
                    token,
                    expires: now.steady.after(Duration::from_secs(600)),
                    sealed: b"sealed".as_slice().into(),
                };
                let queued = node.push(now.steady, &thing(), message).await.unwrap();
                (token, queued)
            });
        }
        let done = rotations.join_all().await;
        let next = nodes[0].next(now.steady, &thing(), connection).await;
        let told = next.unwrap().expect("one is told").message.token;
        let row = database
            .number("SELECT count(*) FROM messages JOIN tunnels ON destination_token = token")
            .await;
        assert_eq!(row, 1, "round {round}: the tunnel's own");
        assert!(done.contains(&(told, true)), "round {round}");
    }
}

/// Whoever ends several tunnels at once takes their messages away in an order of its own.
#[tokio::test]
async fn a_full_queue_takes_a_message_while_somebody_takes_others_away() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let store = database.node(&clock).await;
    let now = clock.now().steady;
    let start = SessionStart {
        clean: true,
        resumable: true,
        until: now.after(Duration::from_secs(7_200)),
    };
    let opened = Mailbox::open(&store, now, &thing(), start).await;
    let (connection, qos) = (opened.unwrap().connection, Some(Qos::AtLeastOnce));
    store.subscribe(&thing(), connection, qos).await.unwrap();
    let fill = "INSERT INTO messages (thing, tunnel, sent, expires_ms, life_ms, sealed, token) \
                SELECT 'press-7', 't' || n, 0, 9e15::bigint, 1, '', '' FROM generate_series(1, 40) n";
    database.run(fill).await;
    let config: tokio_postgres::Config = database.server.url(&database.name()).parse().unwrap();
    let other = database.server.connect(&config).await;
    let taken =
        "BEGIN; DELETE FROM messages WHERE id IN (SELECT id FROM messages ORDER BY id LIMIT 3)";
    other.batch_execute(taken).await.unwrap();
    let tunnel = open(&store, clock.now(), "t").await;
    let message = Message {
        tunnel: tunnel.id.clone(),
        token: TokenHash::of(&tunnel.destination),
        expires: now.after(Duration::from_secs(600)),
        sealed: b"sealed".as_slice().into(),
    };
    assert!(store.push(now, &thing(), message).await.unwrap());
    other.batch_execute("COMMIT").await.unwrap();
    let kept = database.number("SELECT count(*) FROM messages").await;
    assert_eq!(kept, 20);
}

#[tokio::test]
async fn a_node_that_was_late_looks_at_everything_again() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let late = database.node(&clock).await;
    let (now, thing) = (clock.now().steady, thing());
    let mut heard = Store::changes(&late);
    let start = SessionStart {
        clean: false,
        resumable: true,
        until: now.after(Duration::from_secs(3600)),
    };
    let opened = Mailbox::open(&late, now, &thing, start).await.unwrap();
    let renew = || late.renew(&thing, opened.connection, start.until);
    let time = clock.clock();
    let beat = || node::beat_once(&late.pool, &late.begun, &time);
    // Its beats go on as they should, and nobody has anything to say.
    beat().await.unwrap();
    let other = database.node(&clock).await;
    let tunnel = open(&other, clock.now(), "t").await;
    let closed = TunnelStore::close(&other, clock.now(), &tunnel.id, true);
    closed.await.unwrap();
    assert_eq!(told(&mut heard).await, Change::Tunnel(tunnel.id));
    assert!(renew().await.unwrap());
    other.shut_down().await;
    // It beats by itself too, and then another one is not the first.
    loop {
        database
            .run("UPDATE nodes SET beat = beat - interval '1 minute'")
            .await;
        database.node(&clock).await.shut_down().await;
        if !renew().await.unwrap() {
            break;
        }
    }
    // Its devices were taken for gone.
    beat().await.unwrap();
    assert_eq!(told(&mut heard).await, Change::Everything);
}
