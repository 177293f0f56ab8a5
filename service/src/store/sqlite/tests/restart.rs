//! What a restart keeps, and what it does not; clocks that moved meanwhile.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::*;
use crate::store::conformance::config;
use crate::tunnels::{Lifetime, Status};

const YEAR: i64 = 365 * 24 * 3600;

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

#[tokio::test]
async fn everything_about_a_tunnel_is_there_again_except_who_is_connected() {
    let rig = Rig::new();
    let store = rig.start();
    let (a, mut new) = prepare("a");
    new.description = Some("quotes \" and \u{1f980}, \n and \\".into());
    new.tags = [("owner", "ops"), ("ünï", "")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    new.config = Some(config(Some("press-7"), &["SSH", "HTTP"]));
    new.lifetime = Lifetime::from_minutes(90).unwrap();
    store.open_tunnel(rig.now(), new).await.unwrap();
    rig.clock.advance(minutes(1));
    let admitted = spend(&store, rig.now(), &a, Mode::Source, Some("c")).await;
    let session = admitted.unwrap().session;
    let connected = store.set_connected(rig.now(), &a.id, Mode::Source, session);
    assert_eq!(connected.await.unwrap(), Connected::Current);
    let b = open(&store, rig.now(), "b").await.unwrap();
    store.close(rig.now(), &b.id, false).await.unwrap();
    let mut expected = store.describe(rig.now(), &a.id).await.unwrap();
    let expected_b = store.describe(rig.now(), &b.id).await.unwrap();
    drop(store);

    rig.clock.reboot();
    let store = rig.start();
    assert!(expected.source.connected);
    expected.source.connected = false;
    let shown = |view: &TunnelView| format!("{view:?}");
    let restored = store.describe(rig.now(), &a.id).await.unwrap();
    assert_eq!(shown(&restored), shown(&expected));
    let restored = store.describe(rig.now(), &b.id).await.unwrap();
    assert_eq!(shown(&restored), shown(&expected_b));
    // The one that was bound comes back, as a newer one; another does not get in with the token.
    let again = spend(&store, rig.now(), &a, Mode::Source, Some("c")).await;
    assert!(again.unwrap().session > session);
    let other = spend(&store, rig.now(), &a, Mode::Source, Some("d")).await;
    assert_eq!(other.unwrap_err(), Refusal::OtherClientToken);
    let taken = spend(&store, rig.now(), &a, Mode::Destination, Some("c")).await;
    assert_eq!(taken.unwrap_err(), Refusal::ClientTokenTaken);
}

#[tokio::test]
async fn lifetimes_go_on_while_nothing_runs() {
    let rig = Rig::new();
    let store = rig.start();
    let (short, mut new) = prepare("short");
    new.lifetime = Lifetime::from_minutes(10).unwrap();
    store.open_tunnel(rig.now(), new).await.unwrap();
    open(&store, rig.now(), "long").await.unwrap();
    let created = rig.now().wall;
    drop(store);

    rig.clock.advance(minutes(60));
    rig.clock.reboot();
    let store = rig.start();
    assert_eq!(store.is_open(rig.now(), "short").await, Some(false));
    let expired = store.expire(rig.now()).await.unwrap();
    assert_eq!(expired.ended, std::slice::from_ref(&short.id));
    let view = store.describe(rig.now(), &short.id).await.unwrap();
    assert_eq!(view.summary.status, Status::Closed);
    let ended = created.after(minutes(10));
    assert_eq!(view.summary.updated, ended, "not when it was noticed");
    let refused = spend(&store, rig.now(), &short, Mode::Source, None).await;
    assert_eq!(refused.unwrap_err(), Refusal::TunnelClosed);
    assert_eq!(store.is_open(rig.now(), "long").await, Some(true));
    drop(store);
    // Three hours after it ended it is forgotten, whoever was running.
    rig.clock.advance(minutes(130));
    rig.clock.reboot();
    let store = rig.start();
    assert_eq!(store.expire(rig.now()).await.unwrap().forgotten, 1);
    assert_eq!(store.is_open(rig.now(), "short").await, None);
}

/// `a` is open for ten minutes, and `closed` is not.
async fn leave_one_open_and_one_closed(rig: &Rig) {
    let store = rig.start();
    let (_, mut new) = prepare("a");
    new.lifetime = Lifetime::from_minutes(10).unwrap();
    store.open_tunnel(rig.now(), new).await.unwrap();
    let closed = open(&store, rig.now(), "closed").await.unwrap();
    store.close(rig.now(), &closed.id, false).await.unwrap();
}

#[tokio::test]
async fn restarts_of_the_machine_under_a_clock_that_was_set_close_nothing_late_and_keep_nothing_for_ever()
 {
    for (jump, is_open) in [(3600, false), (-3600, true), (YEAR, false), (-YEAR, true)] {
        let rig = Rig::new();
        leave_one_open_and_one_closed(&rig).await;

        rig.clock.jump_wall(jump);
        rig.clock.reboot();
        let store = rig.start();
        let found = store.is_open(rig.now(), "a").await;
        assert_eq!(found, Some(is_open), "{jump}");
        // A clock set forward ends it now, which is safe; one set back gives its full length at most.
        rig.clock.advance(minutes(10));
        assert_eq!(store.is_open(rig.now(), "a").await, Some(false), "{jump}");
        while !store.expire(rig.now()).await.unwrap().ended.is_empty() {}
        rig.clock.advance(minutes(180));
        store.expire(rig.now()).await.unwrap();
        assert_eq!(store.is_open(rig.now(), "closed").await, None, "{jump}");
        assert_eq!(store.is_open(rig.now(), "a").await, None, "{jump}");
    }
}

#[tokio::test]
async fn restarts_of_the_service_under_a_clock_that_was_set_close_nothing_early_and_nothing_late() {
    for jump in [3600, -3600, YEAR, -YEAR] {
        let rig = Rig::new();
        rig.restart();
        leave_one_open_and_one_closed(&rig).await;

        rig.clock.advance(minutes(5));
        rig.clock.jump_wall(jump);
        rig.restart();
        let store = rig.start();
        let moment = Duration::from_millis(1);
        rig.clock.advance(minutes(5) - moment);
        assert_eq!(store.expire(rig.now()).await.unwrap().ended, [], "{jump}");
        assert_eq!(store.is_open(rig.now(), "a").await, Some(true), "{jump}");
        rig.clock.advance(moment);
        assert_eq!(store.is_open(rig.now(), "a").await, Some(false), "{jump}");
        rig.clock.advance(minutes(170) - moment);
        assert_eq!(store.expire(rig.now()).await.unwrap().forgotten, 0);
        rig.clock.advance(moment);
        assert_eq!(store.expire(rig.now()).await.unwrap().forgotten, 1);
        assert_eq!(store.is_open(rig.now(), "closed").await, None, "{jump}");
    }
}

#[tokio::test]
async fn sessions_are_higher_in_every_run() {
    let rig = Rig::new();
    let tunnel = open(&rig.start(), rig.now(), "a").await.unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let store = rig.start();
        for _ in 0..5 {
            let admitted = spend(&store, rig.now(), &tunnel, Mode::Source, Some("c")).await;
            let session = admitted.unwrap().session;
            assert!(session > last);
            last = session;
        }
    }
}

#[tokio::test]
async fn what_time_removes_leaves_the_disk() {
    let rig = Rig::new();
    let store = rig.start();
    let (tunnel, mut new) = prepare("a");
    new.description = Some("of a customer".into());
    store.open_tunnel(rig.now(), new).await.unwrap();
    store.close(rig.now(), &tunnel.id, false).await.unwrap();
    rig.clock.advance(minutes(180));
    assert_eq!(store.expire(rig.now()).await.unwrap().forgotten, 1);
    drop(store);
    let bytes = std::fs::read(rig.path()).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("of a customer"));
}

#[tokio::test]
async fn the_file_is_private_and_has_no_token_in_it() {
    let rig = Rig::new();
    let store = rig.start();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    let client = "my-client-token";
    spend(&store, rig.now(), &tunnel, Mode::Source, Some(client))
        .await
        .unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let path = rig
            .parent
            .path()
            .join(format!("{}{suffix}", database::FILE));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        for token in [&tunnel.source, &tunnel.destination] {
            assert!(!text.contains(&token.expose()[17..]), "{suffix}");
        }
        assert!(!text.contains(client), "{suffix}");
    }
    drop(store);
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(rig.path(), readable).unwrap();
    let refused = rig.try_start().err().unwrap().to_string();
    assert!(refused.contains("run: chmod 600 "), "{refused}");
}

#[tokio::test]
async fn fewer_tunnels_allowed_than_there_are_lose_none() {
    let mut rig = Rig::new();
    let store = rig.start();
    for name in ["a", "b", "c"] {
        open(&store, rig.now(), name).await.unwrap();
    }
    drop(store);
    rig.limits.open_tunnels_max = 2;
    let store = rig.start();
    for name in ["a", "b", "c"] {
        assert_eq!(store.is_open(rig.now(), name).await, Some(true));
    }
    let refused = open(&store, rig.now(), "d").await.err().unwrap();
    assert!(matches!(refused, TunnelError::LimitExceeded { .. }));
}
