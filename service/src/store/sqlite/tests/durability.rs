//! When changes are answered, and what a failing disk does to them.

use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// Keeps the thread that writes busy until it is dropped.
struct Held(#[expect(dead_code, reason = "dropping it lets go")] mpsc::Sender<()>);

async fn hold(store: &Arc<SqliteStore>) -> Held {
    let (release, released) = mpsc::channel::<()>();
    let (began, beginning) = tokio::sync::oneshot::channel();
    let held = Arc::clone(store);
    tokio::spawn(async move {
        let wait = move |_: &Connection| {
            let _ = began.send(());
            let _ = released.recv_timeout(Duration::from_secs(10));
            Ok(())
        };
        held.writer
            .change::<_, TunnelError, rusqlite::Error>(wait)
            .await
    });
    beginning.await.unwrap();
    Held(release)
}

#[tokio::test]
async fn nothing_is_answered_or_seen_before_it_is_durable() {
    let rig = Rig::new();
    let store = Arc::new(rig.start());
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    let held = hold(&store).await;
    let (task_store, task_tunnel, now) = (Arc::clone(&store), tunnel.clone(), rig.now());
    let admission =
        tokio::spawn(
            async move { spend(&task_store, now, &task_tunnel, Mode::Source, None).await },
        );
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!admission.is_finished());
    // A kill now loses the admission, which nobody was told of.
    let killed = rig.after_a_kill();
    let other = killed.start();
    spend(&other, rig.now(), &tunnel, Mode::Source, None)
        .await
        .unwrap();

    drop(held);
    admission.await.unwrap().unwrap();
    let killed = rig.after_a_kill();
    let other = killed.start();
    let again = spend(&other, rig.now(), &tunnel, Mode::Source, None).await;
    assert_eq!(again.unwrap_err(), Refusal::Used);
}

#[tokio::test]
async fn changes_that_come_together_share_a_commit() {
    let rig = Rig::new();
    let store = Arc::new(rig.start());
    // One page of the journal has one commit; without sharing there would be hundreds of them.
    let held = hold(&store).await;
    let mut opens = tokio::task::JoinSet::new();
    for number in 0..300 {
        let (store, now) = (Arc::clone(&store), rig.now());
        opens.spawn(async move { open(&store, now, &format!("t-{number}")).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let rows = store.number("SELECT count(*) FROM tunnels").await;
    assert_eq!(rows, 0, "not seen before it is durable");
    drop(held);
    let first = opens.join_next().await.unwrap().unwrap();
    first.unwrap();
    // Whoever was queued when the first was answered was committed with it.
    let rows = store.number("SELECT count(*) FROM tunnels").await;
    assert_eq!(rows, 300);
    assert!(opens.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_full_disk_refuses_changes_without_a_trace_until_there_is_room() {
    let rig = Rig::new();
    let store = rig.start();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    let bound = open(&store, rig.now(), "b").await.unwrap();
    // Each tunnel takes a good part of a page, so that there is soon no room for the next one.
    store.write("PRAGMA max_page_count = 1").await;
    let mut refused = None;
    let mut opened = Vec::new();
    for number in 0..1_000 {
        let (_, mut new) = prepare(&format!("fill-{number}"));
        new.description = Some("x".repeat(2_000).into());
        match store.open_tunnel(rig.now(), new).await {
            Ok(()) => opened.push(number),
            Err(error) => {
                refused = Some((number, error));
                break;
            }
        }
    }
    let (number, error) = refused.expect("the disk is full");
    assert_eq!(error, TunnelError::Unavailable);
    assert_eq!(
        store.is_open(rig.now(), &format!("fill-{number}")).await,
        None
    );
    assert_eq!(store.is_open(rig.now(), "a").await, Some(true));
    // It goes on refusing, and reading works.
    let (_, mut new) = prepare("one-more");
    new.description = Some("x".repeat(8_000).into());
    let again = store.open_tunnel(rig.now(), new.clone()).await;
    assert_eq!(again, Err(TunnelError::Unavailable));

    store.write("PRAGMA max_page_count = 4294967294").await;
    store.open_tunnel(rig.now(), new).await.unwrap();
    for tunnel in [&tunnel, &bound] {
        spend(&store, rig.now(), tunnel, Mode::Source, None)
            .await
            .unwrap();
    }
    let count = store.number("SELECT value FROM counters WHERE name = 'open'");
    assert_eq!(count.await, 3 + i64::try_from(opened.len()).unwrap());
}

#[tokio::test]
async fn a_transaction_that_is_lost_answers_nobody_with_success() {
    let rig = Rig::new();
    let store = Arc::new(rig.start());
    let held = hold(&store).await;
    let mut opens = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (store, now) = (Arc::clone(&store), rig.now());
        opens.spawn(async move { open(&store, now, &format!("t-{number}")).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let breaking = Arc::clone(&store);
    let broken = tokio::spawn(async move {
        // As a failure of the disk does it.
        let lose = |connection: &Connection| Ok(connection.execute_batch("ROLLBACK")?);
        breaking
            .writer
            .change::<_, TunnelError, rusqlite::Error>(lose)
            .await
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(held);
    assert_eq!(broken.await.unwrap(), Err(TunnelError::Unavailable));
    let answers = opens.join_all().await;
    assert!(
        answers
            .iter()
            .all(|answer| *answer == Err(TunnelError::Unavailable))
    );
    assert_eq!(store.number("SELECT count(*) FROM tunnels").await, 0);
    open(&store, rig.now(), "later").await.unwrap();
}

#[tokio::test]
async fn lifetimes_that_are_over_are_told_once_when_it_can_be_written() {
    let rig = Rig::new();
    let store = rig.start();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    // Somebody else writes, and does not end.
    let obstacle = Connection::open(rig.path()).unwrap();
    obstacle.execute_batch("BEGIN IMMEDIATE").unwrap();
    let now = rig.clock.advance(Duration::from_secs(720 * 60));
    for _ in 0..2 {
        let expired = store.expire(now).await;
        assert_eq!(expired.unwrap_err(), TunnelError::Unavailable);
        assert_eq!(store.is_open(now, "a").await, Some(false));
    }
    obstacle.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.expire(now).await.unwrap().ended, [tunnel.id]);
    assert!(store.expire(now).await.unwrap().ended.is_empty(), "once");
}

#[tokio::test]
async fn a_change_that_nobody_waits_for_any_more_is_not_made() {
    let rig = Rig::new();
    let store = Arc::new(rig.start());
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    let held = hold(&store).await;
    let soon = Duration::from_millis(50);
    let handshake = spend(&store, rig.now(), &tunnel, Mode::Source, None);
    assert!(tokio::time::timeout(soon, handshake).await.is_err());
    drop(held);
    let again = spend(&store, rig.now(), &tunnel, Mode::Source, None).await;
    again.expect("the token is still good");
}

#[tokio::test]
async fn whoever_is_refused_does_not_wait_for_the_disk() {
    let rig = Rig::new();
    let store = Arc::new(rig.start());
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    let (unknown, _) = prepare("never");
    let _held = hold(&store).await;
    let wrong = presented(Mode::Destination, &tunnel.source, None);
    let refused = store.spend_token(rig.now(), wrong).await;
    assert_eq!(refused.unwrap_err(), Refusal::WrongMode);
    let refused = spend(&store, rig.now(), &unknown, Mode::Source, None).await;
    assert_eq!(refused.unwrap_err(), Refusal::UnknownToken);
}

#[tokio::test]
async fn after_the_end_everything_is_refused_and_the_directory_is_free() {
    let rig = Rig::new();
    let store = rig.start();
    let tunnel = open(&store, rig.now(), "a").await.unwrap();
    store.shut_down().await;
    let late = store.close(rig.now(), &tunnel.id, false).await;
    assert_eq!(late, Err(TunnelError::Unavailable));
    let late = spend(&store, rig.now(), &tunnel, Mode::Source, None).await;
    assert_eq!(late.unwrap_err(), Refusal::Unavailable);
    assert_eq!(rig.start().is_open(rig.now(), "a").await, Some(true));
}
