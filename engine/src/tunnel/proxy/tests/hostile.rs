//! Nothing that comes in makes a proxy panic, keep more than its bounds, or send out of protocol.

use super::lab::*;
use crate::tunnel::error::PeerError;
use crate::tunnel::flow::Flow;
use crate::tunnel::proxy::ProxySettings;
use adit_proto::ids::{Dialect, Mode};
use adit_proto::websocket::{Opcode, write_control};
use proptest::prelude::*;
use prost::Message as _;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Step {
    /// Messages in one frame each.
    Messages(Vec<Message>),
    /// Bytes in a proper frame.
    Content(Vec<u8>),
    /// A proper message with one byte changed.
    Damaged(Message, usize, u8),
    /// Bytes as they are.
    Raw(Vec<u8>),
    Control(Opcode),
    Accept(u32),
    Dialled(bool),
    Write(usize, usize),
    Finish(usize),
    Break(usize),
    Read(usize, usize),
    Send,
    Wait(u64),
    Drain,
    Lose,
}

fn any_message() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![9 => 1..4, 4 => 6..8, 1 => -1..9];
    let stream = prop_oneof![20 => 1..4, 1 => -1..1];
    let service = prop_oneof![8 => Just("A"), 3 => Just(""), 2 => Just("B"), 1 => Just("x")];
    let connection = prop_oneof![1 => Just(0), 6 => 1..5u32];
    let size = prop_oneof![4 => 0..50usize, 1 => 0..64_512usize];
    (kind, stream, service, connection, size).prop_map(
        |(kind, stream_id, service, connection_id, size)| Message {
            r#type: kind,
            stream_id,
            service_id: service.to_owned(),
            connection_id,
            payload: vec![7; if kind == 1 { size } else { 0 }],
            ..Message::default()
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        30 => prop::collection::vec(any_message(), 1..8).prop_map(Step::Messages),
        1 => bytes().prop_map(Step::Content),
        1 => bytes().prop_map(Step::Raw),
        1 => (any_message(), any::<usize>(), any::<u8>())
            .prop_map(|(message, at, byte)| Step::Damaged(message, at, byte)),
        1 => prop_oneof![Just(Opcode::Ping), Just(Opcode::Pong), Just(Opcode::Close)]
            .prop_map(Step::Control),
        8 => (0..3u32).prop_map(Step::Accept),
        8 => any::<bool>().prop_map(Step::Dialled),
        8 => (any::<usize>(), 0..40_000usize).prop_map(|(at, size)| Step::Write(at, size)),
        3 => any::<usize>().prop_map(Step::Finish),
        2 => any::<usize>().prop_map(Step::Break),
        6 => (any::<usize>(), 0..100_000usize).prop_map(|(at, size)| Step::Read(at, size)),
        8 => Just(Step::Send),
        4 => (0..12_000u64).prop_map(Step::Wait),
        1 => Just(Step::Drain),
        1 => Just(Step::Lose),
    ]
}

struct World {
    lab: Lab,
    names: &'static [&'static str],
}

impl World {
    fn step(&mut self, step: Step) {
        let open: Vec<u32> = self.open();
        let pick = |at: usize| open.get(at % open.len().max(1)).copied();
        let lab = &mut self.lab;
        match step {
            Step::Messages(messages) => {
                let bytes = messages.iter().flat_map(|message| frame(&encode(message)));
                self.input(bytes.collect());
            }
            Step::Content(bytes) => self.input(frame(&bytes)),
            Step::Damaged(message, at, byte) => {
                let mut bytes = encode(&message);
                let at = at % bytes.len();
                bytes[at] ^= byte;
                self.input(frame(&bytes));
            }
            Step::Raw(bytes) => self.input(bytes),
            Step::Control(opcode) => {
                let mut bytes = Vec::new();
                let payload: &[u8] = if opcode == Opcode::Close {
                    b""
                } else {
                    b"hello"
                };
                write_control(opcode, payload, None, &mut bytes);
                self.input(bytes);
            }
            Step::Accept(service) => {
                if lab.proxy.mode == Mode::Source {
                    lab.accept(service);
                }
            }
            Step::Dialled(_) if lab.dials.is_empty() => {}
            Step::Dialled(true) => {
                lab.dialled();
            }
            Step::Dialled(false) => lab.dial_failed(),
            Step::Write(at, size) => {
                if let Some(io) = pick(at) {
                    lab.writes(io, &vec![1; size]);
                }
            }
            Step::Finish(at) => {
                if let Some(io) = pick(at) {
                    lab.finishes(io);
                }
            }
            Step::Break(at) => {
                if let Some(io) = pick(at) {
                    lab.breaks(io);
                    lab.writable(io);
                }
            }
            Step::Read(at, size) => {
                if let Some(io) = pick(at) {
                    lab.reads(io, size);
                }
            }
            Step::Send => self.check_said(),
            Step::Wait(time) => lab.wait(Duration::from_millis(time)),
            Step::Drain => lab.proxy.drain(),
            Step::Lose => self.reconnect(),
        }
        self.go_on();
        self.check();
    }

    fn open(&self) -> Vec<u32> {
        let ios = self.lab.ios().into_iter();
        ios.filter(|io| self.lab.ending(*io).is_none()).collect()
    }

    fn input(&mut self, bytes: Vec<u8>) {
        if !self.lab.has_unread() {
            let result = self.lab.input(bytes);
            self.after(result);
        }
    }

    fn go_on(&mut self) {
        if self.lab.has_unread() && !self.lab.proxy.is_paused() {
            let result = self.lab.go_on();
            self.after(result);
        }
    }

    fn after(&mut self, result: Result<Flow, PeerError>) {
        if result.is_err() {
            assert!(self.lab.said().close.is_some(), "the peer is told");
        }
        if matches!(result, Err(_) | Ok(Flow::Closed(_))) {
            self.reconnect();
        }
    }

    fn reconnect(&mut self) {
        self.lab.lose();
        self.lab.link_up();
        self.lab.gets(&[service_ids(self.names)]);
    }

    /// What leaves is in its dialect, and within the sizes that peers take.
    fn check_said(&mut self) {
        let mode = self.lab.proxy.mode;
        for said in self.lab.said().messages {
            let kind = said.r#type();
            assert!(
                said.stream_id > 0 || kind == Type::ConnectionReset,
                "{said:?}"
            );
            assert!(said.encoded_len() <= 65_535 && said.payload.len() <= 64_512);
            let is_start = matches!(kind, Type::StreamStart | Type::ConnectionStart);
            assert!(!is_start || mode == Mode::Source);
            if matches!(kind, Type::ConnectionStart | Type::ConnectionReset) {
                assert!(said.connection_id > 0, "{said:?}");
            }
            assert!(kind != Type::StreamReset || said.connection_id == 0, "Q-19");
        }
    }

    fn check(&self) {
        let proxy = &self.lab.proxy;
        assert!(
            self.lab.queued_max <= SMALL_LIMITS.tunnel_buffer,
            "{}",
            self.lab.queued_max
        );
        assert!(proxy.connection_count() <= SMALL_LIMITS.connections_max);
        assert!(proxy.timers.watched_count() <= 80 && proxy.schedule.size() <= 80);
        let (mut queued, mut full) = (0, 0);
        for (_, connection) in proxy.connections.iter() {
            assert!(connection.queue.size() <= SMALL_LIMITS.connection_buffer);
            queued += usize::from(!connection.queue.is_empty());
            full += usize::from(connection.is_full);
        }
        assert_eq!(full, proxy.full_queues);
        assert_eq!(queued == 0, proxy.queued_size() == 0);
        let named: usize = proxy.services.iter().map(|service| service.count()).sum();
        assert!(named <= proxy.connection_count());
        for service in &proxy.services {
            assert!(service.stream.is_some() || service.count() == 0);
            assert!(!service.is_single || service.count() <= 1);
        }
    }
}

proptest! {
    #[test]
    fn whatever_comes_the_bounds_hold(
        is_source in any::<bool>(),
        is_v2 in prop::bool::weighted(0.2),
        has_two in any::<bool>(),
        room in prop_oneof![Just(1usize), Just(5_000), Just(100_000)],
        steps in prop::collection::vec(any_step(), 1..120),
    ) {
        let mode = if is_source { Mode::Source } else { Mode::Destination };
        let names: &'static [&'static str] = if has_two { &["A", "B"] } else { &["A"] };
        let settings = ProxySettings {
            limits: SMALL_LIMITS,
            dialect: (is_v2 && is_source).then_some(Dialect::V2),
            ..settings(mode, names)
        };
        let mut world = World { lab: Lab::running(settings, names), names };
        world.lab.room = room;
        for step in steps {
            world.step(step);
        }
        // Whatever was left of it ends: nothing leaks.
        world.lab.lose();
        while !world.lab.dials.is_empty() {
            world.lab.dial_failed();
        }
        world.lab.wait(Duration::from_secs(700));
        world.lab.is_empty();
    }
}
