//! When changes are answered, what they cost together, and what a failing disk does to them.

use tokio::task::JoinSet;

use super::*;
use crate::tunnels::Connected;

#[tokio::test]
async fn nothing_is_answered_or_seen_before_it_is_durable() {
    let rig = Rig::new();
    let store = rig.start();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    rig.disk.set(|disk| disk.held = true);
    let (task_store, token, now) = (Arc::clone(&store), tunnel.source.clone(), rig.now());
    let admission =
        tokio::spawn(async move { spend(&task_store, now, Mode::Source, &token, None).await });
    rig.disk.is_waiting().await;
    assert!(!admission.is_finished());
    // A kill now loses the admission, which nobody was told of.
    let killed = rig.after_a_kill();
    let other = killed.start();
    let again = spend(&other, rig.now(), Mode::Source, &tunnel.source, None);
    again.await.unwrap();

    rig.disk.set(|disk| disk.held = false);
    admission.await.unwrap().unwrap();
    let killed = rig.after_a_kill();
    let other = killed.start();
    let again = spend(&other, rig.now(), Mode::Source, &tunnel.source, None);
    assert_eq!(again.await.unwrap_err(), Refusal::Used);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixteen_simultaneous_uses_of_a_token_one_wins_and_lasts() {
    for round in 0..20 {
        let rig = Rig::new();
        let store = rig.start();
        let tunnel = open(&store, rig.now(), "a").await.unwrap();
        let mut uses = JoinSet::new();
        for _ in 0..16 {
            let (store, token, now) = (Arc::clone(&store), tunnel.source.clone(), rig.now());
            uses.spawn(async move { spend(&store, now, Mode::Source, &token, None).await });
        }
        let results = uses.join_all().await;
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "round {round}");
        let lost = |r: &Result<_, _>| matches!(r, Ok(_) | Err(Refusal::Used));
        assert!(results.iter().all(lost), "round {round}");
        let again = rig.after_a_kill().start();
        let again = spend(&again, rig.now(), Mode::Source, &tunnel.source, None).await;
        assert_eq!(again.unwrap_err(), Refusal::Used);
    }
}

#[tokio::test]
async fn two_hundred_simultaneous_changes_cost_few_writes() {
    let rig = Rig::new();
    let store = rig.start();
    let before = rig.disk.written();
    let mut opens = JoinSet::new();
    for number in 0..200 {
        let (store, now) = (Arc::clone(&store), rig.now());
        opens.spawn(async move {
            open(&store, now, &format!("t-{number}"))
                .await
                .map(|t| t.id)
        });
    }
    let ids: Result<Vec<_>, _> = opens.join_all().await.into_iter().collect();
    let writes = rig.disk.written() - before;
    assert!((1..=20).contains(&writes), "{writes} writes");
    let again = rig.after_a_kill().start();
    for id in ids.unwrap() {
        assert_eq!(again.status(rig.now(), &id).await, Some(Status::Open));
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_stored_has_not_happened_and_can_be_tried_again() {
    let rig = Rig::new();
    let store = rig.start();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    let bound = open(&store, rig.now(), "b").await.unwrap();
    let now = rig.now();
    spend(&store, now, Mode::Source, &bound.source, Some("c"))
        .await
        .unwrap();
    rig.disk.set(|disk| disk.full = true);

    let refused = open(&store, now, "new").await.err();
    assert_eq!(refused, Some(TunnelError::Unavailable));
    assert_eq!(store.status(now, &"new".parse().unwrap()).await, None);
    let (new_token, rotated) = rotate(&store, now, &tunnel.id, Mode::Source).await;
    assert_eq!(rotated, Err(TunnelError::Unavailable));
    let closed = store.close_tunnel(now, &tunnel.id, true).await;
    assert_eq!(closed, Err(TunnelError::Unavailable));
    assert_eq!(store.status(now, &tunnel.id).await, Some(Status::Open));
    let tagged = store.tag(&tunnel.id, tags(&[("k", "v")])).await;
    assert_eq!(tagged, Err(TunnelError::Unavailable));
    assert!(store.tags(&tunnel.id).await.unwrap().is_empty());
    for client in [None, Some("x")] {
        let spent = spend(&store, now, Mode::Source, &tunnel.source, client).await;
        assert_eq!(spent.unwrap_err(), Refusal::Unavailable);
    }
    // What needs no disk goes on: refusals, clients that come back, the end of a lifetime.
    let unknown = spend(&store, now, Mode::Source, &new_token, None).await;
    assert_eq!(unknown.unwrap_err(), Refusal::UnknownToken);
    let back = spend(&store, now, Mode::Source, &bound.source, Some("c"));
    back.await.unwrap();

    rig.disk.set(|disk| disk.full = false);
    spend(&store, now, Mode::Source, &tunnel.source, None)
        .await
        .unwrap();
    store.close_tunnel(now, &tunnel.id, false).await.unwrap();
    let again = rig.after_a_kill().start();
    assert_eq!(again.status(now, &tunnel.id).await, Some(Status::Closed));
}

#[tokio::test]
async fn lifetimes_end_on_a_full_disk_too() {
    let rig = Rig::new();
    let store = rig.start();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    rig.disk.set(|disk| disk.full = true);
    let now = rig.clock.advance(minutes(720));
    let expired = store.expire(now).await.unwrap();
    assert_eq!(expired.ended, std::slice::from_ref(&tunnel.id));
    assert!(store.expire(now).await.unwrap().ended.is_empty(), "once");
    let again = rig.after_a_kill().start();
    assert_eq!(again.status(now, &tunnel.id).await, Some(Status::Closed));
}

#[tokio::test]
async fn what_happens_during_a_write_is_not_lost_by_it() {
    let rig = Rig::new();
    let store = rig.start();
    let (short, mut new) = prepare("short");
    new.lifetime = Lifetime::from_minutes(1).unwrap();
    store.open_tunnel(rig.now(), new).await.unwrap();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    let mut sessions = Vec::new();
    for mode in [Mode::Source, Mode::Destination] {
        let admitted = spend(&store, rig.now(), mode, tunnel.token(mode), None);
        sessions.push(admitted.await.unwrap().session);
    }
    rig.disk.set(|disk| disk.held = true);
    let (task_store, now, id) = (Arc::clone(&store), rig.now(), tunnel.id.clone());
    let rotation = async move { rotate(&task_store, now, &id, Mode::Destination).await };
    let rotation = tokio::spawn(rotation);
    rig.disk.is_waiting().await;
    let now = rig.clock.advance(minutes(1));
    for (mode, session) in [
        (Mode::Source, sessions[0]),
        (Mode::Destination, sessions[1]),
    ] {
        let connected = store.set_connected(now, &tunnel.id, mode, session).await;
        assert_eq!(connected.unwrap(), Connected::Current);
    }
    assert_eq!(store.expire(now).await.unwrap().ended.len(), 1);
    rig.disk.set(|disk| disk.held = false);
    rotation.await.unwrap().1.unwrap();

    let view = store.describe(now, &tunnel.id).await.unwrap();
    assert!(view.source.connected);
    assert!(
        !view.destination.connected,
        "its token was rotated meanwhile"
    );
    assert!(store.expire(now).await.unwrap().ended.is_empty());
    assert_eq!(store.status(now, &short.id).await, Some(Status::Closed));
}

#[tokio::test]
async fn a_client_that_comes_back_during_a_rotation_does_not_slip_through() {
    let rig = Rig::new();
    let store = rig.start();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    let now = rig.now();
    spend(&store, now, Mode::Source, &tunnel.source, Some("c"))
        .await
        .unwrap();
    rig.disk.set(|disk| disk.held = true);
    let (task_store, id) = (Arc::clone(&store), tunnel.id.clone());
    let rotation = tokio::spawn(async move { rotate(&task_store, now, &id, Mode::Source).await });
    rig.disk.is_waiting().await;
    let (task_store, token) = (Arc::clone(&store), tunnel.source.clone());
    let back =
        tokio::spawn(async move { spend(&task_store, now, Mode::Source, &token, Some("c")).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!back.is_finished());
    rig.disk.set(|disk| disk.held = false);
    rotation.await.unwrap().1.unwrap();
    assert_eq!(back.await.unwrap().unwrap_err(), Refusal::UnknownToken);
}

#[tokio::test]
async fn a_change_that_nobody_waits_for_any_more_is_not_made() {
    let rig = Rig::new();
    let store = rig.start();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    let now = rig.now();
    rig.disk.set(|disk| disk.held = true);
    let task_store = Arc::clone(&store);
    let other = tokio::spawn(async move { open(&task_store, now, "b").await.map(|t| t.id) });
    rig.disk.is_waiting().await;
    let handshake = spend(&store, now, Mode::Source, &tunnel.source, None);
    let soon = Duration::from_millis(20);
    assert!(tokio::time::timeout(soon, handshake).await.is_err());
    rig.disk.set(|disk| disk.held = false);
    other.await.unwrap().unwrap();
    let again = spend(&store, now, Mode::Source, &tunnel.source, None);
    again.await.expect("the token is still good");
}

#[tokio::test]
async fn a_real_directory_that_cannot_be_written_recovers_too() {
    let rig = Rig::new();
    let dir = Arc::new(DataDir::open(rig.parent.path()).unwrap());
    let store = MemoryStore::in_dir(dir, Limits::default(), rig.now()).unwrap();
    // In the way of the temporary file; works for root as well, whom modes do not stop.
    let obstacle = rig.parent.path().join(".tunnels.json.new");
    fs::create_dir(&obstacle).unwrap();
    let refused = open(&store, rig.now(), "a").await.err();
    assert_eq!(refused, Some(TunnelError::Unavailable));
    fs::remove_dir(&obstacle).unwrap();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    store.shut_down().await;
    // The directory is free, and what comes later is refused instead of waiting for ever.
    let late = store.close_tunnel(rig.now(), &tunnel.id, false).await;
    assert_eq!(late, Err(TunnelError::Unavailable));
    let again = rig.start();
    assert_eq!(
        again.status(rig.now(), &tunnel.id).await,
        Some(Status::Open)
    );
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_at_the_start_is_refused_then() {
    let rig = Rig::new();
    rig.disk.set(|disk| disk.full = true);
    let text = rig.try_start().err().unwrap().to_string();
    assert!(text.starts_with("cannot write /"), "{text}");
    assert!(text.contains("/tunnels.json: "), "{text}");
}
