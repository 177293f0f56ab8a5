//! Life and death of a tunnel: control-plane specification, section 6.

use super::*;

const RETENTION: Duration = Duration::from_secs(3 * 60 * 60);

pub(crate) async fn a_new_tunnel_is_open_and_nobody_is_connected(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture.open().await;
    let view = fixture.view(&tunnel).await;
    assert_eq!(view.summary.status, Status::Open);
    assert_eq!(view.summary.created, fixture.now().wall);
    let never = SideView {
        connected: false,
        updated: None,
    };
    assert_eq!([view.source, view.destination], [never, never]);
}

pub(crate) async fn sides_come_and_go_while_the_tunnel_is_open(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture.open().await;
    for _ in 0..3 {
        let connected_at = fixture.clock.advance(minutes(1)).wall;
        let session = fixture.connect(&tunnel, Mode::Source, Some("a")).await;
        let view = fixture.view(&tunnel).await;
        assert!(view.source.connected && !view.destination.connected);
        assert_eq!(view.source.updated, Some(connected_at));
        assert_eq!(view.summary.updated, connected_at);
        let gone_at = fixture.clock.advance(minutes(1)).wall;
        fixture
            .set_disconnected(&tunnel, Mode::Source, session)
            .await;
        let view = fixture.view(&tunnel).await;
        assert!(!view.source.connected);
        assert_eq!(view.source.updated, Some(gone_at));
        assert_eq!(view.summary.updated, gone_at);
    }
}

pub(crate) async fn closing_disconnects_both_sides_and_stays(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture.open().await;
    let session = fixture.connect(&tunnel, Mode::Source, Some("a")).await;
    fixture.connect(&tunnel, Mode::Destination, Some("b")).await;
    let closed_at = fixture.clock.advance(minutes(5)).wall;
    fixture.close(&tunnel).await;
    let view = fixture.view(&tunnel).await;
    assert_eq!(view.summary.status, Status::Closed);
    assert_eq!(view.summary.updated, closed_at);
    assert!(!view.source.connected && !view.destination.connected);
    // Closing again neither fails nor extends the retention; a late goodbye changes nothing.
    fixture.advance(minutes(60)).await;
    fixture.close(&tunnel).await;
    fixture
        .set_disconnected(&tunnel, Mode::Source, session)
        .await;
    assert_eq!(fixture.view(&tunnel).await.summary.updated, closed_at);
    fixture.advance(RETENTION - minutes(60)).await;
    assert_eq!(fixture.try_status(&tunnel).await, None);
}

pub(crate) async fn a_lifetime_ends_to_the_moment(place: &impl Place) {
    for lifetime in [1, 720] {
        let fixture = Fixture::new(place).await;
        let tunnel = fixture.try_open(None, lifetime).await.unwrap();
        fixture.connect(&tunnel, Mode::Source, None).await;
        let almost = minutes(lifetime as u64) - Duration::from_millis(1);
        assert!(fixture.advance(almost).await.ended.is_empty());
        assert_eq!(fixture.status(&tunnel).await, Status::Open);
        fixture.clock.advance(Duration::from_millis(1));
        assert_eq!(
            fixture.status(&tunnel).await,
            Status::Closed,
            "before the timer came by"
        );
        assert!(!fixture.is_connected(&tunnel, Mode::Source).await);
        assert_eq!(fixture.advance(Duration::ZERO).await.ended.len(), 1);
        assert!(
            fixture.advance(Duration::ZERO).await.ended.is_empty(),
            "told once"
        );
    }
}

pub(crate) async fn a_closed_tunnel_is_kept_for_three_hours(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture.open().await;
    fixture.close(&tunnel).await;
    fixture.advance(RETENTION - Duration::from_millis(1)).await;
    assert_eq!(fixture.status(&tunnel).await, Status::Closed);
    fixture.advance(Duration::from_millis(1)).await;
    let gone = fixture.store.describe(fixture.now(), &tunnel.id).await;
    assert_eq!(gone.unwrap_err(), TunnelError::NotFound(tunnel.id.clone()));
    let refused = fixture.spend(Mode::Source, &tunnel.source, None).await;
    assert_eq!(refused.unwrap_err(), Refusal::UnknownToken);
}

pub(crate) async fn delete_forgets_open_and_closed_tunnels_at_once(place: &impl Place) {
    for close_first in [false, true] {
        let fixture = Fixture::new(place).await;
        let tunnel = fixture
            .try_open(Some(config(Some("t"), &["SSH"])), 720)
            .await
            .unwrap();
        fixture.connect(&tunnel, Mode::Source, Some("a")).await;
        if close_first {
            fixture.close(&tunnel).await;
        }
        let now = fixture.now();
        fixture.store.close(now, &tunnel.id, true).await.unwrap();
        let not_found = TunnelError::NotFound(tunnel.id.clone());
        assert_eq!(
            fixture.store.describe(now, &tunnel.id).await.unwrap_err(),
            not_found
        );
        assert_eq!(
            fixture.store.close(now, &tunnel.id, true).await,
            Err(not_found)
        );
    }
}

pub(crate) async fn who_closes_a_tunnel_hears_how_it_was_found(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let close = async |tunnel: &Opened, delete| {
        let closed = fixture.store.close(fixture.now(), &tunnel.id, delete).await;
        fixture.check().await;
        closed.unwrap()
    };
    let (first, deleted) = (fixture.open().await, fixture.open().await);
    assert_eq!(close(&first, false).await, Found::Open);
    assert_eq!(close(&first, false).await, Found::Closed);
    assert_eq!(close(&first, true).await, Found::Closed);
    assert_eq!(close(&deleted, true).await, Found::Open);
    let (over, deleted) = (fixture.open().await, fixture.open().await);
    fixture.clock.advance(minutes(12 * 60));
    assert_eq!(close(&over, false).await, Found::Over);
    assert_eq!(close(&over, false).await, Found::Closed);
    assert_eq!(close(&deleted, true).await, Found::Over);
}

pub(crate) async fn jumps_of_the_time_of_day_change_no_lifetime(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture.try_open(None, 60).await.unwrap();
    let year = 365 * 24 * 3600;
    for jump in [3600, -3600, year, -year] {
        fixture.clock.jump_wall(jump);
        assert!(
            fixture.advance(minutes(14)).await.ended.is_empty(),
            "{jump}"
        );
    }
    assert_eq!(fixture.advance(minutes(4)).await.ended, [tunnel.id]);
}

pub(crate) async fn expire_says_when_to_come_back(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    assert_eq!(fixture.advance(Duration::ZERO).await.next, None);
    let start = fixture.now().steady;
    let long = fixture.try_open(None, 30).await.unwrap();
    fixture.try_open(None, 10).await.unwrap();
    assert_eq!(
        fixture.advance(Duration::ZERO).await.next,
        Some(start.after(minutes(10)))
    );
    // The short one has ended, the long one is next; then only their retention.
    assert_eq!(
        fixture.advance(minutes(10)).await.next,
        Some(start.after(minutes(30)))
    );
    fixture.close(&long).await;
    let next = fixture.advance(Duration::ZERO).await.next;
    assert_eq!(next, Some(start.after(minutes(10) + RETENTION)));
}

pub(crate) async fn a_crowd_that_ends_together_is_taken_in_turns(place: &impl Place) {
    const CROWD: usize = 1_500;
    let fixture = Fixture::new(place).await;
    let mut opens = JoinSet::new();
    for number in 0..CROWD {
        let (_, new) = fixture.prepare(number);
        let (store, now) = (Arc::clone(&fixture.store), fixture.now());
        opens.spawn(async move { store.open_tunnel(now, new).await.unwrap() });
    }
    opens.join_all().await;
    let now = fixture.clock.advance(minutes(720));
    let mut turns = Vec::new();
    loop {
        let expired = fixture.store.expire(now).await.unwrap();
        turns.push(expired.ended.len());
        if expired.next.is_none_or(|next| next > now.steady) {
            break;
        }
    }
    assert_eq!(turns.iter().sum::<usize>(), CROWD);
    assert!(turns.len() > 1 && turns.iter().all(|turn| *turn <= 1_024));
    fixture.check().await;
}

pub(crate) async fn open_tunnels_are_limited_and_closing_makes_room(place: &impl Place) {
    let fixture = Fixture::with_limits(
        place,
        Limits {
            open_tunnels_max: 2,
            ..Limits::default()
        },
    )
    .await;
    let first = fixture.open().await;
    fixture.open().await;
    let refused = fixture.try_open(None, 720).await.err();
    let what = "open tunnels";
    assert_eq!(refused, Some(TunnelError::LimitExceeded { what, max: 2 }));
    fixture.close(&first).await;
    fixture.open().await;
    assert!(fixture.try_open(None, 720).await.is_err());
}

pub(crate) async fn closed_tunnels_are_limited_and_the_oldest_goes_first(place: &impl Place) {
    let fixture = Fixture::with_limits(
        place,
        Limits {
            closed_tunnels_max: 3,
            ..Limits::default()
        },
    )
    .await;
    let mut tunnels = Vec::new();
    for _ in 0..5 {
        let tunnel = fixture.open().await;
        fixture.clock.advance(minutes(1));
        fixture.close(&tunnel).await;
        tunnels.push(tunnel);
    }
    for (index, tunnel) in tunnels.iter().enumerate() {
        let kept = fixture
            .store
            .describe(fixture.now(), &tunnel.id)
            .await
            .is_ok();
        assert_eq!(kept, index >= 2, "{index}");
    }
}

pub(crate) async fn an_id_is_never_used_twice(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture.open().await;
    let (_, same) = fixture.prepare(1);
    assert_eq!(same.id, tunnel.id);
    let taken = fixture.store.open_tunnel(fixture.now(), same).await;
    assert_eq!(taken, Err(TunnelError::Taken(tunnel.id.clone())));
    fixture
        .spend(Mode::Source, &tunnel.source, None)
        .await
        .unwrap();
}

pub(crate) async fn tags_are_merged_limited_and_removed(place: &impl Place) {
    let fixture = Fixture::with_limits(
        place,
        Limits {
            tags_per_tunnel_max: 3,
            ..Limits::default()
        },
    )
    .await;
    let tags = |pairs: &[(&str, &str)]| -> Tags {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    };
    let tunnel = fixture.open().await;
    let id = &tunnel.id;
    fixture
        .store
        .tag(id, tags(&[("a", "1"), ("b", "2")]))
        .await
        .unwrap();
    fixture
        .store
        .tag(id, tags(&[("b", "3"), ("c", "4")]))
        .await
        .unwrap();
    let full = tags(&[("a", "1"), ("b", "3"), ("c", "4")]);
    assert_eq!(fixture.store.tags(id).await.unwrap(), full);
    let refused = fixture.store.tag(id, tags(&[("a", "9"), ("d", "9")])).await;
    let what = "tags per tunnel";
    assert_eq!(refused, Err(TunnelError::LimitExceeded { what, max: 3 }));
    assert_eq!(fixture.store.tags(id).await.unwrap(), full, "all or none");
    fixture.close(&tunnel).await;
    let gone = vec!["a".to_owned(), "zz".to_owned()];
    fixture.store.untag(&tunnel.id, gone).await.unwrap();
    assert_eq!(
        fixture.view(&tunnel).await.tags,
        tags(&[("b", "3"), ("c", "4")])
    );
}

pub(crate) async fn open_tunnels_of_a_caller_and_to_a_thing_are_limited(place: &impl Place) {
    let limits = Limits {
        open_tunnels_per_key_max: 2,
        open_tunnels_per_thing_max: 3,
        ..Limits::default()
    };
    let fixture = Fixture::with_limits(place, limits).await;
    let lamp = || Some(config(Some("lamp"), &["SSH"]));
    let open = async |number: usize, owner: Option<&str>, config: Option<DestinationConfig>| {
        let (opened, mut new) = fixture.prepare(number);
        new.owner = owner.map(Into::into);
        new.config = config;
        let result = fixture.store.open_tunnel(fixture.now(), new).await;
        fixture.check().await;
        result.map(|()| opened)
    };
    let refused = |what, max| Some(TunnelError::LimitExceeded { what, max });
    let of_key = refused("open tunnels of one access key", 2);
    let to_thing = refused("open tunnels to one thing", 3);
    let first = open(1, Some("KEY1"), lamp()).await.unwrap();
    open(2, Some("KEY1"), None).await.unwrap();
    assert_eq!(open(3, Some("KEY1"), None).await.err(), of_key);
    let second = open(4, Some("KEY2"), lamp()).await.unwrap();
    for number in 5..10 {
        open(number, None, None).await.unwrap();
    }
    open(10, None, lamp()).await.unwrap();
    assert_eq!(open(11, None, lamp()).await.err(), to_thing);
    open(12, None, Some(config(Some("other"), &["SSH"])))
        .await
        .unwrap();
    // What is closed counts no more, whoever closes it.
    fixture.close(&first).await;
    let third = open(13, Some("KEY1"), lamp()).await.unwrap();
    assert_eq!(open(14, Some("KEY1"), None).await.err(), of_key);
    // A rotation that names another device is one more tunnel to it.
    let other = open(15, None, Some(config(Some("other"), &["SSH"]))).await;
    let other = other.unwrap();
    let destination = [Mode::Destination];
    let moved = fixture.rotate(&other, &destination, lamp()).await;
    assert_eq!(moved.err(), to_thing);
    let same = fixture.rotate(&second, &destination, lamp()).await;
    same.unwrap();
    let gone = fixture.store.close(fixture.now(), &third.id, true).await;
    gone.unwrap();
    fixture.rotate(&other, &destination, lamp()).await.unwrap();
    assert_eq!(open(16, None, lamp()).await.err(), to_thing);
    // Nor does what a lifetime has ended.
    fixture.advance(minutes(720)).await;
    open(17, Some("KEY1"), lamp()).await.unwrap();
}

pub(crate) async fn tag_keys_that_differ_only_by_case_are_refused(place: &impl Place) {
    let tags = |keys: &[&str]| -> Tags {
        let tags = keys.iter().map(|key| ((*key).to_owned(), "v".to_owned()));
        tags.collect()
    };
    let twins = |one: &str, other: &str| TunnelError::TagKeys(one.into(), other.into());
    let fixture = Fixture::new(place).await;
    let (_, mut new) = fixture.prepare(99);
    new.tags = tags(&["Env", "env"]);
    let refused = fixture.store.open_tunnel(fixture.now(), new).await;
    assert_eq!(refused, Err(twins("Env", "env")));
    let tunnel = fixture.open().await;
    let id = &tunnel.id;
    fixture.store.tag(id, tags(&["env", "Ä"])).await.unwrap();
    let refused = fixture.store.tag(id, tags(&["new", "ENV"])).await;
    assert_eq!(refused, Err(twins("env", "ENV")));
    let refused = fixture.store.tag(id, tags(&["ä"])).await;
    assert_eq!(refused, Err(twins("Ä", "ä")));
    assert_eq!(fixture.view(&tunnel).await.tags, tags(&["env", "Ä"]));
    fixture.store.tag(id, tags(&["env", "new"])).await.unwrap();
    let env = vec!["ENV".to_owned(), "env".to_owned()];
    fixture.store.untag(id, env).await.unwrap();
    fixture.store.tag(id, tags(&["ENV"])).await.unwrap();
    assert_eq!(fixture.view(&tunnel).await.tags, tags(&["ENV", "new", "Ä"]));
}

pub(crate) async fn an_end_is_shown_after_what_came_before_it_whatever_the_clock_says(
    place: &impl Place,
) {
    let fixture = Fixture::new(place).await;
    let tunnel = fixture.try_open(None, 10).await.unwrap();
    fixture.clock.jump_wall(-365 * 24 * 3600);
    fixture.advance(minutes(10)).await;
    let summary = fixture.view(&tunnel).await.summary;
    assert_eq!(summary.status, Status::Closed);
    assert_eq!(summary.updated, summary.created);
}
