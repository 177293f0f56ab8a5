//! Source and destination without sockets: what the state machines cost.
//!
//! Held fixed: one service; local sockets that are always ready and take everything; no TLS. No
//! byte is read from a kernel, so a payload sent is whatever was in the buffer. `16_KiB` is as much
//! as one record carries.

use crate::Case;
use crate::input::{
    LARGE_HEADER_SIZE, Payload, RECORD, SERVICE, SMALL, control, data_frames, frame,
};
use adit_engine::tunnel::bulk::BULK_BUFFER_SIZE;
use adit_engine::tunnel::compose::End;
use adit_engine::tunnel::deliver::PARTS_MAX;
use adit_engine::tunnel::flow::Flow;
use adit_engine::tunnel::key::ConnectionKey;
use adit_engine::tunnel::limits::{Limits, MAX_RECORD_PLAINTEXT, MIN_READ_ROOM};
use adit_engine::tunnel::mapping::Mapping;
use adit_engine::tunnel::proxy::{Action, Proxy, ProxySettings};
use adit_engine::tunnel::send::LocalReader;
use adit_proto::ids::{Mode, ServiceId};
use adit_proto::message::{Kind, encode_service_ids};
use std::hint::black_box;
use std::io::{self, IoSlice};
use std::time::Instant;

/// Both ends, both ways.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for mode in [Mode::Source, Mode::Destination] {
        for connections in [1, 64, 1_000] {
            cases.push(send_small(mode, connections));
        }
        cases.push(send_large(mode));
        cases.push(send_bulk(mode));
        cases.push(receive(mode, 1, SMALL));
        cases.push(receive(mode, 64, SMALL));
        cases.push(receive(mode, 1, RECORD));
    }
    cases
}

/// Each connection has one small message, then none: all become ready, all are composed.
fn send_small(mode: Mode, connections: usize) -> Case {
    let name = format!("{mode}/send/{connections}_conn/64_B");
    let rounds = SMALL.count.div_ceil(connections);
    Case::new(name, rounds * connections, SMALL.size, move || {
        let mut proxy = running(mode, connections, Local::Small);
        let mut expected = proxy.proxy.counters().messages_sent;
        move || {
            for _ in 0..rounds {
                for key in &proxy.keys {
                    proxy.proxy.readable(*key, false);
                }
                proxy.compose_all();
            }
            expected += (rounds * connections) as u64;
            assert_eq!(proxy.proxy.counters().messages_sent, expected);
        }
    })
}

/// One connection has more than fits, always. Counted for each full record: one that begins with
/// what was left of a turn holds two messages.
fn send_large(mode: Mode) -> Case {
    let name = format!("{mode}/send/1_conn/16_KiB");
    Case::new(name, RECORD.count, RECORD.size, move || {
        let mut proxy = running(mode, 1, Local::Endless);
        proxy.proxy.readable(proxy.keys[0], false);
        move || {
            for _ in 0..RECORD.count {
                assert!(proxy.compose() > MAX_RECORD_PLAINTEXT - EMPTY_MAX);
            }
        }
    })
}

/// Less than this stays empty of a record: a rest that would not hold a message worth its header.
/// That comes about once in many turns, so a few runs do not show it.
const EMPTY_MAX: usize = MIN_READ_ROOM + LARGE_HEADER_SIZE;

/// The same connection alone with the tunnel, as the driver has it then: several records from one
/// read. Counted for each record.
fn send_bulk(mode: Mode) -> Case {
    let name = format!("{mode}/send_bulk/1_conn/16_KiB");
    Case::new(name, RECORD.count, RECORD.size, move || {
        let mut proxy = running(mode, 1, Local::Endless);
        proxy.proxy.readable(proxy.keys[0], false);
        assert_eq!(proxy.compose(), MAX_RECORD_PLAINTEXT);
        let mut buffer = vec![0; BULK_BUFFER_SIZE];
        move || {
            let mut frames = 0;
            while frames < RECORD.count {
                frames += proxy.compose_bulk(&mut buffer);
            }
            assert_eq!(frames, RECORD.count);
        }
    })
}

fn receive(mode: Mode, connections: usize, payload: Payload) -> Case {
    let Payload { label, size, count } = payload;
    let name = format!("{mode}/receive/{connections}_conn/{label}");
    Case::new(name, count, size, move || {
        let mut proxy = running(mode, connections, Local::Silent);
        let mut buffer = data_frames(End::Server, payload, connections);
        let mut expected = proxy.proxy.counters().bytes_received;
        move || {
            proxy.receive(&mut buffer);
            expected += (size * count) as u64;
            assert_eq!(proxy.proxy.counters().bytes_received, expected);
        }
    })
}

/// What local sockets have to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    Silent,
    /// 64 bytes at each read.
    Small,
    /// As much as is asked for.
    Endless,
}

impl LocalReader for Local {
    fn receive(&mut self, _: u32, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Silent => Err(io::ErrorKind::WouldBlock.into()),
            Self::Small => Ok(SMALL.size.min(into.len())),
            Self::Endless => Ok(into.len()),
        }
    }
}

/// A proxy with open connections.
pub(crate) struct Running {
    proxy: Proxy,
    local: Local,
    pub(crate) keys: Vec<ConnectionKey>,
    now: Instant,
    area: Vec<u8>,
}

/// A proxy in the middle of a session, with connections 1 to `connections` open.
pub(crate) fn running(mode: Mode, connections: usize, local: Local) -> Running {
    let mapping = match mode {
        Mode::Source => Mapping::default(),
        Mode::Destination => {
            Mapping::parse(&format!("{SERVICE}=127.0.0.1:22"), mode).expect("a mapping")
        }
    };
    let settings = ProxySettings {
        mode,
        mapping,
        dialect: None,
        limits: Limits::default(),
    };
    let now = Instant::now();
    let mut running = Running {
        proxy: Proxy::new(settings, [7; 32]),
        local: Local::Silent,
        keys: Vec::new(),
        now,
        area: vec![0; MAX_RECORD_PLAINTEXT],
    };
    running.proxy.link_up(now);
    let service: ServiceId = SERVICE.parse().expect("an id");
    let mut list = Vec::new();
    encode_service_ids([&service].into_iter(), false, &mut list);
    running.receive(&mut frame(End::Server, &list));
    for io in 0..connections as u32 {
        running.open(mode, io);
        running.compose_all();
    }
    assert_eq!(running.proxy.connection_count(), connections);
    running.local = local;
    running
}

impl Running {
    fn open(&mut self, mode: Mode, io: u32) {
        if mode == Mode::Source {
            while self.proxy.poll_action().is_some() {}
            let key = self.proxy.accepted(self.now, 0, io);
            return self.keys.push(key.expect("within the bound"));
        }
        let kind = match io {
            0 => Kind::StreamStart,
            _ => Kind::ConnectionStart,
        };
        self.receive(&mut frame(End::Server, &control(kind, io + 1)));
        while let Some(action) = self.proxy.poll_action() {
            if let Action::Dial { key, .. } = action {
                assert!(self.proxy.dialled(self.now, key, io), "still wanted");
                self.keys.push(key);
            }
        }
    }

    /// Composes one frame; returns its size.
    fn compose(&mut self) -> usize {
        let size = self
            .proxy
            .compose(self.now, &mut self.area, &mut self.local);
        black_box(&self.area[..size]);
        size
    }

    /// All frames of one read; returns their number.
    fn compose_bulk(&mut self, buffer: &mut [u8]) -> usize {
        let key = self.proxy.bulk_ready().expect("it is alone");
        let bulk = self.proxy.read_bulk(self.now, key, buffer, &mut self.local);
        let mut bulk = bulk.expect("it is endless");
        let mut frames = 0;
        while let Some(frame) = self.proxy.next_bulk_frame(&mut bulk, buffer) {
            black_box(&buffer[frame]);
            frames += 1;
        }
        frames
    }

    fn compose_all(&mut self) {
        while self.proxy.wants_output() && self.compose() > 0 {}
    }

    /// Reads all of `buffer`; every local socket takes what it is offered.
    fn receive(&mut self, buffer: &mut [u8]) {
        let mut position = 0;
        loop {
            let flow = self
                .proxy
                .handle_input(self.now, buffer, &mut position)
                .expect("it is proper");
            self.deliver(buffer);
            match flow {
                Flow::Done => return,
                Flow::Deliver => {}
                Flow::Paused | Flow::Closed(_) => panic!("{flow:?}"),
            }
        }
    }

    fn deliver(&mut self, buffer: &[u8]) {
        let mut parts = [IoSlice::new(&[]); PARTS_MAX];
        let count = self.proxy.deliveries().count();
        for index in 0..count {
            let parts_count = self.proxy.delivery_parts(index, buffer, &mut parts);
            let size = parts[..parts_count].iter().map(|part| part.len()).sum();
            black_box(&parts[..parts_count]);
            parts = [IoSlice::new(&[]); PARTS_MAX];
            self.proxy.delivered(self.now, index, buffer, Ok(size));
        }
        self.proxy.clear_deliveries();
    }
}
