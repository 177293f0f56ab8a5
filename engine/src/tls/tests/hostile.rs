//! Wires that change, cut, repeat and reorder records, and peers that break the rules.

use super::super::inplace::WITHOUT_DATA_MAX;
use super::super::{MAX_PLAINTEXT, Opened, RecordError, alert};
use super::support::{Bytes, Kind, Peer, pair, seal_one, tls12_suites, tls13_suites};

const OURS: [Kind; 2] = [Kind::Library, Kind::InPlace];

/// A connection on which records have gone both ways already, sender first.
async fn sender_and(kind: Kind) -> (Peer, Peer) {
    let (mut near, mut far) = pair(tls13_suites()[0], Kind::InPlace, kind).await;
    let mut wire = Vec::new();
    near.send(b"before", &mut wire);
    far.receive(&wire).unwrap();
    far.plaintext.clear();
    (near, far)
}

#[tokio::test]
async fn a_changed_byte_never_yields_plaintext() {
    let mut bytes = Bytes::new(3);
    for kind in OURS {
        for at in 0..5 + 40 + 1 + 16 {
            let (mut near, mut far) = sender_and(kind).await;
            let mut wire = Vec::new();
            near.send(&[7; 40], &mut wire);
            wire[at] ^= 1 << bytes.below(8);
            let outcome = far.receive(&wire);
            // The library ignores the version; a changed length may mean "more to come".
            let may_wait = kind == Kind::Library && at < 3 || at == 3 || at == 4;
            assert!(outcome.is_err() || may_wait, "{kind:?} byte {at}");
            assert!(
                outcome.is_ok() && at < 3 || far.plaintext.is_empty(),
                "{kind:?} byte {at}"
            );
        }
    }
}

/// Nobody vouches for the version of a record, and the library takes each that it knows of TLS or DTLS.
#[tokio::test]
async fn no_record_is_lost_behind_one_of_another_version() {
    for kind in OURS {
        for version in [
            [2, 0],
            [3, 0],
            [3, 1],
            [3, 4],
            [0xfe, 0xff],
            [0xfe, 0xfd],
            [0xfe, 0xfc],
        ] {
            let (mut near, mut far) = sender_and(kind).await;
            let mut sealed = records(&mut near, 3);
            sealed[0][1..3].copy_from_slice(&version);
            let outcome = far.receive(&sealed.concat());
            let whole: Vec<u8> = (0..3).flat_map(|index| [index; 100]).collect();
            let is_whole = outcome.is_ok() && far.plaintext == whole;
            let is_refused = outcome.is_err() && far.plaintext.is_empty();
            assert!(is_whole || is_refused, "{kind:?} {version:?}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_cut_record_waits_for_its_end() {
    for kind in OURS {
        let (mut near, mut far) = sender_and(kind).await;
        let mut wire = Vec::new();
        near.send(&[7; 40], &mut wire);
        for end in 0..wire.len() {
            let mut cut = wire[..end].to_vec();
            assert_eq!(far.records().open(&mut cut), Ok(Opened::Incomplete));
            assert_eq!(cut, wire[..end], "untouched");
        }
        far.receive(&wire).unwrap();
        assert_eq!(far.plaintext, [7; 40]);
    }
}

/// Seals `count` records and returns them one by one.
fn records(near: &mut Peer, count: u8) -> Vec<Vec<u8>> {
    (0..count)
        .map(|index| {
            let mut wire = Vec::new();
            near.send(&[index; 100], &mut wire);
            wire
        })
        .collect()
}

#[tokio::test]
async fn order_matters() {
    for kind in OURS {
        let cases: [(&str, &[usize]); 3] = [
            ("swapped", &[1, 0]),
            ("repeated", &[0, 0]),
            ("left out", &[0, 2]),
        ];
        for (what, order) in cases {
            let (mut near, mut far) = sender_and(kind).await;
            let sealed = records(&mut near, 3);
            let outcome = order
                .iter()
                .try_for_each(|&index| far.receive(&sealed[index]));
            assert_eq!(outcome, Err(RecordError::BadRecord), "{kind:?} {what}");
            assert!(far.plaintext.len() <= 100, "{kind:?} {what}");
        }
        let (_near, mut far) = sender_and(kind).await;
        let own = records(&mut far, 1);
        assert_eq!(
            far.receive(&own[0]),
            Err(RecordError::BadRecord),
            "{kind:?} reflected"
        );
    }
}

#[tokio::test]
async fn a_failed_connection_stays_failed_and_says_why_once() {
    for kind in OURS {
        let (mut near, mut far) = sender_and(kind).await;
        let sealed = records(&mut near, 2);
        assert_eq!(far.receive(&sealed[1]), Err(RecordError::BadRecord));
        assert!(far.records().has_outgoing());
        let mut wire = Vec::new();
        far.take_outgoing(&mut wire);
        far.take_outgoing(&mut wire);
        let heard = near.receive(&wire);
        assert_eq!(
            heard,
            Err(RecordError::Alert {
                code: alert::BAD_RECORD_MAC,
                name: "bad record"
            })
        );
        // RFC 8446 §6.2: nothing is sent after a fatal alert, and none in answer to one.
        assert!(!near.records().has_outgoing() && !far.records().has_outgoing());
        for peer in [&mut near, &mut far] {
            let mut wire = Vec::new();
            assert_eq!(
                seal_one(peer.records(), b"x", &mut wire),
                Err(RecordError::Failed)
            );
            assert_eq!(peer.records().open(&mut [0; 100]), Err(RecordError::Failed));
            peer.close_notify(&mut wire);
            assert_eq!(wire, b"", "{kind:?}");
        }
    }
}

/// What a forged record does: its content type, content, padding; and the alert in answer.
struct Forgery(&'static str, u8, &'static [u8], usize, Option<u8>);

#[tokio::test]
async fn rules_of_the_record_layer_are_enforced() {
    const DATA: u8 = 23;
    const HANDSHAKE: u8 = 22;
    const ALERT: u8 = 21;
    let table = [
        Forgery("data", DATA, b"data", 0, None),
        Forgery("padded data", DATA, b"data", 1000, None),
        Forgery("a record of padding", 0, b"", 100, Some(10)),
        Forgery("empty data", DATA, b"", 0, None),
        Forgery("empty data with padding", DATA, b"", 50, None),
        Forgery(
            "too much padding",
            DATA,
            b"data",
            MAX_PLAINTEXT - 3,
            Some(22),
        ),
        Forgery(
            "as much padding as can be",
            DATA,
            b"data",
            MAX_PLAINTEXT - 4,
            None,
        ),
        Forgery("protected change of cipher spec", 20, &[1], 0, Some(10)),
        Forgery("unknown content type", 99, b"?", 0, Some(10)),
        Forgery("empty handshake record", HANDSHAKE, b"", 0, Some(10)),
        Forgery("empty alert record", ALERT, b"", 0, Some(10)),
        Forgery("half an alert", ALERT, &[1], 0, Some(50)),
        Forgery("two alerts in a record", ALERT, &[1, 0, 1, 0], 0, Some(50)),
        Forgery("user canceled", ALERT, &[1, 90], 0, None),
        Forgery("key update", HANDSHAKE, &[24, 0, 0, 1, 0], 0, None),
        Forgery(
            "key update of two bytes",
            HANDSHAKE,
            &[24, 0, 0, 2, 0, 0],
            0,
            Some(50),
        ),
        Forgery(
            "key update of nothing",
            HANDSHAKE,
            &[24, 0, 0, 0],
            0,
            Some(50),
        ),
        Forgery("key update to 7", HANDSHAKE, &[24, 0, 0, 1, 7], 0, Some(47)),
        Forgery(
            "two key updates",
            HANDSHAKE,
            &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0],
            0,
            Some(10),
        ),
        Forgery(
            "ticket from a client",
            HANDSHAKE,
            &[4, 0, 0, 1, 0],
            0,
            Some(10),
        ),
        Forgery("renegotiation", HANDSHAKE, &[1, 0, 0, 1, 0], 0, Some(10)),
        Forgery("hello request", HANDSHAKE, &[0, 0, 0, 0], 0, Some(10)),
        Forgery("a finished", HANDSHAKE, &[20, 0, 0, 1, 0], 0, Some(10)),
    ];
    for Forgery(what, content_type, content, padding, answer) in table {
        // As a server: the forger is the client.
        let (mut near, mut far) = sender_and(Kind::InPlace).await;
        let forged = near.in_place().forge(content_type, content, padding);
        let outcome = far.receive(&forged);
        assert_eq!(outcome.is_err(), answer.is_some(), "{what}: {outcome:?}");
        assert_eq!(far.alert_taken(), answer, "{what}: {outcome:?}");
        // The library judges alike, though it words it otherwise and waits for more when a
        // handshake record is empty.
        let (mut near, mut far) = sender_and(Kind::Library).await;
        let forged = near.in_place().forge(content_type, content, padding);
        let outcome = far.receive(&forged);
        let refused = answer.is_some() && what != "empty handshake record";
        assert_eq!(outcome.is_err(), refused, "library, {what}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_client_hears_tickets_but_no_request_for_its_certificate() {
    let suite = tls13_suites()[0];
    let (mut near, mut far) = pair(suite, Kind::InPlace, Kind::InPlace).await;
    // In pieces, with another message behind it.
    let ticket = [&[4, 0, 1, 0][..], &[7; 256], &[4, 0, 0, 2, 1, 1]].concat();
    for piece in ticket.chunks(100) {
        let forged = far.in_place().forge(22, piece, 0);
        near.receive(&forged).unwrap();
    }
    let mut wire = Vec::new();
    far.send(b"data", &mut wire);
    near.receive(&wire).unwrap();
    assert_eq!(near.plaintext, b"data");

    let forged = far.in_place().forge(22, &[13, 0, 0, 3, 0, 0, 0], 0);
    let outcome = near.receive(&forged);
    assert!(
        matches!(outcome, Err(RecordError::Unexpected(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn nothing_may_come_inside_a_handshake_message() {
    for kind in OURS {
        for (content_type, content) in [(23, &b"data"[..]), (21, &[1, 0])] {
            let (mut near, mut far) = sender_and(kind).await;
            let half = near.in_place().forge(22, &[24, 0, 0], 0);
            far.receive(&half).unwrap();
            let inside = near.in_place().forge(content_type, content, 0);
            assert!(far.receive(&inside).is_err(), "{kind:?} {content_type}");
            assert!(far.plaintext.is_empty() && !far.closed);
        }
    }
}

#[tokio::test]
async fn a_key_update_may_come_in_pieces_while_we_write() {
    for kind in OURS {
        let (mut near, mut far) = sender_and(kind).await;
        let mut wire = Vec::new();
        for byte in [24, 0, 0, 1, 1] {
            let forged = near.in_place().forge(22, &[byte], 0);
            far.receive(&forged).unwrap();
            far.send(b".", &mut wire);
        }
        near.receive(&wire).unwrap();
        assert_eq!(near.plaintext, b".....", "{kind:?}");
    }
}

#[tokio::test]
async fn a_flood_of_records_without_data_ends() {
    let floods: [(u8, &[u8]); 2] = [(23, b""), (21, &[1, 90])];
    for (content_type, content) in floods {
        let (mut near, mut far) = sender_and(Kind::InPlace).await;
        for round in 0..3 {
            for _ in 0..WITHOUT_DATA_MAX {
                let forged = near.in_place().forge(content_type, content, 0);
                far.receive(&forged)
                    .unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
            let mut wire = Vec::new();
            near.send(b"data", &mut wire);
            far.receive(&wire).unwrap();
        }
        let mut outcome = Ok(());
        for _ in 0..=WITHOUT_DATA_MAX {
            assert_eq!(outcome, Ok(()));
            let forged = near.in_place().forge(content_type, content, 0);
            outcome = far.receive(&forged);
        }
        assert!(
            matches!(outcome, Err(RecordError::Unexpected(_))),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn headers_that_cannot_be_are_refused_before_their_content_comes() {
    let table: [(&str, [u8; 5], u8); 6] = [
        ("change of cipher spec", [20, 3, 3, 0, 1], 10),
        ("unprotected alert", [21, 3, 3, 0, 2], 10),
        ("unprotected handshake", [22, 3, 3, 0, 100], 10),
        ("unknown type", [77, 3, 3, 0, 100], 10),
        ("too large", [23, 3, 3, 0x41, 0x01], 22),
        ("too small", [23, 3, 3, 0, 16], 20),
    ];
    for (what, mut header, answer) in table {
        let (_near, mut far) = sender_and(Kind::InPlace).await;
        assert!(far.records().open(&mut header).is_err(), "{what}");
        assert_eq!(far.alert_taken(), Some(answer), "{what}");
        // The largest and the smallest that can be.
        let (_near, mut far) = sender_and(Kind::InPlace).await;
        for mut header in [[23, 3, 3, 0x41, 0], [23, 3, 3, 0, 17]] {
            assert_eq!(far.records().open(&mut header), Ok(Opened::Incomplete));
        }
    }
}

#[tokio::test]
async fn an_alert_of_the_peer_is_named() {
    for suite in [tls13_suites()[0], tls12_suites()[0]] {
        for kind in OURS {
            let (mut near, mut far) = pair(suite, Kind::Buffered, kind).await;
            // What the peer cannot read makes it complain.
            near.receive(&[&[23, 3, 3, 0, 40][..], &[9; 40]].concat())
                .unwrap_err();
            let mut wire = Vec::new();
            near.take_outgoing(&mut wire);
            assert_eq!(
                far.receive(&wire),
                Err(RecordError::Alert {
                    code: 20,
                    name: "bad record"
                }),
                "{kind:?}"
            );
        }
    }
}

/// Random bytes in place of records, and records with random contents: no panic, no plaintext
/// that was not sealed.
#[tokio::test]
async fn noise_does_no_harm() {
    let seed = 4;
    eprintln!("seed {seed}");
    let mut bytes = Bytes::new(seed);
    for kind in OURS {
        for _ in 0..300 {
            let (mut near, mut far) = sender_and(kind).await;
            for _ in 0..20 {
                let size = bytes.below(60);
                let noise = bytes.take(size);
                let content_type = 20 + bytes.below(5) as u8;
                let wire = match bytes.below(20) {
                    0 => [&[23, 3, 3, 0, size as u8], &noise[..]].concat(),
                    _ if content_type == 23 => near.in_place().forge(23, b"", size),
                    _ => near.in_place().forge(content_type, &noise, 0),
                };
                if far.receive(&wire).is_err() {
                    break;
                }
            }
            assert!(far.plaintext.is_empty());
        }
    }
}

#[tokio::test]
async fn nothing_is_sent_after_our_close_notify() {
    for what in ["a request for new keys", "a broken record"] {
        let (mut near, mut far) = sender_and(Kind::InPlace).await;
        let mut wire = Vec::new();
        far.close_notify(&mut wire);
        let wire = match what {
            "a broken record" => vec![0; 100],
            _ => near.in_place().forge(22, &[24, 0, 0, 1, 1], 0),
        };
        let _ = far.receive(&wire);
        let mut answer = Vec::new();
        far.take_outgoing(&mut answer);
        assert!(!far.records().has_outgoing() && answer.is_empty(), "{what}");
    }
}

#[tokio::test]
async fn an_unfinished_message_in_tiny_pieces_is_cut_off() {
    let (mut near, mut far) = sender_and(Kind::Library).await;
    let first = near.in_place().forge(22, &[24, 0, 0xff, 0xf0], 0);
    far.receive(&first).unwrap();
    let outcome = (0..60_000).try_for_each(|_| {
        let piece = near.in_place().forge(22, &[0], 0);
        far.receive(&piece)
    });
    assert!(
        matches!(outcome, Err(RecordError::TooLarge { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn messages_may_end_and_begin_in_the_same_record() {
    for kind in OURS {
        let (mut near, mut far) = pair(tls13_suites()[0], kind, Kind::InPlace).await;
        let ticket = |filling: u8| {
            // lifetime, age, nonce, ticket, extensions
            let mut body = vec![0, 0, 1, 0, 0, 0, 0, 0, 1, filling, 0, 100];
            body.resize(112, filling);
            body.extend([0, 0]);
            [&[4, 0, 0, body.len() as u8][..], &body].concat()
        };
        let bytes: Vec<u8> = (0..4).flat_map(ticket).collect();
        for piece in bytes.chunks(70) {
            let forged = far.in_place().forge(22, piece, 0);
            near.receive(&forged).unwrap();
        }
        let mut wire = Vec::new();
        far.update_keys(&mut wire);
        far.send(b"data", &mut wire);
        near.receive(&wire).unwrap();
        assert_eq!(near.plaintext, b"data", "{kind:?}");
    }
}
