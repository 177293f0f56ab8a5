//! The relay without sockets: read, checked, and composed for the other side.
//!
//! Held fixed: one tunnel of one service, both peers of dialect V3, no quotas, no TLS. What the
//! driver does with forwarded bytes (a copy into the frame of the other side, or for those that
//! fill most of a record a header in front of them) is in it. `16_KiB` is as much as one record
//! carries.

use crate::Case;
use crate::input::{Payload, RECORD, SERVICE, SMALL, control, data_frames, frame};
use adit_engine::tunnel::compose::End;
use adit_engine::tunnel::flow::Flow;
use adit_engine::tunnel::limits::MAX_RECORD_PLAINTEXT;
use adit_engine::tunnel::relay::{Composer, Frames, Relay};
use adit_proto::ids::{Mode, ServiceId, Subprotocol};
use adit_proto::message::{Credit, Kind};
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

/// Both directions.
pub fn cases() -> Vec<Case> {
    let from_source = [(1, SMALL), (64, SMALL), (1, RECORD)];
    let mut cases: Vec<Case> = from_source
        .into_iter()
        .map(|(connections, payload)| data(Mode::Source, connections, payload, Peers::Ours))
        .collect();
    cases.push(data(Mode::Source, 64, SMALL, Peers::Others));
    cases.push(data(Mode::Destination, 1, SMALL, Peers::Ours));
    cases.push(data(Mode::Destination, 1, RECORD, Peers::Ours));
    cases
}

/// Who is at both ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peers {
    /// They say that they know credit, and get messages as they fit.
    Ours,
    /// Each message has a frame of its own.
    Others,
}

/// With one connection each message has a frame of its own; with many, they share one.
fn data(from: Mode, connections: usize, payload: Payload, peers: Peers) -> Case {
    let Payload { label, size, count } = payload;
    let whose = match peers {
        Peers::Ours => "",
        Peers::Others => "/others",
    };
    let name = format!("relay/data/from_{from}/{connections}_conn/{label}{whose}");
    Case::new(name, count, size, move || {
        let mut relay = relay(connections, peers);
        let mut buffer = data_frames(End::Client, payload, connections);
        let mut output = Output::new(&buffer);
        let mut expected = relay.counters(from).messages_forwarded;
        move || {
            pass(&mut relay, from, &mut buffer, &mut output);
            expected += count as u64;
            assert_eq!(relay.counters(from).messages_forwarded, expected);
        }
    })
}

/// A tunnel whose source has opened connections 1 to `connections`.
fn relay(connections: usize, peers: Peers) -> Relay {
    let services: Arc<[ServiceId]> = Arc::from([SERVICE.parse().expect("an id")]);
    let mut relay = Relay::new(services);
    let mut area = vec![0; MAX_RECORD_PLAINTEXT];
    for side in [Mode::Source, Mode::Destination] {
        relay.connected(side, Subprotocol::V3);
        while relay.outbox(side).has_messages() {
            relay.outbox(side).write_messages(&mut area);
        }
    }
    let mut output = Output::new(&[]);
    if peers == Peers::Ours {
        let mut announcement = Vec::new();
        Credit::ANNOUNCEMENT.encode(&mut announcement);
        for side in [Mode::Source, Mode::Destination] {
            let mut announcement = frame(End::Client, &announcement);
            pass(&mut relay, side, &mut announcement, &mut output);
        }
    }
    for id in 1..=connections as u32 {
        let kind = match id {
            1 => Kind::StreamStart,
            _ => Kind::ConnectionStart,
        };
        let mut start = frame(End::Client, &control(kind, id));
        pass(&mut relay, Mode::Source, &mut start, &mut output);
    }
    relay
}

fn pass(relay: &mut Relay, from: Mode, buffer: &mut [u8], output: &mut Output) {
    let mut position = 0;
    loop {
        let flow = relay
            .handle_input(from, buffer, &mut position)
            .expect("it is proper");
        output.composer.forward(relay, buffer, &mut output.carrier);
        relay.clear_runs();
        match flow {
            Flow::Done => return output.finish(),
            Flow::Deliver => {}
            Flow::Paused | Flow::Closed(_) => panic!("{flow:?}"),
        }
    }
}

/// The frames of the other side, as the driver composes them.
struct Output {
    composer: Composer,
    carrier: Carrier,
}

/// Sealing itself is a case of `records`.
struct Carrier {
    area: Vec<u8>,
    /// The bytes that are read, as they were.
    input: Vec<u8>,
}

impl Output {
    fn new(input: &[u8]) -> Self {
        Self {
            composer: Composer::default(),
            carrier: Carrier {
                area: vec![0; MAX_RECORD_PLAINTEXT],
                input: input.to_vec(),
            },
        }
    }

    fn finish(&mut self) {
        self.composer.finish(&mut self.carrier);
    }
}

impl Frames for Carrier {
    fn area(&mut self, _is_new: bool) -> Option<&mut [u8]> {
        Some(&mut self.area)
    }

    fn seal(&mut self, size: usize) {
        black_box(&self.area[..size]);
    }

    /// The frame's header is taken back, for the buffer will be read again.
    fn seal_from(&mut self, buffer: &mut [u8], frame: Range<usize>) {
        black_box(&buffer[frame.clone()]);
        let header = frame.start..frame.start + End::Server.header_room();
        buffer[header.clone()].copy_from_slice(&self.input[header]);
    }

    fn can_carry(&self) -> bool {
        true
    }
}
