//! What a side has to say besides data: control messages, pongs, pings, the close frame.

use super::limits::OUTBOX_SIZE;
use adit_proto::ids::ServiceId;
use adit_proto::message::{Control, Kind, encode_service_ids};
use adit_proto::websocket::{CloseCode, ControlPayload, Opcode, write_close, write_control};
use std::collections::VecDeque;

/// Control messages and frames waiting for the tunnel. They leave before data.
#[derive(Default)]
pub struct Outbox {
    /// Encoded messages with their prefixes, `bytes[head..]`.
    bytes: Vec<u8>,
    head: usize,
    sizes: VecDeque<Waiting>,
    /// The newest ping to answer: RFC 6455 §5.5.3 lets an endpoint answer only that one.
    pong: Option<ControlPayload>,
    ping: Option<Vec<u8>>,
    close: Option<(CloseCode, &'static str)>,
    close_sent: bool,
}

struct Waiting {
    size: u16,
    /// Nothing may follow in the same frame: the reference holds back what follows STREAM_START
    /// or STREAM_RESET, and discards what follows SERVICE_IDS (specification 17, Q-03).
    ends_frame: bool,
}

impl Outbox {
    /// Adds a control message.
    pub fn push(&mut self, message: &Control<'_>) {
        let before = self.bytes.len();
        message.encode(&mut self.bytes);
        self.note(
            before,
            matches!(message.kind, Kind::StreamStart | Kind::StreamReset),
        );
    }

    /// Adds SERVICE_IDS; `ignorable` for a client that knows V1 only (specification 19).
    pub fn push_service_ids<'a>(
        &mut self,
        ids: impl Iterator<Item = &'a ServiceId>,
        ignorable: bool,
    ) {
        let before = self.bytes.len();
        encode_service_ids(ids, ignorable, &mut self.bytes);
        self.note(before, true);
    }

    fn note(&mut self, before: usize, ends_frame: bool) {
        let size = u16::try_from(self.bytes.len() - before)
            .expect("a control message is at most 65,535 bytes");
        self.sizes.push_back(Waiting { size, ends_frame });
    }

    /// Answers a ping; an earlier one not yet answered is forgotten.
    pub fn pong(&mut self, payload: ControlPayload) {
        self.pong = Some(payload);
    }

    /// Sends a ping with `payload` (at most 125 bytes).
    pub fn ping(&mut self, payload: Vec<u8>) {
        self.ping = Some(payload);
    }

    /// Ends the WebSocket after everything else that waits. The first code stays.
    pub fn close(&mut self, code: CloseCode, reason: &'static str) {
        self.close.get_or_insert((code, reason));
    }

    /// Whether the close frame was handed out; nothing may follow it (RFC 6455 §5.5.1).
    pub fn is_closed(&self) -> bool {
        self.close_sent
    }

    /// Whether a close frame waits or was sent.
    pub fn is_closing(&self) -> bool {
        self.close.is_some() || self.close_sent
    }

    /// Whether so much waits that the other direction must not be read.
    pub fn is_full(&self) -> bool {
        self.bytes.len() - self.head >= OUTBOX_SIZE
    }

    /// Whether a message or a frame waits.
    pub fn is_waiting(&self) -> bool {
        !self.close_sent
            && (!self.sizes.is_empty()
                || self.pong.is_some()
                || self.ping.is_some()
                || self.close.is_some())
    }

    /// Whether messages (not frames) wait.
    pub fn has_messages(&self) -> bool {
        !self.close_sent && !self.sizes.is_empty()
    }

    /// Forgets everything: the link is gone.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Writes whole waiting messages to `area`. Returns the bytes written, and whether the
    /// frame must end here.
    pub fn write_messages(&mut self, area: &mut [u8]) -> (usize, bool) {
        let mut written = 0;
        while let Some(waiting) = self.sizes.front() {
            let size = usize::from(waiting.size);
            if written + size > area.len() {
                return (written, false);
            }
            area[written..written + size].copy_from_slice(&self.bytes[self.head..self.head + size]);
            let ends_frame = waiting.ends_frame;
            self.sizes.pop_front();
            self.head += size;
            written += size;
            if self.sizes.is_empty() {
                self.bytes.clear();
                self.head = 0;
                // A burst is over: its memory goes back.
                self.bytes.shrink_to(4096);
            }
            if ends_frame {
                return (written, true);
            }
        }
        (written, false)
    }

    /// Writes one waiting WebSocket control frame to `out`, masked with `key` where given:
    /// a pong, else a ping, else, once no message waits, the close frame.
    pub fn write_frame(&mut self, key: Option<[u8; 4]>, out: &mut Vec<u8>) -> bool {
        if self.close_sent {
            return false;
        }
        if let Some(payload) = self.pong.take() {
            write_control(Opcode::Pong, &payload, key, out);
        } else if let Some(payload) = self.ping.take() {
            write_control(Opcode::Ping, &payload, key, out);
        } else if let (Some((code, reason)), true) = (self.close, self.sizes.is_empty()) {
            write_close(code, reason, key, out);
            self.close_sent = true;
        } else {
            return false;
        }
        true
    }
}
