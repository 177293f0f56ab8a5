//! Forwarded messages as frames of the other side: small ones put together, large ones from where they lie.

use super::super::compose::{End, finish_frame, frame_in_front};
use super::super::limits::MAX_RECORD_PLAINTEXT;
use super::{Relay, Run, RunPlace};
use std::ops::Range;

/// What carries frames to one side.
pub trait Frames {
    /// Where a frame is composed, [`MAX_RECORD_PLAINTEXT`] bytes; the same memory until it is
    /// sealed. `None`: a new frame has no room, so nothing more can be carried.
    fn area(&mut self, is_new: bool) -> Option<&mut [u8]>;

    /// Seals the frame of `size` bytes at the front of the area.
    fn seal(&mut self, size: usize);

    /// Seals a frame that lies in `buffer`, behind all that was sealed before.
    fn seal_from(&mut self, buffer: &mut [u8], frame: Range<usize>);

    /// Whether there is any use in more.
    fn can_carry(&self) -> bool;
}

/// The frame being composed for one side of a relay.
#[derive(Debug, Default)]
pub struct Composer {
    /// Content in the area. 0 <= composed <= MAX_RECORD_PLAINTEXT - header room
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

    /// Seals the frame being composed, as a message of its own.
    pub fn finish(&mut self, to: &mut impl Frames) {
        self.finish_part(Part::WHOLE, to);
    }

    fn finish_part(&mut self, part: Part, to: &mut impl Frames) {
        if self.composed > 0
            && let Some(area) = to.area(false)
        {
            let size = finish_frame(area, End::Server, self.composed, [0; 4]);
            area[0] = part.first_byte();
            self.composed = 0;
            to.seal(size);
        }
    }

    /// Whether messages that lie there are to be sealed from there, as a frame of their own.
    ///
    /// The frame's header is written over what is in front of them: a header of the sender's, or
    /// messages that were forwarded before. Small ones are better put together.
    fn leaves_alone(&self, range: &Range<usize>) -> bool {
        let is_alone = self.composed == 0 || ROOM - self.composed < range.len();
        is_alone
            && range.start >= End::Server.header_room()
            && (SEAL_FROM_MIN..=ROOM).contains(&range.len())
    }

    /// Adds whole messages to the frame being composed, or to a new one; those that fit none come in several, which are
    /// one message of the WebSocket.
    fn append(&mut self, mut bytes: &[u8], run: &Run, to: &mut impl Frames) {
        let start = End::Server.header_room();
        let mut is_first = true;
        while !bytes.is_empty() && to.can_carry() {
            let room = ROOM - self.composed;
            if room < bytes.len() && self.composed > 0 {
                self.finish(to);
                continue;
            }
            let Some(area) = to.area(self.composed == 0) else {
                return;
            };
            let size = room.min(bytes.len());
            area[start + self.composed..][..size].copy_from_slice(&bytes[..size]);
            self.composed += size;
            bytes = &bytes[size..];
            let is_last = bytes.is_empty();
            if !is_first || !is_last {
                self.finish_part(Part { is_first, is_last }, to);
            }
            is_first = false;
        }
        if run.ends_frame {
            self.finish(to);
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
    use adit_proto::websocket::{FrameEvent, FrameReader, Role};

    /// Frames as they were sealed.
    #[derive(Default)]
    struct Sealed {
        area: Vec<u8>,
        frames: Vec<Vec<u8>>,
    }

    impl Frames for Sealed {
        fn area(&mut self, _: bool) -> Option<&mut [u8]> {
            self.area.resize(MAX_RECORD_PLAINTEXT, 0);
            Some(&mut self.area)
        }

        fn seal(&mut self, size: usize) {
            self.frames.push(self.area[..size].to_vec());
        }

        fn seal_from(&mut self, buffer: &mut [u8], frame: Range<usize>) {
            self.frames.push(buffer[frame].to_vec());
        }

        fn can_carry(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_message_that_fits_no_frame_is_one_message_of_the_web_socket() {
        let mut lab = Lab::v3(&["A"]);
        lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
        for size in [100, 16_000, 16_380, 16_390, 40_000, 64_512] {
            let message = encode(&data(1, "A", 1, &vec![7; size]));
            let mut bytes = frame(&message);
            let mut position = 0;
            let _ = lab.relay.handle_input(SOURCE, &mut bytes, &mut position);
            let (mut composer, mut sealed) = (Composer::default(), Sealed::default());
            composer.forward(&lab.relay, &mut bytes, &mut sealed);
            composer.finish(&mut sealed);
            lab.relay.clear_runs();
            let count = sealed.frames.len();
            for (at, frame) in sealed.frames.iter().enumerate() {
                let first = 0x80 * u8::from(at + 1 == count) + 2 * u8::from(at == 0);
                assert_eq!(frame[0], first, "frame {at} of {count}, {size} bytes");
            }
            // And a reader of WebSocket finds it right.
            let mut reader = FrameReader::new(Role::Client, 131_076);
            let (mut all, mut heard, mut position) = (sealed.frames.concat(), Vec::new(), 0);
            while let Ok(Some(FrameEvent::Data(range))) = reader.next(&mut all, &mut position) {
                heard.extend_from_slice(&all[range]);
            }
            assert_eq!(heard, message);
        }
    }
}
