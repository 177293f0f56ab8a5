//! Who keeps to credit holds up nobody: what is told, when, and what a sender makes of it.

use super::lab::*;
use crate::tunnel::limits::Limits;
use crate::tunnel::proxy::ProxySettings;
use adit_proto::ids::{Dialect, Mode};
use adit_proto::message::Kind;
use std::time::Duration;

const KIB: usize = 1024;
const BUFFER: usize = 256 * KIB;

/// A source on a relay that passes credit on, with connections whose applications read nothing
/// unless asked to.
fn stalled(count: usize) -> (Lab, Vec<u32>) {
    let limits = Limits {
        connection_buffer: BUFFER,
        ..Limits::default()
    };
    stalled_with(limits, count)
}

fn stalled_with(limits: Limits, count: usize) -> (Lab, Vec<u32>) {
    let mut lab = Lab::new(ProxySettings {
        limits,
        ..settings(Mode::Source, &["A"])
    });
    lab.link_up();
    lab.proxy.use_credit();
    lab.gets(&[service_ids(&["A"])]);
    lab.room = 100;
    let ios = (0..count).map(|_| lab.accept(0).unwrap()).collect();
    lab.said();
    (lab, ios)
}

/// The last limit that was told for a connection, after everything that leaves now.
fn told(lab: &mut Lab, connection: u32) -> Option<u64> {
    let said = lab.said().messages.into_iter().rev();
    let mut credits = said.filter(|message| message.r#type == Kind::Credit.raw());
    let last = credits.find(|message| message.connection_id == connection)?;
    assert!(last.ignorable);
    Some(u64::from_be_bytes(last.payload.try_into().unwrap()))
}

/// A sender that keeps to credit, until it may send no more. Returns what it has sent in all.
fn fill(lab: &mut Lab, connection: u32, mut sent: usize) -> usize {
    let mut limit = u64::MAX;
    loop {
        limit = told(lab, connection).unwrap_or(limit);
        let size = (limit - sent as u64).min(10_000) as usize;
        if size == 0 {
            return sent;
        }
        lab.gets(&[data(1, "A", connection, &vec![7; size])]);
        sent += size;
    }
}

#[test]
fn an_application_that_does_not_read_holds_up_nobody() {
    let (mut lab, ios) = stalled(2);
    fill(&mut lab, 1, 0);
    assert!(!lab.proxy.is_paused());
    assert!(lab.queued_max <= BUFFER, "{} held", lab.queued_max);
    lab.wait(Duration::from_secs(3_600));
    assert_eq!(lab.ending(ios[0]), None, "nobody waits for it");
    lab.gets(&[data(1, "A", 2, b"goes on")]);
    assert_eq!(lab.reads(ios[1], 100), b"goes on");
}

#[test]
fn one_that_reads_on_gets_all() {
    let (mut lab, ios) = stalled(2);
    let mut sent = 0;
    let mut received = 0;
    while received < 10 * BUFFER {
        sent = fill(&mut lab, 1, sent);
        let before = received;
        loop {
            let count = lab.reads(ios[0], usize::MAX).len();
            received += count;
            if count == 0 {
                break;
            }
        }
        assert!(received > before, "{received} of {sent}");
    }
    assert_eq!(received, sent);
    assert_eq!(lab.proxy.queued_size(), 0);
}

#[test]
fn a_full_pool_makes_limits_smaller_but_stops_nobody() {
    let (mut lab, ios) = stalled_with(Limits::default(), 40);
    for connection in 1..=40 {
        fill(&mut lab, connection, 0);
    }
    // The first ones take their share; those that come late get at least a little.
    assert!(!lab.proxy.is_paused());
    assert!(lab.queued_max < Limits::default().tunnel_buffer);
    for io in ios {
        assert!(!lab.reads(io, 100).is_empty());
    }
}

#[test]
fn small_talk_costs_no_message() {
    let (mut lab, ios) = stalled(2);
    lab.socket(ios[0]).room = usize::MAX;
    for _ in 0..30 {
        lab.gets(&[data(1, "A", 1, &[7; 1_000])]);
        assert_eq!(told(&mut lab, 1), None);
    }
    lab.gets(&[data(1, "A", 1, &[7; 10_000])]);
    assert_eq!(told(&mut lab, 1), Some(40_000 + (BUFFER - 64 * KIB) as u64));
}

#[test]
fn beside_small_talk_less_is_under_way() {
    let room = |lab: &mut Lab, received: u64| told(lab, 1).unwrap() - received;
    for talk in [0, 1, 2] {
        let (mut lab, ios) = stalled_with(Limits::default(), 2);
        lab.socket(ios[0]).room = usize::MAX;
        for _ in 0..talk {
            lab.gets(&[data(1, "A", 2, b"key")]);
        }
        lab.gets(&[data(1, "A", 1, &[7; 40_000])]);
        let whole = (4 * KIB - 64) as u64 * KIB as u64;
        // One small message may as well be the rest of something larger.
        let expected = if talk == 2 { whole / 16 } else { whole };
        assert!(room(&mut lab, 40_000).abs_diff(expected) < 60_000, "{talk}");
    }
}

/// Where a turn or a buffer ends, bulk leaves rests, and beside much other bulk some follow each other.
#[test]
fn bulk_with_a_few_rests_in_a_row_is_no_small_talk() {
    for (rests, is_talk) in [(2, false), (8, false), (9, true)] {
        let (mut lab, ios) = stalled_with(Limits::default(), 2);
        ios.iter().for_each(|io| lab.socket(*io).room = usize::MAX);
        lab.gets(&[data(1, "A", 2, &[7; 16_000])]);
        for _ in 0..rests {
            lab.gets(&[data(1, "A", 2, &[7; 500])]);
        }
        lab.gets(&[data(1, "A", 1, &[7; 40_000])]);
        let room = told(&mut lab, 1).unwrap() - 40_000;
        assert_eq!(room < 1 << 20, is_talk, "{room} after {rests}");
    }
}

#[test]
fn one_that_turns_to_bulk_is_no_small_talk_any_more() {
    let (mut lab, ios) = stalled_with(Limits::default(), 2);
    ios.iter().for_each(|io| lab.socket(*io).room = usize::MAX);
    for _ in 0..20 {
        lab.gets(&[data(1, "A", 2, b"key")]);
    }
    lab.gets(&[data(1, "A", 2, &[7; 16_000])]);
    lab.gets(&[data(1, "A", 1, &[7; 40_000])]);
    assert!(told(&mut lab, 1).unwrap() > 3 << 20);
}

#[test]
fn a_lone_connection_has_no_limit_until_there_is_another_one() {
    let (mut lab, ios) = stalled(1);
    lab.socket(ios[0]).room = usize::MAX;
    let room = (BUFFER - 64 * KIB) as u64;
    for _ in 0..10 {
        lab.gets(&[data(1, "A", 1, &[7; 50_000])]);
        assert_eq!(told(&mut lab, 1), None);
    }
    let other = lab.accept(0).unwrap();
    lab.gets(&[data(1, "A", 1, &[7; 64_000]), data(1, "A", 1, &[7; 64_000])]);
    lab.gets(&[data(1, "A", 1, &[7; 64_000]), data(1, "A", 1, &[7; 64_000])]);
    let limit = told(&mut lab, 1).unwrap();
    assert!(limit > room && limit <= 756_000 + room, "{limit}");
    // Alone again, it is told that there is none.
    lab.gets(&[connection_reset(1, "A", 2)]);
    assert_eq!(lab.ending(other), Some(Ended::Orderly));
    lab.gets(&[data(1, "A", 1, &[7; 60_000]), data(1, "A", 1, &[7; 60_000])]);
    assert_eq!(told(&mut lab, 1), Some(u64::MAX));
    // And once more that there is one, as soon as it takes nothing and is not alone.
    lab.accept(0).unwrap();
    lab.reads(ios[0], usize::MAX);
    lab.socket(ios[0]).room = 0;
    lab.gets(&[data(1, "A", 1, &[7; 60_000])]);
    assert!(told(&mut lab, 1).is_some_and(|limit| limit < 1_000_000 + room));
}

#[test]
fn small_talk_of_the_same_connection_is_no_reason() {
    let (mut lab, ios) = stalled_with(Limits::default(), 2);
    lab.socket(ios[0]).room = usize::MAX;
    lab.gets(&[data(1, "A", 1, b"key")]);
    lab.gets(&[data(1, "A", 1, b"key")]);
    lab.gets(&[data(1, "A", 1, &[7; 40_000])]);
    assert!(told(&mut lab, 1).unwrap() > 3 << 20);
}

#[test]
fn a_sender_stops_at_the_limit_and_goes_on_from_there() {
    let (mut lab, ios) = stalled(2);
    let sent = |lab: &mut Lab| -> usize {
        let said = lab.said().messages;
        said.iter().map(|message| message.payload.len()).sum()
    };
    lab.writes(ios[0], &[1; 300_000]);
    lab.gets(&[credit(1, "A", 1, 100_000)]);
    assert_eq!(sent(&mut lab), 100_000);
    lab.writes(ios[0], &[1; 100]);
    assert_eq!(sent(&mut lab), 0);
    lab.writes(ios[1], &[2; 500]);
    assert_eq!(sent(&mut lab), 500, "the other one may send some");
    // One that is late, or lower, takes nothing back.
    lab.gets(&[credit(1, "A", 1, 50_000)]);
    assert_eq!(sent(&mut lab), 0);
    lab.gets(&[credit(1, "A", 1, 100_001)]);
    assert_eq!(sent(&mut lab), 1);
    lab.gets(&[credit(1, "A", 1, u64::MAX - 1)]);
    assert_eq!(sent(&mut lab), 300_100 - 100_001);
}

/// On a long way or a large buffer a flood overtakes the first limit, and its connection would pause the tunnel.
#[test]
fn once_a_peer_tells_limits_the_first_one_is_waited_for() {
    let first_room = 256 * KIB;
    let (mut lab, mut ios) = stalled(2);
    lab.gets(&[credit(1, "A", 1, 100_000)]);
    ios.push(lab.accept(0).unwrap());
    for (id, io) in (2..).zip(&ios[1..]) {
        let sent = |lab: &mut Lab| -> usize {
            let said = lab.said().messages.into_iter();
            said.map(|message| message.payload.len()).sum()
        };
        lab.writes(*io, &vec![1; 2 * first_room]);
        assert_eq!(sent(&mut lab), first_room);
        lab.gets(&[credit(1, "A", id, 300_000)]);
        assert_eq!(sent(&mut lab), 300_000 - first_room);
        lab.gets(&[credit(1, "A", id, u64::MAX)]);
        assert_eq!(sent(&mut lab), 2 * first_room - 300_000);
    }
    // Another stream may have another peer.
    lab.gets(&[stream_reset(1, "A")]);
    let io = lab.accept(0).unwrap();
    lab.said();
    lab.writes(io, &vec![1; 2 * first_room]);
    let said = lab.said().messages;
    let sent: usize = said.iter().map(|said| said.payload.len()).sum();
    assert_eq!(sent, 2 * first_room);
}

/// Both have more to say than leaves before a word, one of them from before the peer knew of limits.
#[test]
fn whoever_waits_for_a_first_limit_gets_it_though_it_is_alone() {
    let (mut lab, ios) = stalled(1);
    lab.socket(ios[0]).room = usize::MAX;
    lab.gets(&[data(1, "A", 1, &[7; 40_000])]);
    assert_eq!(told(&mut lab, 1), None, "nobody waits");
    let other = lab.accept(0).unwrap();
    lab.socket(other).room = usize::MAX;
    lab.gets(&[data(1, "A", 2, &[7; 40_000])]);
    assert!(told(&mut lab, 2).is_some());
    // From here on the peer waits.
    lab.gets(&[connection_reset(1, "A", 2)]);
    for _ in 0..8 {
        assert_eq!(told(&mut lab, 1), None);
        lab.gets(&[data(1, "A", 1, &[7; 32 * KIB])]);
    }
    assert!(told(&mut lab, 1).is_some(), "so much leaves without it");
    let third = lab.accept(0).unwrap();
    lab.socket(third).room = usize::MAX;
    lab.gets(&[connection_reset(1, "A", 1)]);
    lab.gets(&[data(1, "A", 3, &[7; 40_000])]);
    assert_eq!(told(&mut lab, 3), Some(u64::MAX));
}

#[test]
fn an_end_behind_the_limit_is_told_after_the_rest() {
    let (mut lab, ios) = stalled(1);
    lab.writes(ios[0], &[1; 1_000]);
    lab.gets(&[credit(1, "A", 1, 400)]);
    lab.breaks(ios[0]);
    lab.finishes(ios[0]);
    let said = lab.said().messages;
    assert!(said.iter().map(|said| said.payload.len()).sum::<usize>() <= 400);
}

#[test]
fn a_broken_connection_without_credit_does_not_stay_for_ever() {
    let (mut lab, ios) = stalled(2);
    lab.gets(&[credit(1, "A", 1, 0)]);
    lab.writes(ios[0], &[1; 1_000]);
    lab.breaks(ios[0]);
    lab.said();
    lab.wait(Duration::from_secs(290));
    assert_eq!(lab.ending(ios[0]), None, "the peer may still take the rest");
    lab.wait(Duration::from_secs(20));
    assert!(lab.ending(ios[0]).is_some());
    let said = lab.said().messages;
    let reset = |said: &&Message| said.r#type == Kind::ConnectionReset.raw();
    assert_eq!(said.iter().filter(reset).count(), 1);
}

#[test]
fn credit_that_means_nothing_is_dropped() {
    let (mut lab, ios) = stalled(1);
    let short = Message {
        payload: vec![1; 7],
        ..credit(1, "A", 1, 0)
    };
    lab.gets(&[
        credit(1, "A", 9, 0),
        credit(2, "A", 1, 0),
        credit(1, "B", 1, 0),
        short,
    ]);
    assert_eq!(lab.proxy.counters().stale, 4);
    lab.writes(ios[0], b"free");
    assert_eq!(lab.said().messages, [data(1, "A", 1, b"free")]);
}

#[test]
fn nobody_is_told_of_credit_unless_the_relay_passes_it_on() {
    let mut lab = Lab::source(&["A"]);
    lab.room = usize::MAX;
    lab.accept(0).unwrap();
    lab.said();
    for _ in 0..100 {
        lab.gets(&[data(1, "A", 1, &[7; 60_000])]);
    }
    assert_eq!(lab.said().messages, []);
}

#[test]
fn it_is_announced_once_and_forgotten_with_the_link() {
    let (mut lab, _) = stalled(0);
    lab.lose();
    lab.connect(&["A"]);
    assert!(!lab.proxy.has_credit);
    lab.lose();
    lab.link_up();
    lab.proxy.use_credit();
    let announcement = credit(0, "", 0, 0);
    assert_eq!(lab.said().messages, [announcement]);
}

#[test]
fn a_source_of_an_older_dialect_has_none() {
    for dialect in [Dialect::V1, Dialect::V2] {
        let mut lab = Lab::speaking(&["A"], dialect);
        lab.proxy.use_credit();
        assert_eq!(lab.said().messages, []);
    }
}
