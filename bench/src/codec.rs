//! Messages and their framing: written in place and read as borrowed views.
//!
//! Held fixed: service `SSH`, stream 1, connection 1, all bytes in the cache.

use crate::Case;
use crate::input::{LARGE, Payload, SMALL, bytes, data, data_header};
use adit_proto::framing::{Located, MessageReader};
use adit_proto::limits::LENGTH_PREFIX_SIZE;
use adit_proto::message::{Control, Kind, MessageView};
use adit_proto::wire::{Message, message::Type};
use prost::Message as _;
use std::hint::black_box;

/// Ours.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in [SMALL, LARGE] {
        cases.push(write_data(payload));
        cases.push(parse_data(payload));
    }
    cases.push(write_control());
    cases.push(frame_whole());
    cases.push(frame_cut());
    cases
}

/// The generated code of prost for the same messages.
pub fn rivals() -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in [SMALL, LARGE] {
        cases.push(prost_encode(payload));
        cases.push(prost_decode(payload));
    }
    cases
}

/// The header goes in front of a payload that is where it will be sent from.
fn write_data(Payload { label, size, count }: Payload) -> Case {
    Case::new(
        format!("codec/write_data/ours/{label}"),
        count,
        size,
        move || {
            let header = data_header(1);
            let mut area = data(1, &bytes(size));
            move || {
                for _ in 0..count {
                    let header_size = black_box(&header).size(size);
                    header.write(size, &mut area[..header_size]);
                    black_box(&mut area);
                }
            }
        },
    )
}

fn parse_data(payload: Payload) -> Case {
    parse("ours", payload, |message| {
        let view = black_box(MessageView::parse(message)).expect("a message");
        view.payload.len()
    })
}

/// The same message again and again, by a parser that says how long its payload is.
fn parse(whose: &str, payload: Payload, parse: impl Fn(&[u8]) -> usize + Copy + 'static) -> Case {
    let Payload { label, size, count } = payload;
    let name = format!("codec/parse_data/{whose}/{label}");
    Case::new(name, count, size, move || {
        let message = data(1, &bytes(size));
        move || {
            for _ in 0..count {
                assert_eq!(parse(black_box(&message[LENGTH_PREFIX_SIZE..])), size);
            }
        }
    })
}

fn write_control() -> Case {
    Case::new("codec/write_control/STREAM_START", SMALL.count, 0, || {
        let mut out = Vec::new();
        move || {
            for _ in 0..SMALL.count {
                out.clear();
                black_box(Control {
                    kind: Kind::StreamStart,
                    stream_id: 1,
                    service_id: "SSH",
                    connection_id: 1,
                })
                .encode(&mut out);
                black_box(&mut out);
            }
        }
    })
}

fn frame_whole() -> Case {
    Case::new(
        "codec/frame/64_B/in_one_chunk",
        SMALL.count,
        SMALL.size,
        || {
            let stream = data(1, &bytes(SMALL.size)).repeat(SMALL.count);
            let mut reader = MessageReader::new();
            move || assert_eq!(read(&mut reader, [&stream[..]]), SMALL.count)
        },
    )
}

/// Nearly every chunk ends inside a message, which is then put together.
fn frame_cut() -> Case {
    let name = "codec/frame/64_B/in_chunks_of_100_B";
    Case::new(name, SMALL.count, SMALL.size, || {
        let stream = data(1, &bytes(SMALL.size)).repeat(SMALL.count);
        let mut reader = MessageReader::new();
        move || assert_eq!(read(&mut reader, stream.chunks(100)), SMALL.count)
    })
}

fn read<'a>(reader: &mut MessageReader, chunks: impl IntoIterator<Item = &'a [u8]>) -> usize {
    let mut count = 0;
    for chunk in chunks {
        let mut position = 0;
        while let Some(located) = reader.next(black_box(chunk), &mut position) {
            match located {
                Located::InChunk(range) => black_box(&chunk[range]),
                Located::Assembled => black_box(reader.assembled()),
            };
            count += 1;
        }
    }
    count
}

/// The message is built from a slice, as a proxy would have to: its payload is in a receive buffer.
fn prost_encode(Payload { label, size, count }: Payload) -> Case {
    Case::new(
        format!("codec/write_data/prost/{label}"),
        count,
        size,
        move || {
            let payload = bytes(size);
            let mut out = Vec::new();
            move || {
                for _ in 0..count {
                    out.clear();
                    let message = Message {
                        r#type: Type::Data.into(),
                        stream_id: 1,
                        service_id: "SSH".to_owned(),
                        connection_id: 1,
                        payload: black_box(&payload).clone(),
                        ..Message::default()
                    };
                    message.encode(&mut out).expect("a vector grows");
                    black_box(&mut out);
                }
            }
        },
    )
}

fn prost_decode(payload: Payload) -> Case {
    parse("prost", payload, |message| {
        let message = black_box(Message::decode(message)).expect("a message");
        message.payload.len()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::control;

    #[test]
    fn both_write_the_same_message() {
        let ours = control(Kind::StreamStart, 1);
        let theirs = Message {
            r#type: Type::StreamStart.into(),
            stream_id: 1,
            service_id: "SSH".to_owned(),
            connection_id: 1,
            ..Message::default()
        };
        let read = Message::decode(&ours[LENGTH_PREFIX_SIZE..]).expect("a message");
        assert_eq!(read, theirs);
    }
}
