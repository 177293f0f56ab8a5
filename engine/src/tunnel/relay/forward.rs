//! Forwarded messages as frames of the other side: small ones put together, large ones from where they lie.

use super::super::compose::{End, finish_frame, frame_in_front};
use super::super::limits::MAX_RECORD_PLAINTEXT;
use super::{Relay, Run, RunPlace};
use std::ops::Range;

/// What carries frames to one side, in records.
pub trait Frames {
    /// Where a record is composed, [`MAX_RECORD_PLAINTEXT`] bytes; the same memory until it is
    /// sealed. `None`: a new record has no room, so nothing more can be carried.
    fn area(&mut self, is_new: bool) -> Option<&mut [u8]>;

    /// Seals the `size` bytes at the front of the area: whole frames.
    fn seal(&mut self, size: usize);

    /// Seals a frame that lies in `buffer`, behind all that was sealed before.
    fn seal_from(&mut self, buffer: &mut [u8], frame: Range<usize>);

    /// Whether there is any use in more.
    fn can_carry(&self) -> bool;
}

/// The record being composed for one side of a relay.
#[derive(Debug, Default)]
pub struct Composer {
    /// Whole frames at the front of the area.
    framed: usize,
    /// Content of the frame behind them.
    composed: usize,
}

/// Fewer bytes are copied to the frame being composed, so that others can follow them there: a
/// record costs its reader and its writer more than the copy of so many bytes.
const SEAL_FROM_MIN: usize = 8 * 1024;

impl Composer {
    /// Takes what `relay` forwards out of `buffer`, where it lies as it was received. There is room
    /// for it. [`finish`](Self::finish) follows before anything else is sealed.
    pub fn forward(&mut self, relay: &Relay, buffer: &mut [u8], to: &mut impl Frames) {
        for run in relay.runs() {
            match &run.place {
                RunPlace::Buffer(range) if self.leaves_alone(range) => {
                    self.finish(to);
                    if to.can_carry() {
                        let frame = frame_in_front(buffer, End::Server, range.clone(), [0; 4]);
                        to.seal_from(buffer, frame);
                    }
                }
                _ => self.append(relay.run_bytes(run, buffer), run, to),
            }
        }
    }

    /// Seals the record being composed.
    pub fn finish(&mut self, to: &mut impl Frames) {
        self.end_frame(Part::WHOLE, to);
        if self.framed > 0 {
            to.seal(std::mem::take(&mut self.framed));
        }
    }

    fn end_frame(&mut self, part: Part, to: &mut impl Frames) {
        if self.composed > 0
            && let Some(area) = to.area(false)
        {
            let frame = &mut area[self.framed..];
            let size = finish_frame(frame, End::Server, self.composed, [0; 4]);
            frame[0] = part.first_byte();
            self.framed += size;
            self.composed = 0;
        }
    }

    /// Content that still fits the record.
    fn room(&self) -> usize {
        (MAX_RECORD_PLAINTEXT - self.framed)
            .saturating_sub(End::Server.header_room() + self.composed)
    }

    /// Whether messages that lie there are to be sealed from there, as a record of their own.
    ///
    /// The frame's header is written over what is in front of them: a header of the sender's, or
    /// messages that were forwarded before. Small ones are better put together.
    fn leaves_alone(&self, range: &Range<usize>) -> bool {
        let is_alone = self.is_empty() || self.room() < range.len();
        is_alone
            && range.start >= End::Server.header_room()
            && (SEAL_FROM_MIN..=ROOM).contains(&range.len())
    }

    fn is_empty(&self) -> bool {
        self.framed == 0 && self.composed == 0
    }

    /// Adds whole messages to the frame being composed, or to a new record; those that fit none come in several frames,
    /// which are one message of the WebSocket.
    fn append(&mut self, mut bytes: &[u8], run: &Run, to: &mut impl Frames) {
        let mut is_first = true;
        while !bytes.is_empty() && to.can_carry() {
            let room = self.room();
            if room < bytes.len() && !self.is_empty() {
                self.finish(to);
                continue;
            }
            let Some(area) = to.area(self.is_empty()) else {
                return;
            };
            let size = room.min(bytes.len());
            let start = self.framed + End::Server.header_room() + self.composed;
            area[start..][..size].copy_from_slice(&bytes[..size]);
            self.composed += size;
            bytes = &bytes[size..];
            let is_last = bytes.is_empty();
            if !is_first || !is_last {
                self.end_frame(Part { is_first, is_last }, to);
            }
            is_first = false;
        }
        if run.ends_frame {
            self.end_frame(Part::WHOLE, to);
        }
    }
}

/// Which frame of its message one is.
#[derive(Debug, Clone, Copy)]
struct Part {
    is_first: bool,
    is_last: bool,
}

impl Part {
    const WHOLE: Self = Self {
        is_first: true,
        is_last: true,
    };

    /// FIN and opcode (RFC 6455 §5.2, §5.4): binary, then continuation.
    fn first_byte(self) -> u8 {
        u8::from(self.is_last) << 7 | if self.is_first { 2 } else { 0 }
    }
}

/// Content of the largest frame.
const ROOM: usize = MAX_RECORD_PLAINTEXT - End::Server.header_room();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::relay::tests::lab::{Lab, SOURCE, data, encode, frame, stream_start};
    use adit_proto::websocket::FrameHeader;

    /// Records as they were sealed.
    #[derive(Default)]
    struct Sealed {
        area: Vec<u8>,
        records: Vec<Vec<u8>>,
    }

    impl Frames for Sealed {
        fn area(&mut self, _: bool) -> Option<&mut [u8]> {
            self.area.resize(MAX_RECORD_PLAINTEXT, 0);
            Some(&mut self.area)
        }

        fn seal(&mut self, size: usize) {
            self.records.push(self.area[..size].to_vec());
        }

        fn seal_from(&mut self, buffer: &mut [u8], frame: Range<usize>) {
            self.records.push(buffer[frame].to_vec());
        }

        fn can_carry(&self) -> bool {
            true
        }
    }

    /// What the relay makes of messages for a peer that is none of ours.
    fn sealed(messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut lab = Lab::v3(&["A"]);
        lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
        let (mut composer, mut sealed) = (Composer::default(), Sealed::default());
        for message in messages {
            let (mut bytes, mut position) = (frame(message), 0);
            let flow = lab.relay.handle_input(SOURCE, &mut bytes, &mut position);
            flow.expect("it is proper");
            composer.forward(&lab.relay, &mut bytes, &mut sealed);
            lab.relay.clear_runs();
        }
        composer.finish(&mut sealed);
        sealed.records
    }

    /// The first byte of each frame, and all content.
    fn read(records: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
        let (mut firsts, mut content) = (Vec::new(), Vec::new());
        let mut rest = &records.concat()[..];
        while let Ok(Some((header, size))) = FrameHeader::parse(rest) {
            firsts.push(rest[0]);
            let end = size + header.payload_size as usize;
            content.extend_from_slice(&rest[size..end]);
            rest = &rest[end..];
        }
        assert!(rest.is_empty());
        (firsts, content)
    }

    #[test]
    fn a_message_that_fits_no_record_is_one_message_of_the_web_socket() {
        let (whole, first, middle, last) = (0x82, 0x02, 0x00, 0x80);
        let cases: [(usize, &[u8]); 5] = [
            (100, &[whole]),
            (16_000, &[whole]),
            (16_390, &[first, last]),
            (40_000, &[first, middle, last]),
            (64_512, &[first, middle, middle, last]),
        ];
        for (size, expected) in cases {
            let message = encode(&data(1, "A", 1, &vec![7; size]));
            let (firsts, content) = read(&sealed(std::slice::from_ref(&message)));
            assert_eq!(firsts, expected, "{size} bytes");
            assert_eq!(content, message);
        }
    }

    #[test]
    fn messages_of_the_web_socket_share_records() {
        let messages: Vec<Vec<u8>> = (0..500)
            .map(|n| encode(&data(1, "A", 1, &vec![n as u8; 1 + n * 7 % 300])))
            .collect();
        let records = sealed(&messages);
        let (firsts, content) = read(&records);
        assert_eq!(firsts, [0x82; 500]);
        assert_eq!(content, messages.concat());
        let size: usize = records.iter().map(Vec::len).sum();
        assert!(
            records
                .iter()
                .all(|record| record.len() <= MAX_RECORD_PLAINTEXT)
        );
        assert!(records.len() <= size / (MAX_RECORD_PLAINTEXT - 400) + 1);
    }
}
