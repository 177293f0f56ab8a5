//! A relay between two peers that are made up.

use super::input::{Input, NAMES, frame, message};
use crate::tunnel::flow::Flow;
use crate::tunnel::limits::OUTBOX_SIZE;
use crate::tunnel::relay::{Quotas, Relay, RunPlace};
use adit_proto::framing::{Located, MessageReader};
use adit_proto::ids::{Mode, ServiceId, Subprotocol};
use adit_proto::limits::MAX_PAYLOAD_SIZE;
use adit_proto::message::{Credit, Kind, MessageView};
use adit_proto::websocket::{CloseCode, FrameEvent, FrameReader, Opcode, Role, write_control};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A relay under any operations.
pub fn fuzz_relay(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(input.byte());
    // A bound of the time that one input may take.
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
}

struct World {
    relay: Relay,
    now: Instant,
    names: Vec<ServiceId>,
    /// What a side has sent and the relay has not read, with how far it has.
    unread: [Option<(Vec<u8>, usize)>; 2],
    /// What comes to a side.
    peers: [Peer; 2],
}

impl World {
    #[expect(
        clippy::disallowed_methods,
        reason = "some instant to start from; only its distance to later ones counts"
    )]
    fn new(choice: u8) -> Self {
        let names: Vec<ServiceId> = NAMES[..usize::from(choice) % 3]
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        let services: Arc<[ServiceId]> = names.iter().cloned().collect();
        let mut world = Self {
            relay: Relay::new(services),
            now: Instant::now(),
            names,
            unread: [None, None],
            peers: SIDES.map(Peer::new),
        };
        world.relay.tick(world.now);
        for (at, side) in SIDES.into_iter().enumerate() {
            world.connect(side, choice >> (2 + 2 * at));
        }
        world
    }

    fn connect(&mut self, side: Mode, offer: u8) {
        let offers = [
            Subprotocol::V3,
            Subprotocol::V2,
            Subprotocol::V1,
            Subprotocol::V3,
        ];
        self.relay.connected(side, offers[usize::from(offer & 3)]);
        self.peers[at(side)] = Peer::new(side);
        self.take_outbox(side);
        assert!(self.peers[at(side)].has_services, "SERVICE_IDS comes first");
    }

    fn lose(&mut self, side: Mode) {
        self.relay.lost(side);
        self.unread[at(side)] = None;
        self.take_outbox(side.other());
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let first = input.byte();
        let from = SIDES[usize::from(first >> 7)];
        match first % 32 {
            0..=15 => {
                let mut bytes = Vec::new();
                for _ in 0..1 + input.below(4) {
                    let mut content = Vec::new();
                    message(input, |label| label.connection as u8, &mut content);
                    bytes.extend(frame(&content, Some(KEY)));
                }
                self.input(from, bytes);
            }
            16 | 17 => {
                let mut content = Vec::new();
                message(input, |label| label.connection as u8, &mut content);
                let (front, back) = content.split_at(input.size(content.len()));
                self.input(from, frame(front, Some(KEY)));
                self.input(from, frame(back, Some(KEY)));
            }
            18 => {
                let size = input.size(64);
                self.input(from, frame(input.take(size), Some(KEY)));
            }
            19 => {
                let size = input.size(64);
                self.input(from, input.take(size).to_vec());
            }
            20 => {
                let opcode = [Opcode::Ping, Opcode::Pong, Opcode::Close][input.below(3)];
                let size = match opcode {
                    Opcode::Close => 0,
                    _ => input.size(125),
                };
                let mut bytes = Vec::new();
                write_control(opcode, input.take(size), Some(KEY), &mut bytes);
                self.input(from, bytes);
            }
            21..=25 => self.take_outbox(from),
            26 => {
                self.relay.close(from, CloseCode::GoingAway, "fuzzing");
                self.take_outbox(from);
            }
            27 => self.relay.limit(Quotas {
                bytes_per_second: NonZeroU64::new(u64::from(input.byte()) * 1_000),
                connections_per_second: NonZeroU32::new(u32::from(input.byte() & 7)),
            }),
            28 => {
                self.now += Duration::from_millis(10 * u64::from(input.byte()));
                self.relay.tick(self.now);
            }
            _ => {
                if self.relay.is_present(from) {
                    self.lose(from);
                }
                self.connect(from, input.byte());
            }
        }
        for side in SIDES {
            self.read(side);
        }
    }

    fn input(&mut self, from: Mode, bytes: Vec<u8>) {
        // As a driver does: no more is received while the relay has not read what came before.
        if self.relay.is_present(from) && self.unread[at(from)].is_none() {
            self.unread[at(from)] = Some((bytes, 0));
            self.read(from);
        }
    }

    fn read(&mut self, from: Mode) {
        let Some((mut buffer, mut position)) = self.unread[at(from)].take() else {
            return;
        };
        loop {
            let result = self.relay.handle_input(from, &mut buffer, &mut position);
            let has_runs = !self.relay.runs().is_empty();
            self.take_runs(from.other(), &buffer);
            match result {
                Ok(Flow::Deliver) => assert!(has_runs, "there is something to deliver"),
                Ok(Flow::Done) => return assert_eq!(position, buffer.len()),
                Ok(Flow::Paused) => {
                    self.unread[at(from)] = Some((buffer, position));
                    let quota = self.relay.poll_timeout();
                    assert!(self.relay.outbox(from).is_full() || quota.is_some());
                    return;
                }
                Ok(Flow::Closed(_)) => {
                    self.take_outbox(from);
                    return self.lose(from);
                }
                Err(error) => {
                    assert!(!error.to_string().contains(char::is_control));
                    self.relay.close(from, error.close_code(), "fuzzing");
                    self.take_outbox(from);
                    assert!(self.peers[at(from)].is_closed, "the peer is told why");
                    return self.lose(from);
                }
            }
        }
    }

    /// What goes to a side, each run a frame of its own.
    fn take_runs(&mut self, to: Mode, buffer: &[u8]) {
        if !self.relay.runs().is_empty() {
            // What is said to a side leaves before the runs that were taken after it.
            self.take_outbox(to);
        }
        for run in self.relay.runs() {
            let bytes = self.relay.run_bytes(run, buffer);
            assert!(!bytes.is_empty(), "a run has at least one message");
            if let RunPlace::Buffer(range) = &run.place {
                assert!(range.end <= buffer.len());
            }
            self.peers[at(to)].forwarded(bytes, run.ends_frame, &self.names);
        }
        self.relay.clear_runs();
    }

    fn take_outbox(&mut self, side: Mode) {
        let peer = &mut self.peers[at(side)];
        let outbox = self.relay.outbox(side);
        let mut area = vec![0; 16_384];
        let mut waiting = 0;
        while outbox.has_messages() {
            let (size, _) = outbox.write_messages(&mut area);
            assert!(size > 0, "it said that it had messages");
            waiting += size;
            peer.said(&area[..size], &self.names);
        }
        // One message more than the mark, and one for each service at the loss of a peer.
        assert!(waiting <= OUTBOX_SIZE + 1_024);
        let mut bytes = Vec::new();
        while outbox.write_frame(None, &mut bytes) {}
        peer.control(&mut bytes);
    }
}

/// What one side receives.
struct Peer {
    mode: Mode,
    messages: MessageReader,
    has_services: bool,
    is_closed: bool,
}

impl Peer {
    fn new(mode: Mode) -> Self {
        Self {
            mode,
            messages: MessageReader::new(),
            has_services: false,
            is_closed: false,
        }
    }

    /// Whole messages of the other side, or what the relay made of them.
    fn forwarded(&mut self, bytes: &[u8], ends_frame: bool, names: &[ServiceId]) {
        let mut reader = MessageReader::new();
        let (mut at, mut last) = (0, None);
        while let Some(Located::InChunk(range)) = reader.next(bytes, &mut at) {
            let message = MessageView::parse(&bytes[range]).expect("it was checked");
            let is_from_source = self.mode == Mode::Destination;
            match message.kind {
                Kind::StreamStart | Kind::ConnectionStart => assert!(is_from_source),
                Kind::Data | Kind::StreamReset | Kind::ConnectionReset => {}
                Kind::Credit => assert!(Credit::limit_of(&message).is_some()),
                other => panic!("{other:?} is never forwarded"),
            }
            assert!(!is_end(last), "a start or reset ends its frame");
            check(&message, names);
            last = Some(message.kind);
        }
        assert!(
            !reader.has_partial() && last.is_some(),
            "messages stay whole"
        );
        // And so does each message for a peer that has not said that it knows credit.
        assert!(ends_frame || !is_end(last));
    }

    /// A part of what the relay itself says.
    fn said(&mut self, bytes: &[u8], names: &[ServiceId]) {
        assert!(!self.is_closed, "nothing follows the close frame");
        let mut at = 0;
        while let Some(located) = self.messages.next(bytes, &mut at) {
            let message = match located {
                Located::InChunk(range) => &bytes[range],
                Located::Assembled => self.messages.assembled(),
            };
            let message = MessageView::parse(message).expect("the relay's own");
            if message.kind == Kind::ServiceIds {
                assert!(!self.has_services, "once in a session");
                let ids = message.service_ids().expect("they are services");
                assert_eq!(ids, names);
                self.has_services = true;
                continue;
            }
            assert!(
                matches!(message.kind, Kind::StreamReset | Kind::ConnectionReset),
                "{message:?}"
            );
            check(&message, names);
        }
    }

    fn control(&mut self, bytes: &mut [u8]) {
        let mut reader = FrameReader::new(Role::Client, 0);
        let mut position = 0;
        while let Some(event) = reader.next(bytes, &mut position).expect("the relay's own") {
            match event {
                FrameEvent::Pong { .. } => assert!(!self.is_closed),
                FrameEvent::Close { .. } => self.is_closed = true,
                FrameEvent::Data(_) | FrameEvent::Ping { .. } => panic!("{event:?}"),
            }
        }
    }
}

/// What holds for every message that a peer is to see.
fn check(message: &MessageView<'_>, names: &[ServiceId]) {
    assert!(message.stream_id > 0 && !message.has_unknown_fields);
    assert!(message.payload.len() <= MAX_PAYLOAD_SIZE);
    assert!(
        message.service_id.is_empty()
            || names.iter().any(|name| name.as_str() == message.service_id),
        "a service of another tunnel"
    );
    match message.kind {
        Kind::StreamReset => assert_eq!(message.connection_id, 0, "Q-19"),
        Kind::ConnectionStart | Kind::ConnectionReset => assert!(message.connection_id > 0),
        _ => {}
    }
}

fn is_end(kind: Option<Kind>) -> bool {
    matches!(kind, Some(Kind::StreamStart | Kind::StreamReset))
}

fn at(side: Mode) -> usize {
    match side {
        Mode::Source => 0,
        Mode::Destination => 1,
    }
}

const SIDES: [Mode; 2] = [Mode::Source, Mode::Destination];

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const STEPS_MAX: usize = 300;
