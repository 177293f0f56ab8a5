//! Life and death of a tunnel: control-plane specification, section 6.

use super::*;

const RETENTION: Duration = Duration::from_secs(3 * 60 * 60);

#[test]
fn a_new_tunnel_is_open_and_nobody_is_connected() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open();
    let view = fixture.view(&tunnel);
    assert_eq!(view.summary.status, Status::Open);
    assert_eq!(view.summary.created, fixture.now().wall);
    let never = SideView {
        connected: false,
        updated: None,
    };
    assert_eq!([view.source, view.destination], [never, never]);
}

#[test]
fn sides_come_and_go_while_the_tunnel_is_open() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open();
    for _ in 0..3 {
        let connected_at = fixture.clock.advance(minutes(1)).wall;
        let session = fixture.connect(&tunnel, Mode::Source, Some("a"));
        let view = fixture.view(&tunnel);
        assert!(view.source.connected && !view.destination.connected);
        assert_eq!(view.source.updated, Some(connected_at));
        assert_eq!(view.summary.updated, connected_at);
        let gone_at = fixture.clock.advance(minutes(1)).wall;
        fixture.set_disconnected(&tunnel, Mode::Source, session);
        let view = fixture.view(&tunnel);
        assert!(!view.source.connected);
        assert_eq!(view.source.updated, Some(gone_at));
        assert_eq!(view.summary.updated, gone_at);
    }
}

#[test]
fn closing_disconnects_both_sides_and_stays() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open();
    let session = fixture.connect(&tunnel, Mode::Source, Some("a"));
    fixture.connect(&tunnel, Mode::Destination, Some("b"));
    let closed_at = fixture.clock.advance(minutes(5)).wall;
    fixture.close(&tunnel);
    let view = fixture.view(&tunnel);
    assert_eq!(view.summary.status, Status::Closed);
    assert_eq!(view.summary.updated, closed_at);
    assert!(!view.source.connected && !view.destination.connected);
    // Closing again neither fails nor extends the retention; a late goodbye changes nothing.
    fixture.advance(minutes(60));
    fixture.close(&tunnel);
    fixture.set_disconnected(&tunnel, Mode::Source, session);
    assert_eq!(fixture.view(&tunnel).summary.updated, closed_at);
    fixture.advance(RETENTION - minutes(60));
    assert!(fixture.tunnels.records.is_empty());
}

#[test]
fn a_lifetime_ends_to_the_moment() {
    for lifetime in [1, 720] {
        let mut fixture = Fixture::new();
        let tunnel = fixture.try_open(None, lifetime).unwrap();
        fixture.connect(&tunnel, Mode::Source, None);
        let almost = minutes(lifetime as u64) - Duration::from_nanos(1);
        assert!(fixture.advance(almost).ended.is_empty());
        assert_eq!(fixture.status(&tunnel), Status::Open);
        fixture.clock.advance(Duration::from_nanos(1));
        assert_eq!(
            fixture.status(&tunnel),
            Status::Closed,
            "before the timer came by"
        );
        assert!(!fixture.is_connected(&tunnel, Mode::Source));
        assert_eq!(fixture.advance(Duration::ZERO).ended.len(), 1);
        assert!(
            fixture.advance(Duration::ZERO).ended.is_empty(),
            "told once"
        );
    }
}

#[test]
fn a_closed_tunnel_is_kept_for_three_hours() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open();
    fixture.close(&tunnel);
    fixture.advance(RETENTION - Duration::from_nanos(1));
    assert_eq!(fixture.status(&tunnel), Status::Closed);
    fixture.advance(Duration::from_nanos(1));
    let gone = fixture.tunnels.describe(fixture.now(), &tunnel.id);
    assert_eq!(gone.unwrap_err(), TunnelError::NotFound(tunnel.id.clone()));
    assert!(fixture.tunnels.by_routing_key.is_empty());
}

#[test]
fn delete_forgets_open_and_closed_tunnels_at_once() {
    for close_first in [false, true] {
        let mut fixture = Fixture::new();
        let tunnel = fixture
            .try_open(Some(config(Some("t"), &["SSH"])), 720)
            .unwrap();
        fixture.connect(&tunnel, Mode::Source, Some("a"));
        if close_first {
            fixture.close(&tunnel);
        }
        let now = fixture.now();
        fixture.tunnels.close(now, &tunnel.id, true).unwrap();
        fixture.tunnels.check();
        let not_found = TunnelError::NotFound(tunnel.id.clone());
        assert_eq!(
            fixture.tunnels.describe(now, &tunnel.id).unwrap_err(),
            not_found
        );
        assert_eq!(fixture.tunnels.close(now, &tunnel.id, true), Err(not_found));
    }
}

#[test]
fn jumps_of_the_time_of_day_change_no_lifetime() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.try_open(None, 60).unwrap();
    let year = 365 * 24 * 3600;
    for jump in [3600, -3600, year, -year] {
        fixture.clock.jump_wall(jump);
        assert!(fixture.advance(minutes(14)).ended.is_empty(), "{jump}");
    }
    assert_eq!(fixture.advance(minutes(4)).ended, [tunnel.id]);
}

#[test]
fn expire_says_when_to_come_back() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.advance(Duration::ZERO).next, None);
    let start = fixture.now().instant;
    let long = fixture.try_open(None, 30).unwrap();
    fixture.try_open(None, 10).unwrap();
    assert_eq!(
        fixture.advance(Duration::ZERO).next,
        Some(start + minutes(10))
    );
    // The short one has ended, the long one is next; then only their retention.
    assert_eq!(fixture.advance(minutes(10)).next, Some(start + minutes(30)));
    fixture.close(&long);
    let next = fixture.advance(Duration::ZERO).next;
    assert_eq!(next, Some(start + minutes(10) + RETENTION));
}

#[test]
fn a_crowd_that_ends_together_is_taken_in_turns() {
    let mut fixture = Fixture::new();
    for number in 0..2_500 {
        let (_, new) = fixture.prepare(number);
        fixture.tunnels.open(fixture.clock.now(), new).unwrap();
    }
    let now = fixture.clock.advance(minutes(720));
    let mut turns = Vec::new();
    loop {
        let expired = fixture.tunnels.expire(now);
        turns.push(expired.ended.len());
        if expired.next.is_none_or(|next| next > now.instant) {
            break;
        }
    }
    assert_eq!(turns, [1_024, 1_024, 452]);
    fixture.tunnels.check();
}

#[test]
fn open_tunnels_are_limited_and_closing_makes_room() {
    let mut fixture = Fixture::with_limits(Limits {
        open_tunnels_max: 2,
        ..Limits::default()
    });
    let first = fixture.open();
    fixture.open();
    let refused = fixture.try_open(None, 720).err();
    let what = "open tunnels";
    assert_eq!(refused, Some(TunnelError::LimitExceeded { what, max: 2 }));
    fixture.close(&first);
    fixture.open();
    assert!(fixture.try_open(None, 720).is_err());
}

#[test]
fn closed_tunnels_are_limited_and_the_oldest_goes_first() {
    let mut fixture = Fixture::with_limits(Limits {
        closed_tunnels_max: 3,
        ..Limits::default()
    });
    let tunnels: Vec<_> = (0..5)
        .map(|_| {
            let tunnel = fixture.open();
            fixture.clock.advance(minutes(1));
            fixture.close(&tunnel);
            tunnel
        })
        .collect();
    for (index, tunnel) in tunnels.iter().enumerate() {
        let kept = fixture.tunnels.describe(fixture.now(), &tunnel.id).is_ok();
        assert_eq!(kept, index >= 2, "{index}");
    }
}

#[test]
fn an_id_is_never_used_twice() {
    let mut fixture = Fixture::new();
    let tunnel = fixture.open();
    let (_, same) = fixture.prepare(1);
    assert_eq!(same.id, tunnel.id);
    let taken = fixture.tunnels.open(fixture.now(), same);
    assert_eq!(taken, Err(TunnelError::Taken(tunnel.id.clone())));
    fixture.spend(Mode::Source, &tunnel.source, None).unwrap();
}

#[test]
fn tags_are_merged_limited_and_removed() {
    let mut fixture = Fixture::with_limits(Limits {
        tags_per_tunnel_max: 3,
        ..Limits::default()
    });
    let tags = |pairs: &[(&str, &str)]| -> Tags {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    };
    let tunnel = fixture.open();
    let id = &tunnel.id;
    fixture
        .tunnels
        .tag(id, tags(&[("a", "1"), ("b", "2")]))
        .unwrap();
    fixture
        .tunnels
        .tag(id, tags(&[("b", "3"), ("c", "4")]))
        .unwrap();
    let full = tags(&[("a", "1"), ("b", "3"), ("c", "4")]);
    assert_eq!(fixture.tunnels.tags(id).unwrap(), full);
    let refused = fixture.tunnels.tag(id, tags(&[("a", "9"), ("d", "9")]));
    let what = "tags per tunnel";
    assert_eq!(refused, Err(TunnelError::LimitExceeded { what, max: 3 }));
    assert_eq!(fixture.tunnels.tags(id).unwrap(), full, "all or none");
    fixture.close(&tunnel);
    let gone = ["a".to_owned(), "zz".to_owned()];
    fixture.tunnels.untag(&tunnel.id, &gone).unwrap();
    assert_eq!(fixture.view(&tunnel).tags, tags(&[("b", "3"), ("c", "4")]));
}
