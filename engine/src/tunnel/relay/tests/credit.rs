//! Credit goes on only between sides that both know it, and only about what both see.

use super::lab::*;
use crate::tunnel::error::PeerError;
use adit_proto::ids::{Mode, Subprotocol};

/// Both sides are there, those named know credit, and stream 1 has the connections 1 and 2.
fn lab(knowing: &[Mode]) -> Lab {
    let mut lab = Lab::v3(&["A"]);
    for side in knowing {
        lab.announce(*side);
    }
    let starts = [stream_start(1, "A", 1), connection_start(1, "A", 2)];
    lab.passes(SOURCE, &starts);
    lab
}

#[test]
fn it_passes_both_ways_between_two_that_know_it() {
    let mut lab = lab(&[SOURCE, DESTINATION]);
    lab.passes(DESTINATION, &[credit(1, "A", 2, 70_000)]);
    lab.passes(SOURCE, &[credit(1, "A", 1, u64::MAX)]);
}

#[test]
fn it_ends_at_the_relay_where_the_other_side_does_not_know_it() {
    for (from, knowing) in [(SOURCE, SOURCE), (DESTINATION, DESTINATION)] {
        let mut lab = lab(&[knowing]);
        assert_eq!(lab.pass(from, &[credit(1, "A", 1, 70_000)]), []);
        assert_eq!(lab.relay.counters(from).ignored, 1);
    }
}

#[test]
fn a_side_that_is_replaced_has_to_say_again_that_it_knows_it() {
    let mut lab = lab(&[SOURCE, DESTINATION]);
    lab.relay.lost(DESTINATION);
    lab.connect(DESTINATION, Subprotocol::V3);
    lab.passes(SOURCE, &[stream_start(2, "A", 1)]);
    assert_eq!(lab.pass(SOURCE, &[credit(2, "A", 1, 70_000)]), []);
    lab.announce(DESTINATION);
    lab.passes(SOURCE, &[credit(2, "A", 1, 70_000)]);
}

#[test]
fn a_stream_has_its_own_name_on_each_side() {
    let mut lab = Lab::v3(&["A"]);
    lab.announce(DESTINATION);
    lab.passes(SOURCE, &[stream_start(1, "A", 1)]);
    // The source comes again and counts from 1; the destination goes on counting.
    lab.relay.lost(SOURCE);
    lab.connect(SOURCE, Subprotocol::V3);
    lab.announce(SOURCE);
    let seen = lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    assert_eq!(seen, [stream_start(2, "A", 1)]);
    let seen = lab.pass(SOURCE, &[credit(1, "A", 1, 5)]);
    assert_eq!(seen, [credit(2, "A", 1, 5)]);
    let seen = lab.pass(DESTINATION, &[credit(2, "A", 1, 6)]);
    assert_eq!(seen, [credit(1, "A", 1, 6)]);
}

#[test]
fn late_credit_is_dropped() {
    let mut lab = lab(&[SOURCE, DESTINATION]);
    lab.passes(SOURCE, &[stream_reset(1, "A")]);
    assert_eq!(lab.pass(DESTINATION, &[credit(1, "A", 1, 70_000)]), []);
    assert_eq!(lab.pass(SOURCE, &[credit(1, "A", 1, 70_000)]), []);
    assert_eq!(lab.relay.counters(DESTINATION).stale, 1);
}

#[test]
fn credit_that_cannot_be_meant_is_refused() {
    let no_limit = Message {
        payload: vec![0; 9],
        ..credit(1, "A", 1, 0)
    };
    let must_be_known = Message {
        ignorable: false,
        ..credit(1, "A", 1, 0)
    };
    for message in [
        no_limit,
        must_be_known,
        credit(1, "A", 0, 5),
        credit(0, "A", 1, 5),
    ] {
        let mut lab = lab(&[SOURCE, DESTINATION]);
        let error = lab.refused(SOURCE, &message);
        assert!(
            matches!(
                error,
                PeerError::Misplaced { .. }
                    | PeerError::UnknownType(100)
                    | PeerError::StreamId { .. }
            ),
            "{error}"
        );
    }
}
