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

fn outcome(before: Before, shown: Shown) -> &'static str {
    use {Before::*, Shown::*};
    let mut fixture = Fixture::new();
    let other = fixture.open();
    fixture.connect(&other, Mode::Source, Some("taken"));
    let tunnel = fixture.try_open(None, 60).unwrap();
    match before {
        Unused => {}
        UsedWithoutClientToken => drop(fixture.connect(&tunnel, Mode::Source, None)),
        UsedWithA => drop(fixture.connect(&tunnel, Mode::Source, Some("a"))),
        Rotated => drop(fixture.rotate(&tunnel, &[Mode::Source], None).unwrap()),
        Closed => fixture.close(&tunnel),
        // The timer has not come by: the deadline itself counts.
        Expired => drop(fixture.clock.advance(minutes(60))),
        Deleted => fixture
            .tunnels
            .close(fixture.now(), &tunnel.id, true)
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
    match fixture.spend(mode, token, client_token) {
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

#[test]
fn every_state_and_every_handshake_as_a_table() {
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
        let cells = columns.map(|shown| outcome(before, shown));
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

#[test]
fn a_refused_handshake_changes_nothing() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open();
    let first = fixture.connect(&tunnel, Mode::Destination, Some("a"));
    // A notification delivered twice: same access token, another client token.
    for client_token in [None, Some("b")] {
        let refused = fixture.spend(Mode::Destination, &tunnel.destination, client_token);
        assert_eq!(refused.unwrap_err(), Refusal::OtherClientToken);
        assert!(fixture.is_connected(&tunnel, Mode::Destination));
    }
    // And "b" is not taken by the attempt.
    let other = fixture.open();
    fixture.connect(&other, Mode::Source, Some("b"));
    fixture.set_disconnected(&tunnel, Mode::Destination, first);
    fixture.connect(&tunnel, Mode::Destination, Some("a"));
}

#[test]
fn both_sides_of_one_tunnel_need_their_own_client_token() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open();
    fixture.connect(&tunnel, Mode::Source, Some("a"));
    let refused = fixture.spend(Mode::Destination, &tunnel.destination, Some("a"));
    assert_eq!(refused.unwrap_err(), Refusal::ClientTokenTaken);
    // The refusal did not use the token up.
    fixture.connect(&tunnel, Mode::Destination, None);
}

#[test]
fn a_client_token_is_free_again_when_its_tunnel_ends() {
    let mut fixture = Fixture::new();
    let closed = fixture.open();
    fixture.connect(&closed, Mode::Source, Some("a"));
    fixture.close(&closed);
    let deleted = fixture.open();
    fixture.connect(&deleted, Mode::Source, Some("a"));
    fixture
        .tunnels
        .close(fixture.now(), &deleted.id, true)
        .unwrap();
    let expired = fixture.try_open(None, 1).unwrap();
    fixture.connect(&expired, Mode::Source, Some("a"));
    fixture.advance(minutes(1));
    let last = fixture.open();
    fixture.connect(&last, Mode::Source, Some("a"));
}

#[test]
fn grants_carry_the_services_in_their_order() {
    let mut fixture = Fixture::new();
    let tunnel = fixture
        .try_open(Some(config(None, &["SSH", "HTTP", "A"])), 720)
        .unwrap();
    for mode in [Mode::Source, Mode::Destination] {
        let admitted = fixture.spend(mode, tunnel.token(mode), None).unwrap();
        let names: Vec<_> = admitted.services.iter().map(|s| s.as_str()).collect();
        assert_eq!(names, ["SSH", "HTTP", "A"]);
    }
    let bare = fixture.open();
    let admitted = fixture.spend(Mode::Source, &bare.source, None).unwrap();
    assert!(admitted.services.is_empty());
}

#[test]
fn the_newer_connection_wins_in_every_order_of_events() {
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
        let mut fixture = Fixture::new();
        let tunnel = fixture.open();
        let old = fixture.spend(source, &tunnel.source, Some("a")).unwrap();
        let new = fixture.spend(source, &tunnel.source, Some("a")).unwrap();
        assert!(old.session < new.session);
        for event in events {
            let session = if event.ends_with("old") {
                old.session
            } else {
                new.session
            };
            if event.starts_with('c') {
                fixture.set_connected(&tunnel, source, session);
            } else {
                fixture.set_disconnected(&tunnel, source, session);
            }
        }
        assert_eq!(
            fixture.is_connected(&tunnel, source),
            connected,
            "{events:?}"
        );
    }
}

#[test]
fn a_connection_that_comes_late_is_reported() {
    let mut fixture = Fixture::new();
    let source = Mode::Source;
    let tunnel = fixture.open();
    let old = fixture.spend(source, &tunnel.source, Some("a")).unwrap();
    let new = fixture.spend(source, &tunnel.source, Some("a")).unwrap();
    let connected =
        |fixture: &mut Fixture, session| fixture.set_connected(&tunnel, source, session);
    assert_eq!(connected(&mut fixture, new.session), Connected::Current);
    assert_eq!(connected(&mut fixture, old.session), Connected::Superseded);
    let rotated = fixture.rotate(&tunnel, &[source], None).unwrap();
    assert_eq!(connected(&mut fixture, old.session), Connected::Revoked);
    assert!(!fixture.is_connected(&tunnel, source));
    let last = fixture.spend(source, &rotated.source, Some("a")).unwrap();
    fixture.close(&tunnel);
    assert_eq!(
        connected(&mut fixture, last.session),
        Connected::TunnelEnded
    );
    fixture
        .tunnels
        .close(fixture.now(), &tunnel.id, true)
        .unwrap();
    assert_eq!(
        connected(&mut fixture, last.session),
        Connected::TunnelEnded
    );
}
