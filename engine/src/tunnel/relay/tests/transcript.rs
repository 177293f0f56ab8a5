//! What peers say, from a seed, as the bytes that arrive: for tests that cut them anywhere. Most of it makes sense, every
//! third transcript has something in it that no honest peer says.

use super::lab::*;
use adit_proto::ids::{Mode, Subprotocol};
use adit_proto::websocket::{FrameHeader, Opcode, mask};
use prost::Message as _;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::fmt::Debug;

/// One conversation. What is said in answer to a part is for the test to see; it changes nothing of the next.
pub(in crate::tunnel) struct Transcript {
    pub(in crate::tunnel) seed: u64,
    pub(in crate::tunnel) names: &'static [&'static str],
    /// The dialects of source and destination.
    pub(in crate::tunnel) offers: [Subprotocol; 2],
    /// The source's second part is the first of another source, which counts its streams from 1 again.
    pub(in crate::tunnel) has_new_source: bool,
    /// Who says what, in WebSocket frames.
    parts: Vec<(Mode, Vec<u8>)>,
}

/// A part as it arrives, and who it is from.
pub(in crate::tunnel) type Pieces<'a> = (Mode, Vec<&'a [u8]>);

impl Transcript {
    /// Both sides to a relay, in turn.
    pub(in crate::tunnel) fn of_both_sides(seed: u64) -> Self {
        let mut talk = Talk::new(seed, &[], true);
        let has_new_source = talk.dice.below(3) == 0;
        let (first, count) = match has_new_source {
            true => (0, 3),
            false => (talk.dice.below(4) / 3, 2 + talk.dice.below(2)),
        };
        for turn in first..first + count {
            if has_new_source && turn == 2 {
                talk.streams.fill_with(|| Stream::begun(&[]));
            }
            talk.part([SOURCE, DESTINATION][turn % 2]);
        }
        Self {
            has_new_source,
            ..talk.finish(seed)
        }
    }

    /// A service to the proxy `to`, from its list of services on. A source's clients have connections 1 and 2 of
    /// each service after that list.
    pub(in crate::tunnel) fn to_proxy(seed: u64, to: Mode) -> Self {
        let is_source = to == SOURCE;
        let begun: &[u32] = if is_source { &[1, 2] } else { &[] };
        let mut talk = Talk::new(seed, begun, false);
        talk.introduce(to.other());
        for _ in 0..1 + talk.dice.below(2) {
            talk.part(to.other());
        }
        talk.finish(seed)
    }

    /// Holds that what comes of it is the same in one piece, cut once at each of its bytes, and byte by byte.
    ///
    /// `arrive` starts anew each time; what it gives for the whole is returned, and how often it was called.
    pub(in crate::tunnel) fn is_the_same_however_cut<T: Debug + PartialEq>(
        &self,
        arrive: impl Fn(&[Pieces<'_>]) -> T,
    ) -> (T, usize) {
        let whole = arrive(&self.cut(|_| false));
        let size: usize = self.parts.iter().map(|(_, bytes)| bytes.len()).sum();
        for at in 1..size {
            let cut = arrive(&self.cut(|offset| offset == at));
            assert_eq!(cut, whole, "seed {}, cut at byte {at}", self.seed);
        }
        let bytes = arrive(&self.cut(|_| true));
        assert_eq!(bytes, whole, "seed {}, byte by byte", self.seed);
        (whole, size + 1)
    }

    /// The parts, each cut where `is_cut` says so of an offset in the whole.
    fn cut(&self, is_cut: impl Fn(usize) -> bool) -> Vec<Pieces<'_>> {
        let mut before = 0;
        let pieces = self.parts.iter().map(|(from, bytes)| {
            let (mut pieces, mut start) = (Vec::new(), 0);
            for end in 1..=bytes.len() {
                if end == bytes.len() || is_cut(before + end) {
                    pieces.push(&bytes[start..end]);
                    start = end;
                }
            }
            before += bytes.len();
            (*from, pieces)
        });
        pieces.collect()
    }
}

/// One service as those that talk about it know it.
struct Stream {
    id: i32,
    is_running: bool,
    connections: Vec<u32>,
    next: u32,
}

impl Stream {
    fn begun(connections: &[u32]) -> Self {
        Self {
            id: i32::from(!connections.is_empty()),
            is_running: !connections.is_empty(),
            connections: connections.to_vec(),
            next: 1 + connections.len() as u32,
        }
    }
}

/// A conversation while it is made up.
struct Talk {
    dice: Dice,
    names: &'static [&'static str],
    offers: [Subprotocol; 2],
    streams: Vec<Stream>,
    /// As clients do; a service does not.
    is_masked: bool,
    parts: Vec<(Mode, Vec<u8>)>,
}

impl Talk {
    fn new(seed: u64, begun: &[u32], is_masked: bool) -> Self {
        let mut dice = Dice(ChaCha12Rng::seed_from_u64(seed));
        let all = [Subprotocol::V3, Subprotocol::V2, Subprotocol::V1];
        let offers = match dice.below(3) {
            0 => [all[0]; 2],
            _ => [all[dice.below(3)], all[dice.below(3)]],
        };
        // A tunnel of several services is of little use to who names none.
        let names: [&[&str]; 4] = match offers.contains(&Subprotocol::V1) && dice.below(8) > 0 {
            true => [&["A"], &["A"], &["A"], &[]],
            false => [&["A"], &["A", "B"], &["A", "B"], &[]],
        };
        let names = names[dice.below(4)];
        Self {
            dice,
            names,
            offers,
            streams: names
                .iter()
                .chain([&""])
                .map(|_| Stream::begun(begun))
                .collect(),
            is_masked,
            parts: Vec::new(),
        }
    }

    fn introduce(&mut self, from: Mode) {
        let names = self.names.iter().map(|name| (*name).to_owned());
        let list = Message {
            available_service_ids: names.collect(),
            ..message(Type::ServiceIds, 0, "", 0)
        };
        let bytes = self.framed(&encode(&list));
        self.parts.push((from, bytes));
    }

    fn part(&mut self, from: Mode) {
        let mut content = Vec::new();
        for _ in 0..2 + self.dice.below(3) {
            let message = match self.dice.below(12) {
                0 => self.odd(from),
                _ if from == SOURCE => self.source_says(),
                _ => self.destination_says(),
            };
            content.extend(encode(&message));
        }
        let bytes = self.framed(&content);
        self.parts.push((from, bytes));
    }

    fn offer(&self, from: Mode) -> Subprotocol {
        self.offers[usize::from(from == DESTINATION)]
    }

    /// In the words of whoever says it: V2 has no ids of connections, V1 none of services either.
    fn words(&self, from: Mode, kind: Type, service: usize, connection: u32) -> Message {
        let stream = self.streams[service].id.max(1);
        let name = self.names.get(service).copied().unwrap_or_default();
        match self.offer(from) {
            Subprotocol::V3 => message(kind, stream, name, connection),
            Subprotocol::V2 => message(kind, stream, name, 0),
            Subprotocol::V1 => message(kind, stream, "", 0),
        }
    }

    fn data(&mut self, from: Mode, service: usize) -> Message {
        let connection = self.dice.pick(&self.streams[service].connections);
        // Some need two bytes for their size, in the message and in the frame.
        let size = match self.dice.below(14) {
            0 => 140,
            _ => self.dice.below(20),
        };
        Message {
            payload: (0..size).map(|_| self.dice.below(256) as u8).collect(),
            ..self.words(from, Type::Data, service, connection)
        }
    }

    fn source_says(&mut self) -> Message {
        let service = self.dice.below(self.names.len());
        let has_connections = self.offer(SOURCE) == Subprotocol::V3;
        let choice = self.dice.below(12);
        let stream = &mut self.streams[service];
        let begins = !stream.is_running || choice == 0;
        if begins || has_connections && (choice < 3 || stream.connections.is_empty()) {
            if begins {
                (stream.id, stream.is_running) = (stream.id + 1, true);
                stream.connections.clear();
            }
            let id = stream.next;
            stream.next += 1;
            stream.connections.push(id);
            let kind = match begins {
                true => Type::StreamStart,
                false => Type::ConnectionStart,
            };
            return self.words(SOURCE, kind, service, id);
        }
        match choice {
            3 | 4 => self.end(SOURCE, service),
            _ => self.data(SOURCE, service),
        }
    }

    fn destination_says(&mut self) -> Message {
        let any = self.dice.below(self.names.len());
        let begun = |service: &usize| self.streams[*service].id > 0;
        let mut services = [any].into_iter().chain(0..self.names.len());
        let service = services.find(begun).unwrap_or(any);
        match self.dice.below(6) {
            0 => self.end(DESTINATION, service),
            _ => self.data(DESTINATION, service),
        }
    }

    /// Ends a connection, or all of a service.
    fn end(&mut self, from: Mode, service: usize) -> Message {
        let has_connections = self.offer(from) == Subprotocol::V3;
        let stream = &mut self.streams[service];
        if has_connections && !stream.connections.is_empty() && self.dice.below(2) == 0 {
            let id = self.dice.pick(&stream.connections);
            stream.connections.retain(|other| *other != id);
            return self.words(from, Type::ConnectionReset, service, id);
        }
        stream.is_running = false;
        stream.connections.clear();
        self.words(from, Type::StreamReset, service, 0)
    }

    /// What is passed over, or about something that is not there.
    fn odd(&mut self, from: Mode) -> Message {
        let known = self.words(from, Type::Data, 0, 1);
        let name = known.service_id.clone();
        match self.dice.below(6) {
            0 => Message {
                r#type: 99,
                ignorable: true,
                ..known
            },
            1 => credit(0, "", 0, 0),
            2 => credit(known.stream_id, &name, known.connection_id, 70_000),
            3 => Message {
                stream_id: 9,
                payload: vec![1; 5],
                ..known
            },
            4 => self.words(from, Type::StreamReset, 0, 0),
            _ => Message {
                payload: Vec::new(),
                ..known
            },
        }
    }

    /// In frames of any size, some in fragments, with pings and pongs between all of them.
    fn framed(&mut self, content: &[u8]) -> Vec<u8> {
        let (mut rest, mut bytes) = (content, Vec::new());
        let largest = [8, 40, 40, 1000][self.dice.below(4)];
        while !rest.is_empty() {
            let size = (1 + self.dice.below(largest)).min(rest.len());
            let (now, later) = rest.split_at(size);
            rest = later;
            self.aside(&mut bytes);
            if self.dice.below(3) > 0 {
                self.frame(true, Opcode::Binary, now, &mut bytes);
                continue;
            }
            let (front, back) = now.split_at(self.dice.below(size + 1));
            self.frame(false, Opcode::Binary, front, &mut bytes);
            self.aside(&mut bytes);
            self.frame(true, Opcode::Continuation, back, &mut bytes);
        }
        bytes
    }

    fn aside(&mut self, bytes: &mut Vec<u8>) {
        let opcode = match self.dice.below(8) {
            0 => Opcode::Ping,
            1 => Opcode::Pong,
            _ => return,
        };
        let payload: Vec<u8> = (0..self.dice.below(6)).map(|n| b'0' + n as u8).collect();
        self.frame(true, opcode, &payload, bytes);
    }

    fn frame(&mut self, fin: bool, opcode: Opcode, content: &[u8], bytes: &mut Vec<u8>) {
        let key = [0x37, 0xfa, 0x21, self.dice.below(256) as u8];
        let header = FrameHeader {
            fin,
            opcode,
            mask: self.is_masked.then_some(key),
            payload_size: content.len() as u64,
        };
        let start = bytes.len() + header.size();
        let at = bytes.len();
        bytes.resize(start, 0);
        header.write(&mut bytes[at..]);
        bytes.extend_from_slice(content);
        if self.is_masked {
            mask(key, 0, &mut bytes[start..]);
        }
    }

    fn finish(mut self, seed: u64) -> Transcript {
        match seed % 6 {
            0 | 3 => self.spoil(),
            // An end in good order, with what comes too late behind it.
            1 => {
                let mut end = Vec::new();
                self.frame(true, Opcode::Close, b"\x03\xe8bye", &mut end);
                self.frame(true, Opcode::Binary, b"late", &mut end);
                self.last().extend(end);
            }
            _ => {}
        }
        Transcript {
            seed,
            names: self.names,
            offers: self.offers,
            has_new_source: false,
            parts: self.parts,
        }
    }

    fn last(&mut self) -> &mut Vec<u8> {
        let (_, bytes) = self.parts.last_mut().expect("somebody spoke");
        bytes
    }

    /// Puts something into the last part that breaks a rule.
    fn spoil(&mut self) {
        let (mut wrong, size) = (Vec::new(), self.last().len());
        match self.dice.below(4) {
            0 => {
                let at = self.dice.below(size);
                let bit = self.dice.below(8);
                self.last()[at] ^= 1 << bit;
                return;
            }
            1 => {
                let size = self.dice.below(size);
                self.last().truncate(size.max(1));
                return;
            }
            2 => self.wrong_frame(&mut wrong),
            _ => {
                let content = prefixed(&self.wrong_message());
                self.frame(true, Opcode::Binary, &content, &mut wrong);
            }
        }
        let is_first = self.dice.below(3) == 0;
        let bytes = self.last();
        let at = if is_first { 0 } else { bytes.len() };
        bytes.splice(at..at, wrong);
    }

    fn wrong_frame(&mut self, bytes: &mut Vec<u8>) {
        let masked = if self.is_masked { 0x80 } else { 0 };
        let key: &[u8] = if self.is_masked { &[0; 4] } else { &[] };
        let close: &[(u8, &[u8])] = &[(1, b"\x03"), (2, b"\x03\xed"), (4, b"\x03\xe8\xc3\x28")];
        match self.dice.below(11) {
            // A reserved bit, a reserved opcode, text, a ping in parts and one of 126 bytes.
            0 => bytes.extend([0xc2, masked | 1]),
            1 => bytes.extend([0x83, masked | 1]),
            2 => self.frame(true, Opcode::Text, b"text", bytes),
            3 => bytes.extend([0x09, masked]),
            4 => bytes.extend([0x89, masked | 126, 0, 126]),
            // Another message within one in fragments, and a fragment of none.
            5 => {
                self.frame(false, Opcode::Binary, b"", bytes);
                self.frame(true, Opcode::Binary, b"", bytes);
            }
            6 => self.frame(true, Opcode::Continuation, b"", bytes),
            // More than a frame may have, and a size in more bytes than it needs.
            7 => bytes.extend([&[0x82, masked | 127][..], &[0x7f; 8], key].concat()),
            8 => bytes.extend([&[0x82, masked | 126, 0, 5][..], key, b"12345"].concat()),
            // Masked by a service, or not by a client.
            9 => {
                self.is_masked = !self.is_masked;
                self.frame(true, Opcode::Binary, b"12", bytes);
                self.is_masked = !self.is_masked;
            }
            _ => {
                let (size, payload) = close[self.dice.below(close.len())];
                bytes.extend([&[0x88, masked | size][..], key, payload].concat());
            }
        }
    }

    fn wrong_message(&mut self) -> Vec<u8> {
        let known = data(1, self.names.first().unwrap_or(&""), 1, b"x");
        let changed = |change: &dyn Fn(&mut Message)| {
            let mut message = known.clone();
            change(&mut message);
            message.encode_to_vec()
        };
        match self.dice.below(9) {
            0 => changed(&|message| message.r#type = 42),
            1 => changed(&|message| message.set_type(Type::SessionReset)),
            2 => changed(&|message| {
                message.set_type(Type::ServiceIds);
                message.available_service_ids = vec!["new".to_owned()];
            }),
            3 => changed(&|message| message.stream_id = -1),
            4 => changed(&|message| message.service_id = "x".to_owned()),
            5 => changed(&|message| message.set_type(Type::StreamStart)),
            // No protobuf, a number without an end, and a field that nobody knows.
            6 => vec![0xff; 5],
            7 => vec![0x08],
            _ => [known.encode_to_vec(), vec![0x78, 1]].concat(),
        }
    }
}

struct Dice(ChaCha12Rng);

impl Dice {
    /// A number below `count`; 0 where there is none.
    fn below(&mut self, count: usize) -> usize {
        self.0.next_u32() as usize % count.max(1)
    }

    /// One of them, or 1.
    fn pick(&mut self, ids: &[u32]) -> u32 {
        ids.get(self.below(ids.len())).copied().unwrap_or(1)
    }
}
