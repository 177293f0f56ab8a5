//! A tunnel over its quotas is read later; nothing is dropped and nothing changes places.

use super::lab::*;
use crate::tunnel::flow::Flow;
use crate::tunnel::relay::Quotas;
use adit_proto::ids::Mode;
use adit_proto::websocket::Opcode;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "some instant to start from")]
fn start() -> Instant {
    Instant::now()
}

/// Bytes that were received from one side and are read as the quotas allow.
struct Input {
    from: Mode,
    bytes: Vec<u8>,
    position: usize,
}

impl Input {
    fn new(from: Mode, messages: &[Message]) -> Self {
        let bytes = messages.iter().flat_map(|message| frame(&encode(message)));
        Self {
            from,
            bytes: bytes.collect(),
            position: 0,
        }
    }

    /// What passes at `now`, and whether that is all.
    fn read(&mut self, lab: &mut Lab, now: Instant) -> (Vec<Message>, bool) {
        lab.relay.tick(now);
        loop {
            let flow = lab
                .relay
                .handle_input(self.from, &mut self.bytes, &mut self.position);
            lab.take_runs(self.from.other(), &self.bytes);
            match flow.unwrap() {
                Flow::Deliver => {}
                flow => return (lab.forwarded(self.from.other()), flow == Flow::Done),
            }
        }
    }
}

#[test]
fn connections_over_their_rate_are_started_later_in_their_order() {
    let mut now = start();
    let mut lab = Lab::v3(&["A"]);
    lab.relay.limit(Quotas {
        connections_per_second: NonZeroU32::new(4),
        ..Quotas::default()
    });
    let mut messages = vec![stream_start(1, "A", 1), data(1, "A", 1, b"first")];
    for id in 2..=12 {
        messages.push(connection_start(1, "A", id));
        messages.push(data(1, "A", id, b"x"));
    }
    let mut input = Input::new(SOURCE, &messages);
    // Four, and the one that overdraws.
    let (mut passed, _) = input.read(&mut lab, now);
    assert_eq!(passed, messages[..9]);
    let mut waits = 0;
    while passed.len() < messages.len() {
        let at = lab.relay.poll_timeout().unwrap();
        assert!(at > now);
        let early = at - Duration::from_nanos(1);
        assert_eq!(input.read(&mut lab, early), (vec![], false));
        // Only who starts connections is held back.
        lab.passes(DESTINATION, &[data(1, "A", 1, b"back")]);
        now = at;
        passed.extend(input.read(&mut lab, now).0);
        waits += 1;
    }
    assert_eq!(passed, messages);
    assert_eq!(waits, 8, "one at a time, the last message behind its start");
}

#[test]
fn both_sides_and_all_streams_share_the_bytes_of_a_tunnel() {
    let now = start();
    let mut lab = Lab::v3(&["A", "B"]);
    lab.passes(SOURCE, &[stream_start(1, "A", 1), stream_start(1, "B", 1)]);
    lab.relay.limit(Quotas {
        bytes_per_second: NonZeroU64::new(1000),
        ..Quotas::default()
    });
    assert_eq!(lab.relay.poll_timeout(), None);
    let there = data(1, "A", 1, &[1; 1500]);
    let mut first = Input::new(SOURCE, std::slice::from_ref(&there));
    assert_eq!(first.read(&mut lab, now).0, [there]);
    let back = data(1, "B", 1, b"back");
    let mut second = Input::new(DESTINATION, std::slice::from_ref(&back));
    assert_eq!(second.read(&mut lab, now), (vec![], false));
    let at = lab.relay.poll_timeout().unwrap();
    assert!(at >= now + SECOND / 2 && at < now + SECOND);
    assert_eq!(second.read(&mut lab, at).0, [back]);
}

/// Specification 2.1: their bytes and those of their headers, though they carry nothing to the other side.
#[test]
fn pings_and_pongs_count_for_the_bytes_of_a_tunnel() {
    for (opcode, pings) in [(Opcode::Ping, 8), (Opcode::Pong, 0)] {
        let now = start();
        let mut lab = Lab::v3(&["A"]);
        lab.passes(SOURCE, &[stream_start(1, "A", 1)]);
        lab.relay.limit(Quotas {
            bytes_per_second: NonZeroU64::new(1000),
            ..Quotas::default()
        });
        // 8 * 131 bytes are 48 more than a second brings.
        let frame = client_control(opcode, &[7; 125]);
        assert_eq!(frame.len(), 131);
        let mut input = Input {
            from: SOURCE,
            bytes: frame.repeat(8),
            position: 0,
        };
        assert_eq!(input.read(&mut lab, now), (vec![], false));
        assert_eq!(input.position, input.bytes.len(), "all of them were read");
        assert_eq!(lab.relay.counters(SOURCE).pings, pings);
        assert_eq!(
            lab.relay.poll_timeout(),
            Some(now + Duration::from_millis(48)),
            "{opcode:?}"
        );
        let back = data(1, "A", 1, b"back");
        let mut waiting = Input::new(DESTINATION, std::slice::from_ref(&back));
        assert_eq!(waiting.read(&mut lab, now), (vec![], false));
        let at = now + Duration::from_millis(48);
        assert_eq!(waiting.read(&mut lab, at).0, [back]);
    }
}

#[test]
fn a_quota_that_is_lifted_holds_nothing_back() {
    let now = start();
    let mut lab = Lab::v3(&["A"]);
    let quotas = Quotas {
        bytes_per_second: NonZeroU64::new(1),
        ..Quotas::default()
    };
    lab.relay.limit(quotas);
    let start = stream_start(1, "A", 1);
    let mut input = Input::new(SOURCE, &[start.clone(), start.clone()]);
    assert_eq!(input.read(&mut lab, now).0.len(), 1);
    lab.relay.limit(quotas);
    assert_eq!(
        input.read(&mut lab, now).0.len(),
        0,
        "what was used stays used"
    );
    lab.relay.limit(Quotas::default());
    assert_eq!(lab.relay.poll_timeout(), None);
    assert!(input.read(&mut lab, now).1);
}
