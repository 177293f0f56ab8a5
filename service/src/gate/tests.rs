//! The gate together with the control plane behind it, and a relay that only remembers.

mod timing;

use std::time::Duration;

use adit_proto::{AccessToken, Mode, TunnelId};
use tokio::sync::broadcast;

use super::*;
use crate::audit::{AuditLog, MemoryAudit};
use crate::clock::manual::ManualClock;
use crate::control::{ControlPlane, NewsReceiver, OpenTunnel, OpenedTunnel, RotatedSides, news};
use crate::store::troubled::TroubledStore;
use crate::store::{Change, Changes, MemoryStore, TunnelStore};
use crate::testing::{FakeRelay, PEER, asked, eventually, upgrade_request};
use crate::tunnels::{Lifetime, Limits, Rotation, Seen, Tags};

const A: Option<&str> = Some("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa");
const B: Option<&str> = Some("bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb");

struct Fixture {
    clock: ManualClock,
    gate: Arc<Gate<TroubledStore>>,
    control: Arc<ControlPlane<TroubledStore>>,
    relay: Arc<FakeRelay>,
    heard: NewsReceiver,
    store: Arc<TroubledStore>,
    audit: Arc<MemoryAudit>,
}

impl Fixture {
    fn new() -> Self {
        let clock = ManualClock::new();
        let store = Arc::new(TroubledStore::new(Limits::default()));
        let links = Arc::new(Links::default());
        let (told, heard) = news();
        let gate = Gate::new(
            Arc::clone(&store),
            Arc::clone(&links),
            told.clone(),
            clock.clock(),
        );
        let relay = Arc::new(FakeRelay::default());
        let audit = Arc::new(MemoryAudit::new(10_000));
        let control = ControlPlane::new(
            Arc::clone(&store),
            relay.clone(),
            None,
            links,
            told,
            clock.clock(),
        )
        .with_audit(Audit::none().with(Arc::clone(&audit)));
        Self {
            clock,
            gate: Arc::new(gate),
            control: Arc::new(control),
            relay,
            heard,
            store,
            audit,
        }
    }

    fn request(&self) -> OpenTunnel {
        OpenTunnel {
            description: None,
            tags: Tags::new(),
            config: None,
            lifetime: Lifetime::from_minutes(60).unwrap(),
            owner: None,
        }
    }

    async fn open(&self) -> OpenedTunnel {
        self.control.open(self.request()).await.unwrap()
    }

    async fn admit(
        &self,
        mode: Mode,
        token: &AccessToken,
        client_token: Option<&str>,
    ) -> Result<Grant, Denial> {
        let request = upgrade_request(mode, token.expose(), client_token);
        self.gate.admit(&request, PEER, "channel").await
    }

    async fn connect(&mut self, mode: Mode, token: &AccessToken, client: Option<&str>) -> Grant {
        let grant = self.admit(mode, token, client).await.unwrap();
        self.gate.connected(&grant);
        self.take_in().await;
        grant
    }

    /// What was reported so far.
    fn take_heard(&mut self) -> NewsReceiver {
        let (told, heard) = news();
        while let Ok((tunnel, news)) = self.heard.try_recv() {
            told.send(&tunnel, news);
        }
        heard
    }

    /// Lines of the audit that name this event, the oldest first.
    async fn audited(&self, event: &str) -> Vec<serde_json::Value> {
        let lines = self.audit.latest(10_000).await.unwrap();
        let lines = lines.iter().rev().map(|l| serde_json::from_str(l).unwrap());
        lines
            .filter(|line: &serde_json::Value| line["event"] == event)
            .collect()
    }

    /// Takes in every event that was reported so far.
    async fn take_in(&mut self) {
        let heard = self.take_heard();
        Arc::clone(&self.control).follow_news(heard).await;
    }

    async fn connected(&self, tunnel: &OpenedTunnel) -> (bool, bool) {
        let view = self.control.describe(&tunnel.id).await.unwrap();
        (view.source.connected, view.destination.connected)
    }
}

#[tokio::test]
async fn refusals_are_400_with_the_text_and_trouble_of_ours_is_503() {
    let fixture = Fixture::new();
    let tunnel = fixture.open().await;
    fixture
        .admit(Mode::Source, &tunnel.source, None)
        .await
        .unwrap();
    let denial_text = "Invalid access token: The access token was previously used and can not be \
                       used again.";
    let again = fixture.admit(Mode::Source, &tunnel.source, A).await;
    assert_eq!(
        again.unwrap_err(),
        Denial {
            status: 400,
            text: denial_text.to_owned()
        }
    );
    for odd in ["x", "a.b", &"x".repeat(60), &"x".repeat(3_000)] {
        let token = AccessToken::new(odd.to_owned()).unwrap();
        let denial = fixture.admit(Mode::Source, &token, A).await.unwrap_err();
        assert_eq!(
            (denial.status, denial.text.as_str()),
            (400, "Invalid access token")
        );
    }
    assert_eq!(denial(Refusal::Unavailable).status, 503);
}

#[tokio::test]
async fn links_that_come_and_go_show_in_the_description() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open().await;
    let source = fixture.connect(Mode::Source, &tunnel.source, A).await;
    assert_eq!(fixture.connected(&tunnel).await, (true, false));
    let destination = fixture
        .connect(Mode::Destination, &tunnel.destination, B)
        .await;
    assert_eq!(fixture.connected(&tunnel).await, (true, true));
    assert!(source.session < destination.session);
    fixture.gate.disconnected(&source);
    fixture.take_in().await;
    assert_eq!(fixture.connected(&tunnel).await, (false, true));
    assert!(fixture.relay.take_calls().is_empty());
}

#[tokio::test]
async fn a_stale_link_that_goes_does_not_disconnect_the_newer_one() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open().await;
    let old = fixture.connect(Mode::Source, &tunnel.source, A).await;
    let new = fixture.connect(Mode::Source, &tunnel.source, A).await;
    fixture.gate.disconnected(&old);
    fixture.take_in().await;
    assert_eq!(fixture.connected(&tunnel).await, (true, false));
    fixture.gate.disconnected(&new);
    fixture.take_in().await;
    assert_eq!(fixture.connected(&tunnel).await, (false, false));
    assert!(
        fixture.relay.take_calls().is_empty(),
        "the relay replaces links itself"
    );
}

#[tokio::test]
async fn closing_deleting_and_expiry_end_the_tunnel_at_the_relay() {
    let fixture = Fixture::new();
    let [closed, deleted, expired] = [
        fixture.open().await,
        fixture.open().await,
        fixture.open().await,
    ];
    fixture.control.close(&closed.id, false).await.unwrap();
    fixture.control.close(&deleted.id, true).await.unwrap();
    let ended = |tunnel: &OpenedTunnel| format!("end_tunnel {}", tunnel.id);
    assert_eq!(
        fixture.relay.take_calls(),
        [ended(&closed), ended(&deleted)]
    );
    fixture.clock.advance(Duration::from_secs(3600 - 1));
    let next = fixture.control.take_time().await;
    assert!(fixture.relay.take_calls().is_empty());
    let now = fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(next, now.steady);
    fixture.control.take_time().await;
    assert_eq!(fixture.relay.take_calls(), [ended(&expired)]);
    fixture.control.take_time().await;
    assert!(fixture.relay.take_calls().is_empty(), "told once");
}

#[tokio::test]
async fn the_end_of_a_tunnel_is_audited_once_and_its_removal_apart() {
    let fixture = Fixture::new();
    let audited = async |id: &TunnelId| {
        let mut lines = Vec::new();
        for event in ["TunnelClosed", "TunnelDeleted"] {
            for line in fixture.audited(event).await {
                if line["tunnelId"] == id.as_str() {
                    let by = line["by"].as_str().unwrap_or_default();
                    lines.push(format!("{event} {by}").trim_end().to_owned());
                }
            }
        }
        lines
    };
    let [closed, deleted, over] = [
        fixture.open().await,
        fixture.open().await,
        fixture.open().await,
    ];
    for _ in 0..2 {
        fixture.control.close(&closed.id, false).await.unwrap();
        assert_eq!(audited(&closed.id).await, ["TunnelClosed call"]);
    }
    fixture.control.close(&closed.id, true).await.unwrap();
    let lines = audited(&closed.id).await;
    assert_eq!(lines, ["TunnelClosed call", "TunnelDeleted"]);

    fixture.control.close(&deleted.id, true).await.unwrap();
    let lines = audited(&deleted.id).await;
    assert_eq!(lines, ["TunnelClosed deletion", "TunnelDeleted"]);

    // Nothing has come by when its lifetime was over, before a call did.
    fixture.clock.advance(Duration::from_secs(3600));
    fixture.control.close(&over.id, false).await.unwrap();
    fixture.control.take_time().await;
    assert_eq!(audited(&over.id).await, ["TunnelClosed timeout"]);
}

#[tokio::test]
async fn the_timer_never_naps_so_long_that_a_short_tunnel_ends_late() {
    let fixture = Fixture::new();
    let start = fixture.clock.now().steady;
    let nap = fixture.control.take_time().await.since(start);
    assert!(nap <= Duration::from_secs(30), "{nap:?}");
    let nap = fixture.control.take_ends().since(start);
    assert!(nap <= Duration::from_secs(30), "{nap:?}");
}

#[tokio::test]
async fn rotation_ends_the_rotated_sides_at_the_relay() {
    let fixture = Fixture::new();
    let tunnel = fixture.open().await;
    let source = format!("end_side {} source", tunnel.id);
    let destination = format!("end_side {} destination", tunnel.id);
    for (sides, calls) in [
        (RotatedSides::One(Mode::Source), vec![&source]),
        (RotatedSides::One(Mode::Destination), vec![&destination]),
        (RotatedSides::All, vec![&source, &destination]),
    ] {
        let tokens = fixture
            .control
            .rotate(&tunnel.id, sides, None, Seen::Anything)
            .await
            .unwrap();
        assert_eq!(fixture.relay.take_calls().iter().collect::<Vec<_>>(), calls);
        assert_eq!(tokens.source.is_some(), calls.contains(&&source));
        assert_eq!(tokens.destination.is_some(), calls.contains(&&destination));
    }
    fixture.control.close(&tunnel.id, false).await.unwrap();
    fixture.relay.take_calls();
    let refused = fixture
        .control
        .rotate(&tunnel.id, RotatedSides::All, None, Seen::Anything)
        .await;
    assert!(refused.is_err());
    assert!(
        fixture.relay.take_calls().is_empty(),
        "a refused rotation cuts nobody"
    );
}

#[tokio::test]
async fn a_link_that_lost_its_right_on_the_way_is_cut_on_arrival() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open().await;
    let late = fixture
        .admit(Mode::Source, &tunnel.source, A)
        .await
        .unwrap();
    let sides = RotatedSides::One(Mode::Source);
    let tokens = fixture
        .control
        .rotate(&tunnel.id, sides, None, Seen::Anything)
        .await
        .unwrap();
    fixture.relay.take_calls();
    fixture.gate.connected(&late);
    fixture.take_in().await;
    let expected = format!("end_side {} source", tunnel.id);
    assert_eq!(fixture.relay.take_calls(), [expected]);
    assert_eq!(fixture.connected(&tunnel).await, (false, false));

    let new_token = tokens.source.unwrap();
    let late = fixture.admit(Mode::Source, &new_token, A).await.unwrap();
    fixture.control.close(&tunnel.id, true).await.unwrap();
    fixture.relay.take_calls();
    fixture.gate.connected(&late);
    fixture.take_in().await;
    assert_eq!(
        fixture.relay.take_calls(),
        [format!("end_tunnel {}", tunnel.id)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixteen_handshakes_with_one_token_exactly_one_wins() {
    let fixture = Fixture::new();
    for round in 0..asked("ADIT_RACES", 1_000) {
        let tunnel = fixture.open().await;
        let barrier = Arc::new(tokio::sync::Barrier::new(16));
        let racers = (0..16).map(|racer| {
            // Even rounds: nobody has a client token. Odd ones: everybody has another.
            let client_token = (round % 2 == 1).then(|| format!("{round:016}-{racer:016}"));
            let token = tunnel.source.expose();
            let request = upgrade_request(Mode::Source, token, client_token.as_deref());
            let (gate, barrier) = (Arc::clone(&fixture.gate), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                gate.admit(&request, PEER, "channel").await.is_ok()
            })
        });
        let mut winners = 0;
        for racer in racers.collect::<Vec<_>>() {
            winners += usize::from(racer.await.unwrap());
        }
        assert_eq!(winners, 1, "round {round}");
        fixture.control.close(&tunnel.id, true).await.unwrap();
    }
}

#[tokio::test]
async fn no_guess_gets_in() {
    let fixture = Fixture::new();
    let tunnel = fixture.open().await;
    let good = tunnel.source.expose().as_bytes();
    let mut tried = 0;
    for index in 0..good.len() {
        for bit in 0..7 {
            let mut bytes = good.to_vec();
            bytes[index] ^= 1 << bit;
            let text = String::from_utf8(bytes).unwrap();
            let Ok(token) = AccessToken::new(text) else {
                continue;
            };
            if token.expose().contains([';', ',', ' ', '"']) {
                continue; // Cannot stand in a request.
            }
            let denial = fixture.admit(Mode::Source, &token, A).await.unwrap_err();
            assert_eq!(denial.text, "Invalid access token");
            tried += 1;
        }
    }
    assert!(tried > 300, "{tried}");
    fixture
        .admit(Mode::Source, &tunnel.source, A)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_timer_runs_by_itself() {
    let clock = Clock::system();
    let limits = Limits {
        retention: Duration::from_millis(200),
        ..Limits::default()
    };
    let relay = Arc::new(FakeRelay::default());
    let store = Arc::new(MemoryStore::new(limits));
    let control = ControlPlane::new(store, relay, None, Arc::default(), news().0, clock);
    let control = Arc::new(control);
    let request = OpenTunnel {
        description: None,
        tags: Tags::new(),
        config: None,
        lifetime: Lifetime::MAX,
        owner: None,
    };
    let opened = control.open(request).await.unwrap();
    control.close(&opened.id, false).await.unwrap();
    control.describe(&opened.id).await.unwrap();
    let timer = Arc::clone(&control);
    let timer = tokio::spawn(async move { timer.follow_time().await });
    let is_gone = async || control.describe(&opened.id).await.is_err();
    eventually("the closed tunnel is forgotten", is_gone).await;
    timer.abort();
}

#[tokio::test]
async fn what_another_node_took_the_right_from_is_cut() {
    let mut fixture = Fixture::new();
    let (rotated, closed, kept) = (
        fixture.open().await,
        fixture.open().await,
        fixture.open().await,
    );
    for tunnel in [&rotated, &closed, &kept] {
        fixture.connect(Mode::Source, &tunnel.source, A).await;
        // One client token, one tunnel.
        fixture
            .store
            .close(fixture.clock.now(), &tunnel.id, false)
            .await
            .ok();
    }
    // The store of all nodes has changed, and this node was not the one that did it.
    fixture.relay.take_calls();
    let change = Change::Tunnel(closed.id.clone());
    fixture.control.look_again(change);
    fixture.take_in().await;
    assert_eq!(
        fixture.relay.take_calls(),
        [format!("end_tunnel {}", closed.id)]
    );
    fixture.control.look_again(Change::Everything);
    fixture.take_in().await;
    let mut calls = fixture.relay.take_calls();
    calls.sort();
    let mut expected = [&rotated, &closed, &kept].map(|tunnel| format!("end_tunnel {}", tunnel.id));
    expected.sort();
    assert_eq!(calls, expected, "each that this node has a link of");
}

#[tokio::test]
async fn what_another_node_changes_before_somebody_looks_is_looked_at() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open().await;
    fixture.connect(Mode::Source, &tunnel.source, A).await;
    let now = fixture.clock.now();
    fixture.store.close(now, &tunnel.id, false).await.unwrap();
    let (other, changes) = broadcast::channel(1);
    let following = fixture.control.follow_changes(Changes::new(changes));
    other.send(Change::Tunnel(tunnel.id.clone())).unwrap();
    // It goes on for ever; what it has heard, it has looked at by now.
    let followed = tokio::time::timeout(Duration::ZERO, following).await;
    assert!(followed.is_err());
    fixture.take_in().await;
    let cut = format!("end_tunnel {}", tunnel.id);
    assert_eq!(fixture.relay.take_calls(), [cut]);
}

#[tokio::test]
async fn a_rotation_at_another_node_cuts_the_side_and_no_other() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open().await;
    fixture.connect(Mode::Source, &tunnel.source, A).await;
    fixture
        .connect(Mode::Destination, &tunnel.destination, B)
        .await;
    let rotation = Rotation {
        source: Some(TokenHash::of(&tunnel.destination)),
        destination: None,
        config: None,
        seen: Seen::Anything,
    };
    let now = fixture.clock.now();
    fixture
        .store
        .rotate(now, &tunnel.id, rotation)
        .await
        .unwrap();
    let change = Change::Side(tunnel.id.clone(), Mode::Source);
    fixture.control.look_again(change);
    fixture.take_in().await;
    let cut = format!("end_side {} source", tunnel.id);
    assert_eq!(fixture.relay.take_calls(), [cut]);
}

mod lost_answers;
mod news_of_links;
