//! One WebSocket frame composed where it leaves from: content first, header last, in place.

use adit_proto::websocket::{FrameHeader, Opcode, mask, move_masked};
use std::ops::Range;

/// Which end of the WebSocket composes: a client masks (RFC 6455 §5.3), a server must not (§5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A proxy.
    Client,
    /// The relay.
    Server,
}

impl End {
    /// Room left for the header before the content of a frame, in bytes: the largest header of
    /// a frame that fits a record (16-bit length, and the mask of a client).
    pub const fn header_room(self) -> usize {
        match self {
            Self::Client => 8,
            Self::Server => 4,
        }
    }
}

/// Completes a binary frame whose content was composed at `area[end.header_room()..]`.
///
/// Returns the frame's size; it starts at `area[0]`. The header of a content under 126 bytes is
/// two bytes shorter (RFC 6455 §5.2 wants the shortest form), so such a content moves, in the
/// same pass that masks it. `key` is ignored for a server.
pub fn finish_frame(area: &mut [u8], end: End, content_size: usize, key: [u8; 4]) -> usize {
    let room = end.header_room();
    let header = FrameHeader {
        fin: true,
        opcode: Opcode::Binary,
        mask: (end == End::Client).then_some(key),
        payload_size: content_size as u64,
    };
    let size = header.size();
    match end {
        End::Client if size == room => mask(key, 0, &mut area[room..room + content_size]),
        End::Client => move_masked(area, room..room + content_size, size, key),
        End::Server if size == room => {}
        End::Server => area.copy_within(room..room + content_size, size),
    }
    header.write(&mut area[..size]);
    size + content_size
}

/// Completes a binary frame whose content lies anywhere: the header is written over the bytes in
/// front of it, of which there must be [`End::header_room`].
///
/// Returns where the frame is. `content` fits a record. `key` is ignored for a server.
pub fn frame_in_front(
    buffer: &mut [u8],
    end: End,
    content: Range<usize>,
    key: [u8; 4],
) -> Range<usize> {
    let header = FrameHeader {
        fin: true,
        opcode: Opcode::Binary,
        mask: (end == End::Client).then_some(key),
        payload_size: content.len() as u64,
    };
    if end == End::Client {
        mask(key, 0, &mut buffer[content.clone()]);
    }
    let start = content.start - header.size();
    header.write(&mut buffer[start..content.start]);
    start..content.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit_proto::websocket::{FrameEvent, FrameReader, Role};

    #[test]
    fn frames_of_every_small_size_and_the_largest_read_back() {
        for end in [End::Client, End::Server] {
            for size in (0..300).chain([16_376, 16_380]) {
                if size + end.header_room() > 16_384 {
                    continue;
                }
                let content: Vec<u8> = (0..size).map(|at| (at * 7) as u8).collect();
                let mut area = vec![0; 16_384];
                area[end.header_room()..][..size].copy_from_slice(&content);
                let total = finish_frame(&mut area, end, size, [1, 2, 3, 250]);
                let role = if end == End::Client {
                    Role::Server
                } else {
                    Role::Client
                };
                let mut reader = FrameReader::new(role, 131_076);
                let (mut position, mut read) = (0, Vec::new());
                while let Some(event) = reader.next(&mut area[..total], &mut position).unwrap() {
                    let FrameEvent::Data(range) = event else {
                        panic!("not data")
                    };
                    read.extend_from_slice(&area[range]);
                }
                assert_eq!(position, total);
                assert_eq!(read, content, "{end:?}, {size} bytes");
            }
        }
    }

    #[test]
    fn a_frame_made_where_its_content_lies_is_the_frame_that_is_composed() {
        let key = [1, 2, 3, 250];
        let ends = [End::Server, End::Client];
        for (end, size) in ends.into_iter().flat_map(|end| {
            let sizes = [0, 1, 125, 126, 127, 8192, 16_376];
            sizes.map(move |size| (end, size))
        }) {
            let room = end.header_room();
            let mut area: Vec<u8> = (0..size + room).map(|at| (at * 7) as u8).collect();
            let mut buffer = vec![0xee; size + 20];
            buffer[9..9 + size].copy_from_slice(&area[room..]);
            let total = finish_frame(&mut area, end, size, key);
            let frame = frame_in_front(&mut buffer, end, 9..9 + size, key);
            assert_eq!(buffer[frame], area[..total]);
            assert!(
                buffer[..9 - room]
                    .iter()
                    .chain(&buffer[9 + size..])
                    .all(|byte| *byte == 0xee)
            );
        }
    }
}
