//! The suites of registry and mailbox, and what outlives a run.

use std::ops::Deref;
use std::time::Duration;

use adit_proto::AccessToken;

use super::*;
use crate::notify::{Mailbox, MailboxLimits, Message, Qos, SessionStart, conformance};
use crate::registry::conformance::{limits, registry_conformance};
use crate::token::TokenHash;
use crate::tunnels::ThingName;

/// A store and its directory.
struct Kept {
    store: SqliteStore,
    _dir: tempfile::TempDir,
}

impl Deref for Kept {
    type Target = SqliteStore;

    fn deref(&self) -> &SqliteStore {
        &self.store
    }
}

fn kept(limits: StoreLimits) -> Kept {
    let parent = tempfile::tempdir().unwrap();
    let dir = Arc::new(DataDir::open(parent.path()).unwrap());
    let store = SqliteStore::open(dir, limits, ManualClock::new().now()).unwrap();
    Kept {
        store,
        _dir: parent,
    }
}

mod registry {
    use super::*;

    async fn empty() -> Kept {
        kept(StoreLimits {
            registry: limits(),
            ..StoreLimits::default()
        })
    }

    registry_conformance!(empty);
}

mod mailbox {
    use super::*;

    async fn empty(mailbox: MailboxLimits) -> Kept {
        kept(StoreLimits {
            mailbox,
            ..StoreLimits::default()
        })
    }

    conformance::mailbox_rules!(|limits| empty(limits));
}

fn thing() -> ThingName {
    ThingName::new("press-7").unwrap()
}

fn message(now: Now) -> Message {
    Message {
        tunnel: "t".parse().unwrap(),
        token: token(),
        expires: now.steady.after(HOUR),
        sealed: b"sealed".as_slice().into(),
    }
}

/// Of the destination of the one tunnel.
fn token() -> TokenHash {
    TokenHash::of(&AccessToken::new("token".to_owned()).unwrap())
}

/// A session that was there when the process ended, with one message.
pub(super) async fn queue_one(store: &SqliteStore, now: Now) {
    let (_, mut new) = prepare("t");
    new.destination = token();
    new.config = Some(config(Some("press-7"), &["SSH"]));
    store.open_tunnel(now, new).await.unwrap();
    let start = SessionStart {
        clean: true,
        resumable: true,
        until: now.steady.after(2 * HOUR),
    };
    let opened = Mailbox::open(store, now.steady, &thing(), start).await;
    let connection = opened.unwrap().connection;
    let qos = Some(Qos::AtLeastOnce);
    let subscribed = store.subscribe(&thing(), connection, qos).await;
    assert_eq!(subscribed, Ok(true));
    let pushed = store.push(now.steady, &thing(), message(now)).await;
    assert_eq!(pushed, Ok(true));
}

#[tokio::test]
async fn a_session_and_its_messages_outlive_a_kill() {
    let rig = Rig::new();
    let store = rig.start();
    queue_one(&store, rig.now()).await;
    let rig = rig.after_a_kill();
    let store = rig.start();
    let now = rig.now();
    let start = SessionStart {
        clean: false,
        resumable: true,
        until: now.steady.after(2 * HOUR),
    };
    let opened = Mailbox::open(&store, now.steady, &thing(), start).await;
    let opened = opened.unwrap();
    assert!(opened.present);
    let queued = store.next(now.steady, &thing(), opened.connection).await;
    assert_eq!(queued.unwrap().unwrap().message, message(now));
}

#[tokio::test]
async fn what_waits_in_the_tables_of_an_older_version_is_found() {
    let rig = Rig::new();
    let store = rig.start();
    queue_one(&store, rig.now()).await;
    drop(store);
    let older = Connection::open(rig.path()).unwrap();
    for table in sums::TABLES {
        let name = table.name;
        let sql = format!(
            "DROP TRIGGER {name}_sum_insert; DROP TRIGGER {name}_sum_update; \
             ALTER TABLE {name} DROP COLUMN sum"
        );
        older.execute_batch(&sql).unwrap();
    }
    older
        .execute_batch(
            "ALTER TABLE messages DROP COLUMN token; \
             DROP TRIGGER open_tunnels_insert; DROP TRIGGER open_tunnels_delete; \
             DROP TRIGGER open_tunnels_close; DROP TRIGGER open_tunnels_move; \
             DROP TABLE open_tunnels; ALTER TABLE tunnels DROP COLUMN owner; PRAGMA user_version = 2",
        )
        .unwrap();
    drop(older);
    let store = rig.start();
    let counted = "SELECT count FROM open_tunnels WHERE kind = 'thing' AND name = 'press-7'";
    assert_eq!(store.number(counted).await, 1);
    let start = SessionStart {
        clean: false,
        resumable: true,
        until: rig.now().steady.after(2 * HOUR),
    };
    let opened = Mailbox::open(&store, rig.now().steady, &thing(), start).await;
    let connection = opened.unwrap().connection;
    let queued = store.next(rig.now().steady, &thing(), connection).await;
    assert_eq!(queued.unwrap().unwrap().message, message(rig.now()));
    // What it has become is what this program makes, or the next start would refuse it.
    drop(store);
    rig.start();
}

#[tokio::test]
async fn after_a_clock_that_went_back_nothing_is_kept_for_longer_than_its_life() {
    let mut rig = Rig::new();
    let store = rig.start();
    queue_one(&store, rig.now()).await;
    drop(store);
    rig.clock = earlier(&rig.clock);
    let store = rig.start();
    let now = rig.now();
    assert_eq!(Mailbox::expire(&store, now.steady.after(HOUR)).await, Ok(1));
    let session = Mailbox::expire(&store, now.steady.after(2 * HOUR)).await;
    assert_eq!(session, Ok(1));
}

/// The clock of a next start, a day before.
fn earlier(clock: &ManualClock) -> ManualClock {
    clock.jump_wall(-86_400);
    clock.reboot();
    clock.clone()
}

#[tokio::test]
async fn the_audit_keeps_the_newest_records() {
    use crate::audit::{AuditLog, AuditSink, Change, Event, Record};
    use crate::store::relational::audit::{PRUNED_TOGETHER, RECORDS_MAX};

    const { assert!(RECORDS_MAX < 199_998 && 199_998 % PRUNED_TOGETHER != 0) };

    let rig = Rig::new();
    let store = rig.start();
    let record = |number: u64| {
        Arc::new(Record {
            time: crate::clock::Timestamp::from_millis(number),
            event: Event::Tunnel {
                id: "t".parse().unwrap(),
                change: Change::Opened,
            },
        })
    };
    store.append(record(1)).await.unwrap();
    store.append(record(2)).await.unwrap();
    let latest = store.latest(10).await.unwrap();
    assert_eq!(latest, [record(2).to_json(), record(1).to_json()]);
    // As if so many more had come.
    store
        .write("UPDATE sqlite_sequence SET seq = 199998 WHERE name = 'audit'")
        .await;
    for number in 3..3 + 2 * PRUNED_TOGETHER.unsigned_abs() {
        store.append(record(number)).await.unwrap();
    }
    let kept = store.number("SELECT min(sequence) FROM audit").await;
    assert_eq!(kept, 199_999);
}

const HOUR: Duration = Duration::from_secs(3_600);
