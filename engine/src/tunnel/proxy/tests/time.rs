//! What waits for time: pings, half-closed and flushing connections, and that nothing spins.

use super::lab::*;
use crate::tunnel::flow::Flow;
use crate::tunnel::limits::Limits;
use crate::tunnel::proxy::ProxySettings;
use adit_proto::ids::{Dialect, Mode};
use adit_proto::websocket::{Opcode, write_control};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn with(mode: Mode, change: impl Fn(&mut Limits)) -> Lab {
    let mut settings: ProxySettings = settings(mode, &["A"]);
    change(&mut settings.limits);
    Lab::running(settings, &["A"])
}

fn pong(lab: &mut Lab, payload: &[u8]) {
    let mut bytes = Vec::new();
    write_control(Opcode::Pong, payload, None, &mut bytes);
    lab.input(bytes).unwrap();
}

/// A connection in which the application spoke last.
fn asked(lab: &mut Lab) -> u32 {
    let io = lab.accept(0).unwrap();
    lab.writes(io, b"question");
    lab.said();
    io
}

#[test]
fn an_application_that_asked_and_ended_gets_its_answer() {
    let mut lab = Lab::source(&["A"]);
    let io = asked(&mut lab);
    lab.finishes(io);
    lab.says(&[]);
    for _ in 0..5 {
        lab.wait(SECOND * 3 / 2);
        lab.gets(&[data(1, "A", 1, b"some ")]);
    }
    lab.gets(&[data(1, "A", 1, b"more"), connection_reset(1, "A", 1)]);
    assert_eq!(lab.reads(io, 99), b"some some some some some more");
    assert_eq!(lab.ending(io), Some(Ended::Orderly));
    lab.is_empty();
}

#[test]
fn an_application_that_asked_and_ended_is_done_after_the_grace_time() {
    let mut lab = Lab::source(&["A"]);
    let io = asked(&mut lab);
    lab.finishes(io);
    lab.says(&[]);
    lab.wait(SECOND);
    lab.says(&[]);
    lab.wait(SECOND);
    lab.says(&[connection_reset(1, "A", 1)]);
    assert_eq!(lab.ending(io), Some(Ended::Orderly));
    lab.is_empty();
}

#[test]
fn an_answer_that_had_begun_before_the_end_arrives_whole() {
    let mut lab = Lab::source(&["A"]);
    let io = asked(&mut lab);
    lab.gets(&[data(1, "A", 1, b"half ")]);
    lab.finishes(io);
    lab.says(&[]);
    for _ in 0..10 {
        lab.wait(SECOND * 3 / 2);
        lab.gets(&[data(1, "A", 1, b"and ")]);
    }
    lab.gets(&[data(1, "A", 1, b"half"), connection_reset(1, "A", 1)]);
    assert_eq!(
        lab.ending(io),
        Some(Ended::Orderly),
        "with the answer's end"
    );
    assert_eq!(
        lab.reads(io, 99),
        b"half and and and and and and and and and and half"
    );
    lab.says(&[]);
    lab.is_empty();
}

/// Somebody who reads nothing holds up the tunnel, and with it the answer: that is no silence.
#[test]
fn an_answer_behind_what_nobody_reads_is_waited_for() {
    let mut lab = with(Mode::Source, |limits| {
        limits.connection_buffer = 256 * 1024;
        limits.stall_timeout = SECOND * 3600;
    });
    lab.room = 100;
    let reads_nothing = lab.accept(0).unwrap();
    lab.room = 64 * 1024;
    let io = asked(&mut lab);
    lab.finishes(io);
    lab.says(&[]);
    let mut messages = vec![data(1, "A", 1, &[7; 60_000]); 6];
    messages.push(data(1, "A", 2, b"answer"));
    assert_eq!(lab.get(&messages), Ok(Flow::Paused));
    lab.wait(SECOND * 60);
    assert_eq!(lab.ending(io), None);
    lab.widen(usize::MAX);
    lab.writable(reads_nothing);
    lab.go_on().unwrap();
    assert_eq!(lab.reads(io, 99), b"answer");
    lab.wait(SECOND);
    assert_eq!(lab.ending(io), None, "from there on it has its grace time");
    lab.wait(SECOND);
    lab.says(&[connection_reset(1, "A", 2)]);
    assert_eq!(lab.ending(io), Some(Ended::Orderly));
}

#[test]
fn an_application_that_closed_completely_is_done_with_the_first_answer_it_refuses() {
    let mut lab = Lab::source(&["A"]);
    let io = asked(&mut lab);
    lab.gets(&[data(1, "A", 1, b"answer")]);
    lab.finishes(io);
    lab.says(&[]);
    // The system took the bytes, and then told that nobody wanted them.
    lab.gets(&[data(1, "A", 1, b"more")]);
    lab.breaks(io);
    lab.says(&[connection_reset(1, "A", 1)]);
    assert_eq!(lab.ending(io), Some(Ended::Cut));
    lab.is_empty();
}

#[test]
fn at_the_bound_the_quietest_half_closed_connection_makes_way() {
    let mut lab = with(Mode::Source, |limits| limits.connections_max = 3);
    let ios: Vec<u32> = (0..3).map(|_| lab.accept(0).unwrap()).collect();
    for io in [ios[1], ios[0]] {
        lab.finishes(io);
        lab.said();
        lab.wait(SECOND / 2);
    }
    lab.gets(&[data(1, "A", 2, b"not so quiet")]);
    lab.accept(0).unwrap();
    lab.says(&[connection_reset(1, "A", 1), connection_start(1, "A", 4)]);
    assert_eq!(lab.ending(ios[0]), Some(Ended::Orderly));
    lab.accept(0).unwrap();
    lab.act();
    assert_eq!(lab.ending(ios[1]), Some(Ended::Orderly));
    assert_eq!(lab.accept(0), None, "the others are open");
    assert_eq!(lab.ending(ios[2]), None);
}

#[test]
fn who_comes_after_the_only_connection_of_an_old_peer_waits_for_its_grace_time() {
    let mut lab = Lab::speaking(&["A"], Dialect::V2);
    let io = lab.accept(0).unwrap();
    assert!(
        !lab.proxy.keeps_waiting(0),
        "it would wait for as long as the other likes"
    );
    lab.finishes(io);
    lab.said();
    assert!(lab.proxy.keeps_waiting(0) && lab.proxy.unwelcome(0).is_some());
    lab.wait(SECOND * 3);
    assert!(!lab.proxy.keeps_waiting(0) && lab.proxy.unwelcome(0).is_none());
}

#[test]
fn a_service_that_answered_and_ends_is_done_at_once() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[stream_start(1, "A", 1), data(1, "A", 1, b"question")]);
    let io = lab.dialled().unwrap();
    lab.writes(io, b"answer");
    lab.finishes(io);
    lab.says(&[data(1, "A", 1, b"answer"), connection_reset(1, "A", 1)]);
    assert_eq!(lab.ending(io), Some(Ended::Orderly));
}

#[test]
fn without_a_grace_time_a_slow_application_still_gets_all_of_it() {
    let mut lab = with(Mode::Source, |limits| {
        limits.half_close_grace = Duration::ZERO;
    });
    lab.room = 1;
    let io = asked(&mut lab);
    lab.gets(&[data(1, "A", 1, b"ab")]);
    lab.finishes(io);
    lab.said();
    lab.wait(SECOND);
    assert_eq!(lab.reads(io, 1), b"a");
    assert_eq!(lab.reads(io, 1), b"b");
    lab.wait(SECOND);
    lab.says(&[connection_reset(1, "A", 1)]);
    lab.is_empty();
}

#[test]
fn what_was_sent_before_the_end_waits_for_a_reader_that_pauses() {
    let mut lab = Lab::source(&["A"]);
    lab.room = 4;
    let io = lab.accept(0).unwrap();
    lab.gets(&[
        data(1, "A", 1, b"a page of text"),
        connection_reset(1, "A", 1),
    ]);
    // Somebody reads in a pager.
    lab.wait(SECOND * 240);
    assert_eq!(lab.reads(io, 4), b"a pa");
    lab.wait(SECOND * 240);
    assert_eq!(lab.ending(io), None);
    lab.wait(SECOND * 120);
    assert_eq!(lab.ending(io), Some(Ended::Cut), "nobody reads any more");
    lab.is_empty();
}

#[test]
fn timers_are_bounded_by_connections() {
    let mut lab = Lab::source(&["A"]);
    lab.room = 1;
    for id in 1..2_000 {
        let io = lab.accept(0).unwrap();
        lab.writes(io, b"question");
        lab.finishes(io);
        lab.said();
        lab.gets(&[data(1, "A", id, b"answer"), connection_reset(1, "A", id)]);
        lab.reads(io, 1);
        lab.breaks(io);
        lab.writable(io);
        assert_eq!(lab.proxy.connection_count(), 0);
        assert!(lab.proxy.timers.watched_count() <= 128);
    }
}

#[test]
fn pings_leave_on_time_and_each_has_an_answer() {
    let mut lab = Lab::source(&["A"]);
    lab.wait(SECOND * 20);
    assert_eq!(lab.said().pings, 1);
    let mut bytes = Vec::new();
    write_control(Opcode::Ping, b"are you there", None, &mut bytes);
    lab.input(bytes).unwrap();
    let said = lab.said();
    assert_eq!(said.pongs, [b"are you there"]);
    // An odd pong ends nothing (specification 17, Q-08).
    pong(&mut lab, b"not a number");
    assert_eq!(lab.proxy.round_trip(), None);
    lab.wait(SECOND / 2);
    pong(&mut lab, b"2");
    assert_eq!(lab.proxy.round_trip(), Some(SECOND / 2));
}

#[test]
fn a_link_that_never_answered_is_not_dead_and_one_that_stopped_is() {
    let mut lab = Lab::source(&["A"]);
    lab.wait(SECOND * 600);
    assert!(!lab.is_link_dead);
    lab.said();
    pong(&mut lab, b"x");
    lab.wait(SECOND * 40);
    assert!(!lab.is_link_dead);
    lab.wait(SECOND * 20);
    assert!(lab.is_link_dead);
}

#[test]
fn a_link_that_still_carries_what_an_ended_connection_sent_is_only_suspect() {
    let mut lab = Lab::destination(&["A"]);
    lab.wait(Duration::ZERO);
    pong(&mut lab, b"1");
    lab.gets(&[stream_start(1, "A", 1)]);
    let io = lab.dialled().unwrap();
    lab.writes(io, &[7; 50_000]);
    lab.finishes(io);
    lab.said();
    assert_eq!(
        lab.ending(io),
        Some(Ended::Orderly),
        "all was sent, and it is over"
    );
    // The pings wait behind it on a slow network, or at a relay that holds to a quota.
    lab.wait(Duration::from_secs(200));
    assert!(!lab.is_link_dead && lab.suspects > 0);
    // An answer to an earlier ping proves nothing about what was sent after it.
    pong(&mut lab, b"1");
    lab.wait(Duration::from_secs(200));
    assert!(!lab.is_link_dead);
    pong(&mut lab, b"5");
    lab.wait(Duration::from_secs(100));
    assert!(
        lab.is_link_dead,
        "all of it has arrived, and then it was silent"
    );
}

#[test]
fn a_link_without_connections_is_not_suspected_for_ever() {
    let mut lab = Lab::destination(&["A"]);
    lab.wait(Duration::ZERO);
    pong(&mut lab, b"1");
    lab.gets(&[stream_start(1, "A", 1)]);
    let io = lab.dialled().unwrap();
    lab.writes(io, &[7; 100]);
    lab.finishes(io);
    lab.said();
    // Whoever acknowledges is a proxy on the way, and behind it nobody is left.
    lab.wait(SECOND * 500);
    assert!(!lab.is_link_dead);
    lab.wait(SECOND * 200);
    assert!(lab.is_link_dead);
}

#[test]
fn with_connections_open_a_silent_link_is_only_suspect() {
    let mut lab = Lab::source(&["A"]);
    lab.accept(0).unwrap();
    pong(&mut lab, b"x");
    lab.wait(SECOND * 40);
    assert_eq!(lab.suspects, 0);
    lab.wait(SECOND * 20);
    assert_eq!((lab.suspects, lab.is_link_dead), (1, false));
}

#[test]
fn a_link_that_we_do_not_read_is_not_dead() {
    let mut lab = with(Mode::Source, |limits| limits.stall_timeout = SECOND * 3600);
    lab.room = 1;
    lab.accept(0).unwrap();
    pong(&mut lab, b"x");
    while !lab.proxy.is_paused() {
        let _ = lab.get(&[data(1, "A", 1, &[1; 60_000])]);
    }
    lab.wait(SECOND * 600);
    assert_eq!((lab.suspects, lab.is_link_dead), (0, false));
}

/// The end of its link waits behind what it does not read: only a ping that cannot be sent shows that it is gone.
#[test]
fn a_proxy_that_does_not_read_pings_more_often() {
    let mut lab = with(Mode::Source, |limits| limits.stall_timeout = SECOND * 3600);
    lab.room = 1;
    lab.accept(0).unwrap();
    lab.wait(SECOND * 2);
    lab.said();
    while !lab.proxy.is_paused() {
        let _ = lab.get(&[data(1, "A", 1, &[1; 60_000])]);
    }
    for after in [3, 5, 5] {
        lab.wait(SECOND * after - SECOND / 2);
        assert_eq!(lab.said().pings, 0);
        lab.wait(SECOND / 2);
        assert_eq!(lab.said().pings, 1);
    }
}
