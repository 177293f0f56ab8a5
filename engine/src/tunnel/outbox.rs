//! What a side has to say besides data: control messages, pongs, pings, the close frame.

use super::limits::OUTBOX_SIZE;
use adit_proto::ids::ServiceId;
use adit_proto::message::{Control, Credit, Kind, encode_service_ids};
use adit_proto::websocket::{CloseCode, ControlPayload, Opcode, write_close, write_control};
use std::collections::VecDeque;

/// Control messages and frames waiting for the tunnel. They leave before data.
#[derive(Default)]
pub struct Outbox {
    /// Encoded messages with their prefixes, `bytes[head..]`; at most half of it has left when
    /// one is added.
    bytes: Vec<u8>,
    head: usize,
    sizes: VecDeque<Waiting>,
    /// The newest pings to answer, at most [`PONGS_MAX`]: RFC 6455 §5.5.3 lets an endpoint forget all but one.
    pongs: VecDeque<ControlPayload>,
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
        self.compact();
        let before = self.bytes.len();
        message.encode(&mut self.bytes);
        self.note(
            before,
            matches!(message.kind, Kind::StreamStart | Kind::StreamReset),
        );
    }

    /// Adds credit.
    pub fn push_credit(&mut self, credit: &Credit<'_>) {
        self.compact();
        let before = self.bytes.len();
        credit.encode(&mut self.bytes);
        self.note(before, false);
    }

    /// Adds SERVICE_IDS; `ignorable` for a client that knows V1 only (specification 19).
    pub fn push_service_ids<'a>(
        &mut self,
        ids: impl Iterator<Item = &'a ServiceId>,
        ignorable: bool,
    ) {
        self.compact();
        let before = self.bytes.len();
        encode_service_ids(ids, ignorable, &mut self.bytes);
        self.note(before, true);
    }

    /// Drops what has left once it is most of the memory, so that a queue that never empties does
    /// not grow; each byte is moved at most once for each that left.
    fn compact(&mut self) {
        if self.head > self.bytes.len() / 2 {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
    }

    fn note(&mut self, before: usize, ends_frame: bool) {
        let size = u16::try_from(self.bytes.len() - before)
            .expect("a control message is at most 65,535 bytes");
        self.sizes.push_back(Waiting { size, ends_frame });
    }

    /// Answers a ping; while too many wait, the oldest is forgotten.
    pub fn pong(&mut self, payload: ControlPayload) {
        if self.pongs.len() == PONGS_MAX {
            self.pongs.pop_front();
        }
        self.pongs.push_back(payload);
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
                || !self.pongs.is_empty()
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

    /// Writes waiting messages to `area`, which is a whole frame's. Returns the bytes written, and
    /// whether the frame must end here.
    ///
    /// A message that is larger than a frame is cut, since the ends of frames have no meaning
    /// (specification 3); the rest of it comes first in the next one.
    pub fn write_messages(&mut self, area: &mut [u8]) -> (usize, bool) {
        let mut written = 0;
        while let Some(waiting) = self.sizes.front_mut() {
            let size = usize::from(waiting.size);
            let taken = size.min(area.len() - written);
            if taken < size && written > 0 {
                return (written, false);
            }
            area[written..written + taken]
                .copy_from_slice(&self.bytes[self.head..self.head + taken]);
            self.head += taken;
            written += taken;
            if taken < size {
                waiting.size -= taken as u16;
                return (written, true);
            }
            let ends_frame = waiting.ends_frame;
            self.sizes.pop_front();
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
        if let Some(payload) = self.pongs.pop_front() {
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

/// Pongs that may wait for a link.
///
/// A peer measures or proves something by each of its pings, and those that arrive together are read together; nobody
/// sends so many but for harm. Of 125 bytes each: 2 KB for a peer that pings and does not read.
const PONGS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// 128 names of 128 characters.
    fn largest_list() -> Vec<ServiceId> {
        let names = (0..128).map(|at| format!("{at:0>128}").parse());
        names.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_message_larger_than_a_frame_is_cut_and_stays_alone() {
        let ids = largest_list();
        let mut expected = Vec::new();
        encode_service_ids(ids.iter(), false, &mut expected);
        let mut outbox = Outbox::default();
        outbox.push_service_ids(ids.iter(), false);
        outbox.push(&Control {
            kind: Kind::StreamReset,
            stream_id: 1,
            service_id: "A",
            connection_id: 0,
        });
        let mut area = [0; 16_380];
        assert_eq!(outbox.write_messages(&mut area), (16_380, true));
        assert_eq!(area[..], expected[..16_380]);
        let rest = expected.len() - 16_380;
        assert_eq!(outbox.write_messages(&mut area), (rest, true));
        assert_eq!(area[..rest], expected[16_380..]);
        assert_eq!(outbox.write_messages(&mut area), (9, true));
        assert!(!outbox.is_waiting());
    }

    #[test]
    fn a_queue_that_never_empties_does_not_grow() {
        let mut outbox = Outbox::default();
        let reset = |stream_id| Control {
            kind: Kind::ConnectionReset,
            stream_id,
            service_id: "A",
            connection_id: 1,
        };
        let mut area = [0; 11];
        outbox.push(&reset(0));
        for stream_id in 1..100_000 {
            outbox.push(&reset(stream_id % 100));
            let (size, _) = outbox.write_messages(&mut area);
            assert!(size > 0 && outbox.is_waiting());
        }
        assert!(
            outbox.bytes.capacity() < 1024,
            "{}",
            outbox.bytes.capacity()
        );
    }

    #[test]
    fn a_close_frame_waits_for_all_of_a_cut_message() {
        let mut outbox = Outbox::default();
        outbox.push_service_ids(largest_list().iter(), false);
        outbox.close(CloseCode::Normal, "");
        let (mut area, mut frame) = ([0; 16_380], Vec::new());
        outbox.write_messages(&mut area);
        assert!(!outbox.write_frame(None, &mut frame));
        outbox.write_messages(&mut area);
        assert!(outbox.write_frame(None, &mut frame));
    }
}
