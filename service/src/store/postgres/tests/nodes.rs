//! Several nodes on one database.

use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;
use crate::token::{RoutingKey, TokenHash, mint};

const SOURCE: Mode = Mode::Source;

async fn next(changes: &mut Changes) -> Change {
    let waiting = tokio::time::timeout(Duration::from_secs(10), changes.next());
    waiting.await.expect("a change is heard")
}

async fn admit(store: &PostgresStore, now: Now, tunnel: &Opened, client: &str) -> u64 {
    let presented = presented(SOURCE, &tunnel.source, Some(client));
    store.spend_token(now, presented).await.unwrap().session
}

async fn is_connected(store: &PostgresStore, now: Now, tunnel: &Opened) -> bool {
    let view = store.describe(now, &tunnel.id).await.unwrap();
    view.source.connected
}

#[tokio::test]
async fn a_node_hears_what_another_one_takes_the_right_from() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let (a, b) = (database.node(&clock).await, database.node(&clock).await);
    let (mut heard_by_a, mut heard_by_b) = (a.changes(), b.changes());
    let now = clock.now();
    let tunnel = open(&a, now, "t").await;
    let rotation = Rotation {
        source: Some(TokenHash::of(&mint(RoutingKey::of(&tunnel.id)).unwrap())),
        destination: None,
        config: None,
        seen: Seen::Anything,
    };
    a.rotate(now, &tunnel.id, rotation).await.unwrap();
    a.close(now, &tunnel.id, false).await.unwrap();
    a.close(now, &tunnel.id, true).await.unwrap();
    let expected = [
        Change::Side(tunnel.id.clone(), SOURCE),
        Change::Tunnel(tunnel.id.clone()),
        Change::Tunnel(tunnel.id.clone()),
    ];
    for change in expected {
        assert_eq!(next(&mut heard_by_b).await, change);
    }
    // A node does not hear itself.
    let other = open(&b, now, "other").await;
    b.close(now, &other.id, true).await.unwrap();
    assert_eq!(next(&mut heard_by_a).await, Change::Tunnel(other.id));
}

/// The machine of a node that has a link may have been paused since it was told when the tunnel ends.
#[tokio::test]
async fn a_node_that_has_a_link_hears_of_the_end_that_another_finds() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let (a, b) = (database.node(&clock).await, database.node(&clock).await);
    let mut heard_by_a = a.changes();
    let (linked, alone) = (
        open(&a, clock.now(), "t").await,
        open(&a, clock.now(), "u").await,
    );
    let session = admit(&a, clock.now(), &linked, "c").await;
    let connected = a.set_connected(clock.now(), &linked.id, SOURCE, session);
    assert_eq!(connected.await, Ok(Connected::Current));
    clock.advance(Duration::from_secs(12 * 60 * 60));
    let mut ended = b.expire(clock.now()).await.unwrap().ended;
    ended.sort();
    let mut both = [linked.id.clone(), alone.id];
    both.sort();
    assert_eq!(ended, both);
    assert_eq!(next(&mut heard_by_a).await, Change::Tunnel(linked.id));
    // Of the other one there was nothing to say.
    let third = open(&b, clock.now(), "v").await;
    b.close(clock.now(), &third.id, true).await.unwrap();
    assert_eq!(next(&mut heard_by_a).await, Change::Tunnel(third.id));
}

#[tokio::test]
async fn the_newer_link_wins_on_whichever_node_it_is() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let (a, b) = (database.node(&clock).await, database.node(&clock).await);
    let mut heard_by_a = a.changes();
    let now = clock.now();
    let tunnel = open(&a, now, "t").await;
    let first = admit(&a, now, &tunnel, "c").await;
    let connect = async |store: &PostgresStore, session| {
        let connected = store.set_connected(now, &tunnel.id, SOURCE, session);
        connected.await.unwrap()
    };
    assert_eq!(connect(&a, first).await, Connected::Current);
    let second = admit(&b, now, &tunnel, "c").await;
    assert!(second > first);
    assert_eq!(connect(&b, second).await, Connected::Current);
    assert_eq!(
        next(&mut heard_by_a).await,
        Change::Side(tunnel.id.clone(), SOURCE)
    );
    // Asked again, the older one has to go; its end changes nothing.
    assert_eq!(connect(&a, first).await, Connected::Moved);
    let gone = a.set_disconnected(now, &tunnel.id, SOURCE, first);
    gone.await.unwrap();
    assert!(is_connected(&a, now, &tunnel).await);
    assert_eq!(connect(&b, second).await, Connected::Current);
}

#[tokio::test]
async fn a_link_is_up_only_while_its_node_lives() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let (a, b) = (database.node(&clock).await, database.node(&clock).await);
    let now = clock.now();
    let tunnel = open(&a, now, "t").await;
    let session = admit(&a, now, &tunnel, "c").await;
    let connected = a.set_connected(now, &tunnel.id, SOURCE, session);
    assert_eq!(connected.await.unwrap(), Connected::Current);
    assert!(is_connected(&b, now, &tunnel).await);
    // Nothing was heard of it for a minute.
    database
        .run(&format!(
            "UPDATE nodes SET beat = beat - interval '1 minute' WHERE id = {}",
            a.begun.node.0
        ))
        .await;
    assert!(!is_connected(&b, now, &tunnel).await);
    // It only could not be heard.
    node::beat_once(&a.pool, &a.begun, &clock.clock())
        .await
        .unwrap();
    assert!(is_connected(&b, now, &tunnel).await);
    a.shut_down().await;
    assert!(!is_connected(&b, now, &tunnel).await, "at once");
    let late = a.describe(now, &tunnel.id).await;
    assert_eq!(late.unwrap_err(), TunnelError::Unavailable);
}

#[tokio::test]
async fn nodes_whose_clocks_disagree_agree_on_the_end_of_a_lifetime() {
    let Some(database) = Database::new() else {
        return;
    };
    let (of_a, of_b) = (ManualClock::new(), ManualClock::new());
    of_b.jump_wall(365 * 24 * 3600);
    of_b.reboot();
    let (a, b) = (database.node(&of_a).await, database.node(&of_b).await);
    let (tunnel, mut new) = prepare("t");
    new.lifetime = Lifetime::from_minutes(10).unwrap();
    a.open_tunnel(of_a.now(), new).await.unwrap();
    let minutes = |count: u64| Duration::from_secs(count * 60);
    for clock in [&of_a, &of_b] {
        clock.advance(minutes(9));
        clock.jump_wall(-3600);
    }
    assert_eq!(is_open(&a, of_a.now(), "t").await, Some(true));
    assert_eq!(is_open(&b, of_b.now(), "t").await, Some(true));
    let next = b.expire(of_b.now()).await.unwrap().next.unwrap();
    let left = next.since(of_b.now().steady);
    assert!(left <= minutes(1) + Duration::from_secs(30), "{left:?}");
    // The two were not opened in the same moment, which the test's clocks do not see.
    let (now_a, now_b) = (of_a.advance(minutes(2)), of_b.advance(minutes(2)));
    assert_eq!(is_open(&a, now_a, "t").await, Some(false));
    assert_eq!(is_open(&b, now_b, "t").await, Some(false));
    let (by_a, by_b) = tokio::join!(a.expire(now_a), b.expire(now_b));
    let ended = [by_a.unwrap().ended, by_b.unwrap().ended].concat();
    assert_eq!(ended, [tunnel.id], "by one of them");
}

#[tokio::test]
async fn a_node_whose_machine_was_paused_goes_on_with_the_time_of_the_others() {
    let Some(database) = Database::new() else {
        return;
    };
    let (of_a, of_b, of_c) = (ManualClock::new(), ManualClock::new(), ManualClock::new());
    let (a, b) = (database.node(&of_a).await, database.node(&of_b).await);
    let beat = async |node: &PostgresStore, clock: &ManualClock| {
        let clock = clock.clock();
        let beaten = node::beat_once(&node.pool, &node.begun, &clock);
        beaten.await.unwrap();
    };
    let agree = |(one, of_one): (&PostgresStore, &ManualClock), other: &PostgresStore| {
        let one = one.shared(of_one.now()).steady;
        let other = other.shared(of_b.now()).steady;
        let apart = one.since(other).max(other.since(one));
        assert!(apart < Duration::from_secs(20), "{apart:?}");
    };
    // Time that goes by for the others alone.
    of_b.advance(Duration::from_secs(300));
    beat(&b, &of_b).await;
    beat(&a, &of_a).await;
    agree((&a, &of_a), &b);
    let (_, mut new) = prepare("t");
    new.lifetime = Lifetime::from_minutes(1).unwrap();
    a.open_tunnel(of_a.now(), new).await.unwrap();
    assert_eq!(b.expire(of_b.now()).await.unwrap().ended, []);
    assert_eq!(is_open(&b, of_b.now(), "t").await, Some(true));
    // Nor does a node that starts take the time of one that was left behind.
    of_b.advance(Duration::from_secs(300));
    beat(&b, &of_b).await;
    let c = database.node(&of_c).await;
    agree((&c, &of_c), &b);
}

/// A time in milliseconds by the server, as if its clock had been set by so much.
async fn set_server_clock(database: &Database, by: i64) {
    // Where the time of day is asked for, this function is found before the server's own.
    let sql = format!(
        "CREATE OR REPLACE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
         $$ SELECT pg_catalog.clock_timestamp() + interval '{by} seconds' $$; \
         ALTER DATABASE {} SET search_path TO public, pg_catalog",
        database.name()
    );
    database.run(&sql).await;
}

async fn open_for_ten_minutes(store: &PostgresStore, clock: &ManualClock) {
    let (_, mut new) = prepare("t");
    new.lifetime = Lifetime::from_minutes(10).unwrap();
    store.open_tunnel(clock.now(), new).await.unwrap();
}

#[tokio::test]
async fn a_node_of_the_same_boot_has_the_time_of_before_whatever_the_server_says() {
    let minutes = |count: u64| Duration::from_secs(count * 60);
    for jump in [3600, -3600] {
        let Some(database) = Database::new() else {
            return;
        };
        let clock = ManualClock::new();
        let store = database.node(&clock).await;
        open_for_ten_minutes(&store, &clock).await;
        store.shut_down().await;
        set_server_clock(&database, jump).await;
        clock.advance(minutes(9));
        // One without a data directory has another steady time; the boot is the same.
        clock.begin_anew();
        let store = database.node(&clock).await;
        assert_eq!(
            is_open(&store, clock.now(), "t").await,
            Some(true),
            "{jump}"
        );
        let now = clock.advance(minutes(1));
        assert_eq!(is_open(&store, now, "t").await, Some(false), "{jump}");
    }
}

#[tokio::test]
async fn a_time_that_began_anew_is_that_of_every_machine() {
    let Some(database) = Database::new() else {
        return;
    };
    let (of_a, of_b) = (ManualClock::new(), ManualClock::new());
    let a = database.node(&of_a).await;
    a.shut_down().await;
    set_server_clock(&database, -7_200).await;
    let b = database.node(&of_b).await;
    open(&b, of_b.now(), "t").await;
    let ends = b.expire(of_b.now()).await.unwrap().next.unwrap();
    b.shut_down().await;
    let a = database.node(&of_a).await;
    let seen = a.expire(of_a.now()).await.unwrap().next.unwrap();
    let left = (ends.since(of_b.now().steady), seen.since(of_a.now().steady));
    assert!(
        left.0.abs_diff(left.1) < Duration::from_secs(60),
        "{left:?}"
    );
}

#[tokio::test]
async fn a_node_that_starts_again_goes_by_those_that_live_rather_than_by_its_boot() {
    let Some(database) = Database::new() else {
        return;
    };
    let (of_a, of_b) = (ManualClock::new(), ManualClock::new());
    let a = database.node(&of_a).await;
    let _b = database.node(&of_b).await;
    let before = a.shared(of_a.now()).steady;
    a.shut_down().await;
    // As if the machine of the first one had been paused for an hour.
    let paused = "UPDATE nodes SET steady_ms = steady_ms + 3600000";
    database.run(paused).await;
    let a = database.node(&of_a).await;
    let moved = a.shared(of_a.now()).steady.since(before);
    let hour = Duration::from_secs(3_600);
    assert!(moved.abs_diff(hour) < Duration::from_secs(60), "{moved:?}");
}

#[tokio::test]
async fn no_more_than_a_thousand_boots_are_remembered() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    database.node(&clock).await.shut_down().await;
    let others =
        "INSERT INTO boots (boot, booted_ms) SELECT n::text, 0 FROM generate_series(1, 2000) n";
    database.run(others).await;
    for _ in 0..2 {
        database.node(&clock).await.shut_down().await;
        let kept = database.number("SELECT count(*) FROM boots").await;
        assert_eq!(kept, 1000);
    }
}

#[tokio::test]
async fn the_first_node_after_a_while_gives_nothing_more_than_its_full_length() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let store = database.node(&clock).await;
    open_for_ten_minutes(&store, &clock).await;
    store.shut_down().await;
    // As after the server's clock was set back by a year.
    database
        .run("UPDATE tunnels SET deadline_ms = deadline_ms + 31536000000")
        .await;
    let store = database.node(&clock).await;
    assert_eq!(is_open(&store, clock.now(), "t").await, Some(true));
    let now = clock.advance(Duration::from_secs(600));
    assert_eq!(is_open(&store, now, "t").await, Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixteen_uses_of_a_token_on_two_nodes_one_wins() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let nodes = [database.node(&clock).await, database.node(&clock).await].map(Arc::new);
    let now = clock.now();
    for round in 0..50 {
        let tunnel = open(&nodes[round % 2], now, &format!("t-{round}")).await;
        let mut uses = JoinSet::new();
        for number in 0..16 {
            let store = Arc::clone(&nodes[number % 2]);
            let presented = presented(SOURCE, &tunnel.source, None);
            uses.spawn(async move { store.spend_token(now, presented).await });
        }
        let results = uses.join_all().await;
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "round {round}");
        let mut refused = results.into_iter().filter_map(Result::err);
        assert!(refused.all(|refusal| refusal == Refusal::Used));
    }
}

#[tokio::test]
async fn nodes_that_start_together_make_the_tables_once() {
    let Some(database) = Database::new() else {
        return;
    };
    let url = database.url().await;
    let mut starts = JoinSet::new();
    for _ in 0..4 {
        let url = url.clone();
        let clock = ManualClock::new().clock();
        starts.spawn(async move { PostgresStore::open(&url, Limits::default(), clock).await });
    }
    let nodes: Result<Vec<_>, _> = starts.join_all().await.into_iter().collect();
    let nodes = nodes.unwrap_or_else(|error| panic!("{error}"));
    let ids: std::collections::HashSet<_> = nodes.iter().map(|node| node.begun.node).collect();
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn a_damaged_record_keeps_no_other_open_and_is_forgotten_in_its_time() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let store = database.node(&clock).await;
    for name in ["damaged", "sound"] {
        open(&store, clock.now(), name).await;
    }
    database
        .run("UPDATE tunnels SET source_use = 7 WHERE id = 'damaged'")
        .await;
    let id = "damaged".parse().unwrap();
    let link = store.set_connected(clock.now(), &id, SOURCE, 1).await;
    assert_eq!(link.unwrap_err(), TunnelError::Damaged);
    let now = clock.advance(Duration::from_secs(720 * 60));
    let expired = store.expire(now).await.unwrap();
    assert_eq!(expired.ended, ["sound".parse().unwrap()]);
    let wrong =
        "SELECT count(*) FROM counters, tunnels WHERE name = 'open' AND (value <> 0 OR is_open)";
    assert_eq!(database.number(wrong).await, 0);
}

#[tokio::test]
async fn open_tunnels_of_an_older_version_are_counted() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let store = database.node(&clock).await;
    let (_, mut new) = prepare("old");
    new.owner = Some("KEY".into());
    new.config = Some(config(Some("lamp"), &["SSH"]));
    store.open_tunnel(clock.now(), new).await.unwrap();
    drop(store);
    database
        .run(
            "DROP TABLE boots, open_tunnels; DROP FUNCTION keep_open_tunnels CASCADE; \
             DROP FUNCTION count_open_tunnels; UPDATE adit_schema SET version = 4; \
             ALTER TABLE adit_schema DROP COLUMN notify_key; \
             CREATE INDEX tunnels_open_by_owner ON tunnels (owner); \
             CREATE INDEX tunnels_open_by_thing ON tunnels (thing)",
        )
        .await;
    let store = beside_a_slow_change(&database, database.node(&clock)).await;
    let sum = "SELECT sum(count)::bigint FROM open_tunnels";
    assert_eq!(database.number(sum).await, 2);
    database.check(&store).await;
}

/// Does this while a node of the version before has the row of a tunnel locked and has yet to change it.
async fn beside_a_slow_change<T>(database: &Database, this: impl Future<Output = T>) -> T {
    let (mut other, connection) = database
        .url()
        .await
        .config
        .connect(tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let change = async {
        let transaction = other.transaction().await.unwrap();
        let lock = "SELECT 1 FROM tunnels WHERE id = 'old' FOR UPDATE";
        transaction.execute(lock, &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let touch = "UPDATE tunnels SET updated_ms = updated_ms WHERE id = 'old'";
        transaction.execute(touch, &[]).await.unwrap();
        transaction.commit().await.unwrap();
    };
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        this.await
    };
    let ((), done) = tokio::join!(change, later);
    drop(other);
    connection.await.unwrap().unwrap();
    done
}

async fn open_of_key(store: &PostgresStore, now: Now) {
    let (_, mut new) = prepare("one");
    new.owner = Some("KEY".into());
    store.open_tunnel(now, new).await.unwrap();
}

#[tokio::test]
async fn wrong_counts_are_counted_again_when_no_node_lives() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let store = database.node(&clock).await;
    open_of_key(&store, clock.now()).await;
    store.shut_down().await;
    let spoil = "UPDATE open_tunnels SET count = 9; INSERT INTO open_tunnels VALUES ('key', 'GONE', 5); \
                 UPDATE counters SET value = -3 WHERE name IN ('open', 'closed')";
    database.run(spoil).await;
    let store = database.node(&clock).await;
    database.check(&store).await;
}

#[tokio::test]
async fn a_change_by_hand_is_counted_whatever_the_search_path() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    let store = database.node(&clock).await;
    open_of_key(&store, clock.now()).await;
    database
        .run("SET search_path TO pg_catalog; DELETE FROM public.tunnels")
        .await;
    let left = "SELECT count(*) FROM open_tunnels";
    assert_eq!(database.number(left).await, 0);
}
