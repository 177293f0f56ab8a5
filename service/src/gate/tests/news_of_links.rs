//! Links that come and go, many at a time, with a store that has its troubles.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;
use crate::store::troubled::Trouble;
use crate::tunnels::TunnelError;

impl Fixture {
    /// Starts to take in what was reported so far.
    fn begin_to_take_in(&mut self) -> tokio::task::JoinHandle<()> {
        let heard = self.take_heard();
        tokio::spawn(Arc::clone(&self.control).follow_news(heard))
    }

    async fn has_source(&self, tunnel: &OpenedTunnel) -> bool {
        self.connected(tunnel).await.0
    }
}

/// A client token of its own for each.
fn client(number: usize) -> String {
    format!("{number:032}")
}

#[tokio::test]
async fn a_tunnel_whose_record_is_not_answered_for_holds_up_no_other() {
    let mut fixture = Fixture::new();
    let (stuck, other) = (fixture.open().await, fixture.open().await);
    let (never, hold) = (Arc::new(Semaphore::new(0)), stuck.id.clone());
    let released = Arc::clone(&never);
    fixture.store.plan(move |name, id| {
        let never = Arc::clone(&never);
        match name == "set_connected" && *id == hold {
            true => Trouble::Later(Box::pin(
                async move { drop(never.acquire().await.unwrap()) },
            )),
            false => Trouble::None,
        }
    });
    for tunnel in [&stuck, &other] {
        let client = client(usize::from(tunnel.id == other.id));
        let grant = fixture
            .admit(Mode::Source, &tunnel.source, Some(&client))
            .await
            .unwrap();
        fixture.gate.connected(&grant);
    }
    let taking_in = fixture.begin_to_take_in();
    eventually("the other one is connected", async || {
        fixture.has_source(&other).await
    })
    .await;
    assert!(!fixture.has_source(&stuck).await);
    released.add_permits(1);
    taking_in.await.unwrap();
    assert!(fixture.has_source(&stuck).await);
}

/// What is under way in the store.
#[derive(Default)]
struct Watch {
    by_tunnel: Mutex<std::collections::HashSet<TunnelId>>,
    together: AtomicUsize,
    most: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_is_taken_in_many_at_a_time_and_in_order_for_each_tunnel() {
    const TUNNELS: usize = 600;
    let mut fixture = Fixture::new();
    let watch = Arc::new(Watch::default());
    let watched = Arc::clone(&watch);
    fixture.store.plan(move |name, id| {
        if !name.starts_with("set_") {
            return Trouble::None;
        }
        // Asked in the turn of the operation, and before any wait.
        let now = 1 + watched.together.fetch_add(1, Ordering::SeqCst);
        watched.most.fetch_max(now, Ordering::SeqCst);
        let alone = watched.by_tunnel.lock().unwrap().insert(id.clone());
        assert!(alone, "two changes of one tunnel at one time");
        let (watch, id) = (Arc::clone(&watched), id.clone());
        Trouble::Later(Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            watch.together.fetch_sub(1, Ordering::SeqCst);
            watch.by_tunnel.lock().unwrap().remove(&id);
        }))
    });
    let mut tunnels = Vec::new();
    for number in 0..TUNNELS {
        let tunnel = fixture.open().await;
        let client = client(number);
        // Twice, and in the end only every other one is there.
        for _ in 0..2 {
            let grant = fixture
                .admit(Mode::Source, &tunnel.source, Some(&client))
                .await
                .unwrap();
            fixture.gate.connected(&grant);
            fixture.gate.disconnected(&grant);
        }
        let grant = fixture
            .admit(Mode::Source, &tunnel.source, Some(&client))
            .await
            .unwrap();
        fixture.gate.connected(&grant);
        if number % 2 == 0 {
            fixture.gate.disconnected(&grant);
        }
        tunnels.push(tunnel);
    }
    fixture.take_in().await;
    for (number, tunnel) in tunnels.iter().enumerate() {
        assert_eq!(
            fixture.has_source(tunnel).await,
            number % 2 == 1,
            "{number}"
        );
    }
    assert_eq!(watch.most.load(Ordering::SeqCst), 256);
    assert_eq!(fixture.audited("SideConnected").await.len(), 3 * TUNNELS);
    let gone = fixture.audited("SideDisconnected").await.len();
    assert_eq!(gone, 2 * TUNNELS + TUNNELS / 2);
}

#[tokio::test]
async fn a_side_whose_link_is_replaced_is_connected_all_the_time() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open().await;
    let old = fixture.connect(Mode::Source, &tunnel.source, A).await;
    // The relay takes the older one out before it takes the new one in.
    let new = fixture
        .admit(Mode::Source, &tunnel.source, A)
        .await
        .unwrap();
    fixture.gate.disconnected(&old);
    fixture.take_in().await;
    assert!(fixture.has_source(&tunnel).await, "its successor is coming");
    fixture.gate.connected(&new);
    fixture.take_in().await;
    assert!(fixture.has_source(&tunnel).await);

    // A successor whose handshake is not finished is none.
    let never = fixture
        .admit(Mode::Source, &tunnel.source, A)
        .await
        .unwrap();
    fixture.gate.disconnected(&new);
    fixture.take_in().await;
    fixture.gate.disconnected(&never);
    fixture.take_in().await;
    assert!(!fixture.has_source(&tunnel).await);
    let gone = fixture.audited("SideDisconnected").await;
    let sessions: Vec<_> = gone.iter().map(|line| line["session"].as_u64()).collect();
    let expected = [&old, &new, &never].map(|grant| Some(grant.session));
    assert_eq!(sessions, expected, "the audit has each of them");
}

#[tokio::test]
async fn what_the_store_did_not_take_is_tried_again_and_audited_once() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open().await;
    let grant = fixture
        .admit(Mode::Source, &tunnel.source, A)
        .await
        .unwrap();
    let tried = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tried);
    fixture.store.plan(move |name, _| {
        let first = name == "set_connected" && count.fetch_add(1, Ordering::SeqCst) == 0;
        match first {
            true => Trouble::Refused(TunnelError::Unavailable),
            false => Trouble::None,
        }
    });
    fixture.clock.advance(Duration::from_secs(7));
    let reported = fixture.clock.now().wall;
    fixture.gate.connected(&grant);
    let taking_in = fixture.begin_to_take_in();
    eventually("it was tried", async || tried.load(Ordering::SeqCst) > 0).await;
    assert!(fixture.audited("SideConnected").await.is_empty());
    fixture.clock.advance(Duration::from_secs(7));
    taking_in.await.unwrap();
    assert!(fixture.has_source(&tunnel).await);
    let lines = fixture.audited("SideConnected").await;
    assert_eq!(lines.len(), 1);
    let seconds = |line: &serde_json::Value| line["time"].as_str().unwrap()[17..19].to_owned();
    let shown = reported.to_date_time().second();
    assert_eq!(seconds(&lines[0]), format!("{shown:02}"), "when it came");
}

#[tokio::test]
async fn a_damaged_record_is_given_up_at_once_and_its_links_are_cut() {
    let mut fixture = Fixture::new();
    let (damaged, sound) = (fixture.open().await, fixture.open().await);
    let tried = Arc::new(AtomicUsize::new(0));
    let (count, id) = (Arc::clone(&tried), damaged.id.clone());
    fixture.store.plan(move |name, of| {
        if !name.starts_with("set_") || *of != id {
            return Trouble::None;
        }
        count.fetch_add(1, Ordering::SeqCst);
        Trouble::Refused(TunnelError::Damaged)
    });
    let link = fixture
        .admit(Mode::Source, &damaged.source, A)
        .await
        .unwrap();
    fixture.gate.connected(&link);
    fixture.gate.disconnected(&link);
    fixture.connect(Mode::Source, &sound.source, B).await;
    assert_eq!(tried.load(Ordering::SeqCst), 2, "once for each event");
    assert_eq!(
        fixture.relay.take_calls(),
        [format!("end_tunnel {}", damaged.id)]
    );
    assert!(fixture.has_source(&sound).await);
}

#[tokio::test]
async fn links_are_cut_on_time_while_the_store_does_not_answer() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open().await;
    fixture.connect(Mode::Source, &tunnel.source, A).await;
    let control = Arc::clone(&fixture.control);
    let ends = tokio::spawn(async move { control.follow_ends().await });
    tokio::task::yield_now().await;
    // An hour on, nobody calls `take_time`: it is as if it hung.
    fixture.clock.advance(Duration::from_secs(3_600));
    let late = fixture.open().await;
    // What wakes the timer is a link that has less time than those before it.
    let links = [(&late, 2)].map(|(tunnel, session)| Grant {
        tunnel: tunnel.id.clone(),
        mode: Mode::Source,
        services: Arc::default(),
        session,
        bytes_per_second: None,
        connections_per_second: None,
    });
    let peer = Peer {
        address: PEER,
        channel_id: uuid::Uuid::nil(),
    };
    let soon = fixture
        .clock
        .now()
        .steady
        .before(Duration::from_secs(3_600));
    for grant in &links {
        fixture.gate.links.admitted(grant, soon, peer);
    }
    let mut calls = Vec::new();
    eventually("both are cut", async || {
        calls.extend(fixture.relay.take_calls());
        calls.len() == 2
    })
    .await;
    assert!(calls.contains(&format!("end_tunnel {}", tunnel.id)));
    ends.abort();
}
