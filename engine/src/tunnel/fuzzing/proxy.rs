//! A source or a destination with local sockets that are made up.

mod output;
mod sockets;

use super::input::{Input, Label, NAMES, frame, message};
use crate::tunnel::bulk::BULK_BUFFER_SIZE;
use crate::tunnel::flow::Flow;
use crate::tunnel::key::ConnectionKey;
use crate::tunnel::limits::Limits;
use crate::tunnel::mapping::Mapping;
use crate::tunnel::proxy::{Action, Proxy, ProxySettings};
use adit_proto::ids::{Dialect, Mode, ServiceId};
use adit_proto::message::encode_service_ids;
use adit_proto::websocket::{CloseCode, Opcode, write_control};
use output::Output;
use sockets::{ANY, Ended, Sockets};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::{Duration, Instant};

/// A source under any operations.
pub fn fuzz_source(bytes: &[u8]) {
    fuzz(Mode::Source, bytes);
}

/// A destination under any operations.
pub fn fuzz_destination(bytes: &[u8]) {
    fuzz(Mode::Destination, bytes);
}

fn fuzz(mode: Mode, bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(mode, input.byte());
    // A bound of the time that one input may take.
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.check();
    }
    world.end();
}

/// A proxy, and all that is around it.
struct World {
    proxy: Proxy,
    now: Instant,
    names: Vec<ServiceId>,
    sockets: Sockets,
    dials: VecDeque<(ConnectionKey, u32)>,
    /// Received bytes that the proxy has paused in.
    unread: Option<(Vec<u8>, usize)>,
    /// When there were none, last.
    read_until: Instant,
    output: Output,
    /// Its relay passes credit on.
    has_credit: bool,
}

impl World {
    #[expect(
        clippy::disallowed_methods,
        reason = "some instant to start from; only its distance to later ones counts"
    )]
    fn new(mode: Mode, choice: u8) -> Self {
        let has_two = choice & 1 != 0;
        let dialect = match choice >> 1 & 3 {
            0 | 1 => None,
            2 => Some(Dialect::V2),
            _ => Some(Dialect::V1),
        };
        let names: Vec<ServiceId> = NAMES[..1 + usize::from(has_two)]
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        let mapping = match (mode, has_two) {
            (Mode::Source, _) => Ok(Mapping::default()),
            (Mode::Destination, false) => Mapping::parse("1", mode),
            (Mode::Destination, true) => Mapping::parse("A=1,B=2", mode),
        };
        let settings = ProxySettings {
            mode,
            mapping: mapping.expect("it is a mapping"),
            dialect: dialect.filter(|_| mode == Mode::Source),
            limits: LIMITS,
        };
        let room = [1, 300, 5_000, 200_000][usize::from(choice >> 3 & 3)];
        let now = Instant::now();
        let mut world = Self {
            proxy: Proxy::new(settings, [choice; 32]),
            now,
            names,
            sockets: Sockets::new(room),
            dials: VecDeque::new(),
            unread: None,
            read_until: now,
            output: Output::new(mode),
            has_credit: choice & 32 != 0,
        };
        world.connect();
        world
    }

    /// A fresh link, and the services of the tunnel.
    fn connect(&mut self) {
        self.output.restart();
        self.proxy.link_up(self.now);
        if self.has_credit {
            self.proxy.use_credit();
        }
        let mut content = Vec::new();
        encode_service_ids(self.names.iter(), false, &mut content);
        self.input(frame(&content, None));
    }

    fn lose(&mut self) {
        self.proxy.link_lost();
        self.unread = None;
        self.act();
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 32 {
            0..=11 => self.messages(input),
            12 => self.content(input),
            13 => {
                self.sockets.is_tainted = true;
                let size = input.size(64);
                self.input(input.take(size).to_vec());
            }
            14 => self.control(input),
            15..=17 => self.begin(input),
            18 => self.fail_dial(),
            19..=21 => {
                if let Some((io, key)) = self.sockets.pick(input.below(16)) {
                    self.sockets.write(io, input.size(100_000));
                    self.proxy.readable(key, input.below(2) == 1);
                }
            }
            22 => {
                if let Some((io, key)) = self.sockets.pick(input.below(16)) {
                    self.sockets.finish(io);
                    self.proxy.readable(key, true);
                }
            }
            23 => {
                if let Some((io, key)) = self.sockets.pick(input.below(16)) {
                    self.sockets.break_off(io);
                    self.proxy.gone(key);
                    self.proxy.readable(key, true);
                    self.act();
                    self.flush(io, key);
                }
            }
            24 | 25 => {
                if let Some((io, key)) = self.sockets.pick(input.below(16)) {
                    self.sockets.drain(io, input.size(500_000));
                    self.flush(io, key);
                }
            }
            26..=28 => self.send(1 + input.below(4)),
            29 => self.wait(Duration::from_millis(100 * u64::from(input.byte()))),
            30 => match input.below(8) {
                0 => self.proxy.drain(),
                1 => self.proxy.close(CloseCode::Normal, "fuzzing"),
                2 => self.proxy.abort_all(),
                _ => {}
            },
            _ => {
                self.lose();
                self.connect();
            }
        }
        self.act();
        self.go_on();
    }

    /// A few messages in one frame or in several, in one buffer.
    fn messages(&mut self, input: &mut Input<'_>) {
        let count = 1 + input.below(4);
        let mut bytes = Vec::new();
        for _ in 0..count {
            let mut content = Vec::new();
            message(input, |label| self.fill(label), &mut content);
            bytes.extend(frame(&content, None));
        }
        self.input(bytes);
    }

    /// Any bytes, or part of a message, in a good frame.
    fn content(&mut self, input: &mut Input<'_>) {
        let mut content = Vec::new();
        if input.below(2) == 1 {
            message(input, |label| self.fill(label), &mut content);
            let cut = input.size(content.len());
            let (front, back) = content.split_at(cut);
            let bytes = [frame(front, None), frame(back, None)].concat();
            return self.input(bytes);
        }
        self.sockets.is_tainted = true;
        let size = input.size(64);
        content.extend_from_slice(input.take(size));
        self.input(frame(&content, None));
    }

    fn control(&mut self, input: &mut Input<'_>) {
        let opcode = [Opcode::Ping, Opcode::Pong, Opcode::Close][input.below(3)];
        let size = match opcode {
            Opcode::Close => 0,
            _ => input.size(125),
        };
        let mut bytes = Vec::new();
        write_control(opcode, input.take(size), None, &mut bytes);
        self.input(bytes);
    }

    /// Which byte a payload is made of: one for each connection, as far as 256 reach.
    fn fill(&self, label: Label) -> u8 {
        let name = if NAMES[label.name].is_empty() && self.names.len() == 1 {
            0
        } else {
            label.name
        };
        match label.connection {
            // A peer that knows one connection for each stream means that one.
            0 | 1 => ANY,
            id => (name as u8) << 6 | (label.stream as u8 & 7) << 3 | id as u8,
        }
    }

    fn input(&mut self, bytes: Vec<u8>) {
        if self.unread.is_none() {
            self.unread = Some((bytes, 0));
            self.read();
        }
    }

    fn go_on(&mut self) {
        if !self.proxy.is_paused() {
            self.read();
        }
    }

    fn read(&mut self) {
        let Some((mut buffer, mut position)) = self.unread.take() else {
            return;
        };
        let result = loop {
            let result = self
                .proxy
                .handle_input(self.now, &mut buffer, &mut position);
            let had_deliveries = self.proxy.has_deliveries();
            self.deliver(&buffer);
            match result {
                Ok(Flow::Deliver) => assert!(had_deliveries, "there is something to deliver"),
                Ok(Flow::Paused) if !self.proxy.is_paused() => {}
                result => break result,
            }
        };
        self.act();
        match result {
            Ok(Flow::Done | Flow::Deliver) => assert_eq!(position, buffer.len()),
            Ok(Flow::Paused) => self.unread = Some((buffer, position)),
            Ok(Flow::Closed(_)) => {
                self.lose();
                self.connect();
            }
            Err(_) => {
                self.send(usize::MAX);
                assert!(self.proxy.is_closed(), "the peer is told why");
                self.lose();
                self.connect();
            }
        }
    }

    fn deliver(&mut self, buffer: &[u8]) {
        let deliveries: Vec<_> = self.proxy.deliveries().collect();
        for delivery in deliveries {
            let mut parts = [IoSlice::new(&[]); 64];
            let count = self
                .proxy
                .delivery_parts(delivery.index, buffer, &mut parts);
            let parts = &parts[..count];
            let size: usize = parts.iter().map(|part| part.len()).sum();
            assert_eq!((count, size), (delivery.parts, delivery.size));
            let result = self.sockets.take(delivery.io, parts);
            self.proxy
                .delivered(self.now, delivery.index, buffer, result);
        }
        self.proxy.clear_deliveries();
    }

    fn act(&mut self) {
        while let Some(action) = self.proxy.poll_action() {
            match action {
                Action::Dial { key, service } => self.dials.push_back((key, service)),
                Action::End { io } => self.sockets.ended(io, Ended::Orderly),
                Action::Abort { io } => self.sockets.ended(io, Ended::Cut),
                Action::Listen { .. }
                | Action::Unlisten
                | Action::CancelDial { .. }
                | Action::LinkDead
                | Action::LinkSuspect { .. }
                | Action::Mismatch(_) => {}
            }
        }
    }

    /// A client connects to a source, or the oldest dial of a destination succeeds.
    fn begin(&mut self, input: &mut Input<'_>) {
        let io = self.sockets.next_io();
        match self.proxy.mode {
            Mode::Source => {
                let service = input.below(3) as u32;
                let is_welcome = self.proxy.unwelcome(service).is_none();
                let key = self.proxy.accepted(self.now, service, io);
                assert_eq!(key.is_some(), is_welcome);
                if let Some(key) = key {
                    self.sockets.insert(io, key);
                }
            }
            Mode::Destination => {
                let Some((key, _)) = self.dials.pop_front() else {
                    return;
                };
                self.sockets.insert(io, key);
                if self.proxy.dialled(self.now, key, io) {
                    self.flush(io, key);
                    self.proxy.readable(key, false);
                } else {
                    self.sockets.remove(io);
                }
            }
        }
    }

    fn fail_dial(&mut self) {
        if let Some((key, _)) = self.dials.pop_front() {
            self.proxy.dial_failed(key);
        }
    }

    fn flush(&mut self, io: u32, key: ConnectionKey) {
        while self.sockets.is_open(io)
            && let Some(handle) = self.proxy.writable(key)
        {
            assert_eq!(handle, io);
            let mut parts = [IoSlice::new(&[]); 5];
            let count = self.proxy.queued_parts(key, &mut parts);
            let offered: usize = parts[..count].iter().map(|part| part.len()).sum();
            assert!(offered > 0, "bytes wait");
            let result = self.sockets.take(io, &parts[..count]);
            let is_short = result.as_ref().map_or(true, |taken| *taken < offered);
            self.proxy.flushed(self.now, key, result);
            self.act();
            if is_short {
                break;
            }
        }
    }

    /// Sends at most so many frames.
    fn send(&mut self, frames: usize) {
        let mut area = vec![0; 16_384];
        for _ in 0..frames {
            if !self.proxy.wants_output() {
                return;
            }
            if let Some(key) = self.proxy.bulk_ready() {
                self.send_bulk(key);
                continue;
            }
            let size = self.proxy.compose(self.now, &mut area, &mut self.sockets);
            self.act();
            if size == 0 {
                return;
            }
            self.output.read(&mut area[..size]);
        }
    }

    /// All that one read brings.
    fn send_bulk(&mut self, key: ConnectionKey) {
        let mut buffer = vec![0; BULK_BUFFER_SIZE];
        let sockets = &mut self.sockets;
        if let Some(mut bulk) = self.proxy.read_bulk(self.now, key, &mut buffer, sockets) {
            while let Some(frame) = self.proxy.next_bulk_frame(&mut bulk, &mut buffer) {
                self.output.read(&mut buffer[frame]);
            }
        }
        self.act();
    }

    /// What is not read has come since, and the other way round.
    fn read_until(&mut self) -> Instant {
        if self.unread.is_none() {
            self.read_until = self.now;
        }
        self.read_until
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.proxy.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let read_until = self.read_until();
            self.proxy.handle_timeout(self.now, read_until);
            self.act();
            let next = self.proxy.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "time goes on");
        }
        self.now = end;
    }

    fn check(&self) {
        assert!(self.proxy.queued_size() <= LIMITS.tunnel_buffer);
        assert!(self.proxy.connection_count() <= LIMITS.connections_max);
    }

    /// Nothing is left behind once the link is gone and time has passed.
    fn end(mut self) {
        self.lose();
        while !self.dials.is_empty() {
            self.fail_dial();
        }
        self.act();
        self.wait(Duration::from_secs(700));
        assert_eq!(self.proxy.connection_count(), 0);
        assert_eq!(self.proxy.queued_size(), 0);
        assert!(!self.proxy.is_paused());
        assert!(self.sockets.all_ended(), "no socket is forgotten");
    }
}

const STEPS_MAX: usize = 300;

/// So small that every bound is reached.
const LIMITS: Limits = Limits {
    payload_max: 64_512,
    connections_max: 6,
    service_connections_max: 4,
    connection_buffer: 128 * 1024,
    tunnel_buffer: 256 * 1024,
    stall_timeout: Duration::from_secs(10),
    ping_interval: Duration::from_secs(20),
    half_close_grace: Duration::from_secs(2),
};
