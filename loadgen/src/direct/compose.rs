//! Writing messages of one service.

use adit_proto::limits::MAX_PAYLOAD_SIZE;
use adit_proto::message::{Control, DataHeader, Kind};

/// The stream that messages belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Empty in a tunnel without services.
    pub(super) service: String,
    pub(super) stream: i32,
}

impl Route {
    pub(super) fn control(&self, kind: Kind, connection: u32, out: &mut Vec<u8>) {
        Control {
            kind,
            stream_id: self.stream,
            service_id: &self.service,
            connection_id: connection,
        }
        .encode(out);
    }

    /// Appends DATA messages that carry `payload`.
    pub(super) fn data(&self, connection: u32, payload: &[u8], out: &mut Vec<u8>) {
        let header = DataHeader {
            stream_id: self.stream,
            service_id: &self.service,
            connection_id: connection,
        };
        for piece in payload.chunks(MAX_PAYLOAD_SIZE) {
            let start = out.len();
            out.resize(start + header.size(piece.len()), 0);
            header.write(piece.len(), &mut out[start..]);
            out.extend_from_slice(piece);
        }
    }
}
