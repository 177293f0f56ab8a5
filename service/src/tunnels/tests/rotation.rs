//! Rotation: control-plane specification, section 7.

use super::*;

#[test]
fn the_rotated_side_gets_a_new_token_and_the_other_stays_up() {
    let both = [Mode::Source, Mode::Destination];
    for modes in [&both[..1], &both[1..], &both[..]] {
        let mut fixture = Fixture::new();
        let tunnel = fixture.open();
        for mode in both {
            fixture.connect(&tunnel, mode, Some(mode.as_str()));
        }
        let rotated = fixture.rotate(&tunnel, modes, None).unwrap();
        for mode in both {
            let name = Some(mode.as_str());
            let touched = modes.contains(&mode);
            assert_eq!(fixture.is_connected(&tunnel, mode), !touched);
            let old = fixture.spend(mode, tunnel.token(mode), name);
            assert_eq!(old.is_ok(), !touched);
            // The same client may come back under the same client token.
            fixture.spend(mode, rotated.token(mode), name).unwrap();
        }
    }
}

#[test]
fn a_session_of_the_old_token_says_goodbye_without_effect() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open();
    let old = fixture.connect(&tunnel, Mode::Source, None);
    let rotated = fixture.rotate(&tunnel, &[Mode::Source], None).unwrap();
    let new = fixture.connect(&rotated, Mode::Source, None);
    fixture.set_disconnected(&tunnel, Mode::Source, old);
    assert!(fixture.is_connected(&tunnel, Mode::Source));
    fixture.set_disconnected(&tunnel, Mode::Source, new);
    assert!(!fixture.is_connected(&tunnel, Mode::Source));
}

#[test]
fn a_spent_token_is_replaced_by_a_fresh_one() {
    let mut fixture = Fixture::new();
    let mut tunnel = fixture.open();
    for _ in 0..5 {
        fixture.connect(&tunnel, Mode::Source, None);
        let again = fixture.spend(Mode::Source, &tunnel.source, None);
        assert_eq!(again.unwrap_err(), Refusal::Used);
        tunnel = fixture.rotate(&tunnel, &[Mode::Source], None).unwrap();
    }
}

#[test]
fn nothing_extends_a_lifetime() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.try_open(None, 10).unwrap();
    fixture.advance(minutes(9));
    let both = [Mode::Source, Mode::Destination];
    let tunnel = fixture.rotate(&tunnel, &both, None).unwrap();
    assert_eq!(fixture.status(&tunnel), Status::Open);
    let expired = fixture.advance(minutes(1));
    assert_eq!(expired.ended, [tunnel.id]);
}

#[test]
fn a_closed_or_expired_or_unknown_tunnel_is_not_rotated() {
    let mut fixture = Fixture::new();
    let closed = fixture.open();
    fixture.close(&closed);
    let expired = fixture.try_open(None, 1).unwrap();
    fixture.clock.advance(minutes(1));
    for tunnel in [&closed, &expired] {
        let error = fixture.rotate(tunnel, &[Mode::Source], None).err();
        assert_eq!(error, Some(TunnelError::Closed(tunnel.id.clone())));
    }
    let (unknown, _) = fixture.prepare(99);
    let error = fixture.rotate(&unknown, &[Mode::Source], None).err();
    assert_eq!(error, Some(TunnelError::NotFound(unknown.id)));
}

#[test]
fn a_rotation_may_name_another_device_but_not_other_services() {
    let mut fixture = Fixture::new();
    let all = [Mode::Destination];
    let tunnel = fixture
        .try_open(Some(config(Some("old"), &["SSH", "HTTP"])), 720)
        .unwrap();
    for services in [&["SSH"][..], &["SSH", "VNC"], &["SSH", "HTTP", "VNC"]] {
        let error = fixture.rotate(&tunnel, &all, Some(config(Some("new"), services)));
        assert_eq!(error.err(), Some(TunnelError::ServicesFixed));
        // A refused rotation revokes nothing.
        assert_eq!(
            fixture.view(&tunnel).config,
            Some(config(Some("old"), &["SSH", "HTTP"]))
        );
    }
    fixture
        .spend(Mode::Destination, &tunnel.destination, Some("a"))
        .unwrap();
    let same = config(Some("new"), &["HTTP", "SSH"]);
    let tunnel = fixture.rotate(&tunnel, &all, Some(same)).unwrap();
    let expected = config(Some("new"), &["SSH", "HTTP"]);
    assert_eq!(fixture.view(&tunnel).config, Some(expected.clone()));
    let nameless = config(None, &["SSH", "HTTP"]);
    let tunnel = fixture.rotate(&tunnel, &all, Some(nameless)).unwrap();
    assert_eq!(fixture.view(&tunnel).config, Some(expected));
    for (thing, count) in [("old", 0), ("new", 1)] {
        let page = fixture.tunnels.list(
            fixture.now(),
            &ListRequest {
                thing: ThingName::new(thing),
                after: None,
                count: NonZeroUsize::new(10).unwrap(),
            },
        );
        assert_eq!(page.tunnels.len(), count, "{thing}");
    }
}

#[test]
fn a_tunnel_opened_without_services_can_get_them_once() {
    let mut fixture = Fixture::with_limits(Limits {
        services_per_tunnel_max: 2,
        ..Limits::default()
    });
    let tunnel = fixture.open();
    let all = [Mode::Source, Mode::Destination];
    let three = config(None, &["A", "B", "C"]);
    let error = fixture.rotate(&tunnel, &all, Some(three)).err();
    let max = 2;
    let what = "services per tunnel";
    assert_eq!(error, Some(TunnelError::LimitExceeded { what, max }));
    let tunnel = fixture
        .rotate(&tunnel, &all, Some(config(None, &["A", "B"])))
        .unwrap();
    let admitted = fixture.spend(Mode::Source, &tunnel.source, None).unwrap();
    assert_eq!(admitted.services.len(), 2);
    let error = fixture
        .rotate(&tunnel, &all, Some(config(None, &["A"])))
        .err();
    assert_eq!(error, Some(TunnelError::ServicesFixed));
}
