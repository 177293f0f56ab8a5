//! Specification 8.4: sides that come, go, are replaced or absent.

use super::lab::*;
use crate::tunnel::flow::Flow;
use adit_proto::ids::Subprotocol;
use adit_proto::websocket::{CloseCode, Opcode};

#[test]
fn service_ids_come_first_and_once() {
    let mut lab = Lab::new(&["SSH", "HTTP"]);
    for side in [SOURCE, DESTINATION] {
        assert!(!lab.relay.is_present(side));
        lab.relay.connected(side, Subprotocol::V3);
        assert!(lab.relay.is_present(side));
        let [message] = &lab.answers(side)[..] else {
            panic!("one message")
        };
        assert_eq!(message.r#type(), Type::ServiceIds);
        assert_eq!(message.available_service_ids, ["SSH", "HTTP"]);
        assert!(!message.ignorable);
        assert_eq!(lab.said(side), Said::default());
    }
}

#[test]
fn a_tunnel_without_services_has_an_empty_list() {
    let mut lab = Lab::new(&[]);
    lab.relay.connected(SOURCE, Subprotocol::V3);
    let mut area = [0; 64];
    let (size, is_end) = lab.relay.outbox(SOURCE).write_messages(&mut area);
    assert_eq!(
        (&area[..size], is_end),
        (&[0x00, 0x02, 0x08, 0x05][..], true)
    );
}

#[test]
fn a_tunnel_without_services_needs_no_names() {
    let mut lab = Lab::v3(&[]);
    let messages = [
        stream_start(1, "", 1),
        data(1, "", 1, b"x"),
        connection_start(1, "", 2),
    ];
    lab.passes(SOURCE, &messages);
    assert_eq!(lab.places[2], 0, "nothing is rewritten");
}

#[test]
fn a_client_of_version_1_may_ignore_the_services() {
    let mut lab = Lab::new(&["A"]);
    lab.connect(SOURCE, Subprotocol::V1);
}

/// Specification 12, item 9.
#[test]
fn without_a_destination_applications_fail_fast() {
    let mut lab = Lab::new(&["A"]);
    lab.connect(SOURCE, Subprotocol::V3);
    assert_eq!(
        lab.pass(SOURCE, &[stream_start(1, "A", 1), data(1, "A", 1, b"x")]),
        []
    );
    assert_eq!(lab.answers(SOURCE), [stream_reset(1, "A")]);
    assert_eq!(lab.pass(SOURCE, &[connection_start(1, "A", 2)]), []);
    assert_eq!(lab.answers(SOURCE), [connection_reset(1, "A", 2)]);
    assert_eq!(lab.relay.counters(SOURCE).absent, 2);
    assert_eq!(
        lab.relay.counters(SOURCE).stale,
        1,
        "the stream was refused, so its data is late"
    );
}

#[test]
fn a_destination_that_comes_later_gets_the_next_stream() {
    let mut lab = Lab::new(&["A"]);
    lab.connect(SOURCE, Subprotocol::V3);
    lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    lab.answers(SOURCE);
    lab.connect(DESTINATION, Subprotocol::V3);
    assert_eq!(lab.pass(SOURCE, &[data(1, "A", 1, b"late")]), []);
    let next = [stream_start(2, "A", 2), data(2, "A", 2, b"x")];
    lab.passes(SOURCE, &next);
}

#[test]
fn every_active_stream_is_reset_when_a_side_is_lost() {
    for lost in [SOURCE, DESTINATION] {
        let mut lab = Lab::v3(&["A", "B", "C"]);
        lab.pass(
            SOURCE,
            &[
                stream_start(1, "A", 1),
                stream_start(7, "C", 1),
                stream_start(1, "B", 1),
            ],
        );
        lab.pass(SOURCE, &[stream_reset(1, "B")]);
        lab.relay.lost(lost);
        assert!(!lab.relay.is_present(lost));
        assert_eq!(
            lab.answers(lost.other()),
            [stream_reset(1, "A"), stream_reset(7, "C")]
        );
        lab.relay.lost(lost);
        assert_eq!(lab.answers(lost.other()), [], "once");
    }
}

/// Specification 10.2, the danger: the application of the old session must not meet the new one.
#[test]
fn a_restarted_source_does_not_get_data_of_its_old_stream() {
    let mut lab = Lab::v3(&["A"]);
    lab.pass(SOURCE, &[stream_start(1, "A", 1), data(1, "A", 1, b"old")]);
    lab.relay.lost(SOURCE);
    assert_eq!(lab.answers(DESTINATION), [stream_reset(1, "A")]);
    lab.connect(SOURCE, Subprotocol::V3);
    // Its ids begin at 1 again; the destination sees the stream under a name it has not had yet.
    let new = [stream_start(1, "A", 1), data(1, "A", 1, b"new")];
    assert_eq!(
        lab.pass(SOURCE, &new),
        [stream_start(2, "A", 1), data(2, "A", 1, b"new")]
    );
    // What the destination had sent before the reset reached it.
    let old = [
        data(1, "A", 1, b"of the old stream"),
        connection_reset(1, "A", 1),
    ];
    assert_eq!(lab.pass(DESTINATION, &old), []);
    let new = [
        data(2, "A", 1, b"of the new stream"),
        connection_reset(2, "A", 1),
    ];
    let seen = [
        data(1, "A", 1, b"of the new stream"),
        connection_reset(1, "A", 1),
    ];
    assert_eq!(lab.pass(DESTINATION, &new), seen);
    assert_eq!(
        lab.pass(DESTINATION, &[stream_reset(2, "A")]),
        [stream_reset(1, "A")]
    );
}

#[test]
fn a_stream_under_another_name_is_not_copied_while_the_name_is_as_long() {
    let mut lab = Lab::v3(&["A"]);
    for last in 126..129 {
        lab.pass(
            SOURCE,
            &[stream_start(last, "A", 1), stream_reset(last, "A")],
        );
        lab.places = [0; 3];
        let messages = [
            stream_start(1, "A", 1),
            data(1, "A", 1, &[7; 3000]),
            stream_reset(1, "A"),
        ];
        let seen = lab.pass(SOURCE, &messages);
        let id = last + 1;
        assert_eq!(
            seen,
            [
                stream_start(id, "A", 1),
                data(id, "A", 1, &[7; 3000]),
                stream_reset(id, "A")
            ]
        );
        assert_eq!(lab.places[2] == 0, id < 128, "{id}: {:?}", lab.places);
        lab.relay.lost(DESTINATION);
        lab.connect(DESTINATION, Subprotocol::V3);
    }
}

#[test]
fn a_restarted_destination_sees_the_sources_own_stream_ids() {
    let mut lab = Lab::v3(&["A"]);
    lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    lab.relay.lost(SOURCE);
    lab.relay.lost(DESTINATION);
    lab.connect(SOURCE, Subprotocol::V3);
    lab.connect(DESTINATION, Subprotocol::V3);
    let messages = [stream_start(1, "A", 1), data(1, "A", 1, b"x")];
    lab.passes(SOURCE, &messages);
}

#[test]
fn stream_ids_wrap_to_1() {
    let mut lab = Lab::v3(&["A"]);
    let last = [stream_start(i32::MAX, "A", 1), stream_reset(i32::MAX, "A")];
    lab.passes(SOURCE, &last);
    let first = [stream_start(1, "A", 2), data(1, "A", 2, b"x")];
    lab.passes(SOURCE, &first);
}

/// Specification 17, Q-04.
#[test]
fn half_a_message_of_a_lost_session_is_forgotten() {
    let mut lab = Lab::v3(&["A"]);
    lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    let cut = encode(&data(1, "A", 1, &[1; 3000]));
    let mut bytes = frame(&cut);
    bytes.truncate(bytes.len() - 100);
    assert_eq!(lab.receive(SOURCE, bytes), Ok(Flow::Done));
    lab.relay.lost(SOURCE);
    lab.said(DESTINATION);
    lab.connect(SOURCE, Subprotocol::V3);
    assert_eq!(
        lab.pass(SOURCE, &[stream_start(7, "A", 1)]),
        [stream_start(7, "A", 1)]
    );
}

#[test]
fn a_new_session_may_speak_another_dialect() {
    let mut lab = Lab::v3(&["A"]);
    lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    lab.relay.lost(SOURCE);
    lab.said(DESTINATION);
    lab.connect(SOURCE, Subprotocol::V3);
    assert_eq!(
        lab.pass(SOURCE, &[stream_start(5, "", 0)]),
        [stream_start(5, "A", 0)]
    );
}

/// A reference source stops reading at STREAM_RESET (specification 17, Q-05), so the end of the
/// tunnel is told to both sides with close frames only.
#[test]
fn the_end_of_a_tunnel_is_a_close_frame_to_both() {
    let mut lab = Lab::v3(&["A"]);
    lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    for side in [SOURCE, DESTINATION] {
        lab.relay.close(side, CloseCode::Normal, "tunnel closed");
    }
    for side in [SOURCE, DESTINATION] {
        lab.relay.lost(side);
        if side == SOURCE {
            let said = lab.said(DESTINATION);
            assert_eq!((said.messages, said.close), (vec![], Some(1000)));
        }
    }
}

#[test]
fn a_side_that_is_being_closed_is_as_good_as_absent() {
    let mut lab = Lab::v3(&["A", "B"]);
    lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    lab.relay.close(DESTINATION, CloseCode::Normal, "rotated");
    assert!(lab.relay.is_present(DESTINATION));
    assert_eq!(
        lab.pass(SOURCE, &[data(1, "A", 1, b"x"), stream_start(1, "B", 1)]),
        []
    );
    assert_eq!(lab.answers(SOURCE), [stream_reset(1, "B")]);
    assert_eq!(lab.relay.counters(SOURCE).absent, 2);
    assert_eq!(
        lab.pass(DESTINATION, &[data(1, "A", 1, b"x")]),
        [],
        "nor is it listened to"
    );
    let answer = client_control(Opcode::Close, &[0x03, 0xe8]);
    assert_eq!(
        lab.receive(DESTINATION, answer),
        Ok(Flow::Closed(Some(1000)))
    );
    assert_eq!(lab.said(DESTINATION).close, Some(1000), "one close frame");
    lab.relay.lost(DESTINATION);
    assert_eq!(lab.answers(SOURCE), [stream_reset(1, "A")]);
}

#[test]
fn nothing_is_read_from_a_side_that_is_not_there() {
    let mut lab = Lab::new(&["A"]);
    assert_eq!(lab.receive(SOURCE, frame(b"\0\0")), Ok(Flow::Done));
    lab.relay.close(SOURCE, CloseCode::Normal, "");
    assert_eq!(lab.said(SOURCE), Said::default());
}

#[test]
fn forwarded_messages_and_bytes_are_counted_for_their_sender() {
    let mut lab = Lab::connected(&["A"], Subprotocol::V3, Subprotocol::V1);
    let messages = [stream_start(1, "A", 1), data(1, "A", 1, b"hello")];
    lab.send(SOURCE, &messages).unwrap();
    let bytes = lab.forwarded_bytes(DESTINATION);
    let counters = lab.relay.counters(SOURCE);
    assert_eq!(
        (counters.messages_forwarded, counters.bytes_forwarded),
        (2, bytes.len() as u64)
    );
    assert_eq!(lab.relay.counters(DESTINATION).messages_forwarded, 0);
    lab.relay.lost(SOURCE);
    assert_eq!(
        lab.relay.counters(SOURCE).messages_forwarded,
        2,
        "over all sessions"
    );
}

/// The source of AWS's toolkit for editors starts its stream but once, and goes on with CONNECTION_START whatever became of
/// it (specification 7.3).
#[test]
fn a_connection_starts_a_stream_where_the_source_has_none_yet() {
    // It was refused, and what follows may not know that yet.
    let mut lab = Lab::new(&["A"]);
    lab.connect(SOURCE, Subprotocol::V3);
    assert_eq!(lab.pass(SOURCE, &[stream_start(1, "A", 1)]), []);
    lab.connect(DESTINATION, Subprotocol::V3);
    assert_eq!(lab.pass(SOURCE, &[connection_start(1, "A", 2)]), []);
    let said = [stream_reset(1, "A"), connection_reset(1, "A", 2)];
    assert_eq!(lab.said(SOURCE).messages, said);
    // Its link is lost, and comes back.
    lab.relay.lost(SOURCE);
    lab.connect(SOURCE, Subprotocol::V3);
    let seen = lab.pass(
        SOURCE,
        &[connection_start(1, "A", 2), data(1, "A", 2, b"x")],
    );
    assert_eq!(seen, [stream_start(1, "A", 2), data(1, "A", 2, b"x")]);
    // Its link is lost, and comes back.
    lab.relay.lost(SOURCE);
    lab.said(DESTINATION);
    lab.connect(SOURCE, Subprotocol::V3);
    let seen = lab.pass(
        SOURCE,
        &[connection_start(1, "A", 3), data(1, "A", 3, b"y")],
    );
    assert_eq!(seen, [stream_start(2, "A", 3), data(2, "A", 3, b"y")]);
    // What comes about a stream that has ended meanwhile is late.
    lab.pass(DESTINATION, &[stream_reset(2, "A")]);
    assert_eq!(lab.pass(SOURCE, &[connection_start(1, "A", 4)]), []);
    assert_eq!(lab.said(SOURCE).messages, [connection_reset(1, "A", 4)]);
    // The relay is another one, and the destination is not back yet: no violation.
    let mut lab = Lab::new(&["A"]);
    lab.connect(SOURCE, Subprotocol::V3);
    assert_eq!(
        lab.pass(
            SOURCE,
            &[connection_start(1, "A", 5), data(1, "A", 5, b"z")]
        ),
        []
    );
    assert_eq!(lab.said(SOURCE).messages, [connection_reset(1, "A", 5)]);
}
