//! Fairness, and the bounds of queues: who pauses whom, who is reset, how much memory it takes.

use super::lab::*;
use crate::tunnel::limits::{Limits, OUTBOX_SIZE, QUANTUM};
use crate::tunnel::proxy::ProxySettings;
use adit_proto::ids::Mode;
use std::time::Duration;

const KIB: usize = 1024;
const SECOND: Duration = Duration::from_secs(1);

fn running(limits: Limits) -> Lab {
    let settings = ProxySettings {
        limits,
        ..settings(Mode::Source, &["A"])
    };
    Lab::running(settings, &["A"])
}

/// A source with connections whose applications read nothing unless asked to.
fn stalled(count: usize) -> (Lab, Vec<u32>) {
    let limits = Limits {
        connection_buffer: 256 * KIB,
        ..Limits::default()
    };
    let mut lab = running(limits);
    lab.room = 100;
    let ios = (0..count).map(|_| lab.accept(0).unwrap()).collect();
    lab.said();
    (lab, ios)
}

/// Data for one connection until the tunnel pauses; returns the bytes.
fn fill(lab: &mut Lab, connection: u32) -> usize {
    let mut sent = 0;
    while !lab.proxy.is_paused() {
        let _ = lab.get(&[data(1, "A", connection, &[7; 10_000])]);
        sent += 10_000;
    }
    sent
}

#[test]
fn a_stalled_connection_pauses_the_tunnel_within_its_bound_and_resumes_at_half() {
    let (mut lab, ios) = stalled(1);
    let mut sent = fill(&mut lab, 1);
    assert!(sent > 128 * KIB, "paused at {sent}");
    assert!(lab.queued_max <= 260 * KIB);
    lab.socket(ios[0]).room = usize::MAX;
    lab.socket(ios[0]).room = 40 * KIB;
    lab.writable(ios[0]);
    assert!(lab.proxy.is_paused(), "not before half of it has gone");
    lab.socket(ios[0]).room = 120 * KIB;
    lab.writable(ios[0]);
    assert!(!lab.proxy.is_paused());
    if lab.has_unread() {
        lab.go_on().unwrap();
    }
    let mut received = 0;
    while received < sent {
        let count = lab.reads(ios[0], usize::MAX).len();
        assert!(count > 0, "{received} of {sent}");
        received += count;
        if lab.has_unread() {
            lab.go_on().unwrap();
        }
    }
    sent -= received;
    assert_eq!(sent, 0);
    assert_eq!(lab.proxy.queued_size(), 0);
}

#[test]
fn a_lone_connection_only_blocks() {
    let (mut lab, ios) = stalled(1);
    fill(&mut lab, 1);
    lab.wait(SECOND * 100);
    assert_eq!(lab.ending(ios[0]), None);
    assert!(lab.proxy.is_paused());
}

#[test]
fn a_connection_that_stalls_others_is_reset_after_the_timeout() {
    let (mut lab, ios) = stalled(2);
    fill(&mut lab, 1);
    lab.wait(SECOND * 9);
    assert_eq!(lab.ending(ios[0]), None);
    lab.wait(SECOND * 2);
    assert_eq!(lab.ending(ios[0]), Some(Ended::Cut));
    assert_eq!(lab.ending(ios[1]), None);
    assert!(!lab.proxy.is_paused());
    assert_eq!(lab.said().messages, [connection_reset(1, "A", 1)]);
    assert_eq!(lab.proxy.counters().stalled, 1);
}

#[test]
fn a_slow_connection_that_drains_a_little_is_not_reset() {
    let (mut lab, ios) = stalled(2);
    fill(&mut lab, 1);
    for _ in 0..20 {
        lab.wait(SECOND * 5);
        lab.reads(ios[0], 100);
    }
    assert_eq!(lab.ending(ios[0]), None);
}

#[test]
fn a_pause_that_ends_with_its_connection_starts_no_clock_for_the_others() {
    let (mut lab, ios) = stalled(3);
    lab.gets(&[data(1, "A", 2, &[1; 200])]);
    fill(&mut lab, 1);
    lab.wait(SECOND * 5);
    // It breaks, rather than to drain: nothing is paused any more.
    lab.breaks(ios[0]);
    lab.said();
    assert!(!lab.proxy.is_paused());
    if lab.has_unread() {
        lab.go_on().unwrap();
    }
    lab.wait(SECOND * 100);
    assert_eq!(lab.ending(ios[1]), None, "nobody waits for it");
    fill(&mut lab, 3);
    lab.wait(SECOND * 9);
    assert_eq!(lab.ending(ios[2]), None, "its clock starts anew");
}

#[test]
fn a_connection_that_was_idle_has_its_full_time() {
    let (mut lab, ios) = stalled(2);
    lab.wait(SECOND * 100);
    fill(&mut lab, 2);
    lab.wait(SECOND * 9);
    lab.reads(ios[1], 100);
    lab.wait(SECOND * 9);
    assert_eq!(lab.ending(ios[1]), None);
}

/// Many connections, none of them over its own mark.
#[test]
fn the_shared_pool_is_bounded_whatever_the_sizes_of_messages_and_batches() {
    for (size, per_frame) in [(1, 4000), (100, 600), (4097, 60), (60_000, 4)] {
        let limits = Limits {
            connection_buffer: 256 * KIB,
            tunnel_buffer: 1024 * KIB,
            ..Limits::default()
        };
        let mut lab = running(limits);
        lab.room = 0;
        for _ in 0..400 {
            lab.accept(0).unwrap();
        }
        let mut id = 0;
        for _ in 0..200 {
            if lab.has_unread() {
                break;
            }
            let messages: Vec<Message> = (0..per_frame)
                .map(|_| {
                    id = id % 400 + 1;
                    data(1, "A", id, &vec![7; size])
                })
                .collect();
            let _ = lab.get(&messages);
        }
        assert!(
            lab.queued_max <= limits.tunnel_buffer,
            "{} held",
            lab.queued_max
        );
        assert!(lab.proxy.is_paused() || size == 1);
    }
}

/// One buffer of the driver, full of data for one connection that takes none of it.
#[test]
fn the_queue_of_one_connection_is_bounded_whatever_comes_in_one_batch() {
    for size in [1, 700, 30_000, 64_512] {
        let (mut lab, _) = stalled(1);
        let count = 1_000_000 / (size + 10);
        let messages = vec![data(1, "A", 1, &vec![7; size]); count];
        let _ = lab.get(&messages);
        assert!(lab.proxy.is_paused() || size == 1);
        assert!(
            lab.queued_max <= 256 * KIB + 4 * KIB,
            "{} held",
            lab.queued_max
        );
    }
}

#[test]
fn answers_are_bounded_by_not_reading_more() {
    let mut lab = Lab::destination(&["A"]);
    lab.proxy.drain();
    let starts: Vec<Message> = (1..20_000).map(|id| connection_start(1, "A", id)).collect();
    let _ = lab.get(&starts);
    assert!(lab.has_unread());
    let said: usize = lab
        .said()
        .messages
        .iter()
        .map(|said| encode(said).len())
        .sum();
    assert!(said <= OUTBOX_SIZE + 200, "{said}");
    lab.go_on().unwrap();
}

#[test]
fn bulk_connections_share_and_a_quiet_one_passes_them() {
    let mut lab = Lab::source(&["A"]);
    let ios: Vec<u32> = (0..4).map(|_| lab.accept(0).unwrap()).collect();
    lab.said();
    for io in &ios[..3] {
        lab.writes(*io, &[7; 400_000]);
    }
    let mut bytes = [0; 5];
    let mut reader =
        adit_proto::websocket::FrameReader::new(adit_proto::websocket::Role::Server, 16_384);
    let mut keystrokes = 0;
    for turn in 0..60 {
        let strikes = turn % 10 == 5;
        if strikes {
            lab.writes(ios[3], b"key");
        }
        let mut output = lab.output();
        let mut position = 0;
        let mut content = Vec::new();
        while let Some(event) = reader.next(&mut output, &mut position).unwrap() {
            let adit_proto::websocket::FrameEvent::Data(range) = event else {
                panic!("only data")
            };
            content.extend_from_slice(&output[range]);
        }
        for message in decode_all(&content) {
            bytes[message.connection_id as usize] += message.payload.len();
            keystrokes += usize::from(message.connection_id == 4);
        }
        assert!(
            !strikes || keystrokes == turn / 10 + 1,
            "it leaves in the next frame"
        );
    }
    let (least, most) = (bytes[1..4].iter().min(), bytes[1..4].iter().max());
    assert!(
        most.unwrap() - least.unwrap() <= 2 * QUANTUM as usize,
        "{bytes:?}"
    );
}

#[test]
fn the_list_of_waiting_connections_is_bounded_while_nothing_leaves() {
    let mut lab = Lab::destination(&["A"]);
    lab.gets(&[stream_start(1, "A", 1)]);
    lab.dialled().unwrap();
    for id in 2..20_000 {
        lab.gets(&[connection_start(1, "A", id)]);
        let io = lab.dialled().unwrap();
        lab.writes(io, b"never sent");
        lab.gets(&[connection_reset(1, "A", id)]);
        assert!(lab.proxy.schedule.size() <= 256);
    }
}

#[test]
fn connections_are_bounded() {
    let limits = Limits {
        connections_max: 3,
        ..Limits::default()
    };
    let mut lab = Lab::running(
        ProxySettings {
            limits,
            ..settings(Mode::Source, &["A"])
        },
        &["A"],
    );
    for _ in 0..3 {
        lab.accept(0).unwrap();
    }
    assert_eq!(lab.accept(0), None);
    assert_eq!(lab.proxy.counters().refused, 1);
    let mut lab = Lab::running(
        ProxySettings {
            limits,
            ..settings(Mode::Destination, &["A"])
        },
        &["A"],
    );
    lab.gets(&[stream_start(1, "A", 1)]);
    lab.gets(&[2, 3, 4].map(|id| connection_start(1, "A", id)));
    assert_eq!(lab.dials.len(), 3);
    lab.says(&[connection_reset(1, "A", 4)]);
}
