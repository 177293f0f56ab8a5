//! Inputs: seeded bytes, messages and frames.

use adit_engine::tunnel::compose::End;
use adit_engine::tunnel::limits::MAX_RECORD_PLAINTEXT;
use adit_proto::message::{Control, DataHeader, Kind};
use adit_proto::websocket::{FrameHeader, Opcode};

/// The only service.
pub const SERVICE: &str = "SSH";

/// The stream that a source gives its first connection.
pub const STREAM: i32 = 1;

/// A key that leaves the bytes as they are. Masking with it costs what masking with any other
/// does, so one buffer can be read, unmasked in place, again and again.
pub const NEUTRAL_MASK: [u8; 4] = [0; 4];

/// Payload of one message.
#[derive(Clone, Copy, Debug)]
pub struct Payload {
    /// As it stands in names.
    pub label: &'static str,
    /// In bytes.
    pub size: usize,
    /// Messages that one run carries.
    pub count: usize,
}

/// A keystroke, or a small query.
pub const SMALL: Payload = Payload {
    label: "64_B",
    size: 64,
    count: 256,
};

/// Exactly 16 KiB, where nothing has to fit a record.
pub const LARGE: Payload = Payload {
    label: "16_KiB",
    size: 16 * 1024,
    count: 64,
};

/// What a bulk transfer puts into one record: 16,384 bytes with all headers, 16,360 without.
pub const RECORD: Payload = Payload {
    label: "16_KiB",
    size: MAX_RECORD_PLAINTEXT - End::Client.header_room() - LARGE_HEADER_SIZE,
    count: 64,
};

/// Of a message that fills a record: prefix 2, type 2, stream 2, service 5, connection 2, payload
/// key and length 3.
pub const LARGE_HEADER_SIZE: usize = 16;

/// So many bytes that repeat in no short pattern, always the same (splitmix64, seed 1).
pub fn bytes(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let words = std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    });
    words.flatten().take(size).collect()
}

/// The header of data of that connection.
pub const fn data_header(connection: u32) -> DataHeader<'static> {
    DataHeader {
        stream_id: STREAM,
        service_id: SERVICE,
        connection_id: connection,
    }
}

/// A DATA message with its length prefix.
pub fn data(connection: u32, payload: &[u8]) -> Vec<u8> {
    let header = data_header(connection);
    let mut message = vec![0; header.size(payload.len())];
    header.write(payload.len(), &mut message);
    message.extend_from_slice(payload);
    message
}

/// A message without payload, with its length prefix.
pub fn control(kind: Kind, connection: u32) -> Vec<u8> {
    let mut message = Vec::new();
    Control {
        kind,
        stream_id: STREAM,
        service_id: SERVICE,
        connection_id: connection,
    }
    .encode(&mut message);
    message
}

/// A binary frame around `content`, from a client or a server.
pub fn frame(end: End, content: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        fin: true,
        opcode: Opcode::Binary,
        mask: (end == End::Client).then_some(NEUTRAL_MASK),
        payload_size: content.len() as u64,
    };
    let mut frame = vec![0; header.size()];
    header.write(&mut frame);
    frame.extend_from_slice(content);
    frame
}

/// The frames of one run: `payload.count` messages, over connections 1 to `connections` in turn,
/// one from each in a frame.
pub fn data_frames(end: End, payload: Payload, connections: usize) -> Vec<u8> {
    let content = bytes(payload.size);
    let messages: Vec<Vec<u8>> = (0..payload.count)
        .map(|index| data(1 + (index % connections) as u32, &content))
        .collect();
    let per_frame = connections.min(payload.count);
    messages
        .chunks(per_frame)
        .flat_map(|chunk| frame(end, &chunk.concat()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_filled_to_its_last_byte() {
        let content = data(1, &bytes(RECORD.size));
        assert_eq!(content.len() - RECORD.size, LARGE_HEADER_SIZE);
        let whole = frame(End::Client, &content);
        assert_eq!(whole.len(), MAX_RECORD_PLAINTEXT);
    }
}
