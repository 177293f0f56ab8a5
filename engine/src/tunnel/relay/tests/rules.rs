//! Specification 12, item 5: what makes the relay refuse a client, rule by rule.

use super::lab::*;
use crate::tunnel::error::PeerError;
use crate::tunnel::flow::Flow;
use adit_proto::ids::{Mode, Subprotocol};
use adit_proto::limits::MAX_PAYLOAD_SIZE;
use adit_proto::message::Kind;
use adit_proto::websocket::{CloseCode, FrameError, Opcode};
use std::time::{Duration, Instant};

/// Both sides connected, stream 1 with connection 1 of service A open.
fn open() -> Lab {
    let mut lab = Lab::v3(&["A", "B"]);
    let start = stream_start(1, "A", 1);
    lab.passes(SOURCE, &[start]);
    lab
}

#[track_caller]
fn refused_with(from: Mode, message: &Message, code: CloseCode) -> PeerError {
    let mut lab = open();
    let error = lab.refused(from, message);
    assert_eq!(error.close_code(), code, "{error}");
    let nothing = lab.send(from, &[data(1, "A", 1, b"late")]);
    assert_eq!(nothing, Ok(Flow::Done), "what follows is thrown away");
    assert_eq!(lab.forwarded(from.other()), []);
    lab.close_and_lose(from, error.close_code());
    assert_eq!(lab.answers(from.other()), [stream_reset(1, "A")]);
    error
}

#[test]
fn type_zero_is_refused_even_if_ignorable() {
    for ignorable in [false, true] {
        let message = Message {
            ignorable,
            ..Message::default()
        };
        for from in [SOURCE, DESTINATION] {
            let error = refused_with(from, &message, CloseCode::Protocol);
            assert_eq!(error, PeerError::UnknownType(0));
        }
    }
}

#[test]
fn an_unknown_type_is_refused() {
    for raw in [8, 99, -1, i32::MAX] {
        let message = Message {
            r#type: raw,
            ..data(1, "A", 1, b"x")
        };
        let error = refused_with(SOURCE, &message, CloseCode::Protocol);
        assert_eq!(error, PeerError::UnknownType(raw));
    }
}

#[test]
fn an_unknown_type_that_may_be_ignored_ends_at_the_relay() {
    let mut lab = open();
    let message = Message {
        r#type: 99,
        ignorable: true,
        ..data(0, "nobody", 0, b"x")
    };
    for from in [SOURCE, DESTINATION] {
        assert_eq!(lab.pass(from, std::slice::from_ref(&message)), []);
        assert_eq!(lab.relay.counters(from).ignored, 1);
    }
    let after = data(1, "A", 1, b"still open");
    lab.passes(SOURCE, &[after]);
}

#[test]
fn session_reset_and_service_ids_are_the_services() {
    for (kind, raw) in [
        (Kind::SessionReset, Type::SessionReset),
        (Kind::ServiceIds, Type::ServiceIds),
    ] {
        for from in [SOURCE, DESTINATION] {
            let error = refused_with(from, &message(raw, 0, "", 0), CloseCode::Policy);
            assert!(matches!(error, PeerError::Misplaced { kind: it, .. } if it == kind));
        }
    }
}

#[test]
fn only_the_source_starts_streams_and_connections() {
    refused_with(DESTINATION, &stream_start(2, "A", 1), CloseCode::Policy);
    refused_with(DESTINATION, &connection_start(1, "A", 2), CloseCode::Policy);
}

#[test]
fn stream_ids_are_positive_on_every_stream_message() {
    for id in [0, -1, i32::MIN] {
        for kind in [
            Type::Data,
            Type::StreamStart,
            Type::StreamReset,
            Type::ConnectionStart,
            Type::ConnectionReset,
        ] {
            let error = refused_with(SOURCE, &message(kind, id, "A", 1), CloseCode::Protocol);
            assert!(matches!(error, PeerError::StreamId { id: it, .. } if it == id));
        }
    }
}

#[test]
fn connection_messages_name_a_connection() {
    refused_with(SOURCE, &connection_start(1, "A", 0), CloseCode::Policy);
    refused_with(SOURCE, &connection_reset(1, "A", 0), CloseCode::Policy);
    refused_with(DESTINATION, &connection_reset(1, "A", 0), CloseCode::Policy);
}

#[test]
fn a_payload_is_at_most_63_kib() {
    let mut lab = open();
    let largest = data(1, "A", 1, &vec![7; MAX_PAYLOAD_SIZE]);
    lab.passes(SOURCE, &[largest]);
    let over = data(1, "A", 1, &vec![7; MAX_PAYLOAD_SIZE + 1]);
    let error = refused_with(DESTINATION, &over, CloseCode::TooBig);
    assert_eq!(
        error,
        PeerError::PayloadTooLarge {
            size: MAX_PAYLOAD_SIZE + 1
        }
    );
}

#[test]
fn a_service_is_one_of_the_tunnels() {
    let error = refused_with(SOURCE, &stream_start(1, "C", 1), CloseCode::Policy);
    assert_eq!(error, PeerError::UnknownService("C".into()));
    let mut lab = Lab::v3(&[]);
    lab.refused(SOURCE, &stream_start(1, "A", 1));
}

#[test]
fn an_unknown_service_is_shown_without_what_a_terminal_acts_on() {
    let name = format!("\x1b[2J{}", "x".repeat(60_000));
    let error = refused_with(SOURCE, &stream_start(1, &name, 1), CloseCode::Policy).to_string();
    assert!(error.len() < 300 && !error.contains('\x1b'), "{error}");
}

#[test]
fn a_service_is_named_when_there_are_several() {
    let error = refused_with(SOURCE, &stream_start(1, "", 1), CloseCode::Policy);
    assert_eq!(error, PeerError::ServiceMissing { count: 2 });
}

#[test]
fn the_only_service_may_be_left_out_by_a_side_that_always_does() {
    let mut lab = Lab::v3(&["A"]);
    assert_eq!(
        lab.pass(SOURCE, &[stream_start(1, "", 1)]),
        [stream_start(1, "A", 1)]
    );
    let error = lab.refused(SOURCE, &data(1, "A", 1, b"x"));
    assert_eq!(error, PeerError::DialectChange("service ids"));

    let mut lab = Lab::v3(&["A"]);
    lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    let error = lab.refused(SOURCE, &data(1, "", 1, b"x"));
    assert_eq!(error, PeerError::DialectChange("service ids"));
}

#[test]
fn unknown_fields_are_refused() {
    let mut encoded = encode(&data(1, "A", 1, b"x"))[2..].to_vec();
    encoded.extend([0x40, 0x01]);
    let mut lab = open();
    let error = lab.receive(SOURCE, frame(&prefixed(&encoded)));
    assert_eq!(error, Err(PeerError::UnknownField(Kind::Data)));
    assert_eq!(lab.forwarded(DESTINATION), []);
}

#[test]
fn what_is_no_message_is_refused() {
    let mut lab = open();
    let error = lab
        .receive(SOURCE, frame(&prefixed(&[0x08, 0x80])))
        .unwrap_err();
    assert!(matches!(error, PeerError::Message(_)));
    assert_eq!(error.close_code(), CloseCode::Protocol);
    let mut lab = open();
    let empty = lab.receive(SOURCE, frame(&prefixed(&[])));
    assert_eq!(empty, Err(PeerError::UnknownType(0)));
}

#[test]
fn connection_ids_do_not_come_or_go_within_a_stream() {
    let changes = PeerError::DialectChange("connection ids");
    assert_eq!(
        refused_with(SOURCE, &data(1, "A", 0, b"x"), CloseCode::Policy),
        changes
    );
    assert_eq!(
        refused_with(SOURCE, &stream_start(1, "A", 0), CloseCode::Policy),
        changes
    );

    let mut lab = Lab::v3(&["A"]);
    lab.pass(SOURCE, &[stream_start(1, "A", 0)]);
    assert_eq!(lab.refused(SOURCE, &data(1, "A", 1, b"x")), changes);

    let mut lab = open();
    lab.pass(DESTINATION, &[data(1, "A", 1, b"x")]);
    assert_eq!(lab.refused(DESTINATION, &data(1, "A", 0, b"x")), changes);
}

#[test]
fn services_of_one_side_may_differ_in_connection_ids() {
    let mut lab = open();
    let messages = [
        stream_start(1, "B", 0),
        data(1, "B", 0, b"b"),
        data(1, "A", 1, b"a"),
    ];
    lab.passes(SOURCE, &messages);
}

/// Specification 17, Q-19.
#[test]
fn a_stale_connection_id_on_stream_reset_is_stripped() {
    for from in [SOURCE, DESTINATION] {
        let mut lab = open();
        let stale = message(Type::StreamReset, 1, "A", 7);
        assert_eq!(lab.pass(from, &[stale]), [stream_reset(1, "A")]);
    }
}

#[test]
fn data_needs_a_stream_that_was_started_once() {
    for from in [SOURCE, DESTINATION] {
        let error = refused_with(from, &data(1, "B", 1, b"x"), CloseCode::Policy);
        assert!(matches!(
            error,
            PeerError::Misplaced {
                kind: Kind::Data,
                ..
            }
        ));
    }
    let mut lab = open();
    lab.pass(SOURCE, &[stream_reset(1, "A")]);
    for from in [SOURCE, DESTINATION] {
        assert_eq!(lab.pass(from, &[data(1, "A", 1, b"late")]), []);
        assert_eq!(lab.relay.counters(from).stale, 1);
    }
}

#[test]
fn what_belongs_to_no_current_stream_is_dropped() {
    let mut lab = open();
    for from in [SOURCE, DESTINATION] {
        let old = [
            data(2, "A", 1, b"x"),
            stream_reset(2, "A"),
            connection_reset(2, "A", 1),
        ];
        assert_eq!(lab.pass(from, &old), []);
        assert_eq!(lab.relay.counters(from).stale, 3);
    }
    assert_eq!(lab.pass(SOURCE, &[connection_start(2, "A", 5)]), []);
    assert_eq!(lab.answers(SOURCE), [connection_reset(2, "A", 5)]);
    let current = data(1, "A", 1, b"x");
    lab.passes(SOURCE, &[current]);
}

/// Specification 2 and 12, item 6.
#[test]
fn text_oversized_and_unmasked_frames_are_refused() {
    let cases = [
        (frame_with(Opcode::Text, true, b"x"), CloseCode::Unsupported),
        (frame(&vec![0; 131_077]), CloseCode::TooBig),
        (vec![0x82, 0x01, 0x00], CloseCode::Protocol),
    ];
    for (bytes, code) in cases {
        let mut lab = open();
        let error = lab.receive(SOURCE, bytes).unwrap_err();
        assert_eq!(error.close_code(), code, "{error}");
        assert!(matches!(error, PeerError::Frame(_)));
    }
    let largest = vec![0; 131_076];
    let mut lab = open();
    let error = lab.receive(SOURCE, frame(&largest)).unwrap_err();
    assert_eq!(
        error,
        PeerError::UnknownType(0),
        "the frame is read, its content is not good"
    );
    assert_ne!(error, PeerError::Frame(FrameError::Unmasked));
}

#[test]
fn messages_before_the_bad_one_are_forwarded() {
    let mut lab = open();
    let good = data(1, "A", 1, b"good");
    let result = lab.send(
        SOURCE,
        &[
            good.clone(),
            message(Type::SessionReset, 0, "", 0),
            good.clone(),
        ],
    );
    assert!(result.is_err());
    assert_eq!(lab.forwarded(DESTINATION), [good]);
}

#[test]
fn each_ping_is_answered_with_its_payload() {
    let mut lab = open();
    let pings = [&b"1795446956025"[..], b"", b"1795446976025"];
    let mut bytes: Vec<u8> = pings
        .iter()
        .flat_map(|payload| client_control(Opcode::Ping, payload))
        .collect();
    bytes.extend(client_control(Opcode::Pong, b"unsolicited"));
    assert_eq!(lab.receive(SOURCE, bytes), Ok(Flow::Done));
    let said = lab.said(SOURCE);
    assert_eq!(
        said,
        Said {
            pongs: pings.map(<[u8]>::to_vec).to_vec(),
            ..Said::default()
        }
    );
    assert_eq!(lab.said(DESTINATION), Said::default());
    assert_eq!(lab.relay.counters(SOURCE).pings, 3);
}

#[test]
fn of_many_pings_at_once_the_newest_are_answered() {
    let mut lab = open();
    let pings = (0..1000).map(|number: u32| number.to_string().into_bytes());
    let pings: Vec<Vec<u8>> = pings.collect();
    let bytes = pings.iter();
    let bytes = bytes.flat_map(|payload| client_control(Opcode::Ping, payload));
    assert_eq!(
        lab.receive(SOURCE, bytes.collect::<Vec<_>>()),
        Ok(Flow::Done)
    );
    assert_eq!(lab.said(SOURCE).pongs, pings[984..]);
}

/// One byte's worth of work for the sender, and no use to anybody.
#[test]
#[expect(clippy::disallowed_methods, reason = "some instant to start from")]
fn frames_without_end_that_carry_nothing_end_their_link() {
    let idle = [
        (Opcode::Ping, true),
        (Opcode::Pong, true),
        (Opcode::Continuation, false),
    ];
    for (opcode, fin) in idle {
        let mut lab = open();
        let mut now = Instant::now();
        lab.relay.tick(now);
        let first = frame_with(Opcode::Binary, false, b"");
        assert_eq!(lab.receive(DESTINATION, first), Ok(Flow::Done));
        let batch = frame_with(opcode, fin, b"").repeat(999);
        for _ in 0..1_000 {
            now += Duration::from_secs(1);
            lab.relay.tick(now);
            assert_eq!(lab.receive(DESTINATION, batch.clone()), Ok(Flow::Done));
        }
        let end = (0..200).find_map(|_| lab.receive(DESTINATION, batch.clone()).err());
        assert_eq!(end, Some(PeerError::Chatter), "{opcode:?}");
        assert_eq!(PeerError::Chatter.close_code(), CloseCode::Policy);
    }
}

#[test]
fn a_ping_between_the_parts_of_a_message_is_answered() {
    let mut lab = open();
    let message = data(1, "A", 1, &[5; 9000]);
    let encoded = encode(&message);
    let mut bytes = frame_with(Opcode::Binary, false, &encoded[..4096]);
    bytes.extend(client_control(Opcode::Ping, b"now"));
    bytes.extend(frame_with(
        Opcode::Continuation,
        false,
        &encoded[4096..8192],
    ));
    bytes.extend(frame_with(Opcode::Continuation, true, &encoded[8192..]));
    assert_eq!(lab.receive(SOURCE, bytes), Ok(Flow::Done));
    assert_eq!(lab.forwarded(DESTINATION), [message]);
    assert_eq!(lab.said(SOURCE).pongs, [b"now"]);
}

#[test]
fn a_close_frame_is_reported_and_answered() {
    let mut lab = open();
    let mut bytes = frame(&encode(&data(1, "A", 1, b"last")));
    bytes.extend(client_control(Opcode::Close, &[0x03, 0xe9]));
    bytes.extend(frame(&encode(&data(1, "A", 1, b"late"))));
    assert_eq!(lab.receive(SOURCE, bytes), Ok(Flow::Closed(Some(1001))));
    assert_eq!(lab.forwarded(DESTINATION), [data(1, "A", 1, b"last")]);
    assert_eq!(lab.said(SOURCE).close, Some(1000));
    assert_eq!(lab.receive(SOURCE, frame(b"anything")), Ok(Flow::Done));
    lab.relay.lost(SOURCE);
    assert_eq!(lab.answers(DESTINATION), [stream_reset(1, "A")]);
}

/// A peer that makes the relay answer is read only as fast as it takes the answers.
#[test]
fn a_full_outbox_pauses_its_own_side_only() {
    let mut lab = Lab::connected(&["A"], Subprotocol::V3, Subprotocol::V2);
    lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    let refused: Vec<u8> = (2..20_000)
        .flat_map(|id| encode(&connection_start(1, "A", id)))
        .collect();
    let (mut bytes, mut position, mut answered) = (frame(&refused[..131_000]), 0, 0);
    let mut pauses = 0;
    loop {
        let flow = lab
            .relay
            .handle_input(SOURCE, &mut bytes, &mut position)
            .unwrap();
        assert!(lab.relay.runs().is_empty());
        if flow == Flow::Paused {
            let here = position;
            assert_eq!(
                lab.relay.handle_input(SOURCE, &mut bytes, &mut position),
                Ok(Flow::Paused)
            );
            assert_eq!(position, here, "nothing is read while paused");
            assert_eq!(
                lab.pass(DESTINATION, &[data(1, "A", 0, b"x")]),
                [data(1, "A", 1, b"x")]
            );
            pauses += 1;
        }
        answered += lab.answers(SOURCE).len();
        if flow == Flow::Done {
            break;
        }
    }
    assert!(
        pauses >= 1,
        "131,000 bytes of refused connections exceed the outbox"
    );
    assert_eq!(answered as u64, lab.relay.counters(SOURCE).busy);
}
