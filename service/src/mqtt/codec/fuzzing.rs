//! Packets of any bytes, in one piece and in several.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};

use super::{Accepted, Codec, Incoming, Malformed, Outgoing, SubscribeOutcome};
use crate::mqtt::limits::PACKET_SIZE_MAX;
use crate::notify::Qos;

/// Reads packets from any bytes: the same ones come out byte by byte, none holds more than it brought,
/// and what is answered is within what the client takes.
pub fn fuzz_packets(bytes: &[u8]) {
    let whole = read([bytes]);
    assert_eq!(whole, read(bytes.chunks(1)));
    let size = bytes.first().map_or(1, |byte| usize::from(byte & 15) + 1);
    assert_eq!(whole, read(bytes.chunks(size)));
    for packet in &whole.0 {
        check_size(packet, bytes.len());
        if let Incoming::Connect(connect) = packet {
            answer(connect.is_v5, bytes, connect.packet_size_max);
        }
    }
}

fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Incoming>, Option<Malformed>) {
    let (mut codec, mut received) = (Codec::new(), BytesMut::new());
    let mut packets = Vec::new();
    for chunk in chunks {
        received.extend_from_slice(chunk);
        loop {
            let before = received.len();
            match codec.decode(&mut received) {
                Ok(Some(packet)) => {
                    assert!(received.len() < before, "a packet takes bytes");
                    packets.push(packet);
                }
                Ok(None) => break,
                Err(fault) => return (packets, Some(fault)),
            }
        }
        assert!(received.len() <= PACKET_SIZE_MAX as usize + chunk.len() + HEADER_SIZE);
    }
    (packets, None)
}

/// What a packet makes us keep came in it.
fn check_size(packet: &Incoming, size: usize) {
    let kept = match packet {
        Incoming::Connect(connect) => connect.client_id.len(),
        Incoming::Subscribe { filters, .. } => {
            filters.iter().map(|filter| filter.topic.len() + 1).sum()
        }
        Incoming::Unsubscribe { filters, .. } => filters.iter().map(|topic| topic.len() + 1).sum(),
        _ => 0,
    };
    assert!(kept <= size.min(PACKET_SIZE_MAX as usize));
}

/// Whatever we say to a client, it is one that it takes, or it is not said.
fn answer(is_v5: bool, bytes: &[u8], size_max: Option<u32>) {
    let mut codec = Codec::new();
    let hello: &[u8] = match is_v5 {
        true => b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00",
        false => b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
    };
    let connect = codec.decode(&mut BytesMut::from(hello));
    assert!(
        matches!(connect, Ok(Some(Incoming::Connect(_)))),
        "{connect:?}"
    );
    if let Some(size) = size_max {
        codec.limit_outgoing(size);
    }
    let packet_id = NonZeroU16::MIN;
    let topic = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
    for packet in [
        Outgoing::Accepted(Accepted {
            session_present: true,
            session_expiry: Some(60),
            keep_alive: Some(60),
        }),
        Outgoing::Publish {
            topic,
            payload: Bytes::copy_from_slice(bytes),
            qos: Qos::AtLeastOnce,
            packet_id,
            again: true,
        },
        Outgoing::SubscribeAck {
            packet_id,
            outcomes: vec![SubscribeOutcome::TooMany; bytes.len().min(16)],
        },
        Outgoing::Pong,
    ] {
        let mut written = BytesMut::new();
        match codec.encode(packet, &mut written) {
            Ok(()) => {
                let max = size_max.map_or(usize::MAX, |size| size as usize);
                assert!(written.len() <= max, "{} of {max}", written.len());
            }
            Err(_) => assert!(written.is_empty()),
        }
    }
}

/// Largest fixed header: a byte and a length of four.
const HEADER_SIZE: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: the crate subtracted the ids of a SUBACK from the client's maximum.
    #[test]
    fn a_client_that_takes_next_to_nothing_is_told_less() {
        for size in 1..=64 {
            let connect = [
                &b"\x10\x14\x00\x04MQTT\x05\x02\x00\x3c\x05\x27\x00\x00\x00"[..],
                &[size],
                b"\x00\x02me",
            ];
            fuzz_packets(&connect.concat());
            let mut codec = Codec::new();
            let connect = codec.decode(&mut BytesMut::from(&connect.concat()[..]));
            let Ok(Some(Incoming::Connect(connect))) = connect else {
                panic!("{connect:?}");
            };
            assert_eq!(connect.packet_size_max, Some(size.into()));
        }
    }
}
