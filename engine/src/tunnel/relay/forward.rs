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

    /// Seals the frame being composed.
    pub fn finish(&mut self, to: &mut impl Frames) {
        if self.composed > 0
            && let Some(area) = to.area(false)
        {
            let size = finish_frame(area, End::Server, self.composed, [0; 4]);
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

    /// Adds whole messages to the frame being composed, or to new ones.
    fn append(&mut self, mut bytes: &[u8], run: &Run, to: &mut impl Frames) {
        let start = End::Server.header_room();
        while !bytes.is_empty() && to.can_carry() {
            let room = ROOM - self.composed;
            // A message is cut between frames only where it fits none.
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
        }
        if run.ends_frame {
            self.finish(to);
        }
    }
}

/// Content of the largest frame.
const ROOM: usize = MAX_RECORD_PLAINTEXT - End::Server.header_room();
