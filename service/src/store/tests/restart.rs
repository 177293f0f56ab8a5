//! What a restart keeps, and what it does not.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::tunnels::{Connected, ListRequest};

fn shown(view: &TunnelView) -> String {
    format!("{view:?}")
}

#[tokio::test]
async fn everything_about_a_tunnel_is_there_again_except_who_is_connected() {
    let rig = Rig::new();
    let store = rig.start();
    let (a, mut new) = prepare("a");
    new.description = Some("quotes \" and \u{1f980}, \n and \\".into());
    new.tags = tags(&[("owner", "ops"), ("ünï", "")]);
    new.config = Some(DestinationConfig {
        thing: ThingName::new("press-7"),
        services: ["SSH", "HTTP"].map(|name| name.parse().unwrap()).into(),
    });
    new.lifetime = Lifetime::from_minutes(90).unwrap();
    store.open_tunnel(rig.now(), new).await.unwrap();
    rig.clock.advance(minutes(1));
    let admitted = spend(&store, rig.now(), Mode::Source, &a.source, Some("c"));
    let session = admitted.await.unwrap().session;
    let connected = store.set_connected(rig.now(), &a.id, Mode::Source, session);
    assert_eq!(connected.await.unwrap(), Connected::Current);
    let b = open(&store, rig.now(), "b").await.unwrap();
    rig.clock.advance(minutes(1));
    store.close_tunnel(rig.now(), &b.id, false).await.unwrap();
    let mut expected = store.describe(rig.now(), &a.id).await.unwrap();
    let expected_b = store.describe(rig.now(), &b.id).await.unwrap();
    drop(store);

    let store = rig.start();
    expected.source.connected = false;
    let restored = store.describe(rig.now(), &a.id).await.unwrap();
    assert_eq!(shown(&restored), shown(&expected));
    let restored_b = store.describe(rig.now(), &b.id).await.unwrap();
    assert_eq!(shown(&restored_b), shown(&expected_b));
    let request = ListRequest {
        thing: None,
        after: None,
        count: 10.try_into().unwrap(),
    };
    let page = store.list(rig.now(), request.clone()).await.unwrap();
    let ids: Vec<_> = page.tunnels.iter().map(|t| t.id.as_str()).collect();
    assert_eq!(ids, ["b", "a"], "in the order of their creation");
    let of_thing = ListRequest {
        thing: ThingName::new("press-7"),
        ..request
    };
    let page = store.list(rig.now(), of_thing).await.unwrap();
    assert_eq!(page.tunnels.len(), 1);
    // The one that was bound comes back; another does not get in with the token.
    let again = spend(&store, rig.now(), Mode::Source, &a.source, Some("c"));
    let again = again.await.unwrap();
    assert!(again.session > session);
    assert_eq!(again.services.len(), 2);
    let other = spend(&store, rig.now(), Mode::Source, &a.source, Some("d")).await;
    assert_eq!(other.unwrap_err(), Refusal::OtherClientToken);
    let taken = spend(
        &store,
        rig.now(),
        Mode::Destination,
        &a.destination,
        Some("c"),
    )
    .await;
    assert_eq!(taken.unwrap_err(), Refusal::ClientTokenTaken);
}

#[tokio::test]
async fn clients_that_come_back_need_no_write_and_get_higher_sessions_in_every_run() {
    let rig = Rig::new();
    let store = rig.start();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    let come = async |store: &MemoryStore| {
        let admitted = spend(store, rig.now(), Mode::Source, &tunnel.source, Some("c"));
        admitted.await.unwrap().session
    };
    let mut last = come(&store).await;
    drop(store);
    for _ in 0..3 {
        let store = rig.start();
        let written = rig.disk.written();
        for _ in 0..100 {
            let session = come(&store).await;
            assert!(session > last);
            last = session;
        }
        assert_eq!(rig.disk.written(), written);
    }
}

#[tokio::test]
async fn lifetimes_go_on_while_nothing_runs() {
    let rig = Rig::new();
    let store = rig.start();
    let (short, mut new) = prepare("short");
    new.lifetime = Lifetime::from_minutes(10).unwrap();
    store.open_tunnel(rig.now(), new).await.unwrap();
    let long = open(&store, rig.now(), "long").await.unwrap();
    let created = rig.now().wall;
    drop(store);

    rig.clock.advance(minutes(9));
    let store = rig.start();
    assert_eq!(store.status(rig.now(), &short.id).await, Some(Status::Open));
    rig.clock.advance(minutes(1));
    assert_eq!(
        store.status(rig.now(), &short.id).await,
        Some(Status::Closed)
    );
    let expired = store.expire(rig.now()).await.unwrap();
    assert_eq!(expired.ended, std::slice::from_ref(&short.id));
    drop(store);

    let fresh = rig.after_a_kill();
    fresh.clock.advance(minutes(60));
    let store = fresh.start();
    let view = store.describe(rig.now(), &short.id).await.unwrap();
    assert_eq!(view.summary.status, Status::Closed);
    let ended = created.millis() + 600_000;
    assert_eq!(
        view.summary.updated.millis(),
        ended,
        "not when it was noticed"
    );
    let expired = store.expire(rig.now()).await.unwrap();
    assert!(expired.ended.is_empty(), "closed at the start already");
    assert_eq!(store.status(rig.now(), &long.id).await, Some(Status::Open));
    let refused = spend(&store, rig.now(), Mode::Source, &short.source, None).await;
    assert_eq!(refused.unwrap_err(), Refusal::TunnelClosed);
    drop(store);
    // Three hours after it ended it is forgotten, whoever was running.
    fresh.clock.advance(minutes(121));
    let store = fresh.start();
    assert_eq!(store.status(rig.now(), &short.id).await, None);
}

#[tokio::test]
async fn a_clock_set_back_cannot_lengthen_a_lifetime_beyond_its_full_length() {
    let rig = Rig::new();
    let store = rig.start();
    let (tunnel, mut new) = prepare("a");
    new.lifetime = Lifetime::from_minutes(10).unwrap();
    store.open_tunnel(rig.now(), new).await.unwrap();
    drop(store);
    rig.clock.jump_wall(-1_000_000);
    let store = rig.start();
    assert_eq!(
        store.status(rig.now(), &tunnel.id).await,
        Some(Status::Open)
    );
    rig.clock.advance(minutes(10));
    assert_eq!(
        store.status(rig.now(), &tunnel.id).await,
        Some(Status::Closed)
    );
}

#[tokio::test]
async fn what_time_removes_leaves_the_disk_soon() {
    let rig = Rig::new();
    let store = rig.start();
    let (tunnel, mut new) = prepare("a");
    new.description = Some("of a customer".into());
    store.open_tunnel(rig.now(), new).await.unwrap();
    store
        .close_tunnel(rig.now(), &tunnel.id, false)
        .await
        .unwrap();
    assert!(
        fs::read_to_string(rig.path())
            .unwrap()
            .contains("of a customer")
    );
    rig.clock.advance(minutes(180));
    assert_eq!(store.expire(rig.now()).await.unwrap().forgotten, 1);
    store.shut_down().await;
    assert!(
        !fs::read_to_string(rig.path())
            .unwrap()
            .contains("of a customer")
    );
}

#[tokio::test]
async fn the_file_is_private_and_has_no_token_in_it() {
    let rig = Rig::new();
    let store = rig.start();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    let client = "my-client-token";
    spend(
        &store,
        rig.now(),
        Mode::Source,
        &tunnel.source,
        Some(client),
    )
    .await
    .unwrap();
    assert_eq!(fs::metadata(rig.path()).unwrap().mode() & 0o7777, 0o600);
    let text = fs::read_to_string(rig.path()).unwrap();
    for token in [&tunnel.source, &tunnel.destination] {
        assert!(!text.contains(&token.expose()[17..]));
    }
    assert!(!text.contains(client));
    serde_json::from_str::<serde_json::Value>(&text).expect("one JSON document");
    drop(store);
    fs::set_permissions(rig.path(), mode(0o644)).unwrap();
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
        let id = name.parse().unwrap();
        assert_eq!(store.status(rig.now(), &id).await, Some(Status::Open));
    }
    let refused = open(&store, rig.now(), "d").await.err().unwrap();
    assert!(matches!(refused, TunnelError::LimitExceeded { .. }));
}

fn mode(bits: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}
