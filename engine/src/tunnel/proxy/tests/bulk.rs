//! Several records of one connection from one read.

use super::lab::*;
use crate::tunnel::limits::MAX_RECORD_PLAINTEXT;
use adit_proto::ids::Mode;

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// The payload of DATA messages, which all are of connection 1.
fn payload(messages: &[Message]) -> Vec<u8> {
    let of_one = messages.iter().all(|message| message.connection_id == 1);
    assert!(
        of_one && !messages.is_empty(),
        "{} messages",
        messages.len()
    );
    messages
        .iter()
        .flat_map(|message| message.payload.clone())
        .collect()
}

/// Frames until nothing is left, with their sizes.
fn frame_sizes(lab: &mut Lab) -> Vec<usize> {
    std::iter::from_fn(|| Some(lab.output().len()).filter(|size| *size > 0)).collect()
}

#[test]
fn bytes_are_the_same_whatever_their_number() {
    let whole = pattern(300_000);
    // Around what one record carries, what one read brings, and both.
    for size in [
        8_191, 8_192, 16_359, 16_360, 16_361, 32_720, 65_440, 81_800, 81_801, 300_000,
    ] {
        let mut lab = Lab::source(&["A"]);
        let io = lab.accept(0).unwrap();
        lab.said();
        for round in 0..3 {
            lab.writes(io, &whole[..size]);
            let said = lab.said();
            assert!(
                payload(&said.messages) == whole[..size],
                "{size} in {round}"
            );
        }
        assert_eq!(lab.proxy.counters().bytes_sent, 3 * size as u64);
        assert!(!lab.proxy.wants_output());
    }
}

#[test]
fn records_are_full_but_for_the_last() {
    let mut lab = Lab::source(&["A"]);
    let io = lab.accept(0).unwrap();
    lab.said();
    lab.writes(io, &pattern(400_000));
    let sizes = frame_sizes(&mut lab);
    let (last, full) = sizes.split_last().unwrap();
    assert!(
        full.iter().all(|size| *size == MAX_RECORD_PLAINTEXT),
        "{sizes:?}"
    );
    assert!(*last <= MAX_RECORD_PLAINTEXT);
    assert_eq!(lab.proxy.counters().messages_sent as usize, sizes.len());
}

#[test]
fn another_connection_passes_and_bulk_goes_on_alone_behind_it() {
    let mut lab = Lab::source(&["A"]);
    let (bulk, other) = (lab.accept(0).unwrap(), lab.accept(0).unwrap());
    lab.said();
    lab.writes(bulk, &pattern(40_000));
    lab.said();
    // The last read of it was large: it is bulk until a small one.
    lab.writes(bulk, &pattern(20_000));
    lab.writes(other, b"key");
    let messages = lab.said().messages;
    let of_other = messages
        .iter()
        .position(|message| message.connection_id == 2);
    assert!(
        of_other.is_some_and(|at| at <= 1),
        "behind one record at most"
    );
    let rest: Vec<u8> = messages
        .iter()
        .filter(|message| message.connection_id == 1)
        .flat_map(|message| message.payload.clone())
        .collect();
    assert!(rest == pattern(20_000));
}

#[test]
fn an_end_follows_the_last_byte_and_a_failure_too() {
    for is_broken in [false, true] {
        let mut lab = Lab::source(&["A"]);
        let io = lab.accept(0).unwrap();
        lab.said();
        lab.writes(io, &pattern(100_000));
        let mut messages = Vec::new();
        if is_broken {
            messages = lab.said().messages;
            lab.breaks(io);
        } else {
            lab.finishes(io);
        }
        messages.extend(lab.said().messages);
        lab.wait(std::time::Duration::from_secs(5));
        messages.extend(lab.said().messages);
        let (last, data) = messages.split_last().unwrap();
        assert_eq!(*last, connection_reset(1, "A", 1), "{is_broken}");
        assert!(payload(data) == pattern(100_000));
    }
}

#[test]
fn frames_stay_as_small_as_was_asked_for() {
    let mut settings = settings(Mode::Source, &["A"]);
    settings.limits.payload_max = 10_000;
    let mut lab = Lab::running(settings, &["A"]);
    let io = lab.accept(0).unwrap();
    lab.said();
    lab.writes(io, &pattern(100_000));
    let messages = lab.said().messages;
    assert!(
        messages
            .iter()
            .all(|message| message.payload.len() <= 10_000)
    );
    assert!(payload(&messages) == pattern(100_000));
}
