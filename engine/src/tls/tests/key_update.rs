//! Keys that change in the middle of the data.

use super::super::inplace::{REFUSE_AFTER, RENEW_AFTER};
use super::super::{MAX_PLAINTEXT, RecordError};
use super::support::{Bytes, KINDS, Kind, Peer, pair, seal_one, tls13_suites};

/// One direction: what has been sealed and not delivered, and what should come out of it.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    expected: Vec<u8>,
}

impl Wire {
    fn send(&mut self, bytes: &mut Bytes, from: &mut Peer) {
        let size = match bytes.below(4) {
            0 => MAX_PLAINTEXT,
            1 => 1 + bytes.below(MAX_PLAINTEXT),
            _ => 1 + bytes.below(100),
        };
        let plaintext = bytes.take(size);
        from.send(&plaintext, &mut self.bytes);
        self.expected.extend_from_slice(&plaintext);
    }

    fn deliver(&mut self, bytes: &mut Bytes, to: &mut Peer) {
        let size = bytes.below(self.bytes.len() + 1);
        to.receive(&self.bytes[..size]).unwrap();
        self.bytes.drain(..size);
    }

    fn finish(&mut self, to: &mut Peer) {
        to.receive(&self.bytes).unwrap();
        self.bytes.clear();
        assert!(to.plaintext == self.expected, "plaintext differs");
    }
}

/// Random sends, key updates and partial deliveries, in both directions at once.
#[tokio::test]
async fn keys_change_at_any_moment_from_either_side() {
    let seed = 2;
    eprintln!("seed {seed}");
    let mut bytes = Bytes::new(seed);
    for suite in tls13_suites() {
        for client in KINDS {
            for server in KINDS {
                eprintln!("{:?} {client:?} {server:?}", suite.suite());
                let (mut near, mut far) = pair(suite, client, server).await;
                let (mut there, mut back) = (Wire::default(), Wire::default());
                for _ in 0..150 {
                    match bytes.below(12) {
                        0..3 => there.send(&mut bytes, &mut near),
                        3..6 => back.send(&mut bytes, &mut far),
                        6..8 => there.deliver(&mut bytes, &mut far),
                        8..10 => back.deliver(&mut bytes, &mut near),
                        10 => near.update_keys(&mut there.bytes),
                        _ => far.update_keys(&mut back.bytes),
                    }
                }
                there.finish(&mut far);
                back.finish(&mut near);
            }
        }
    }
}

#[tokio::test]
async fn a_request_is_answered_before_the_next_data_and_once() {
    for kind in [Kind::Library, Kind::InPlace] {
        let (mut near, mut far) = pair(tls13_suites()[0], Kind::Buffered, kind).await;
        let mut wire = Vec::new();
        for _ in 0..3 {
            near.update_keys(&mut wire);
        }
        far.receive(&wire).unwrap();
        let mut answer = Vec::new();
        far.send(b"data", &mut answer);
        // A key update has five bytes in a record of 27, and one is enough for three requests.
        assert_eq!(answer.len(), 27 + 26);
        near.receive(&answer).unwrap();
        assert_eq!(near.plaintext, b"data");
        let mut wire = Vec::new();
        far.take_outgoing(&mut wire);
        assert_eq!(wire, b"");
    }
}

#[tokio::test]
async fn our_keys_are_renewed_long_before_they_are_used_up() {
    const { assert!(RENEW_AFTER * 4 <= REFUSE_AFTER) };
    let (mut near, mut far) = pair(tls13_suites()[0], Kind::InPlace, Kind::InPlace).await;
    near.in_place().pretend_sealed(RENEW_AFTER - 1);
    far.in_place().pretend_opened(RENEW_AFTER - 1);
    assert!(!near.records().has_outgoing());
    let mut wire = Vec::new();
    near.send(b"last of the old", &mut wire);
    assert!(near.records().has_outgoing());
    near.send(b"first of the new", &mut wire);
    assert!(!near.records().has_outgoing());
    far.receive(&wire).unwrap();
    assert_eq!(far.plaintext, b"last of the oldfirst of the new");
    // The peer need not change its own keys for that.
    assert!(!far.records().has_outgoing());
}

#[tokio::test]
async fn keys_are_renewed_again_and_again() {
    let (mut near, mut far) = pair(tls13_suites()[0], Kind::InPlace, Kind::Buffered).await;
    near.in_place().renew_after(10);
    let mut expected = Vec::new();
    for count in 0..100_u8 {
        let mut wire = Vec::new();
        near.send(&[count], &mut wire);
        far.receive(&wire).unwrap();
        expected.push(count);
    }
    assert_eq!(far.plaintext, expected);
    assert!(
        format!("{:?}", near.records()).contains("sealed_records: 10,"),
        "{:?}",
        near.records()
    );
}

/// Even a caller who never asks `has_outgoing` gets new keys, as soon as there is room.
#[tokio::test]
async fn keys_are_renewed_behind_data_where_there_is_room() {
    let (mut near, mut far) = pair(tls13_suites()[0], Kind::InPlace, Kind::Buffered).await;
    near.in_place().renew_after(1);
    let records = near.records();
    let mut record = vec![0; 1000];
    // One byte too few, then just enough.
    for (room, size) in [(22 + 10 + 26, 32), (22 + 10 + 27, 32 + 27)] {
        record[5..15].copy_from_slice(b"0123456789");
        assert_eq!(records.seal(&mut record[..room], 10), Ok(size));
        let sealed = record[..size].to_vec();
        far.receive(&sealed).unwrap();
    }
    for _ in 0..10 {
        record[5..15].copy_from_slice(b"0123456789");
        let size = near.records().seal(&mut record, 10).unwrap();
        assert_eq!(size, 32 + 27);
        let sealed = record[..size].to_vec();
        far.receive(&sealed).unwrap();
    }
    assert_eq!(far.plaintext, b"0123456789".repeat(12));
}

#[tokio::test]
async fn used_up_keys_seal_nothing() {
    let (mut near, _far) = pair(tls13_suites()[0], Kind::InPlace, Kind::Buffered).await;
    near.in_place().renew_after(u64::MAX);
    near.in_place().pretend_sealed(REFUSE_AFTER);
    let refused = seal_one(near.records(), b"more", &mut Vec::new());
    assert_eq!(refused, Err(RecordError::KeysUsedUp));
}
