//! Rotation: control-plane specification, section 7.

use super::*;

pub(crate) async fn the_rotated_side_gets_a_new_token_and_the_other_stays_up(place: &impl Place) {
    let both = [Mode::Source, Mode::Destination];
    for modes in [&both[..1], &both[1..], &both[..]] {
        let fixture = Fixture::new(place).await;
        let tunnel = fixture.open().await;
        for mode in both {
            fixture.connect(&tunnel, mode, Some(mode.as_str())).await;
        }
        let rotated = fixture.rotate(&tunnel, modes, None).await.unwrap();
        for mode in both {
            let name = Some(mode.as_str());
            let touched = modes.contains(&mode);
            assert_eq!(fixture.is_connected(&tunnel, mode).await, !touched);
            let old = fixture.spend(mode, tunnel.token(mode), name).await;
            assert_eq!(old.is_ok(), !touched);
            // The same client may come back under the same client token.
            fixture
                .spend(mode, rotated.token(mode), name)
                .await
                .unwrap();
        }
    }
}

pub(crate) async fn a_session_of_the_old_token_says_goodbye_without_effect(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture.open().await;
    let old = fixture.connect(&tunnel, Mode::Source, None).await;
    let rotated = fixture
        .rotate(&tunnel, &[Mode::Source], None)
        .await
        .unwrap();
    let new = fixture.connect(&rotated, Mode::Source, None).await;
    fixture.set_disconnected(&tunnel, Mode::Source, old).await;
    assert!(fixture.is_connected(&tunnel, Mode::Source).await);
    fixture.set_disconnected(&tunnel, Mode::Source, new).await;
    assert!(!fixture.is_connected(&tunnel, Mode::Source).await);
}

pub(crate) async fn a_spent_token_is_replaced_by_a_fresh_one(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let mut tunnel = fixture.open().await;
    for _ in 0..5 {
        fixture.connect(&tunnel, Mode::Source, None).await;
        let again = fixture.spend(Mode::Source, &tunnel.source, None).await;
        assert_eq!(again.unwrap_err(), Refusal::Used);
        tunnel = fixture
            .rotate(&tunnel, &[Mode::Source], None)
            .await
            .unwrap();
    }
}

pub(crate) async fn a_side_has_the_token_it_was_given_last(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture.open().await;
    let has = async |mode: Mode, token: &AccessToken| {
        let hash = TokenHash::of(token);
        fixture.store.has_token(&tunnel.id, mode, hash).await
    };
    assert_eq!(has(Mode::Source, &tunnel.source).await, Ok(true));
    assert_eq!(has(Mode::Destination, &tunnel.source).await, Ok(false));
    let rotated = fixture.rotate(&tunnel, &[Mode::Source], None).await;
    let rotated = rotated.unwrap();
    assert_eq!(has(Mode::Source, &tunnel.source).await, Ok(false));
    assert_eq!(has(Mode::Source, &rotated.source).await, Ok(true));
    assert_eq!(has(Mode::Destination, &tunnel.destination).await, Ok(true));
    fixture.close(&tunnel).await;
    assert_eq!(has(Mode::Source, &rotated.source).await, Ok(true));
    let deleted = fixture.store.close(fixture.now(), &tunnel.id, true).await;
    deleted.unwrap();
    assert_eq!(has(Mode::Source, &rotated.source).await, Ok(false));
}

pub(crate) async fn nothing_extends_a_lifetime(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture.try_open(None, 10).await.unwrap();
    fixture.advance(minutes(9)).await;
    let both = [Mode::Source, Mode::Destination];
    let tunnel = fixture.rotate(&tunnel, &both, None).await.unwrap();
    assert_eq!(fixture.status(&tunnel).await, Status::Open);
    let expired = fixture.advance(minutes(1)).await;
    assert_eq!(expired.ended, [tunnel.id]);
}

pub(crate) async fn a_closed_or_expired_or_unknown_tunnel_is_not_rotated(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let closed = fixture.open().await;
    fixture.close(&closed).await;
    let expired = fixture.try_open(None, 1).await.unwrap();
    fixture.clock.advance(minutes(1));
    for tunnel in [&closed, &expired] {
        let error = fixture.rotate(tunnel, &[Mode::Source], None).await.err();
        assert_eq!(error, Some(TunnelError::Closed(tunnel.id.clone())));
    }
    let (unknown, _) = fixture.prepare(99);
    let error = fixture.rotate(&unknown, &[Mode::Source], None).await.err();
    assert_eq!(error, Some(TunnelError::NotFound(unknown.id)));
}

pub(crate) async fn a_rotation_may_name_another_device_but_not_other_services(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let all = [Mode::Destination];
    let tunnel = fixture
        .try_open(Some(config(Some("old"), &["SSH", "HTTP"])), 720)
        .await
        .unwrap();
    for services in [&["SSH"][..], &["SSH", "VNC"], &["SSH", "HTTP", "VNC"]] {
        let error = fixture
            .rotate(&tunnel, &all, Some(config(Some("new"), services)))
            .await;
        assert_eq!(error.err(), Some(TunnelError::ServicesFixed));
        // A refused rotation revokes nothing.
        assert_eq!(
            fixture.view(&tunnel).await.config,
            Some(config(Some("old"), &["SSH", "HTTP"]))
        );
    }
    fixture
        .spend(Mode::Destination, &tunnel.destination, Some("a"))
        .await
        .unwrap();
    let same = config(Some("new"), &["HTTP", "SSH"]);
    let tunnel = fixture.rotate(&tunnel, &all, Some(same)).await.unwrap();
    let expected = config(Some("new"), &["SSH", "HTTP"]);
    assert_eq!(fixture.view(&tunnel).await.config, Some(expected.clone()));
    let nameless = config(None, &["SSH", "HTTP"]);
    let tunnel = fixture.rotate(&tunnel, &all, Some(nameless)).await.unwrap();
    assert_eq!(fixture.view(&tunnel).await.config, Some(expected));
    for (thing, count) in [("old", 0), ("new", 1)] {
        let page = fixture
            .store
            .list(
                fixture.now(),
                ListRequest {
                    thing: ThingName::new(thing),
                    after: None,
                    count: NonZeroUsize::new(10).unwrap(),
                },
            )
            .await
            .unwrap();
        assert_eq!(page.tunnels.len(), count, "{thing}");
    }
}

pub(crate) async fn a_rotation_by_leave_for_another_device_is_refused(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let all = [Mode::Source, Mode::Destination];
    let (old, new) = (config(Some("old"), &["SSH"]), config(Some("new"), &["SSH"]));
    let tunnel = fixture.try_open(Some(old.clone()), 720).await.unwrap();
    let seen = Seen::Config(Some(old));
    let moved = fixture.rotate_seen(&tunnel, &all, Some(new.clone()), seen.clone());
    let tunnel = moved.await.unwrap();
    for seen in [seen, Seen::Config(None)] {
        let refused = fixture.rotate_seen(&tunnel, &all, None, seen).await;
        assert_eq!(refused.err(), Some(TunnelError::Moved));
    }
    // A refused rotation revokes nothing.
    for mode in all {
        let client = Some(mode.as_str());
        let spent = fixture.spend(mode, tunnel.token(mode), client).await;
        spent.unwrap();
    }
    let seen = Seen::Config(Some(new));
    let rotated = fixture.rotate_seen(&tunnel, &all, None, seen).await;
    rotated.unwrap();
}

pub(crate) async fn a_tunnel_opened_without_services_can_get_them_once(place: &impl Place) {
    let fixture = Fixture::with_limits(
        place,
        Limits {
            services_per_tunnel_max: 2,
            ..Limits::default()
        },
    )
    .await;
    let tunnel = fixture.open().await;
    let all = [Mode::Source, Mode::Destination];
    let three = config(None, &["A", "B", "C"]);
    let error = fixture.rotate(&tunnel, &all, Some(three)).await.err();
    let max = 2;
    let what = "services per tunnel";
    assert_eq!(error, Some(TunnelError::LimitExceeded { what, max }));
    let tunnel = fixture
        .rotate(&tunnel, &all, Some(config(None, &["A", "B"])))
        .await
        .unwrap();
    let admitted = fixture
        .spend(Mode::Source, &tunnel.source, None)
        .await
        .unwrap();
    assert_eq!(admitted.services.len(), 2);
    let error = fixture
        .rotate(&tunnel, &all, Some(config(None, &["A"])))
        .await
        .err();
    assert_eq!(error, Some(TunnelError::ServicesFixed));
}
