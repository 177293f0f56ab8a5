//! The table of the control-plane specification, section 8.

use super::*;

/// What happened to the source's token before the handshake.
#[derive(Clone, Copy, Debug)]
enum Before {
    Unused,
    UsedWithoutClientToken,
    UsedWithA,
    Rotated,
    Closed,
    Expired,
    Deleted,
}

/// What the handshake presents.
#[derive(Clone, Copy, Debug)]
enum Shown {
    NoClientToken,
    ClientA,
    ClientB,
    /// A client token that another open tunnel is bound to.
    ClientTaken,
    /// The source's token, asking for the destination.
    WrongMode,
    /// A token of the right shape that was never given out.
    Forged,
}

async fn outcome(place: &impl Place, before: Before, shown: Shown) -> &'static str {
    use {Before::*, Shown::*};
    let fixture = Fixture::new(place).await;
    let other = fixture.open().await;
    fixture.connect(&other, Mode::Source, Some("taken")).await;
    let tunnel = fixture.try_open(None, 60).await.unwrap();
    match before {
        Unused => {}
        UsedWithoutClientToken => drop(fixture.connect(&tunnel, Mode::Source, None).await),
        UsedWithA => drop(fixture.connect(&tunnel, Mode::Source, Some("a")).await),
        Rotated => drop(
            fixture
                .rotate(&tunnel, &[Mode::Source], None)
                .await
                .unwrap(),
        ),
        Closed => fixture.close(&tunnel).await,
        // The timer has not come by: the deadline itself counts.
        Expired => drop(fixture.clock.advance(minutes(60))),
        Deleted => fixture
            .store
            .close(fixture.now(), &tunnel.id, true)
            .await
            .map(drop)
            .unwrap(),
    }
    let forged = mint(RoutingKey::of(&tunnel.id)).unwrap();
    let (mode, token, client_token) = match shown {
        NoClientToken => (Mode::Source, &tunnel.source, None),
        ClientA => (Mode::Source, &tunnel.source, Some("a")),
        ClientB => (Mode::Source, &tunnel.source, Some("b")),
        ClientTaken => (Mode::Source, &tunnel.source, Some("taken")),
        WrongMode => (Mode::Destination, &tunnel.source, Some("a")),
        Forged => (Mode::Source, &forged, Some("a")),
    };
    match fixture.spend(mode, token, client_token).await {
        Ok(_) => "admitted",
        Err(Refusal::UnknownToken) => "unknown",
        Err(Refusal::WrongMode) => "wrong mode",
        Err(Refusal::Used) => "used",
        Err(Refusal::OtherClientToken) => "other client",
        Err(Refusal::ClientTokenTaken) => "taken",
        Err(Refusal::TunnelClosed) => "closed",
        Err(Refusal::Unavailable) => "unavailable",
    }
}

pub(crate) async fn every_state_and_every_handshake_as_a_table(place: &impl Place) {
    use {Before::*, Shown::*};
    let columns = [
        NoClientToken,
        ClientA,
        ClientB,
        ClientTaken,
        WrongMode,
        Forged,
    ];
    let rows = [
        Unused,
        UsedWithoutClientToken,
        UsedWithA,
        Rotated,
        Closed,
        Expired,
        Deleted,
    ];
    let mut table = String::new();
    for before in rows {
        let mut cells = Vec::new();
        for shown in columns {
            cells.push(outcome(place, before, shown).await);
        }
        table += &format!("{before:?}: {}\n", cells.join(" | "));
    }
    assert_eq!(
        table,
        "\
Unused: admitted | admitted | admitted | taken | wrong mode | unknown
UsedWithoutClientToken: used | used | used | used | wrong mode | unknown
UsedWithA: other client | admitted | other client | other client | wrong mode | unknown
Rotated: unknown | unknown | unknown | unknown | unknown | unknown
Closed: closed | closed | closed | closed | closed | unknown
Expired: closed | closed | closed | closed | closed | unknown
Deleted: unknown | unknown | unknown | unknown | unknown | unknown
"
    );
}

#[test]
fn the_texts_are_those_that_clients_know() {
    assert_eq!(
        Refusal::Used.to_string(),
        "Invalid access token: The access token was previously used and can not be used again."
    );
    assert_eq!(
        Refusal::OtherClientToken.to_string(),
        "Invalid client token: The provided client token does not match the client token that was \
         previously set."
    );
    assert_eq!(Refusal::UnknownToken.to_string(), "Invalid access token");
    assert_eq!(Refusal::TunnelClosed.to_string(), "Tunnel is closed");
}

pub(crate) async fn a_refused_handshake_changes_nothing(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture.open().await;
    let first = fixture.connect(&tunnel, Mode::Destination, Some("a")).await;
    // A notification delivered twice: same access token, another client token.
    for client_token in [None, Some("b")] {
        let refused = fixture
            .spend(Mode::Destination, &tunnel.destination, client_token)
            .await;
        assert_eq!(refused.unwrap_err(), Refusal::OtherClientToken);
        assert!(fixture.is_connected(&tunnel, Mode::Destination).await);
    }
    // And "b" is not taken by the attempt.
    let other = fixture.open().await;
    fixture.connect(&other, Mode::Source, Some("b")).await;
    fixture
        .set_disconnected(&tunnel, Mode::Destination, first)
        .await;
    fixture.connect(&tunnel, Mode::Destination, Some("a")).await;
}

pub(crate) async fn both_sides_of_one_tunnel_need_their_own_client_token(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture.open().await;
    fixture.connect(&tunnel, Mode::Source, Some("a")).await;
    let refused = fixture
        .spend(Mode::Destination, &tunnel.destination, Some("a"))
        .await;
    assert_eq!(refused.unwrap_err(), Refusal::ClientTokenTaken);
    // The refusal did not use the token up.
    fixture.connect(&tunnel, Mode::Destination, None).await;
}

pub(crate) async fn a_client_token_is_free_again_when_its_tunnel_ends(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let closed = fixture.open().await;
    fixture.connect(&closed, Mode::Source, Some("a")).await;
    fixture.close(&closed).await;
    let deleted = fixture.open().await;
    fixture.connect(&deleted, Mode::Source, Some("a")).await;
    fixture
        .store
        .close(fixture.now(), &deleted.id, true)
        .await
        .unwrap();
    let expired = fixture.try_open(None, 1).await.unwrap();
    fixture.connect(&expired, Mode::Source, Some("a")).await;
    fixture.advance(minutes(1)).await;
    let last = fixture.open().await;
    fixture.connect(&last, Mode::Source, Some("a")).await;
}

pub(crate) async fn grants_carry_the_services_in_their_order(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture
        .try_open(Some(config(None, &["SSH", "HTTP", "A"])), 720)
        .await
        .unwrap();
    for mode in [Mode::Source, Mode::Destination] {
        let admitted = fixture.spend(mode, tunnel.token(mode), None).await.unwrap();
        let names: Vec<_> = admitted.services.iter().map(|s| s.as_str()).collect();
        assert_eq!(names, ["SSH", "HTTP", "A"]);
    }
    let bare = fixture.open().await;
    let admitted = fixture
        .spend(Mode::Source, &bare.source, None)
        .await
        .unwrap();
    assert!(admitted.services.is_empty());
}

pub(crate) async fn the_newer_connection_wins_in_every_order_of_events(place: &impl Place) {
    let source = Mode::Source;
    // Two admissions; then: c = connected, d = disconnected, of the old or the new session.
    for (events, connected) in [
        (&["c old", "c new", "d old"][..], true),
        (&["c old", "d old", "c new"], true),
        (&["c new", "c old", "d old"], true),
        (&["c old", "c new", "d old", "d new"], false),
        // The new one never got its 101: the old one lives on.
        (&["c old", "d new"], true),
        (&["c old", "d new", "d old"], false),
    ] {
        let fixture = Fixture::new(place).await;
        let tunnel = fixture.open().await;
        let old = fixture
            .spend(source, &tunnel.source, Some("a"))
            .await
            .unwrap();
        let new = fixture
            .spend(source, &tunnel.source, Some("a"))
            .await
            .unwrap();
        assert!(old.session < new.session);
        for event in events {
            let session = if event.ends_with("old") {
                old.session
            } else {
                new.session
            };
            if event.starts_with('c') {
                fixture.set_connected(&tunnel, source, session).await;
            } else {
                fixture.set_disconnected(&tunnel, source, session).await;
            }
        }
        assert_eq!(
            fixture.is_connected(&tunnel, source).await,
            connected,
            "{events:?}"
        );
    }
}

pub(crate) async fn a_connection_that_comes_late_is_reported(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let source = Mode::Source;
    let tunnel = fixture.open().await;
    let old = fixture
        .spend(source, &tunnel.source, Some("a"))
        .await
        .unwrap();
    let new = fixture
        .spend(source, &tunnel.source, Some("a"))
        .await
        .unwrap();
    let connected = async |session| fixture.set_connected(&tunnel, source, session).await;
    assert_eq!(connected(new.session).await, Connected::Current);
    assert_eq!(connected(old.session).await, Connected::Superseded);
    let rotated = fixture.rotate(&tunnel, &[source], None).await.unwrap();
    assert_eq!(connected(old.session).await, Connected::Revoked);
    assert!(!fixture.is_connected(&tunnel, source).await);
    let last = fixture
        .spend(source, &rotated.source, Some("a"))
        .await
        .unwrap();
    fixture.close(&tunnel).await;
    assert_eq!(connected(last.session).await, Connected::TunnelEnded);
    fixture
        .store
        .close(fixture.now(), &tunnel.id, true)
        .await
        .unwrap();
    assert_eq!(connected(last.session).await, Connected::TunnelEnded);
}
