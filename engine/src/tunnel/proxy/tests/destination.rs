//! Specification 8.3, rule by rule, and the defects of section 17 that a destination could have.

use super::lab::*;
use crate::tunnel::timers::FLUSH_TIMEOUT;
use std::io;
use std::time::Duration;

#[test]
fn data_that_comes_while_dialling_is_kept() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[
        stream_start(1, "A", 1),
        data(1, "A", 1, b"one "),
        connection_start(1, "A", 2),
        data(1, "A", 2, b"two"),
        data(1, "A", 1, b"more"),
    ]);
    let ios = [lab.dialled().unwrap(), lab.dialled().unwrap()];
    assert_eq!(lab.reads(ios[0], 99), b"one more");
    assert_eq!(lab.reads(ios[1], 99), b"two");
    lab.says(&[]);
}

#[test]
fn what_was_sent_before_the_end_is_delivered_though_the_dial_was_slow() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[
        stream_start(1, "A", 1),
        data(1, "A", 1, b"bye"),
        connection_reset(1, "A", 1),
    ]);
    let io = lab.dialled().unwrap();
    assert_eq!(lab.reads(io, 99), b"bye");
    assert_eq!(lab.ending(io), Some(Ended::Orderly));
    lab.is_empty();
    lab.says(&[]);
}

/// The application is down, and is dialled again and again.
#[test]
fn what_was_sent_before_the_end_is_not_kept_for_ever() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[
        stream_start(1, "A", 1),
        data(1, "A", 1, b"bye"),
        connection_reset(1, "A", 1),
    ]);
    lab.wait(FLUSH_TIMEOUT - Duration::from_secs(1));
    assert_eq!(lab.cancelled, 0);
    assert!(lab.proxy.queued_size() > 0);
    lab.wait(Duration::from_secs(2));
    assert_eq!((lab.cancelled, lab.proxy.queued_size()), (1, 0));
    assert_eq!(lab.dialled(), None);
    lab.is_empty();
}

#[test]
fn a_dial_that_nobody_wants_any_more_is_not_followed_by_another_in_its_place() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[stream_start(1, "A", 1)]);
    // A peer that opens and resets costs no more sockets than one that opens.
    for id in 2..100_000 {
        lab.gets(&[connection_start(1, "A", id), connection_reset(1, "A", id)]);
        if id % 1000 == 0 {
            lab.said();
        }
    }
    let bound = crate::tunnel::limits::Limits::default().connections_max;
    assert!(lab.dials.len() <= bound, "{} dials", lab.dials.len());
    lab.dialled().unwrap();
    lab.gets(&[connection_reset(1, "A", 1)]);
    while !lab.dials.is_empty() {
        assert_eq!(lab.dialled(), None);
    }
    lab.is_empty();
}

#[test]
fn a_failed_first_dial_ends_the_stream_and_a_later_one_only_itself() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[stream_start(1, "A", 1)]);
    lab.dial_failed();
    lab.says(&[stream_reset(1, "A")]);
    lab.gets(&[stream_start(2, "A", 2), connection_start(2, "A", 3)]);
    let io = lab.dialled().unwrap();
    lab.dial_failed();
    lab.says(&[connection_reset(2, "A", 3)]);
    // Also where it is alone: another one may be on its way, and must not end with it.
    lab.gets(&[connection_reset(2, "A", 2), connection_start(2, "A", 4)]);
    assert_eq!(lab.ending(io), Some(Ended::Orderly));
    lab.dial_failed();
    lab.says(&[connection_reset(2, "A", 4)]);
    lab.gets(&[connection_start(2, "A", 5)]);
    assert!(lab.dialled().is_some());
    lab.says(&[]);
}

#[test]
fn a_failed_dial_of_an_older_dialect_ends_the_stream() {
    for name in ["", "A"] {
        let mut lab = Lab::destination(&["A"]);
        lab.gets(&[stream_start(1, name, 0)]);
        lab.dial_failed();
        lab.says(&[stream_reset(1, name)]);
        lab.gets(&[stream_start(2, name, 0), data(2, name, 0, b"x")]);
        let io = lab.dialled().unwrap();
        assert_eq!(lab.reads(io, 9), b"x");
        lab.writes(io, b"y");
        lab.says(&[data(2, name, 0, b"y")]);
        lab.breaks(io);
        lab.says(&[stream_reset(2, name)]);
    }
}

#[test]
fn a_new_stream_replaces_the_old_one_and_is_itself_served() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[stream_start(1, "A", 1), data(1, "A", 1, b"old")]);
    let old = lab.dialled().unwrap();
    lab.gets(&[
        stream_start(2, "A", 1),
        data(1, "A", 1, b"late"),
        data(2, "A", 1, b"new"),
        stream_reset(1, "A"),
    ]);
    assert_eq!(lab.ending(old), Some(Ended::Orderly));
    let new = lab.dialled().unwrap();
    assert_eq!(lab.reads(old, 99), b"old");
    assert_eq!(lab.reads(new, 99), b"new");
}

#[test]
fn the_end_of_an_old_v2_stream_does_not_touch_the_new_one() {
    let mut lab = Lab::destination(&["A"]);
    lab.room = 2;
    lab.gets(&[stream_start(1, "A", 0)]);
    let old = lab.dialled().unwrap();
    lab.gets(&[data(1, "A", 0, b"flushing"), stream_start(2, "A", 0)]);
    let new = lab.dialled().unwrap();
    lab.breaks(old);
    lab.writable(old);
    assert_eq!(lab.ending(old), Some(Ended::Cut));
    lab.writes(new, b"x");
    lab.says(&[data(2, "A", 0, b"x")]);
    lab.gets(&[stream_start(3, "A", 0), stream_start(4, "A", 0)]);
    lab.dial_failed();
    lab.says(&[]);
    assert!(lab.dialled().is_some());
}

#[test]
fn the_same_stream_start_again_is_ignored() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[stream_start(1, "A", 1), stream_start(1, "A", 1)]);
    assert_eq!(lab.dials.len(), 1);
    assert!(lab.dialled().is_some());
    lab.says(&[]);
}

#[test]
fn a_connection_id_in_use_costs_that_connection_only() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[stream_start(1, "A", 1), connection_start(1, "A", 2)]);
    let ios = [lab.dialled().unwrap(), lab.dialled().unwrap()];
    lab.gets(&[connection_start(1, "A", 2)]);
    assert_eq!(lab.ending(ios[0]), None);
    assert_eq!(lab.ending(ios[1]), Some(Ended::Orderly));
    assert!(lab.dials.is_empty());
    lab.says(&[connection_reset(1, "A", 2)]);
}

#[test]
fn connection_start_without_a_stream_begins_one_and_of_another_stream_is_refused() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[connection_start(4, "A", 9), data(4, "A", 9, b"x")]);
    let io = lab.dialled().unwrap();
    assert_eq!(lab.reads(io, 9), b"x");
    lab.gets(&[connection_start(3, "A", 10)]);
    lab.says(&[connection_reset(3, "A", 10)]);
    assert!(lab.dials.is_empty());
}

#[test]
fn a_connection_start_that_crosses_the_end_of_its_stream_is_refused() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[stream_start(1, "A", 1)]);
    lab.dial_failed();
    lab.says(&[stream_reset(1, "A")]);
    // The source has not heard of it, and will end all connections of the stream when it does.
    lab.gets(&[connection_start(1, "A", 2), data(1, "A", 2, b"x")]);
    assert!(lab.dials.is_empty());
    lab.says(&[connection_reset(1, "A", 2)]);
    lab.gets(&[stream_start(2, "A", 3)]);
    assert!(lab.dialled().is_some());
}

#[test]
fn a_connection_start_without_an_id_is_not_answered() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[
        stream_start(1, "A", 1),
        connection_start(1, "A", 0),
        stream_start(0, "A", 1),
        stream_start(-1, "A", 1),
        stream_start(1, "B", 1),
        connection_start(1, "B", 1),
    ]);
    // A reset without an id would be a change of dialect, for which services end the WebSocket.
    lab.says(&[]);
    assert_eq!(lab.dials.len(), 1);
}

#[test]
fn a_source_without_service_ids_is_served_where_there_is_one_service() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[stream_start(1, "", 0), data(1, "", 0, b"x")]);
    let io = lab.dialled().unwrap();
    assert_eq!(lab.reads(io, 9), b"x");
    let mut lab = Lab::destination(&["A", "B"]);
    lab.gets(&[stream_start(1, "", 0)]);
    assert!(lab.dials.is_empty());
}

#[test]
fn a_tunnel_without_services_carries_many_connections() {
    let mut lab = Lab::destination(&[]);
    lab.gets(&[stream_start(1, "", 1), connection_start(1, "", 2)]);
    let ios = [lab.dialled().unwrap(), lab.dialled().unwrap()];
    lab.gets(&[data(1, "", 2, b"two"), data(1, "", 1, b"one")]);
    assert_eq!(lab.reads(ios[0], 9), b"one");
    assert_eq!(lab.reads(ios[1], 9), b"two");
    lab.writes(ios[1], b"back");
    lab.says(&[data(1, "", 2, b"back")]);
}

#[test]
fn a_proxy_that_drains_refuses_and_carries_on_with_what_is_open() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[stream_start(1, "A", 1)]);
    let io = lab.dialled().unwrap();
    lab.proxy.drain();
    lab.gets(&[connection_start(1, "A", 2), data(1, "A", 1, b"x")]);
    assert_eq!(lab.reads(io, 9), b"x");
    lab.says(&[connection_reset(1, "A", 2)]);
    lab.breaks(io);
    lab.wait(Duration::from_millis(1));
    lab.says(&[connection_reset(1, "A", 1)]);
    lab.is_empty();
    lab.proxy
        .close(adit_proto::websocket::CloseCode::Normal, "done");
    let said = lab.said();
    assert_eq!((said.messages, said.close), (vec![], Some(1000)));
    assert!(lab.proxy.is_closed());
}

#[test]
fn the_close_frame_leaves_behind_what_was_to_be_said() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[stream_start(1, "A", 1)]);
    lab.dial_failed();
    lab.proxy
        .close(adit_proto::websocket::CloseCode::Normal, "done");
    let first = lab.output();
    assert!(first.len() > 8 && !lab.proxy.is_closed());
    assert_eq!(lab.said().close, Some(1000));
    lab.says(&[]);
}

#[test]
fn a_connection_that_dies_within_a_batch_costs_the_others_nothing() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[
        stream_start(1, "A", 1),
        connection_start(1, "A", 2),
        connection_start(1, "A", 3),
    ]);
    let ios: Vec<u32> = (0..3).map(|_| lab.dialled().unwrap()).collect();
    lab.socket(ios[0]).is_broken = true;
    let two = lab.socket(ios[1]).key;
    lab.gets(&[
        data(1, "A", 1, b"lost"),
        data(1, "A", 2, b"kept "),
        data(1, "A", 3, b"x"),
        data(1, "A", 1, b"lost too"),
        data(1, "A", 2, b"whole"),
        connection_reset(1, "A", 2),
        data(1, "A", 2, b"after the end"),
        connection_start(1, "A", 4),
        data(1, "A", 4, b"new"),
    ]);
    assert_eq!(lab.ending(ios[1]), Some(Ended::Orderly));
    assert_eq!(lab.reads(ios[1], 99), b"kept whole");
    assert_eq!(lab.reads(ios[2], 99), b"x");
    assert_eq!(lab.proxy.writable(two), None, "its key is void");
    let new = lab.dialled().unwrap();
    assert_eq!(lab.reads(new, 99), b"new");
    lab.says(&[connection_reset(1, "A", 1)]);
    assert_eq!(lab.ending(ios[0]), Some(Ended::Cut));
}

#[test]
fn a_socket_that_was_reset_is_read_and_then_cut() {
    for is_queued in [false, true] {
        let (mut lab, io) = answered_and_broken(is_queued, io::ErrorKind::ConnectionReset);
        assert_eq!(lab.proxy.queued_size(), 0);
        lab.gets(&[data(1, "A", 1, b"lost as well")]);
        assert_eq!(lab.ending(io), None);
        lab.says(&[data(1, "A", 1, b"answer"), connection_reset(1, "A", 1)]);
        assert_eq!(lab.ending(io), Some(Ended::Cut));
        lab.is_empty();
    }
}

/// It may take the next bytes, and these were lost before them.
#[test]
fn a_socket_that_fails_otherwise_is_cut_at_once() {
    for is_queued in [false, true] {
        let (lab, io) = answered_and_broken(is_queued, io::ErrorKind::OutOfMemory);
        assert_eq!(lab.ending(io), Some(Ended::Cut));
    }
}

/// A connection whose application has said "answer", and whose socket has failed since, when it was offered something.
fn answered_and_broken(is_queued: bool, failure: io::ErrorKind) -> (Lab, u32) {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[stream_start(1, "A", 1)]);
    let io = lab.dialled().unwrap();
    lab.writes(io, b"answer");
    if is_queued {
        lab.gets(&[data(1, "A", 1, &[7; 60_000]), data(1, "A", 1, &[7; 60_000])]);
        assert!(lab.proxy.queued_size() > 0);
    }
    let socket = lab.socket(io);
    (socket.is_broken, socket.failure) = (true, failure);
    match is_queued {
        true => lab.writable(io),
        false => lab.gets(&[data(1, "A", 1, b"lost")]),
    }
    (lab, io)
}
