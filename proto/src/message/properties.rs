//! Properties over generated messages: our reader and writers against `prost`.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::{
    Control, DataHeader, Kind, MessageView, encode_service_ids, fuzz_parse, fuzz_rewrite,
    replace_stream_id,
};
use crate::ids::{ServiceId, StreamId};
use crate::wire;

/// One field, key and value, and whether the protocol knows it.
fn field() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let scalar = (prop_oneof![Just(1u32), Just(2), Just(3), Just(7)], number())
        .prop_map(|(field, value)| (encode(field << 3, value, &[]), true));
    let text = (prop_oneof![Just(5u32), Just(6)], "\\PC{0,20}")
        .prop_map(|(field, text)| (delimited(field, text.as_bytes()), true));
    let payload = vec(any::<u8>(), 0..300).prop_map(|bytes| (delimited(4, &bytes), true));
    let unknown = (8u32..1 << 29, 0u32..6, number(), vec(any::<u8>(), 8)).prop_map(
        |(field, wire_type, value, bytes)| {
            let key = field << 3 | wire_type;
            let bytes = match wire_type {
                0 => encode(key, value, &[]),
                1 => encode_key(key, &bytes),
                2 => delimited(field, &bytes),
                3 => [
                    encode_key(key, &encode(8 << 3, value, &[])),
                    encode_key(field << 3 | 4, &[]),
                ]
                .concat(),
                // The end of a group is no field of its own.
                4 => delimited(field, &[]),
                _ => encode_key(key, &bytes[..4]),
            };
            (bytes, false)
        },
    );
    prop_oneof![4 => scalar, 3 => text, 2 => payload, 1 => unknown]
}

/// Numbers of every size, small ones most often.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..300,
        any::<u64>(),
        any::<u32>().prop_map(u64::from),
        Just(u64::MAX)
    ]
}

fn encode_key(key: u32, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(u64::from(key), &mut out);
    out.extend(rest);
    out
}

fn encode(key: u32, value: u64, rest: &[u8]) -> Vec<u8> {
    let mut out = encode_key(key, &[]);
    prost::encoding::encode_varint(value, &mut out);
    out.extend(rest);
    out
}

fn delimited(field: u32, bytes: &[u8]) -> Vec<u8> {
    encode(field << 3 | 2, bytes.len() as u64, bytes)
}

/// A valid message, and whether it has unknown fields.
fn message() -> impl Strategy<Value = (Vec<u8>, bool)> {
    vec(field(), 0..12).prop_map(|fields| {
        let has_unknown = fields.iter().any(|(_, known)| !known);
        let bytes = fields.into_iter().flat_map(|(bytes, _)| bytes).collect();
        (bytes, has_unknown)
    })
}

/// What happens to bytes on the way.
#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Cut(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<Index>().prop_map(Damage::Remove),
        any::<Index>().prop_map(Damage::Cut),
    ]
}

fn apply(damage: &Damage, bytes: &mut Vec<u8>) {
    let size = bytes.len();
    if size == 0 {
        return;
    }
    match damage {
        Damage::Set(at, byte) => bytes[at.index(size)] = *byte,
        Damage::Insert(at, byte) => bytes.insert(at.index(size), *byte),
        Damage::Remove(at) => drop(bytes.remove(at.index(size))),
        Damage::Cut(at) => bytes.truncate(at.index(size)),
    }
}

fn service_id() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-zA-Z0-9:_-]{1,128}"]
}

proptest! {
    #[test]
    fn a_replaced_stream_id_is_all_that_changes((bytes, _) in message(), id in 1i32..) {
        let mut renamed = bytes.clone();
        let mut expected = wire::Message::decode(&bytes[..]).unwrap();
        if replace_stream_id(&mut renamed, StreamId::new(id).unwrap()) {
            expected.stream_id = id;
        }
        prop_assert_eq!(renamed.len(), bytes.len());
        prop_assert_eq!(wire::Message::decode(&renamed[..]).unwrap(), expected);
    }

    #[test]
    fn valid_messages_are_read_as_prost_reads_them((bytes, has_unknown) in message()) {
        fuzz_parse(&bytes);
        fuzz_rewrite(&bytes);
        let view = MessageView::parse(&bytes).unwrap();
        prop_assert_eq!(view.has_unknown_fields, has_unknown);
    }

    #[test]
    fn damaged_messages_are_judged_as_prost_judges_them(
        (mut bytes, _) in message(),
        damages in vec(damage(), 1..4),
    ) {
        for damage in &damages {
            apply(damage, &mut bytes);
        }
        fuzz_parse(&bytes);
        fuzz_rewrite(&bytes);
    }

    #[test]
    fn random_bytes_are_judged_as_prost_judges_them(bytes in vec(any::<u8>(), 0..64)) {
        fuzz_parse(&bytes);
        fuzz_rewrite(&bytes);
    }

    #[test]
    fn what_prost_writes_we_read(
        raw in -3..10i32,
        stream_id: i32,
        connection_id: u32,
        ignorable: bool,
        service_id in "\\PC{0,130}",
        available_service_ids in vec("\\PC{0,10}", 0..5),
        payload in vec(any::<u8>(), 0..1000),
    ) {
        let message = wire::Message {
            r#type: raw,
            stream_id,
            connection_id,
            ignorable,
            service_id,
            available_service_ids,
            payload,
        };
        let bytes = message.encode_to_vec();
        fuzz_parse(&bytes);
        fuzz_rewrite(&bytes);
        let view = MessageView::parse(&bytes).unwrap();
        prop_assert_eq!(view.kind, Kind::from_raw(raw));
        prop_assert_eq!(view.payload, &message.payload);
        prop_assert!(view.available_service_ids().eq(&message.available_service_ids));
        prop_assert!(!view.has_unknown_fields);
    }

    #[test]
    fn what_a_data_header_writes_prost_reads(
        stream_id: i32,
        connection_id: u32,
        service_id in service_id(),
        payload in vec(any::<u8>(), 1..400),
    ) {
        let header = DataHeader { stream_id, service_id: &service_id, connection_id };
        let size = header.size(payload.len());
        prop_assert!(size <= DataHeader::MAX_SIZE);
        let mut bytes = vec![0xee; size];
        header.write(payload.len(), &mut bytes);
        bytes.extend(&payload);

        let prefix = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        prop_assert_eq!(prefix, bytes.len() - 2);
        let read = wire::Message::decode(&bytes[2..]).unwrap();
        let expected = wire::Message {
            r#type: wire::Type::Data.into(),
            stream_id,
            connection_id,
            service_id: service_id.clone(),
            payload: payload.clone(),
            ..wire::Message::default()
        };
        prop_assert_eq!(read, expected);
        let view = MessageView::parse(&bytes[2..]).unwrap();
        prop_assert_eq!(view.payload_offset + 2, size);
        // Same fields, same size: only their order differs from what prost writes.
        prop_assert_eq!(expected_size(&view), bytes.len() - 2);
    }

    #[test]
    fn what_control_writes_is_what_prost_writes(
        raw in -3..10i32,
        stream_id: i32,
        connection_id: u32,
        service_id in service_id(),
    ) {
        let message = Control {
            kind: Kind::from_raw(raw),
            stream_id,
            service_id: &service_id,
            connection_id,
        };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), message.size());
        let read = wire::Message::decode(&bytes[2..]).unwrap();
        prop_assert_eq!(read.r#type, raw);
        // prost leaves out a type of 0, which nobody sends; we do not.
        let zero_type_size = if raw == 0 { 2 } else { 0 };
        prop_assert_eq!(&read.encode_to_vec(), &bytes[2 + zero_type_size..]);
    }

    #[test]
    fn what_service_ids_writes_is_what_prost_writes(
        names in vec("[a-zA-Z0-9:_-]{1,128}", 0..=128),
        ignorable: bool,
    ) {
        let ids: Vec<ServiceId> = names.iter().map(|name| name.parse().unwrap()).collect();
        let mut bytes = Vec::new();
        encode_service_ids(ids.iter(), ignorable, &mut bytes);
        let expected = wire::Message {
            r#type: wire::Type::ServiceIds.into(),
            ignorable,
            available_service_ids: names,
            ..wire::Message::default()
        };
        prop_assert_eq!(&expected.encode_to_vec(), &bytes[2..]);
        prop_assert_eq!(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])), bytes.len() - 2);
    }
}

fn expected_size(view: &MessageView<'_>) -> usize {
    let owned = wire::Message {
        r#type: view.kind.raw(),
        stream_id: view.stream_id,
        connection_id: view.connection_id,
        service_id: view.service_id.to_owned(),
        payload: view.payload.to_vec(),
        ..wire::Message::default()
    };
    owned.encoded_len()
}

/// Short inputs, all of them: every one and two bytes, and longer ones of bytes that mean something.
#[test]
fn every_short_input_is_judged_as_prost_judges_it() {
    for first in 0..=255 {
        fuzz_parse(&[first]);
        for second in 0..=255 {
            fuzz_parse(&[first, second]);
        }
    }
    let telling = [
        0x00, 0x01, 0x02, 0x08, 0x10, 0x18, 0x22, 0x2a, 0x32, 0x38, 0x40, 0x43, 0x44, 0x45, 0x46,
        0x7f, 0x80, 0xff,
    ];
    for first in telling {
        for second in telling {
            for third in telling {
                fuzz_parse(&[first, second, third]);
                for fourth in telling {
                    fuzz_parse(&[first, second, third, fourth]);
                }
            }
        }
    }
}

/// Keys and numbers at the edge of what a varint may be, as prost has it.
#[test]
fn long_varints_are_judged_as_prost_judges_them() {
    for start in [&[][..], &[0x08], &[0x18], &[0x22], &[0x40], &[0x43]] {
        for filler in [0x80, 0x88, 0xff] {
            for count in 0..12 {
                for last in [0x00, 0x01, 0x02, 0x0f, 0x10, 0x7f] {
                    for tail in [&[][..], &[0x00], &[0x44]] {
                        let filled = vec![filler; count];
                        fuzz_parse(&[start, &filled, &[last], tail].concat());
                    }
                }
            }
        }
    }
}
