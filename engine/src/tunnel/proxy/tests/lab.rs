//! A driver for tests: local sockets with bounded buffers, and a WebSocket that is a byte string.

mod sockets;

use crate::tunnel::bulk::BULK_BUFFER_SIZE;
use crate::tunnel::connection::State;
use crate::tunnel::error::PeerError;
use crate::tunnel::flow::Flow;
use crate::tunnel::key::ConnectionKey;
use crate::tunnel::limits::Limits;
use crate::tunnel::mapping::Mapping;
use crate::tunnel::proxy::{Action, Proxy, ProxySettings};
pub(super) use crate::tunnel::relay::tests::lab::{
    Message, Type, connection_reset, connection_start, credit, data, decode_all, encode, message,
    stream_reset, stream_start,
};
use adit_proto::ids::{Dialect, Mode};
use adit_proto::websocket::{FrameEvent, FrameHeader, FrameReader, Opcode, Role};
use sockets::Sockets;
pub(super) use sockets::{Ended, Socket};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::{Duration, Instant};

/// What the proxy says besides messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) messages: Vec<Message>,
    pub(super) pings: usize,
    pub(super) pongs: Vec<Vec<u8>>,
    pub(super) close: Option<u16>,
}

/// A proxy with its sockets.
pub(super) struct Lab {
    pub(super) proxy: Proxy,
    pub(super) now: Instant,
    sockets: Sockets,
    /// Frames of a read that brought several.
    bulk: VecDeque<Vec<u8>>,
    next_io: u32,
    /// Buffer size of new sockets.
    pub(super) room: usize,
    /// Asked for and not answered.
    pub(super) dials: VecDeque<(ConnectionKey, u32)>,
    pub(super) cancelled: usize,
    pub(super) listens: Vec<u32>,
    pub(super) is_link_dead: bool,
    pub(super) suspects: usize,
    pub(super) mismatches: usize,
    /// Received bytes that the proxy has not read, and how far it has.
    buffer: Vec<u8>,
    position: usize,
    has_buffer: bool,
    /// When there were none, last.
    read_until: Instant,
    reader: FrameReader,
    content: Vec<u8>,
    /// Most memory that queues held.
    pub(super) queued_max: usize,
}

/// Bounds that a few operations reach.
pub(super) const SMALL_LIMITS: Limits = Limits {
    payload_max: 64_512,
    connections_max: 6,
    service_connections_max: 4,
    connection_buffer: 128 * 1024,
    tunnel_buffer: 256 * 1024,
    stall_timeout: Duration::from_secs(10),
    ping_interval: Duration::from_secs(20),
    half_close_grace: Duration::from_secs(2),
};

pub(super) fn settings(mode: Mode, names: &[&str]) -> ProxySettings {
    let named: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(at, name)| format!("{name}=127.0.0.1:{}", 2000 + at))
        .collect();
    let mapping = match (mode, names) {
        (Mode::Source, _) => Mapping::default(),
        (Mode::Destination, []) => Mapping::parse("127.0.0.1:2000", mode).unwrap(),
        (Mode::Destination, _) => Mapping::parse(&named.join(","), mode).unwrap(),
    };
    ProxySettings {
        mode,
        mapping,
        dialect: None,
        limits: Limits::default(),
    }
}

/// One unmasked binary frame of a server.
pub(super) fn frame(content: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        fin: true,
        opcode: Opcode::Binary,
        mask: None,
        payload_size: content.len() as u64,
    };
    let mut bytes = vec![0; header.size()];
    header.write(&mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

pub(super) fn service_ids(names: &[&str]) -> Message {
    Message {
        available_service_ids: names.iter().map(|name| (*name).to_owned()).collect(),
        ..message(Type::ServiceIds, 0, "", 0)
    }
}

impl Lab {
    /// A proxy without a link.
    #[expect(
        clippy::disallowed_methods,
        reason = "some instant to start from; the test moves it on"
    )]
    pub(super) fn new(settings: ProxySettings) -> Self {
        let now = Instant::now();
        Self {
            proxy: Proxy::new(settings, [7; 32]),
            now,
            sockets: Sockets::default(),
            bulk: VecDeque::new(),
            next_io: 0,
            room: 64 * 1024,
            dials: VecDeque::new(),
            cancelled: 0,
            listens: Vec::new(),
            is_link_dead: false,
            suspects: 0,
            mismatches: 0,
            buffer: Vec::new(),
            position: 0,
            has_buffer: false,
            read_until: now,
            reader: FrameReader::new(Role::Server, 16_384),
            content: Vec::new(),
            queued_max: 0,
        }
    }

    /// A proxy that got SERVICE_IDS; its first ping was taken.
    pub(super) fn running(settings: ProxySettings, names: &[&str]) -> Self {
        let mut lab = Self::new(settings);
        lab.connect(names);
        lab
    }

    pub(super) fn source(names: &[&str]) -> Self {
        Self::running(settings(Mode::Source, names), names)
    }

    pub(super) fn speaking(names: &[&str], dialect: Dialect) -> Self {
        let settings = ProxySettings {
            dialect: Some(dialect),
            ..settings(Mode::Source, names)
        };
        Self::running(settings, names)
    }

    pub(super) fn destination(names: &[&str]) -> Self {
        Self::running(settings(Mode::Destination, names), names)
    }

    /// A fresh link with SERVICE_IDS.
    pub(super) fn connect(&mut self, names: &[&str]) {
        self.link_up();
        self.gets(&[service_ids(names)]);
        assert!(self.proxy.is_running());
        assert_eq!(self.said().pings, 1);
    }

    pub(super) fn link_up(&mut self) {
        self.reader.reset();
        self.content.clear();
        self.proxy.link_up(self.now);
    }

    pub(super) fn lose(&mut self) {
        self.proxy.link_lost();
        (self.buffer, self.position, self.has_buffer) = (Vec::new(), 0, false);
        self.bulk.clear();
        self.act();
    }

    /// Messages that must be accepted, each in a frame, all in one buffer.
    #[track_caller]
    pub(super) fn gets(&mut self, messages: &[Message]) {
        assert_eq!(self.get(messages), Ok(Flow::Done));
    }

    pub(super) fn get(&mut self, messages: &[Message]) -> Result<Flow, PeerError> {
        let bytes = messages.iter().flat_map(|message| frame(&encode(message)));
        self.input(bytes.collect())
    }

    /// Received bytes; those before must have been read.
    pub(super) fn input(&mut self, bytes: Vec<u8>) -> Result<Flow, PeerError> {
        assert!(!self.has_buffer, "paused: nothing more is received");
        (self.buffer, self.position, self.has_buffer) = (bytes, 0, true);
        self.go_on()
    }

    pub(super) fn has_unread(&self) -> bool {
        self.has_buffer
    }

    /// Reads on after a pause.
    pub(super) fn go_on(&mut self) -> Result<Flow, PeerError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            let result = self
                .proxy
                .handle_input(self.now, &mut buffer, &mut self.position);
            let had_deliveries = self.proxy.has_deliveries();
            self.deliver(&buffer);
            match result {
                Ok(Flow::Deliver) => assert!(had_deliveries),
                Ok(Flow::Paused) if !self.proxy.is_paused() => {}
                _ => break result,
            }
        };
        self.has_buffer = result == Ok(Flow::Paused);
        self.buffer = buffer;
        self.act();
        result
    }

    fn deliver(&mut self, buffer: &[u8]) {
        let deliveries: Vec<_> = self.proxy.deliveries().collect();
        for delivery in deliveries {
            let mut parts = [IoSlice::new(&[]); 64];
            let count = self
                .proxy
                .delivery_parts(delivery.index, buffer, &mut parts);
            assert_eq!(count, delivery.parts);
            let parts = &parts[..count];
            assert_eq!(
                parts.iter().map(|part| part.len()).sum::<usize>(),
                delivery.size
            );
            let socket = self.sockets.0.get_mut(&delivery.io).expect("a socket");
            let result = socket.take(parts);
            self.proxy
                .delivered(self.now, delivery.index, buffer, result);
        }
        self.proxy.clear_deliveries();
        self.note();
    }

    fn note(&mut self) {
        self.queued_max = self.queued_max.max(self.proxy.queued_size());
    }

    /// Carries out what was decided.
    pub(super) fn act(&mut self) {
        while let Some(action) = self.proxy.poll_action() {
            match action {
                Action::Listen { service } => self.listens.push(service),
                Action::Unlisten => self.listens.clear(),
                Action::Dial { key, service } => self.dials.push_back((key, service)),
                Action::CancelDial { .. } => self.cancelled += 1,
                Action::End { io } => self.ended(io, Ended::Orderly),
                Action::Abort { io } => self.ended(io, Ended::Cut),
                Action::LinkDead => self.is_link_dead = true,
                Action::LinkSuspect { .. } => self.suspects += 1,
                Action::Mismatch(_) => self.mismatches += 1,
            }
        }
    }

    fn ended(&mut self, io: u32, how: Ended) {
        let socket = self.sockets.0.get_mut(&io).expect("a socket");
        assert_eq!(socket.ended.replace(how), None, "ended once");
    }

    pub(super) fn accept(&mut self, service: u32) -> Option<u32> {
        let io = self.next_io;
        let can = self.proxy.unwelcome(service).is_none();
        let key = self.proxy.accepted(self.now, service, io);
        assert_eq!(key.is_some(), can);
        let key = key?;
        self.insert(key);
        Some(io)
    }

    /// The oldest dial succeeds. `None`: nobody wants it any more.
    pub(super) fn dialled(&mut self) -> Option<u32> {
        let (key, _) = self.dials.pop_front().expect("a dial");
        let io = self.next_io;
        self.insert(key);
        if !self.proxy.dialled(self.now, key, io) {
            self.sockets.0.remove(&io);
            self.act();
            return None;
        }
        self.writable(io);
        self.proxy.readable(key, false);
        Some(io)
    }

    /// The oldest dial fails.
    pub(super) fn dial_failed(&mut self) {
        let (key, _) = self.dials.pop_front().expect("a dial");
        self.proxy.dial_failed(key);
        self.act();
    }

    fn insert(&mut self, key: ConnectionKey) {
        self.sockets
            .0
            .insert(self.next_io, Socket::new(key, self.room));
        self.next_io += 1;
    }

    pub(super) fn socket(&mut self, io: u32) -> &mut Socket {
        self.sockets.0.get_mut(&io).expect("a socket")
    }

    pub(super) fn ending(&self, io: u32) -> Option<Ended> {
        self.sockets.0[&io].ended
    }

    pub(super) fn ios(&self) -> Vec<u32> {
        self.sockets.0.keys().copied().collect()
    }

    /// Sockets take at least so much, those that come later, too.
    pub(super) fn widen(&mut self, room: usize) {
        self.room = self.room.max(room);
        for socket in self.sockets.0.values_mut() {
            socket.room = socket.room.max(room);
        }
    }

    /// What became of a connection, for tables.
    pub(super) fn fate(&self, io: u32) -> &'static str {
        let socket = &self.sockets.0[&io];
        let state = self.proxy.connections.find(socket.key);
        match (socket.ended, state.map(|connection| connection.state)) {
            (Some(Ended::Orderly), None) => "ended",
            (Some(Ended::Cut), None) => "cut",
            (None, Some(State::Open)) => "lives",
            (None, Some(State::LocalEnded)) => "silent",
            (None, Some(State::Flushing)) => "flushing",
            (ended, state) => panic!("{ended:?} in {state:?}"),
        }
    }

    pub(super) fn writes(&mut self, io: u32, bytes: &[u8]) {
        let socket = self.socket(io);
        socket.written.extend(bytes);
        let key = socket.key;
        self.proxy.readable(key, false);
    }

    pub(super) fn finishes(&mut self, io: u32) {
        let socket = self.socket(io);
        socket.is_finished = true;
        let key = socket.key;
        self.proxy.readable(key, true);
    }

    pub(super) fn breaks(&mut self, io: u32) {
        let socket = self.socket(io);
        socket.is_broken = true;
        let key = socket.key;
        self.proxy.gone(key);
        self.proxy.readable(key, true);
        self.act();
    }

    /// The application reads at most `count` bytes; then its socket can take some again.
    pub(super) fn reads(&mut self, io: u32, count: usize) -> Vec<u8> {
        let socket = self.socket(io);
        let count = count.min(socket.waiting.len());
        let bytes = socket.waiting.drain(..count).collect();
        if count > 0 {
            self.writable(io);
        }
        bytes
    }

    /// As a driver flushes: until the socket takes less than it was offered.
    pub(super) fn writable(&mut self, io: u32) {
        let key = self.sockets.0[&io].key;
        while self.ending(io).is_none()
            && let Some(handle) = self.proxy.writable(key)
        {
            assert_eq!(handle, io);
            let mut parts = [IoSlice::new(&[]); 5];
            let count = self.proxy.queued_parts(key, &mut parts);
            let offered: usize = parts[..count].iter().map(|part| part.len()).sum();
            let socket = self.sockets.0.get_mut(&io).expect("a socket");
            let result = socket.take(&parts[..count]);
            let is_short = result.as_ref().map_or(true, |count| *count < offered);
            self.proxy.flushed(self.now, key, result);
            self.act();
            if is_short {
                break;
            }
        }
        self.act();
    }

    /// The next frame that leaves, as bytes.
    pub(super) fn output(&mut self) -> Vec<u8> {
        if self.bulk.is_empty()
            && self.proxy.wants_output()
            && let Some(key) = self.proxy.bulk_ready()
        {
            let mut buffer = vec![0; BULK_BUFFER_SIZE];
            let sockets = &mut self.sockets;
            if let Some(mut bulk) = self.proxy.read_bulk(self.now, key, &mut buffer, sockets) {
                while let Some(frame) = self.proxy.next_bulk_frame(&mut bulk, &mut buffer) {
                    self.bulk.push_back(buffer[frame].to_vec());
                }
            }
            self.act();
        }
        if let Some(frame) = self.bulk.pop_front() {
            return frame;
        }
        let mut area = vec![0; 16_384];
        let size = match self.proxy.wants_output() {
            true => self.proxy.compose(self.now, &mut area, &mut self.sockets),
            false => 0,
        };
        self.act();
        area.truncate(size);
        area
    }

    /// Everything that leaves now. What must end its frame does.
    pub(super) fn said(&mut self) -> Said {
        let mut said = Said::default();
        loop {
            let mut bytes = self.output();
            if bytes.is_empty() {
                return said;
            }
            let mut position = 0;
            let mut content = Vec::new();
            while let Some(event) = self.reader.next(&mut bytes, &mut position).unwrap() {
                match event {
                    FrameEvent::Data(range) => content.extend_from_slice(&bytes[range]),
                    FrameEvent::Ping { .. } => said.pings += 1,
                    FrameEvent::Pong { payload } => said.pongs.push(payload.to_vec()),
                    FrameEvent::Close { code, .. } => said.close = code,
                }
            }
            let messages = decode_all(&content);
            if let Some((_, before)) = messages.split_last() {
                let ends = |message: &Message| {
                    matches!(message.r#type(), Type::StreamStart | Type::StreamReset)
                };
                assert!(!before.iter().any(ends), "{before:?}");
            }
            said.messages.extend(messages);
        }
    }

    /// The messages that leave now.
    #[track_caller]
    pub(super) fn says(&mut self, messages: &[Message]) {
        assert_eq!(self.said().messages, messages);
    }

    /// Time passes; what is due happens at its own time.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.proxy.poll_timeout().filter(|at| *at <= end) {
            assert!(at >= self.now || self.proxy.poll_timeout().is_some());
            self.now = self.now.max(at);
            if !self.has_buffer {
                self.read_until = self.now;
            }
            self.proxy.handle_timeout(self.now, self.read_until);
            self.act();
            let next = self.proxy.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "time goes on");
        }
        self.now = end;
    }

    /// Nothing is left of anything.
    #[track_caller]
    pub(super) fn is_empty(&self) {
        assert_eq!(self.proxy.connection_count(), 0);
        assert_eq!(self.proxy.queued_size(), 0);
        assert!(!self.proxy.is_paused());
    }
}
