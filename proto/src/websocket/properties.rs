//! Properties over generated streams of frames.

use proptest::collection::vec;
use proptest::prelude::*;

use super::transcript::Transcript;
use super::{FrameEvent, FrameHeader, Opcode, Role, fuzz_frames, mask, write_control};

/// A frame to send.
#[derive(Clone, Debug)]
enum Sent {
    Data { fin: bool, payload: Vec<u8> },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    let size = prop_oneof![0..4usize, 120..130usize, 0..2000usize];
    let payload = size.prop_flat_map(|size| vec(any::<u8>(), size));
    prop_oneof![
        3 => (any::<bool>(), payload).prop_map(|(fin, payload)| Sent::Data { fin, payload }),
        1 => vec(any::<u8>(), 0..=125).prop_map(Sent::Ping),
        1 => vec(any::<u8>(), 0..=125).prop_map(Sent::Pong),
    ]
}

fn encode(role: Role, frames: &[Sent], keys: &[[u8; 4]]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut continues = false;
    for (frame, key) in frames.iter().zip(keys.iter().cycle()) {
        let key = (role == Role::Server).then_some(*key);
        match frame {
            Sent::Ping(payload) => write_control(Opcode::Ping, payload, key, &mut out),
            Sent::Pong(payload) => write_control(Opcode::Pong, payload, key, &mut out),
            Sent::Data { fin, payload } => {
                let header = FrameHeader {
                    fin: *fin,
                    opcode: if continues {
                        Opcode::Continuation
                    } else {
                        Opcode::Binary
                    },
                    mask: key,
                    payload_size: payload.len() as u64,
                };
                continues = !fin;
                let mut head = [0; 14];
                let size = header.write(&mut head);
                out.extend(&head[..size]);
                let start = out.len();
                out.extend(payload);
                mask(key.unwrap_or_default(), 0, &mut out[start..]);
            }
        }
    }
    out
}

/// Cuts a stream at these places.
fn pieces(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(bytes.len());
    let mut start = 0;
    cuts.into_iter()
        .map(|end| bytes[std::mem::replace(&mut start, end)..end].to_vec())
        .collect()
}

/// Bytes that look like the start of a frame more often than chance would have it.
fn frame_like_bytes() -> impl Strategy<Value = Vec<u8>> {
    let telling = prop::sample::select(vec![
        0x00, 0x01, 0x02, 0x05, 0x7d, 0x7e, 0x7f, 0x80, 0x82, 0x85, 0x88, 0x89, 0x8a, 0xfe, 0xff,
    ]);
    vec(prop_oneof![3 => telling, 1 => any::<u8>()], 0..80)
}

proptest! {
    #[test]
    fn what_was_sent_is_read_however_it_is_cut(
        role in prop_oneof![Just(Role::Client), Just(Role::Server)],
        frames in vec(sent(), 0..12),
        keys in vec(any::<[u8; 4]>(), 1..4),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let bytes = encode(role, &frames, &keys);
        let read = Transcript::read(role, pieces(&bytes, &cuts));
        prop_assert_eq!(read.error, None);
        let mut data = Vec::new();
        let mut events = read.events.into_iter();
        for frame in frames {
            match (frame, data.len()) {
                (Sent::Data { payload, .. }, _) => data.extend(payload),
                (Sent::Ping(sent), at) => match events.next() {
                    Some((came_at, FrameEvent::Ping { payload })) => {
                        prop_assert_eq!((came_at, &payload[..]), (at, &sent[..]));
                    }
                    other => prop_assert!(false, "{other:?} instead of a ping"),
                },
                (Sent::Pong(sent), at) => match events.next() {
                    Some((came_at, FrameEvent::Pong { payload })) => {
                        prop_assert_eq!((came_at, &payload[..]), (at, &sent[..]));
                    }
                    other => prop_assert!(false, "{other:?} instead of a pong"),
                },
            }
        }
        prop_assert_eq!(events.next(), None);
        prop_assert_eq!(read.data, data);
    }

    #[test]
    fn any_bytes_are_judged_alike_however_they_are_cut(bytes in frame_like_bytes()) {
        fuzz_frames(&bytes);
    }

    #[test]
    fn a_header_that_is_read_is_written_the_same(bytes in frame_like_bytes()) {
        if let Ok(Some((header, size))) = FrameHeader::parse(&bytes) {
            let mut out = [0; 14];
            prop_assert_eq!(header.write(&mut out), size);
            prop_assert_eq!(&out[..size], &bytes[..size]);
        }
    }
}
