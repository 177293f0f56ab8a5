//! From the suite to the program: every frame as it is, but with whole tunnel messages for the payload of data.

use std::ops::Range;

use adit_tests::frames::{BINARY, End, PING, TEXT, frame};
use adit_tests::wire::{Message, PAYLOAD_MAX, Route};
use prost::Message as _;

use crate::awaited::{Awaited, fence};
use crate::frames::{Frames, Header, Mask, Piece};

/// One connection's way in.
pub(crate) struct Inward {
    route: Route<'static>,
    /// What the suite is.
    end: End,
    /// Text stays text.
    is_plain: bool,
    frames: Frames,
    out: Records,
    data: Data,
}

/// Bytes to be sent, and where one write ends and another begins: the program sees each as a TLS record.
#[derive(Default)]
pub(crate) struct Records {
    bytes: Vec<u8>,
    cuts: Vec<usize>,
}

/// The payload of the frame that is being changed.
#[derive(Default)]
struct Data {
    mask: Mask,
    /// The frame's header came in pieces, so what is put in goes in pieces of one byte.
    is_split: bool,
    /// Of the suite's bytes, those that no message has begun to carry.
    unclaimed: u64,
    /// Of the suite's bytes in the message under way, those that are to come.
    left: usize,
    /// What that message ends with.
    tail: Vec<u8>,
}

impl Inward {
    pub(crate) fn new(route: Route<'static>, end: End, is_plain: bool) -> Self {
        Self {
            route,
            end,
            is_plain,
            frames: Frames::default(),
            out: Records::default(),
            data: Data::default(),
        }
    }

    /// What the program is sent for these bytes of the suite. What is to be echoed is noted in `awaited`.
    pub(crate) fn change(&mut self, received: &mut [u8], awaited: &mut Awaited) -> &Records {
        let Self {
            route,
            end,
            is_plain,
            frames,
            out,
            data,
        } = self;
        out.clear();
        frames.walk(received, |piece| match piece {
            Piece::Begin { header, is_split } => {
                data.is_split = is_split;
                data.mask = Mask::new(header.key());
                if header.is_control() {
                    out.put(header.bytes(), is_split);
                    data.pass(header);
                } else {
                    let opcode = match header.opcode() {
                        TEXT if !*is_plain => BINARY,
                        opcode => opcode,
                    };
                    let size = header.payload_size().unwrap_or_default();
                    out.put(&header.with(opcode, carried_size(size, *route)), is_split);
                    data.carry(size);
                    awaited.data(header);
                }
            }
            Piece::Payload(part) => data.put(part, *route, out),
            Piece::End(header) => {
                // Nothing comes back of an empty frame, so a pong has to say that it was read.
                if let Some(number) = awaited.fence_behind(header) {
                    out.put(&frame(*end, PING, &fence(number)), false);
                }
            }
        });
        out
    }
}

impl Data {
    /// The frame passes as it is.
    fn pass(&mut self, header: &Header) {
        self.unclaimed = 0;
        self.left = header.payload_size().unwrap_or_default() as usize;
        self.tail.clear();
    }

    /// The frame's `size` bytes become payloads of messages.
    fn carry(&mut self, size: u64) {
        self.unclaimed = size;
        self.left = 0;
        self.tail.clear();
    }

    fn put(&mut self, mut part: &[u8], route: Route<'_>, out: &mut Records) {
        while !part.is_empty() {
            if self.left == 0 {
                self.left = self.unclaimed.min(PAYLOAD_MAX as u64) as usize;
                self.unclaimed -= self.left as u64;
                let (head, tail) = around(self.left, route);
                out.put_masked(&head, &mut self.mask, self.is_split);
                self.tail = tail;
            }
            let (taken, rest) = part.split_at(part.len().min(self.left));
            out.put_masked(taken, &mut self.mask, false);
            self.left -= taken.len();
            part = rest;
            if self.left == 0 {
                out.put_masked(&self.tail, &mut self.mask, self.is_split);
            }
        }
    }
}

impl Records {
    /// One after the other.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.cuts.iter().copied().chain([self.bytes.len()]);
        let starts = [0].into_iter().chain(self.cuts.iter().copied());
        let ranges = starts.zip(ends).map(|(start, end)| Range { start, end });
        ranges
            .filter(|range| !range.is_empty())
            .map(|range| &self.bytes[range])
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.cuts.clear();
    }

    fn put(&mut self, bytes: &[u8], is_split: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        if is_split {
            self.cuts.extend(start..=self.bytes.len());
        }
    }

    fn put_masked(&mut self, bytes: &[u8], mask: &mut Mask, is_split: bool) {
        let start = self.bytes.len();
        self.put(bytes, is_split);
        mask.apply(&mut self.bytes[start..]);
    }
}

/// Size of the frame that carries `size` bytes in whole messages.
fn carried_size(size: u64, route: Route<'_>) -> u64 {
    let largest = PAYLOAD_MAX as u64;
    let added = |size: u64| match size {
        0 => 0,
        _ => {
            let (head, tail) = around(size as usize, route);
            (head.len() + tail.len()) as u64
        }
    };
    let whole = size / largest;
    size.saturating_add(whole.saturating_mul(added(largest)))
        .saturating_add(added(size % largest))
}

/// What stands in front of and behind the payload, of this size, of a DATA message.
fn around(size: usize, route: Route<'_>) -> (Vec<u8>, Vec<u8>) {
    let mut head = Message::data(route, vec![0; size]).prefixed();
    // The fields behind the payload: their numbers are higher.
    let tail = Message {
        kind: 0,
        stream_id: 0,
        ..Message::data(route, "")
    };
    let tail = tail.encode_to_vec();
    head.truncate(head.len() - size - tail.len());
    (head, tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit_tests::frames::{CLOSE, CONTINUATION, header, part};
    use adit_tests::wire::v3;

    const ROUTE: Route<'static> = v3("ECHO", 7, 1);

    /// What the program is sent for `sent`, which comes in pieces of at most `size` bytes.
    fn changed(sent: &[u8], size: usize, is_plain: bool) -> Vec<u8> {
        let mut inward = Inward::new(ROUTE, End::Client, is_plain);
        let mut awaited = Awaited::default();
        let pieces = sent.chunks(size).flat_map(|piece| {
            let records = inward.change(&mut piece.to_vec(), &mut awaited);
            records.iter().flatten().copied().collect::<Vec<_>>()
        });
        pieces.collect()
    }

    #[test]
    fn data_is_carried_in_messages_however_it_comes() {
        for payload in [1, 125, 126, 70_000, 3 * PAYLOAD_MAX] {
            let payload = vec![b'a'; payload];
            let sent = [
                part(End::Client, false, TEXT, &payload),
                frame(End::Client, CLOSE, b"\x03\xe8"),
                part(End::Client, true, CONTINUATION, b"b"),
            ];
            let messages = payload
                .chunks(PAYLOAD_MAX)
                .map(|part| Message::data(ROUTE, part));
            let messages: Vec<u8> = messages.flat_map(|message| message.prefixed()).collect();
            let expected = [
                part(End::Client, false, BINARY, &messages),
                frame(End::Client, CLOSE, b"\x03\xe8"),
                part(
                    End::Client,
                    true,
                    CONTINUATION,
                    &Message::data(ROUTE, "b").prefixed(),
                ),
            ];
            for size in [1, 3, 1_000_000] {
                assert_eq!(changed(&sent.concat(), size, false), expected.concat());
            }
        }
    }

    #[test]
    fn what_is_wrong_stays_wrong() {
        let mut sent = part(End::Client, true, 0x7, b"x");
        sent[0] |= 0x30;
        let mut expected = part(
            End::Client,
            true,
            0x7,
            &Message::data(ROUTE, "x").prefixed(),
        );
        expected[0] |= 0x30;
        let control = frame(End::Client, 0xb, &[b'x'; 126]);
        let unmasked = part(End::Server, true, TEXT, b"y");
        let unmasked_too = part(
            End::Server,
            true,
            TEXT,
            &Message::data(ROUTE, "y").prefixed(),
        );
        assert_eq!(
            changed(&[sent, control.clone(), unmasked].concat(), 1, true),
            [expected, control, unmasked_too].concat()
        );
    }

    #[test]
    fn a_header_that_comes_byte_by_byte_goes_so() {
        let sent = frame(End::Client, BINARY, b"a");
        let mut inward = Inward::new(ROUTE, End::Client, false);
        let mut awaited = Awaited::default();
        for byte in &sent {
            let records = inward.change(&mut [*byte], &mut awaited);
            assert!(records.iter().all(|record| record.len() == 1));
        }
    }

    #[test]
    fn an_empty_message_has_a_ping_behind_it() {
        let sent = frame(End::Client, TEXT, b"");
        let expected = [
            header(End::Client, true, BINARY, 0),
            frame(End::Client, PING, &fence(1)),
        ];
        assert_eq!(changed(&sent, 1, false), expected.concat());
    }
}
