//! Specification 8.2, rule by rule, and the defects of section 17 that a source could have.

use super::lab::*;
use crate::tunnel::proxy::ProxySettings;
use crate::tunnel::source::Unwelcome;
use adit_proto::ids::{Dialect, Mode};
use std::time::Duration;

#[test]
fn the_first_connection_starts_a_stream_and_further_ones_join_it() {
    let mut lab = Lab::source(&["A", "B"]);
    assert_eq!(lab.listens, [0, 1]);
    for service in [0, 0, 1] {
        lab.accept(service).unwrap();
    }
    lab.says(&[
        stream_start(1, "A", 1),
        connection_start(1, "A", 2),
        stream_start(1, "B", 1),
    ]);
}

#[test]
fn a_stream_survives_its_last_connection() {
    let mut lab = Lab::source(&["A"]);
    let io = lab.accept(0).unwrap();
    lab.gets(&[connection_reset(1, "A", 1)]);
    assert_eq!(lab.ending(io), Some(Ended::Orderly));
    lab.accept(0).unwrap();
    lab.says(&[stream_start(1, "A", 1), connection_start(1, "A", 2)]);
}

#[test]
fn bytes_leave_behind_the_start_and_before_the_reset() {
    let mut lab = Lab::source(&["A"]);
    let io = lab.accept(0).unwrap();
    lab.writes(io, b"hello");
    lab.finishes(io);
    lab.says(&[stream_start(1, "A", 1), data(1, "A", 1, b"hello")]);
    lab.wait(Duration::from_secs(5));
    lab.says(&[connection_reset(1, "A", 1)]);
    assert_eq!(lab.ending(io), Some(Ended::Orderly));
    lab.is_empty();
}

#[test]
fn a_broken_application_is_reported_at_once_and_its_socket_cut() {
    let mut lab = Lab::source(&["A"]);
    let io = lab.accept(0).unwrap();
    lab.said();
    lab.breaks(io);
    lab.says(&[connection_reset(1, "A", 1)]);
    assert_eq!(lab.ending(io), Some(Ended::Cut));
    lab.is_empty();
}

#[test]
fn a_reset_of_one_connection_is_not_echoed_and_leaves_the_others() {
    let mut lab = Lab::source(&["A"]);
    let ios = [lab.accept(0).unwrap(), lab.accept(0).unwrap()];
    lab.said();
    lab.gets(&[connection_reset(1, "A", 1), connection_reset(1, "A", 1)]);
    assert_eq!(lab.ending(ios[0]), Some(Ended::Orderly));
    assert_eq!(lab.ending(ios[1]), None);
    lab.says(&[]);
    lab.gets(&[data(1, "A", 2, b"x"), data(1, "A", 1, b"late")]);
    assert_eq!(lab.reads(ios[1], 10), b"x");
}

#[test]
fn stream_reset_flushes_and_ends_all_and_the_next_stream_has_another_id() {
    let mut lab = Lab::source(&["A"]);
    lab.room = 3;
    let ios = [lab.accept(0).unwrap(), lab.accept(0).unwrap()];
    lab.said();
    // Specification 17, Q-02 and Q-19: what is queued is delivered; a stale connection id is ignored.
    let mut reset = stream_reset(1, "A");
    reset.connection_id = 7;
    lab.gets(&[data(1, "A", 1, b"queued"), reset.clone()]);
    assert_eq!(lab.ending(ios[1]), Some(Ended::Orderly));
    assert_eq!(lab.ending(ios[0]), None);
    assert_eq!(lab.reads(ios[0], 3), b"que");
    assert_eq!(lab.reads(ios[0], 3), b"ued");
    assert_eq!(lab.ending(ios[0]), Some(Ended::Orderly));
    lab.is_empty();
    lab.accept(0).unwrap();
    lab.gets(&[reset]);
    lab.says(&[stream_start(2, "A", 3)]);
    assert_eq!(lab.proxy.connection_count(), 1, "the old reset is stale");
}

#[test]
fn session_reset_ends_the_streams_of_all_services() {
    let mut lab = Lab::source(&["A", "B"]);
    let ios = [lab.accept(0).unwrap(), lab.accept(1).unwrap()];
    lab.gets(&[message(Type::SessionReset, 0, "", 0)]);
    for io in ios {
        assert_eq!(lab.ending(io), Some(Ended::Orderly));
    }
    lab.said();
    lab.accept(1).unwrap();
    lab.says(&[stream_start(2, "B", 2)]);
}

#[test]
fn stale_and_unknown_data_is_dropped() {
    let mut lab = Lab::source(&["A", "B"]);
    let io = lab.accept(0).unwrap();
    lab.gets(&[
        data(2, "A", 1, b"another stream"),
        data(1, "A", 2, b"another connection"),
        data(1, "B", 1, b"no stream"),
        data(1, "C", 1, b"no service"),
        data(1, "", 1, b"no service named"),
        connection_reset(1, "C", 1),
        stream_reset(1, "C"),
    ]);
    assert_eq!(lab.reads(io, 10), b"");
    assert_eq!(lab.proxy.counters().stale, 7);
    lab.said();
    lab.says(&[]);
}

#[test]
fn a_second_connection_of_an_older_dialect_is_refused_and_the_first_lives() {
    for dialect in [Dialect::V1, Dialect::V2] {
        let name = if dialect == Dialect::V1 { "" } else { "A" };
        let mut lab = Lab::speaking(&["A"], dialect);
        let io = lab.accept(0).unwrap();
        assert_eq!(lab.accept(0), None);
        lab.writes(io, b"a");
        lab.says(&[stream_start(1, name, 0), data(1, name, 0, b"a")]);
        lab.gets(&[data(1, name, 0, b"b")]);
        assert_eq!(lab.reads(io, 9), b"b");
        lab.breaks(io);
        lab.says(&[stream_reset(1, name)]);
        lab.accept(0).unwrap();
        lab.says(&[stream_start(2, name, 0)]);
    }
}

/// Specification 6.2. Found by fuzzing: two services wrote under the same ids.
#[test]
fn a_v1_source_does_not_begin_where_there_are_several_services() {
    let settings = ProxySettings {
        dialect: Some(Dialect::V1),
        ..settings(Mode::Source, &["A", "B"])
    };
    let mut lab = Lab::new(settings);
    lab.link_up();
    lab.gets(&[service_ids(&["A", "B"])]);
    assert_eq!((lab.mismatches, lab.listens.len()), (1, 0));
    assert_eq!(lab.accept(0), None);
}

#[test]
fn a_v1_source_drops_what_comes_before_a_stream() {
    let mut lab = Lab::speaking(&["A"], Dialect::V1);
    lab.gets(&[data(1, "", 0, b"x"), stream_reset(1, "")]);
    assert!(lab.accept(0).is_some());
}

/// Specification 5.3: some destinations take an absent connection id for 1, and say so.
#[test]
fn a_v2_source_hears_a_destination_that_calls_its_only_connection_1() {
    let mut lab = Lab::speaking(&["A"], Dialect::V2);
    let io = lab.accept(0).unwrap();
    lab.said();
    lab.gets(&[data(1, "A", 1, b"x"), connection_reset(1, "A", 1)]);
    assert_eq!(lab.reads(io, 9), b"x");
    assert_eq!(lab.ending(io), Some(Ended::Orderly));
    // In this dialect the stream ends with its connection.
    lab.accept(0).unwrap();
    lab.says(&[stream_start(2, "A", 0)]);
}

#[test]
fn a_peer_that_leaves_out_the_connection_id_gets_one_connection_at_a_time() {
    let mut lab = Lab::source(&["A", "B"]);
    let ios = [lab.accept(0).unwrap(), lab.accept(0).unwrap()];
    let other = lab.accept(1).unwrap();
    lab.said();
    lab.gets(&[data(1, "A", 0, b"hello")]);
    assert_eq!(lab.reads(ios[0], 9), b"hello");
    assert_eq!(lab.ending(ios[1]), Some(Ended::Cut));
    assert_eq!(lab.ending(other), None, "it is learned per service (Q-12)");
    assert_eq!(lab.accept(0), None);
    assert!(lab.accept(1).is_some());
    lab.said();
    // What was begun with ids goes on with them: a change of dialect is illegal (6.1).
    lab.writes(ios[0], b"x");
    lab.says(&[data(1, "A", 1, b"x")]);
    lab.breaks(ios[0]);
    lab.says(&[stream_reset(1, "A")]);
    assert!(lab.accept(0).is_some());
    lab.says(&[stream_start(2, "A", 3)]);
}

#[test]
fn bytes_without_a_connection_id_never_reach_another_than_the_first_connection() {
    let mut lab = Lab::source(&["A"]);
    let first = lab.accept(0).unwrap();
    lab.breaks(first);
    let second = lab.accept(0).unwrap();
    lab.said();
    lab.gets(&[data(1, "A", 0, b"for the first")]);
    assert_eq!(lab.reads(second, 99), b"");
    assert_eq!(lab.ending(second), Some(Ended::Cut));
    lab.says(&[stream_reset(1, "A")]);
}

#[test]
fn a_peer_that_showed_connection_ids_does_not_unlearn_them() {
    let mut lab = Lab::source(&["A"]);
    let ios = [lab.accept(0).unwrap(), lab.accept(0).unwrap()];
    lab.gets(&[data(1, "A", 1, b"x"), data(1, "A", 0, b"odd")]);
    assert_eq!(lab.reads(ios[0], 9), b"x");
    assert_eq!(lab.ending(ios[1]), None);
}

#[test]
fn a_start_from_the_wrong_side_is_a_violation() {
    let mut lab = Lab::source(&["A"]);
    lab.accept(0).unwrap();
    lab.said();
    assert!(lab.get(&[stream_start(1, "A", 1)]).is_err());
    assert_eq!(lab.said().close, Some(1008));
    let mut lab = Lab::source(&["A"]);
    let io = lab.accept(0).unwrap();
    lab.gets(&[connection_start(1, "A", 1)]);
    assert_eq!(lab.ending(io), Some(Ended::Orderly), "that connection ends");
}

/// What `tcp.max_active_connections` means: one busy service leaves the others their share.
#[test]
fn each_service_has_a_bound_of_its_own_and_a_refusal_its_reason() {
    let mut settings = settings(Mode::Source, &["A", "B"]);
    settings.limits.service_connections_max = 2;
    settings.limits.connections_max = 3;
    let mut lab = Lab::running(settings, &["A", "B"]);
    let first = lab.accept(0).unwrap();
    lab.accept(0).unwrap();
    let full = Some(Unwelcome::ServiceFull { max: 2 });
    assert_eq!(lab.proxy.unwelcome(0), full);
    assert_eq!(lab.accept(0), None);
    lab.accept(1).unwrap();
    assert_eq!(lab.proxy.unwelcome(1), Some(Unwelcome::Full { max: 3 }));
    lab.gets(&[connection_reset(1, "A", 1)]);
    assert_eq!(lab.ending(first), Some(Ended::Orderly));
    lab.accept(0).unwrap();
    lab.proxy.drain();
    assert_eq!(lab.proxy.unwelcome(0), Some(Unwelcome::Ending));
    lab.lose();
    assert_eq!(lab.proxy.unwelcome(0), Some(Unwelcome::Down));
    let mut lab = Lab::speaking(&["A"], Dialect::V2);
    lab.accept(0).unwrap();
    assert_eq!(lab.proxy.unwelcome(0), Some(Unwelcome::OneAtATime));
}

/// Whoever has to know whether a transfer is whole asks this counter.
#[test]
fn a_connection_that_nobody_has_ended_counts_as_cut() {
    let cut = |dialect: Dialect, end: &dyn Fn(&mut Lab)| {
        let mut lab = Lab::speaking(&["A"], dialect);
        lab.accept(0).unwrap();
        end(&mut lab);
        lab.proxy.counters().cut
    };
    assert_eq!(cut(Dialect::V3, &|lab| lab.lose()), 1);
    // No peer, or nobody behind it (specification 8.3, 12).
    let stream = |lab: &mut Lab| lab.gets(&[stream_reset(1, "A")]);
    assert_eq!(cut(Dialect::V3, &stream), 1);
    let connection = |lab: &mut Lab| {
        lab.gets(&[connection_reset(1, "A", 1)]);
        lab.lose();
    };
    assert_eq!(cut(Dialect::V3, &connection), 0);
    // An older peer has no other word for an ordinary end.
    assert_eq!(cut(Dialect::V2, &stream), 0);
}
