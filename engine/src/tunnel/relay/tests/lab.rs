//! A driver for tests: masks and frames what a peer says, takes runs and outboxes, and holds the
//! invariants that every test relies on.

use crate::tunnel::error::PeerError;
use crate::tunnel::flow::Flow;
use crate::tunnel::relay::{Relay, RunPlace};
use adit_proto::ids::{Mode, ServiceId, Subprotocol};
use adit_proto::message::Kind;
use adit_proto::websocket::{
    CloseCode, FrameEvent, FrameHeader, FrameReader, Opcode, Role, mask, write_control,
};
pub(in crate::tunnel) use adit_proto::wire::{Message, Type};
use prost::Message as _;
use std::sync::Arc;

pub(in crate::tunnel) const SOURCE: Mode = Mode::Source;
pub(in crate::tunnel) const DESTINATION: Mode = Mode::Destination;

/// A message; `None` and 0 are "absent".
pub(in crate::tunnel) fn message(
    kind: Type,
    stream: i32,
    service: &str,
    connection: u32,
) -> Message {
    Message {
        r#type: kind.into(),
        stream_id: stream,
        service_id: service.into(),
        connection_id: connection,
        ..Message::default()
    }
}

pub(in crate::tunnel) fn stream_start(stream: i32, service: &str, connection: u32) -> Message {
    message(Type::StreamStart, stream, service, connection)
}

pub(in crate::tunnel) fn connection_start(stream: i32, service: &str, connection: u32) -> Message {
    message(Type::ConnectionStart, stream, service, connection)
}

pub(in crate::tunnel) fn stream_reset(stream: i32, service: &str) -> Message {
    message(Type::StreamReset, stream, service, 0)
}

pub(in crate::tunnel) fn connection_reset(stream: i32, service: &str, connection: u32) -> Message {
    message(Type::ConnectionReset, stream, service, connection)
}

pub(in crate::tunnel) fn data(
    stream: i32,
    service: &str,
    connection: u32,
    payload: &[u8],
) -> Message {
    Message {
        payload: payload.to_vec(),
        ..message(Type::Data, stream, service, connection)
    }
}

/// How far the peer of a connection may send.
pub(in crate::tunnel) fn credit(
    stream: i32,
    service: &str,
    connection: u32,
    limit: u64,
) -> Message {
    Message {
        r#type: Kind::Credit.raw(),
        ignorable: true,
        payload: limit.to_be_bytes().to_vec(),
        ..data(stream, service, connection, &[])
    }
}

/// A message with its length prefix, as prost writes it.
pub(in crate::tunnel) fn encode(message: &Message) -> Vec<u8> {
    prefixed(&message.encode_to_vec())
}

pub(in crate::tunnel) fn prefixed(message: &[u8]) -> Vec<u8> {
    let size = u16::try_from(message.len()).expect("a test stays within the format");
    [&size.to_be_bytes(), message].concat()
}

/// One masked binary frame of a client.
pub(in crate::tunnel) fn frame(content: &[u8]) -> Vec<u8> {
    frame_with(Opcode::Binary, true, content)
}

pub(in crate::tunnel) fn frame_with(opcode: Opcode, fin: bool, content: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let header = FrameHeader {
        fin,
        opcode,
        mask: Some(key),
        payload_size: content.len() as u64,
    };
    let mut bytes = vec![0; header.size()];
    header.write(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(content);
    mask(key, 0, &mut bytes[start..]);
    bytes
}

pub(in crate::tunnel) fn client_control(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_control(opcode, payload, Some([9, 8, 7, 6]), &mut bytes);
    bytes
}

pub(in crate::tunnel) fn services(names: &[&str]) -> Arc<[ServiceId]> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// Reads the messages in a byte stream that must consist of whole ones.
pub(in crate::tunnel) fn decode_all(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let [high, low, rest @ ..] = bytes {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        messages.push(Message::decode(message).expect("the relay forwards what prost reads"));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a length prefix");
    messages
}

/// What the relay says to one side besides data.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::tunnel) struct Said {
    pub(in crate::tunnel) messages: Vec<Message>,
    pub(in crate::tunnel) pongs: Vec<Vec<u8>>,
    pub(in crate::tunnel) close: Option<u16>,
}

/// A relay and all that its two sides got.
pub(in crate::tunnel) struct Lab {
    pub(in crate::tunnel) relay: Relay,
    /// Forwarded bytes to the source and to the destination, since last asked.
    forwarded: [Vec<u8>; 2],
    /// Runs taken, by place: buffer, assembled, rewritten.
    pub(in crate::tunnel) places: [usize; 3],
}

impl Lab {
    pub(in crate::tunnel) fn new(names: &[&str]) -> Self {
        Self {
            relay: Relay::new(services(names)),
            forwarded: Default::default(),
            places: [0; 3],
        }
    }

    /// Both sides connected with this offer, SERVICE_IDS taken.
    pub(in crate::tunnel) fn connected(
        names: &[&str],
        source: Subprotocol,
        destination: Subprotocol,
    ) -> Self {
        let mut lab = Self::new(names);
        lab.connect(SOURCE, source);
        lab.connect(DESTINATION, destination);
        lab
    }

    pub(in crate::tunnel) fn v3(names: &[&str]) -> Self {
        Self::connected(names, Subprotocol::V3, Subprotocol::V3)
    }

    pub(in crate::tunnel) fn connect(&mut self, side: Mode, offered: Subprotocol) {
        self.relay.connected(side, offered);
        let said = self.said(side);
        assert_eq!(said.messages.len(), 1, "only SERVICE_IDS");
        assert_eq!(said.messages[0].r#type(), Type::ServiceIds);
        assert_eq!(said.messages[0].ignorable, offered == Subprotocol::V1);
    }

    /// A side says that it knows credit: it is one of ours.
    pub(in crate::tunnel) fn announce(&mut self, side: Mode) {
        assert_eq!(self.pass(side, &[credit(0, "", 0, 0)]), []);
    }

    /// One frame for each message, all in one buffer.
    pub(in crate::tunnel) fn send(
        &mut self,
        from: Mode,
        messages: &[Message],
    ) -> Result<Flow, PeerError> {
        let bytes: Vec<u8> = messages
            .iter()
            .flat_map(|message| frame(&encode(message)))
            .collect();
        self.receive(from, bytes)
    }

    /// What a peer says that must be accepted, and what the other side got for it.
    #[track_caller]
    pub(in crate::tunnel) fn pass(&mut self, from: Mode, messages: &[Message]) -> Vec<Message> {
        assert_eq!(self.send(from, messages), Ok(Flow::Done));
        self.forwarded(from.other())
    }

    /// Messages that the other side must get as they are.
    #[track_caller]
    pub(in crate::tunnel) fn passes(&mut self, from: Mode, messages: &[Message]) {
        assert_eq!(self.pass(from, messages), messages);
    }

    /// A single message, which must be refused.
    #[track_caller]
    pub(in crate::tunnel) fn refused(&mut self, from: Mode, message: &Message) -> PeerError {
        let error = self
            .send(from, std::slice::from_ref(message))
            .expect_err("it breaks a rule");
        assert_eq!(
            self.forwarded(from.other()),
            [],
            "nothing of it is forwarded"
        );
        error
    }

    /// Hands in received bytes as one buffer, and takes runs, until they are used up.
    pub(in crate::tunnel) fn receive(
        &mut self,
        from: Mode,
        mut bytes: Vec<u8>,
    ) -> Result<Flow, PeerError> {
        let mut position = 0;
        loop {
            let result = self.relay.handle_input(from, &mut bytes, &mut position);
            let has_runs = !self.relay.runs().is_empty();
            self.take_runs(from.other(), &bytes);
            match result {
                Ok(Flow::Deliver) => assert!(has_runs, "there is something to deliver"),
                Ok(Flow::Done) => {
                    assert_eq!(position, bytes.len());
                    return Ok(Flow::Done);
                }
                Ok(Flow::Paused | Flow::Closed(_)) | Err(_) => return result,
            }
        }
    }

    pub(in crate::tunnel) fn take_runs(&mut self, to: Mode, buffer: &[u8]) {
        let mut end_of_last = 0;
        let is_ours = self.relay.side(to).link.knows_credit;
        for run in self.relay.runs() {
            let bytes = self.relay.run_bytes(run, buffer);
            let messages = decode_all(bytes);
            let (last, before) = messages.split_last().expect("a run is not empty");
            assert_eq!(run.ends_frame, ends_frame(last) || !is_ours, "{last:?}");
            assert!(!before.iter().any(ends_frame), "{before:?}");
            assert!(is_ours || before.is_empty(), "one message each");
            let place = match &run.place {
                RunPlace::Buffer(range) => {
                    assert!(end_of_last <= range.start, "runs are in order and apart");
                    end_of_last = range.end;
                    0
                }
                RunPlace::Assembled => 1,
                RunPlace::Rewritten(_) => 2,
            };
            self.places[place] += 1;
            self.forwarded[index(to)].extend_from_slice(bytes);
        }
        self.relay.clear_runs();
        assert!(self.relay.runs().is_empty());
    }

    /// What was forwarded to `side` since last asked.
    pub(in crate::tunnel) fn forwarded(&mut self, side: Mode) -> Vec<Message> {
        decode_all(&self.forwarded_bytes(side))
    }

    pub(in crate::tunnel) fn forwarded_bytes(&mut self, side: Mode) -> Vec<u8> {
        std::mem::take(&mut self.forwarded[index(side)])
    }

    /// What waits for `side` in its outbox. What must end its frame does.
    pub(in crate::tunnel) fn said(&mut self, side: Mode) -> Said {
        let outbox = self.relay.outbox(side);
        let (mut said, mut area) = (Said::default(), vec![0; 16_384]);
        while outbox.has_messages() {
            let (size, is_end) = outbox.write_messages(&mut area);
            let messages = decode_all(&area[..size]);
            let is_last =
                |message: &Message| ends_frame(message) || message.r#type() == Type::ServiceIds;
            let (last, before) = messages.split_last().expect("it said that it had messages");
            assert_eq!(is_end, is_last(last));
            assert!(!before.iter().any(is_last));
            said.messages.extend(messages);
        }
        let mut bytes = Vec::new();
        while outbox.write_frame(None, &mut bytes) {}
        let (mut reader, mut position) = (FrameReader::new(Role::Client, 125), 0);
        while let Some(event) = reader.next(&mut bytes, &mut position).unwrap() {
            match event {
                FrameEvent::Pong { payload } => said.pongs.push(payload.to_vec()),
                FrameEvent::Close { code, .. } => said.close = code,
                FrameEvent::Data(_) | FrameEvent::Ping { .. } => {
                    panic!("not from a relay: {event:?}")
                }
            }
        }
        said
    }

    /// The messages that `side` was answered.
    pub(in crate::tunnel) fn answers(&mut self, side: Mode) -> Vec<Message> {
        self.said(side).messages
    }

    /// As a driver does after an error: the close frame, then the end.
    pub(in crate::tunnel) fn close_and_lose(&mut self, side: Mode, code: CloseCode) {
        self.relay.close(side, code, "test");
        assert_eq!(self.said(side).close, Some(code.code()));
        self.relay.lost(side);
    }
}

fn index(side: Mode) -> usize {
    match side {
        Mode::Source => 0,
        Mode::Destination => 1,
    }
}

fn ends_frame(message: &Message) -> bool {
    matches!(message.r#type(), Type::StreamStart | Type::StreamReset)
}
