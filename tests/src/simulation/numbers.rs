//! A source whose streams and connections have other numbers than ours would give them: such as those
//! before 2147483647 and 4294967295, after which they begin anew. Between the source and the relay,
//! both ways, message by message.

use super::bugs::Bug;
use super::dice::Dice;
use adit_engine::tunnel::compose::{End, finish_frame};
use adit_proto::ids::Dialect;
use adit_proto::message::{Control, Credit, DataHeader, Kind, MessageView};
use adit_proto::websocket::{FrameHeader, Opcode, mask};

/// By how much the numbers differ, in two circles of all that are not 0; not at all in a run of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    streams: u64,
    connections: u64,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the source.
    Up,
    /// To the source.
    Down,
}

impl Numbers {
    /// As ours, any, or such that they soon begin anew. Only V3 numbers connections.
    pub(super) fn draw(dice: &mut Dice, dialect: Dialect) -> Self {
        let mut draw = |count: u64| match dice.below(3) {
            0 => 0,
            1 => dice.below(count as usize) as u64,
            _ => count - 1 - dice.below(12) as u64,
        };
        let (streams, connections) = (draw(STREAMS), draw(CONNECTIONS));
        Self {
            streams,
            connections: if dialect == Dialect::V3 {
                connections
            } else {
                0
            },
        }
    }

    /// Whether it has the numbers of ours.
    #[must_use]
    pub(super) fn is_ours(self) -> bool {
        self == Self::default()
    }

    /// The same frames with their messages renumbered. What is in `partial` came before them, and what
    /// is there afterwards is the start of a message that goes on in a later frame.
    pub(super) fn of_frames(
        self,
        way: Way,
        bug: Option<Bug>,
        bytes: &[u8],
        partial: &mut Vec<u8>,
    ) -> Vec<u8> {
        let end = match way {
            Way::Up => End::Client,
            Way::Down => End::Server,
        };
        let parts = parts(bytes, partial)
            .into_iter()
            .flat_map(|part| match part {
                Part::Control(frame) => frame.to_vec(),
                Part::Messages(messages) => {
                    let renumbered = messages.iter();
                    let renumbered = renumbered.map(|message| self.of_message(way, bug, message));
                    frames(end, &renumbered.collect::<Vec<_>>().concat())
                }
            });
        parts.collect()
    }

    pub(super) fn of_message(self, way: Way, bug: Option<Bug>, message: &[u8]) -> Vec<u8> {
        let view = MessageView::parse(&message[2..]).expect("a message of a core");
        if view.stream_id == 0 {
            return message.to_vec();
        }
        let stream = turned(view.stream_id as u32, self.streams, STREAMS, way);
        let stream = match bug {
            Some(Bug::EndlessStreams) if way == Way::Up => view.stream_id as u64 + self.streams,
            _ => stream,
        };
        let stream_id = stream as i32;
        let connection_id = match view.connection_id {
            0 => 0,
            id => turned(id, self.connections, CONNECTIONS, way) as u32,
        };
        let service_id = view.service_id;
        let mut bytes = Vec::new();
        match view.kind {
            Kind::Data => {
                let header = DataHeader {
                    stream_id,
                    service_id,
                    connection_id,
                };
                bytes.resize(header.size(view.payload.len()), 0);
                header.write(view.payload.len(), &mut bytes);
                bytes.extend_from_slice(view.payload);
            }
            Kind::Credit => {
                let credit = Credit {
                    stream_id,
                    service_id,
                    connection_id,
                    limit: Credit::limit_of(&view).expect("credit of a core"),
                };
                credit.encode(&mut bytes);
            }
            kind => {
                let control = Control {
                    kind,
                    stream_id,
                    service_id,
                    connection_id,
                };
                control.encode(&mut bytes);
            }
        }
        bytes
    }
}

/// So far round a circle of the numbers from 1 to `count`.
fn turned(number: u32, by: u64, count: u64, way: Way) -> u64 {
    let by = match way {
        Way::Up => by,
        Way::Down => count - by,
    };
    (u64::from(number) - 1 + by) % count + 1
}

/// What is in a frame.
pub(super) enum Part<'a> {
    /// A frame of the WebSocket's own.
    Control(&'a [u8]),
    /// The whole messages, with their length prefixes, whose end is in a frame of data.
    Messages(Vec<Vec<u8>>),
}

/// What is in whole frames. What is in `partial` came before them, and what is there afterwards is the
/// start of a message that goes on in a later frame.
pub(super) fn parts<'a>(mut bytes: &'a [u8], partial: &mut Vec<u8>) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let header = FrameHeader::parse(bytes).expect("a frame of a core");
        let (header, size) = header.expect("a whole frame");
        let (frame, rest) = bytes.split_at(size + header.payload_size as usize);
        bytes = rest;
        if !matches!(header.opcode, Opcode::Binary | Opcode::Continuation) {
            parts.push(Part::Control(frame));
            continue;
        }
        let start = partial.len();
        partial.extend_from_slice(&frame[size..]);
        if let Some(key) = header.mask {
            mask(key, 0, &mut partial[start..]);
        }
        parts.push(Part::Messages(whole_messages(partial)));
    }
    parts
}

/// Takes the whole messages at the front out of `bytes`.
fn whole_messages(bytes: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let [high, low, ..] = bytes[..] {
        let size = 2 + usize::from(u16::from_be_bytes([high, low]));
        if bytes.len() < size {
            break;
        }
        messages.push(bytes.drain(..size).collect());
    }
    messages
}

/// Messages in frames of their own.
pub(super) fn frames(end: End, messages: &[u8]) -> Vec<u8> {
    let room = end.header_room();
    let mut frames = Vec::new();
    for part in messages.chunks(16_000) {
        let mut area = vec![0; room + part.len()];
        area[room..].copy_from_slice(part);
        let size = finish_frame(&mut area, end, part.len(), [3, 1, 4, 1]);
        frames.extend_from_slice(&area[..size]);
    }
    frames
}

/// How many numbers there are: those of an `i32` and of a `u32` above 0.
const STREAMS: u64 = i32::MAX as u64;
const CONNECTIONS: u64 = u32::MAX as u64;
