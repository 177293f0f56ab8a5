//! What survives a link, and what a session may be told about its services.

use super::lab::*;
use crate::tunnel::flow::Flow;
use crate::tunnel::proxy::ProxySettings;
use adit_proto::ids::Mode;
use std::time::Duration;

#[test]
fn nothing_survives_a_lost_link_but_what_was_over() {
    let mut lab = Lab::source(&["A"]);
    lab.room = 1;
    let ios: Vec<u32> = (0..2).map(|_| lab.accept(0).unwrap()).collect();
    lab.gets(&[
        data(1, "A", 1, b"whole"),
        connection_reset(1, "A", 1),
        data(1, "A", 2, b"cut"),
    ]);
    lab.lose();
    assert_eq!(lab.ending(ios[0]), None);
    assert_eq!(lab.ending(ios[1]), Some(Ended::Cut));
    assert_eq!(lab.accept(0), None, "the tunnel is down");
    lab.connect(&["A"]);
    // Under other names: what is on its way for the old connections must not reach the new one.
    let next = lab.accept(0).unwrap();
    lab.says(&[stream_start(2, "A", 3)]);
    lab.gets(&[data(1, "A", 2, b"late")]);
    assert_eq!(lab.reads(next, 4), b"");
    for byte in b"whole" {
        assert_eq!(lab.reads(ios[0], 1), [*byte]);
    }
    assert_eq!(lab.ending(ios[0]), Some(Ended::Orderly));
    assert_eq!(lab.proxy.connection_count(), 1);
}

#[test]
fn a_partial_message_does_not_meet_the_next_session() {
    let mut lab = Lab::source(&["A"]);
    assert_eq!(lab.input(frame(&[0, 9, 1])), Ok(Flow::Done));
    lab.lose();
    lab.connect(&["A"]);
}

#[test]
fn a_connection_that_flushes_may_outlive_its_service() {
    let mut lab = Lab::source(&["A", "B", "C"]);
    lab.room = 1;
    let io = lab.accept(2).unwrap();
    lab.gets(&[data(1, "C", 1, b"xyz"), connection_reset(1, "C", 1)]);
    lab.lose();
    lab.connect(&["A"]);
    assert_eq!(lab.listens, [0]);
    lab.wait(Duration::from_secs(20));
    for byte in b"xyz" {
        assert_eq!(lab.reads(io, 1), [*byte]);
    }
    lab.is_empty();
}

#[test]
fn listeners_stay_where_the_services_are_the_same() {
    let mut lab = Lab::source(&["A", "B"]);
    lab.lose();
    lab.connect(&["B", "A", "B"]);
    assert_eq!(lab.listens, [0, 1], "nothing was listened for anew");
}

#[test]
fn a_repeated_list_is_ignored_and_a_changed_one_is_a_violation() {
    for names in [&["A", "B"][..], &[]] {
        let mut lab = Lab::source(names);
        let io = lab.accept(0).unwrap();
        lab.said();
        let again: Vec<&str> = names.iter().rev().chain(names).copied().collect();
        lab.gets(&[service_ids(&again)]);
        assert_eq!(lab.ending(io), None);
        assert!(lab.get(&[service_ids(&["A"])]).is_err());
        assert_eq!(lab.said().close, Some(1008));
    }
}

#[test]
fn nothing_counts_before_the_list_of_services() {
    let mut lab = Lab::new(settings(Mode::Destination, &["A"]));
    lab.link_up();
    lab.gets(&[
        stream_start(1, "A", 1),
        data(1, "A", 1, b"x"),
        stream_reset(1, "A"),
        message(Type::SessionReset, 0, "", 0),
    ]);
    assert!(!lab.proxy.is_running() && lab.dials.is_empty());
    lab.gets(&[service_ids(&["A"]), stream_start(1, "A", 1)]);
    assert_eq!(lab.dials.len(), 1);
}

#[test]
fn services_that_do_not_fit_are_told_once() {
    let mut lab = Lab::new(settings(Mode::Destination, &["A"]));
    lab.link_up();
    lab.gets(&[service_ids(&["B"])]);
    assert_eq!(lab.mismatches, 1);
    assert!(!lab.proxy.is_running());
}

#[test]
fn a_list_that_no_service_sends_is_a_violation_and_shows_nothing_odd() {
    let many: Vec<String> = (0..129).map(|at| format!("s{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for names in [&many[..], &["a\u{1b}[2J"], &[""]] {
        let mut lab = Lab::new(ProxySettings {
            ..settings(Mode::Source, &["A"])
        });
        lab.link_up();
        let error = lab.get(&[service_ids(names)]).unwrap_err().to_string();
        assert!(!error.contains('\u{1b}') && error.len() < 400, "{error}");
    }
}

#[test]
fn messages_of_unknown_types_are_ignored_only_if_they_may_be() {
    let mut lab = Lab::source(&["A"]);
    let mut odd = message(Type::Unknown, 1, "A", 1);
    odd.r#type = 99;
    odd.ignorable = true;
    lab.gets(std::slice::from_ref(&odd));
    odd.ignorable = false;
    assert!(lab.get(&[odd]).is_err());
    assert_eq!(lab.said().close, Some(1002));
    let mut lab = Lab::source(&["A"]);
    assert!(
        lab.input(frame(&[0, 0])).is_err(),
        "an empty message has type 0"
    );
    let mut lab = Lab::source(&["A"]);
    assert!(lab.input(frame(&[0, 1, 0xff])).is_err());
}
