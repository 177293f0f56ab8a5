//! However the bytes are cut into buffers and frames, the other side gets the same.

use super::lab::*;
use crate::tunnel::flow::Flow;
use crate::tunnel::relay::{Run, RunPlace};
use adit_proto::ids::{Mode, Subprotocol};
use adit_proto::websocket::Opcode;

fn conversation() -> Vec<Message> {
    vec![
        stream_start(1, "A", 1),
        data(1, "A", 1, b"hello"),
        data(1, "A", 1, &[7; 200]),
        connection_start(1, "A", 300),
        data(1, "A", 300, b""),
        connection_reset(1, "A", 1),
        message(Type::StreamReset, 1, "A", 9),
        stream_start(2, "A", 301),
        data(2, "A", 301, b"bye"),
    ]
}

/// Frames of `content` whose sizes go round `sizes`.
fn frames(content: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut rest, mut bytes) = (content, Vec::new());
    for size in sizes.iter().cycle() {
        let (now, later) = rest.split_at(rest.len().min(*size));
        bytes.extend(frame(now));
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    bytes
}

fn received_in_pieces(offered: Subprotocol, bytes: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut lab = Lab::connected(&["A"], Subprotocol::V3, offered);
    let mut start = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        assert_eq!(
            lab.receive(SOURCE, bytes[start..end].to_vec()),
            Ok(Flow::Done)
        );
        start = end;
    }
    lab.forwarded_bytes(DESTINATION)
}

#[test]
fn cuts_at_every_byte_make_no_difference() {
    let content: Vec<u8> = conversation().iter().flat_map(encode).collect();
    let framings: [&[usize]; 4] = [&[usize::MAX], &[1], &[5, 60, 1], &[3]];
    for offered in [Subprotocol::V3, Subprotocol::V1] {
        let whole = received_in_pieces(offered, &frame(&content), &[]);
        for sizes in framings {
            let bytes = frames(&content, sizes);
            assert_eq!(received_in_pieces(offered, &bytes, &[]), whole);
            for cut in 1..bytes.len() {
                assert_eq!(
                    received_in_pieces(offered, &bytes, &[cut]),
                    whole,
                    "cut at {cut}"
                );
            }
            let every: Vec<usize> = (1..bytes.len()).collect();
            assert_eq!(received_in_pieces(offered, &bytes, &every), whole);
        }
    }
}

/// Runs of one buffer that must not need a second call.
fn runs_of(lab: &mut Lab, from: Mode, bytes: &mut [u8]) -> Vec<Run> {
    let mut position = 0;
    let flow = lab.relay.handle_input(from, bytes, &mut position);
    assert_eq!(flow, Ok(Flow::Done));
    let runs = lab.relay.runs().to_vec();
    lab.relay.clear_runs();
    runs
}

fn open() -> Lab {
    let mut lab = Lab::v3(&["A"]);
    lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    lab
}

#[test]
fn messages_of_one_frame_are_one_run_in_place() {
    let mut lab = open();
    lab.announce(DESTINATION);
    let content: Vec<u8> = (0..50)
        .flat_map(|n| encode(&data(1, "A", 1, &[n; 30])))
        .collect();
    let mut bytes = frame(&content);
    let runs = runs_of(&mut lab, SOURCE, &mut bytes);
    let start = bytes.len() - content.len();
    let place = RunPlace::Buffer(start..bytes.len());
    assert_eq!(
        runs,
        [Run {
            place,
            ends_frame: false
        }]
    );
    assert_eq!(bytes[start..], content, "unmasked where it lies");
}

#[test]
fn a_dropped_message_parts_two_runs() {
    let mut lab = open();
    let parts = [
        data(1, "A", 1, b"a"),
        data(9, "A", 1, b"stale"),
        data(1, "A", 1, b"b"),
    ];
    let mut bytes = frame(&parts.iter().flat_map(encode).collect::<Vec<_>>());
    assert_eq!(runs_of(&mut lab, SOURCE, &mut bytes).len(), 2);
}

/// Specification 12, item 4.
#[test]
fn a_start_or_reset_of_a_stream_is_the_last_of_its_run() {
    let mut lab = open();
    lab.announce(DESTINATION);
    let parts = [
        data(1, "A", 1, b"a"),
        stream_reset(1, "A"),
        stream_start(2, "A", 2),
        data(2, "A", 2, b"b"),
        connection_start(2, "A", 3),
        data(2, "A", 3, b"c"),
    ];
    let mut bytes = frame(&parts.iter().flat_map(encode).collect::<Vec<_>>());
    let runs = runs_of(&mut lab, SOURCE, &mut bytes);
    let ends: Vec<bool> = runs.iter().map(|run| run.ends_frame).collect();
    assert_eq!(ends, [true, true, false]);
}

#[test]
fn a_message_over_two_buffers_is_delivered_before_the_next() {
    let mut lab = open();
    lab.announce(DESTINATION);
    let messages = [data(1, "A", 1, &[1; 100]), data(1, "A", 1, &[2; 100])];
    let bytes = frame(&messages.iter().flat_map(encode).collect::<Vec<_>>());
    let (mut first, mut second) = (bytes[..50].to_vec(), bytes[50..].to_vec());
    assert_eq!(runs_of(&mut lab, SOURCE, &mut first), []);
    let mut position = 0;
    let flow = lab.relay.handle_input(SOURCE, &mut second, &mut position);
    assert_eq!(flow, Ok(Flow::Deliver));
    assert_eq!(
        lab.relay.runs(),
        [Run {
            place: RunPlace::Assembled,
            ends_frame: false
        }]
    );
    assert_eq!(
        lab.relay.run_bytes(&lab.relay.runs()[0], &second),
        encode(&messages[0])
    );
    lab.relay.clear_runs();
    assert_eq!(
        lab.relay.handle_input(SOURCE, &mut second, &mut position),
        Ok(Flow::Done)
    );
    assert_eq!(
        lab.relay.run_bytes(&lab.relay.runs()[0], &second),
        encode(&messages[1])
    );
}

/// The reference cuts messages into fragments of 4,096 bytes.
#[test]
fn a_fragmented_message_of_the_largest_size_passes() {
    let mut lab = open();
    let largest = data(1, "A", 1, &vec![3; 64_512]);
    let encoded = encode(&largest);
    let mut bytes = Vec::new();
    for (index, part) in encoded.chunks(4096).enumerate() {
        let opcode = if index == 0 {
            Opcode::Binary
        } else {
            Opcode::Continuation
        };
        let is_last = (index + 1) * 4096 >= encoded.len();
        bytes.extend(frame_with(opcode, is_last, part));
    }
    for piece in bytes.chunks(16_384) {
        assert_eq!(lab.receive(SOURCE, piece.to_vec()), Ok(Flow::Done));
    }
    assert_eq!(lab.forwarded(DESTINATION), [largest]);
    assert_eq!(lab.places[1], 1, "assembled once, not copied again");
}

#[test]
fn many_small_frames_are_delivered_in_bounded_batches() {
    let mut lab = open();
    let messages: Vec<Message> = (0..1000)
        .map(|n: u32| data(1, "A", 1, &n.to_be_bytes()))
        .collect();
    let mut bytes: Vec<u8> = messages
        .iter()
        .flat_map(|message| frame(&encode(message)))
        .collect();
    let (mut position, mut seen, mut batches) = (0, Vec::new(), 0);
    loop {
        let flow = lab
            .relay
            .handle_input(SOURCE, &mut bytes, &mut position)
            .unwrap();
        assert!(lab.relay.runs().len() <= 64);
        for run in lab.relay.runs() {
            seen.extend_from_slice(lab.relay.run_bytes(run, &bytes));
        }
        lab.relay.clear_runs();
        batches += 1;
        if flow == Flow::Done {
            break;
        }
    }
    assert_eq!(decode_all(&seen), messages);
    assert_eq!(batches, 1 + 1000 / 64);
}

#[test]
fn rewritten_bytes_are_bounded() {
    let mut lab = Lab::connected(&["A"], Subprotocol::V3, Subprotocol::V1);
    lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    let messages: Vec<Message> = (0..40).map(|n| data(1, "A", 1, &[n; 10_000])).collect();
    let content: Vec<u8> = messages.iter().flat_map(encode).collect();
    let mut bytes: Vec<u8> = content.chunks(131_076).flat_map(frame).collect();
    let (mut position, mut seen, mut flow) = (0, Vec::new(), Flow::Deliver);
    while flow != Flow::Done {
        flow = lab
            .relay
            .handle_input(SOURCE, &mut bytes, &mut position)
            .unwrap();
        let before = seen.len();
        for run in lab.relay.runs() {
            seen.extend_from_slice(lab.relay.run_bytes(run, &bytes));
        }
        lab.relay.clear_runs();
        assert!(seen.len() - before <= 64 * 1024 + 64_663);
    }
    let expected: Vec<Message> = (0..40).map(|n| data(1, "", 0, &[n; 10_000])).collect();
    assert_eq!(decode_all(&seen), expected);
}

/// Clients that run in a browser or an editor read one message of the tunnel from each of the WebSocket.
#[test]
fn a_message_for_another_client_than_ours_is_a_run_of_its_own() {
    let mut lab = open();
    let parts = [data(1, "A", 1, b"a"), data(1, "A", 1, b"b")];
    let mut bytes = frame(&parts.iter().flat_map(encode).collect::<Vec<_>>());
    let runs = runs_of(&mut lab, SOURCE, &mut bytes);
    assert_eq!(runs.len(), 2);
    assert!(runs.iter().all(|run| run.ends_frame));
}
