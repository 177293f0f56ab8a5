//! Operations and messages from bytes.

use adit_proto::limits::MAX_PAYLOAD_SIZE;
use adit_proto::message::{Control, Credit, DataHeader, Kind, encode_service_ids};
use adit_proto::websocket::{FrameHeader, Opcode, mask};

/// The bytes that decide. When they are used up they read as zero.
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    /// A number below `count`, which is at most 256; 0 where there is none.
    pub(super) fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    /// A size, small ones most often; at most `max`.
    pub(super) fn size(&mut self, max: usize) -> usize {
        let byte = usize::from(self.byte());
        // 0 to 127, then steps up to 1 MiB.
        let size = match byte {
            0..=127 => byte,
            _ => (byte - 127) << ((byte & 15).min(13)),
        };
        size.min(max)
    }

    pub(super) fn take(&mut self, size: usize) -> &'a [u8] {
        let (front, rest) = self.rest.split_at(size.min(self.rest.len()));
        self.rest = rest;
        front
    }
}

/// Names that messages carry. The tunnels have the first one or two of them.
pub(super) const NAMES: [&str; 4] = ["A", "B", "", "x"];

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label {
    /// Of [`NAMES`].
    pub(super) name: usize,
    pub(super) stream: i32,
    pub(super) connection: u32,
}

/// Appends one message with its length prefix: well-formed, and mostly of a kind and with ids that a
/// peer would use. `fill` gives the bytes of a payload.
pub(super) fn message(input: &mut Input<'_>, fill: impl Fn(Label) -> u8, out: &mut Vec<u8>) {
    let (first, second) = (input.byte(), input.byte());
    let label = Label {
        name: usize::from(first >> 4) % NAMES.len(),
        // -1 and 0 are among them.
        stream: i32::from(second & 7) - 1,
        connection: u32::from(second >> 3) % 6,
    };
    let kind = match first & 15 {
        0..=4 => Kind::Data,
        5 | 6 => Kind::StreamStart,
        7 | 8 => Kind::ConnectionStart,
        9 | 10 => Kind::ConnectionReset,
        11 => Kind::StreamReset,
        12 => Kind::SessionReset,
        13 => Kind::ServiceIds,
        14 if second & 1 == 1 => Kind::Credit,
        14 => Kind::Unknown(0),
        _ => Kind::Unknown(99),
    };
    match kind {
        Kind::Data => {
            let size = input.size(MAX_PAYLOAD_SIZE);
            data(label, size, fill(label), out);
        }
        Kind::Credit => Credit {
            stream_id: label.stream,
            service_id: NAMES[label.name],
            connection_id: label.connection,
            limit: input.size(1 << 20) as u64,
        }
        .encode(out),
        Kind::ServiceIds => {
            let ids = NAMES.iter().take(input.below(3));
            let ids: Vec<_> = ids.filter_map(|name| name.parse().ok()).collect();
            encode_service_ids(ids.iter(), input.below(2) == 1, out);
        }
        _ => Control {
            kind,
            stream_id: label.stream,
            service_id: NAMES[label.name],
            connection_id: label.connection,
        }
        .encode(out),
    }
}

fn data(label: Label, size: usize, fill: u8, out: &mut Vec<u8>) {
    let header = DataHeader {
        stream_id: label.stream,
        service_id: NAMES[label.name],
        connection_id: label.connection,
    };
    let start = out.len();
    let header_size = header.size(size);
    out.resize(start + header_size, 0);
    header.write(size, &mut out[start..]);
    out.resize(start + header_size + size, fill);
}

/// One binary frame around `content`, masked if it is a client's.
pub(super) fn frame(content: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let header = FrameHeader {
        fin: true,
        opcode: Opcode::Binary,
        mask: key,
        payload_size: content.len() as u64,
    };
    let mut bytes = vec![0; header.size()];
    header.write(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(content);
    mask(key.unwrap_or_default(), 0, &mut bytes[start..]);
    bytes
}
