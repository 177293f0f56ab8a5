//! What becomes of links when the store did not say whether it has made a change.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::control::ControlError;
use crate::store::troubled::Trouble;
use crate::tunnels::{Seen, TunnelError};

impl Fixture {
    /// Loses the answer to this operation once; and asked what became of it, the store does not answer when
    /// it is `away`.
    fn lose(&self, operation: &'static str, away: bool) {
        let lost = AtomicBool::new(false);
        self.store.plan(move |name, _| {
            if name == operation && !lost.swap(true, Ordering::SeqCst) {
                return Trouble::Lost(TunnelError::Uncertain);
            }
            match away && (name == operation || name == "has_token") {
                true => Trouble::Refused(TunnelError::Uncertain),
                false => Trouble::None,
            }
        });
    }
}

impl Fixture {
    /// So many times nothing has come of this operation when its answer is given up.
    fn uncertain(&self, operation: &'static str, mut times: usize) {
        self.store.plan(move |name, _| {
            if name != operation || times == 0 {
                return Trouble::None;
            }
            times -= 1;
            Trouble::Refused(TunnelError::Uncertain)
        });
    }
}

fn is_uncertain<T>(result: Result<T, ControlError>) -> bool {
    matches!(result, Err(ControlError::Tunnel(TunnelError::Uncertain)))
}

#[tokio::test]
async fn a_close_whose_answer_is_lost_cuts_and_is_audited_once() {
    for delete in [false, true] {
        let mut fixture = Fixture::new();
        let tunnel = fixture.open().await;
        fixture.connect(Mode::Source, &tunnel.source, A).await;
        fixture.lose("close", false);
        fixture.control.close(&tunnel.id, delete).await.unwrap();
        let cut = format!("end_tunnel {}", tunnel.id);
        assert_eq!(fixture.relay.take_calls(), [cut]);
        assert_eq!(fixture.audited("TunnelClosed").await.len(), 1);
    }
}

#[tokio::test]
async fn a_close_that_nothing_is_heard_of_cuts_as_soon_as_the_store_can_be_asked() {
    for delete in [false, true] {
        let mut fixture = Fixture::new();
        let tunnel = fixture.open().await;
        fixture.connect(Mode::Source, &tunnel.source, A).await;
        fixture.lose("close", true);
        let closed = fixture.control.close(&tunnel.id, delete).await;
        assert!(is_uncertain(closed));
        assert!(fixture.audited("TunnelClosed").await.is_empty());
        fixture.take_in().await;
        let cut = format!("end_tunnel {}", tunnel.id);
        assert_eq!(fixture.relay.take_calls(), [cut]);
    }
}

#[tokio::test]
async fn a_deletion_that_is_repeated_cuts_again() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open().await;
    fixture.connect(Mode::Source, &tunnel.source, A).await;
    // Deleted by a process that ended before it cut anybody.
    let now = fixture.clock.now();
    fixture.store.close(now, &tunnel.id, true).await.unwrap();
    let again = fixture.control.close(&tunnel.id, true).await;
    assert!(matches!(
        again,
        Err(ControlError::Tunnel(TunnelError::NotFound(_)))
    ));
    let cut = format!("end_tunnel {}", tunnel.id);
    assert_eq!(fixture.relay.take_calls(), [cut]);
    assert!(fixture.audited("TunnelClosed").await.is_empty());
}

#[tokio::test]
async fn a_rotation_whose_answer_is_lost_is_carried_on_when_it_was_made() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open().await;
    let old = fixture.connect(Mode::Source, &tunnel.source, A).await;
    fixture.lose("rotate", false);
    let sides = RotatedSides::One(Mode::Source);
    let tokens = fixture
        .control
        .rotate(&tunnel.id, sides, None, Seen::Anything)
        .await;
    let cut = format!("end_side {} source", tunnel.id);
    assert_eq!(fixture.relay.take_calls(), std::slice::from_ref(&cut));
    assert_eq!(fixture.audited("TokenRotated").await.len(), 1);
    let token = tokens.unwrap().source.unwrap();
    fixture.gate.disconnected(&old);
    fixture.connect(Mode::Source, &token, A).await;

    fixture.lose("rotate", true);
    let rotated = fixture
        .control
        .rotate(&tunnel.id, sides, None, Seen::Anything)
        .await;
    assert!(is_uncertain(rotated));
    assert_eq!(fixture.audited("TokenRotated").await.len(), 1);
    fixture.take_in().await;
    assert_eq!(fixture.relay.take_calls(), [cut]);
}

#[tokio::test]
async fn a_tunnel_whose_opening_was_not_confirmed_is_opened_when_it_is_there() {
    let fixture = Fixture::new();
    fixture.lose("open_tunnel", false);
    let tunnel = fixture.open().await;
    fixture
        .admit(Mode::Source, &tunnel.source, A)
        .await
        .unwrap();
    assert_eq!(fixture.audited("TunnelOpened").await.len(), 1);
}

/// Whoever asks for the token sees nothing of a tunnel that is still on its way into the store.
#[tokio::test]
async fn a_tunnel_that_is_not_there_yet_is_not_taken_for_one_that_will_not_be() {
    let fixture = Fixture::new();
    let open = || async {
        let control = &fixture.control;
        control.open(fixture.request()).await
    };
    fixture.uncertain("open_tunnel", 1);
    open().await.unwrap();
    assert_eq!(fixture.audited("TunnelOpened").await.len(), 1);
    fixture.uncertain("open_tunnel", 2);
    assert!(is_uncertain(open().await));
}

#[tokio::test]
async fn a_tunnel_that_the_store_is_slow_about_holds_up_no_other() {
    let fixture = Fixture::new();
    let slow = fixture.open().await.id;
    let mut others = Vec::new();
    for _ in 0..64 {
        others.push(fixture.open().await.id);
    }
    let (go, going) = oneshot::channel::<()>();
    let (held, mut going) = (slow.clone(), Some(going));
    fixture
        .store
        .plan(move |_, id| match going.take_if(|_| *id == held) {
            Some(going) => Trouble::Later(Box::pin(async move { going.await.unwrap() })),
            None => Trouble::None,
        });
    let (control, id) = (Arc::clone(&fixture.control), slow.clone());
    let closing = tokio::spawn(async move { control.close(&id, false).await });
    tokio::task::yield_now().await;
    let close = async |id| {
        let closed = timeout(Duration::from_secs(30), fixture.control.close(id, false));
        closed.await.expect("an answer in time")
    };
    for other in &others {
        close(other).await.unwrap();
    }
    // Who asks about the same one is not kept for as long as it takes.
    let refused = close(&slow).await;
    assert!(matches!(
        refused,
        Err(ControlError::Tunnel(TunnelError::Unavailable))
    ));
    go.send(()).unwrap();
    closing.await.unwrap().unwrap();
    close(&slow).await.unwrap();
}
