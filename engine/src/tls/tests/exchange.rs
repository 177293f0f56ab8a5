//! Data, both ways, between every pair of record layers.

use super::super::{MAX_PLAINTEXT, RecordError, Records};
use super::support::{Bytes, KINDS, Kind, Peer, pair, seal_one, tls12_suites, tls13_suites};

/// Sends records of many sizes from `from` to `to` in random pieces.
fn exchange(bytes: &mut Bytes, from: &mut Peer, to: &mut Peer) {
    let mut wire = Vec::new();
    let mut sent = Vec::new();
    let mut sizes = vec![1, 2, 15, 16, 17, 1000, MAX_PLAINTEXT - 1, MAX_PLAINTEXT];
    sizes.extend((0..8).map(|_| 1 + bytes.below(MAX_PLAINTEXT)));
    for size in sizes {
        let plaintext = bytes.take(size);
        from.send(&plaintext, &mut wire);
        sent.extend_from_slice(&plaintext);
    }
    let mut rest = &wire[..];
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(1 + bytes.below(rest.len()));
        to.receive(piece).unwrap();
        rest = behind;
    }
    assert!(
        std::mem::take(&mut to.plaintext) == sent,
        "plaintext differs"
    );
}

#[tokio::test]
async fn every_pair_exchanges_data_both_ways() {
    let mut bytes = Bytes::new(1);
    for suite in tls13_suites().into_iter().chain(tls12_suites()) {
        for client in KINDS {
            for server in KINDS {
                eprintln!("{:?} {client:?} {server:?}", suite.suite());
                let (mut near, mut far) = pair(suite, client, server).await;
                exchange(&mut bytes, &mut near, &mut far);
                exchange(&mut bytes, &mut far, &mut near);
                exchange(&mut bytes, &mut near, &mut far);
            }
        }
    }
}

#[tokio::test]
async fn what_is_sealed_from_elsewhere_is_read_like_what_is_sealed_in_its_place() {
    let mut bytes = Bytes::new(2);
    for suite in tls13_suites().into_iter().chain(tls12_suites()) {
        for kind in [Kind::Library, Kind::InPlace] {
            eprintln!("{:?} {kind:?}", suite.suite());
            let (mut near, mut far) = pair(suite, kind, Kind::Buffered).await;
            let (mut wire, mut sent) = (Vec::new(), Vec::new());
            let sizes = [1, 15, 16, 17, 8192, MAX_PLAINTEXT - 1, MAX_PLAINTEXT];
            for (round, size) in sizes.into_iter().cycle().take(30).enumerate() {
                let plaintext = bytes.take(size);
                match round % 3 {
                    0 => near.send(&plaintext, &mut wire),
                    _ => seal_one_from(near.records(), &plaintext, &mut wire),
                }
                sent.extend_from_slice(&plaintext);
                if round % 10 == 5 {
                    near.update_keys(&mut wire);
                }
            }
            far.receive(&wire).unwrap();
            assert!(far.plaintext == sent, "plaintext differs");
        }
    }
}

/// Seals `plaintext` behind `wire` from where it lies. The record has no byte of room to spare.
fn seal_one_from(records: &mut Records, plaintext: &[u8], wire: &mut Vec<u8>) {
    records.take_outgoing(wire);
    let mut record = vec![0xee; records.room(plaintext.len())];
    let size = records.seal_from(&mut record, plaintext).unwrap();
    wire.extend_from_slice(&record[..size]);
}

#[tokio::test]
async fn keys_are_renewed_behind_what_is_sealed_from_elsewhere() {
    let (mut near, mut far) = pair(tls13_suites()[0], Kind::InPlace, Kind::Buffered).await;
    near.in_place().renew_after(0);
    let mut record = vec![0; 4096];
    for part in [&b"first "[..], b"second "] {
        let size = near.records().seal_from(&mut record, part).unwrap();
        let one = near.records().room(part.len());
        assert!(size > one, "{size} bytes are more than one record");
        far.receive(&record[..size]).unwrap();
    }
    near.close_notify(&mut Vec::new());
    let refused = near.records().seal_from(&mut record, b"more");
    assert_eq!(refused, Err(RecordError::WriteClosed));
    assert_eq!(far.plaintext, b"first second ");
}

#[tokio::test]
async fn the_wire_may_be_cut_at_every_byte() {
    for kind in [Kind::Library, Kind::InPlace] {
        for suite in tls13_suites() {
            let (mut near, mut far) = pair(suite, Kind::Buffered, kind).await;
            let mut wire = Vec::new();
            near.send(b"first", &mut wire);
            near.update_keys(&mut wire);
            near.send(b"second", &mut wire);
            near.close_notify(&mut wire);
            for byte in &wire {
                far.receive(std::slice::from_ref(byte)).unwrap();
            }
            assert_eq!(far.plaintext, b"firstsecond");
            assert!(far.closed);
        }
    }
}

#[tokio::test]
async fn close_notify_ends_one_direction_only() {
    for suite in [tls13_suites()[0], tls12_suites()[0]] {
        for client in KINDS {
            for server in KINDS {
                eprintln!("{:?} {client:?} {server:?}", suite.suite());
                let (mut near, mut far) = pair(suite, client, server).await;
                let mut wire = Vec::new();
                near.send(b"last words", &mut wire);
                near.close_notify(&mut wire);
                far.receive(&wire).unwrap();
                assert_eq!(far.plaintext, b"last words");
                assert!(far.closed && !near.closed);

                let mut wire = Vec::new();
                far.send(b"an answer", &mut wire);
                far.close_notify(&mut wire);
                near.receive(&wire).unwrap();
                assert_eq!(near.plaintext, b"an answer");
                assert!(near.closed);
            }
        }
    }
}

#[tokio::test]
async fn nothing_is_sealed_after_close_notify() {
    for kind in [Kind::Library, Kind::InPlace] {
        let (mut near, _far) = pair(tls13_suites()[0], kind, Kind::Buffered).await;
        let mut wire = Vec::new();
        near.close_notify(&mut wire);
        let size = wire.len();
        near.close_notify(&mut wire);
        assert_eq!(wire.len(), size, "it is said once");
        let refused = seal_one(near.records(), b"more", &mut wire);
        assert_eq!(refused, Err(RecordError::WriteClosed));
    }
}

#[tokio::test]
async fn bytes_after_close_notify_are_ignored() {
    for kind in [Kind::Library, Kind::InPlace] {
        let (mut near, mut far) = pair(tls13_suites()[0], Kind::Buffered, kind).await;
        let mut wire = Vec::new();
        near.close_notify(&mut wire);
        wire.extend_from_slice(b"anything at all");
        far.receive(&wire).unwrap();
        far.receive(b"and more").unwrap();
        assert!(far.closed);
        assert_eq!(far.plaintext, b"");
    }
}

#[tokio::test]
async fn the_caller_is_told_of_its_mistakes_and_may_go_on() {
    for kind in [Kind::Library, Kind::InPlace] {
        let (mut near, mut far) = pair(tls13_suites()[0], kind, Kind::Buffered).await;
        let records = near.records();
        let mut record = vec![0; records.room(MAX_PLAINTEXT) + 1];
        assert!(matches!(
            records.seal(&mut record, MAX_PLAINTEXT + 1),
            Err(RecordError::PlaintextTooLarge { size: 16_385 })
        ));
        let short = records.room(100) - 1;
        assert!(matches!(
            records.seal(&mut record[..short], 100),
            Err(RecordError::NoRoom { .. })
        ));
        assert_eq!(records.seal(&mut record, 0), Ok(0));
        assert!(matches!(
            records.seal_from(&mut record, &[0; MAX_PLAINTEXT + 1]),
            Err(RecordError::PlaintextTooLarge { size: 16_385 })
        ));
        assert!(matches!(
            records.seal_from(&mut record[..short], &[0; 100]),
            Err(RecordError::NoRoom { .. })
        ));
        assert_eq!(records.seal_from(&mut record, &[]), Ok(0));
        let mut wire = Vec::new();
        near.send(b"still here", &mut wire);
        far.receive(&wire).unwrap();
        assert_eq!(far.plaintext, b"still here");
    }
}
