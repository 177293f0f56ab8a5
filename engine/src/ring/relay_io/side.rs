//! One WebSocket of a relay: the frame being composed for it, and whether its host still lives.

use crate::ring::handle::Admitted;
use crate::ring::io::Io;
use crate::ring::link_io::{LinkFault, LinkIo};
use crate::tls::MAX_PLAINTEXT;
use crate::tunnel::compose::{End, finish_frame, frame_in_front};
use std::ops::Range;
use std::time::{Duration, Instant};

/// One side of a tunnel at the relay: its WebSocket and the frame being composed for it.
pub(super) struct Side {
    pub(super) link: LinkIo,
    /// Reported as gone when this side is dropped.
    pub(super) admitted: Admitted,
    /// Content of the frame being composed in the link's area.
    composed: usize,
    /// Why it can send no more; it is ended at the end of the turn.
    pub(super) fault: Option<LinkFault>,
    pub(super) silence: Silence,
}

/// Fewer bytes are copied to the frame being composed, so that others can follow them there: a
/// record costs its reader and its writer more than the copy of so many bytes.
const SEAL_FROM_MIN: usize = 8 * 1024;

impl Side {
    pub(super) fn new(link: LinkIo, admitted: Admitted) -> Self {
        Self {
            link,
            admitted,
            composed: 0,
            fault: None,
            silence: Silence::default(),
        }
    }

    /// Whether messages that lie there are to be sealed from there, as a frame of their own.
    ///
    /// The frame's header is written over what is in front of them: a header of the sender's, or
    /// messages that were forwarded before. Small ones are better put together.
    pub(super) fn seals_from(&self, range: &Range<usize>) -> bool {
        let room = MAX_PLAINTEXT - End::Server.header_room();
        let is_alone = self.composed == 0 || room - self.composed < range.len();
        is_alone
            && range.start >= End::Server.header_room()
            && (SEAL_FROM_MIN..=room).contains(&range.len())
    }

    /// Seals messages from where they lie, behind what was composed before.
    pub(super) fn seal_from(&mut self, io: &mut Io, buffer: &mut [u8], range: Range<usize>) {
        self.finish();
        if self.fault.is_some() {
            return;
        }
        if !self.link.fits_record() {
            return self.no_room();
        }
        let frame = frame_in_front(buffer, End::Server, range, [0; 4]);
        if let Err(error) = self.link.seal_from(&mut io.buffers, &buffer[frame]) {
            self.fault = Some(error.into());
        }
    }

    /// Adds whole messages to the frame being composed, or to new ones. There is room for them,
    /// see `make_room`; a mistake about that costs this link, not the loop.
    pub(super) fn append(&mut self, io: &mut Io, mut bytes: &[u8], ends_frame: bool) {
        let start = End::Server.header_room();
        while !bytes.is_empty() && self.fault.is_none() {
            let room = MAX_PLAINTEXT - start - self.composed;
            // A message is cut between frames only where it fits none.
            if room < bytes.len() && self.composed > 0 {
                self.finish();
                continue;
            }
            let size = room.min(bytes.len());
            let area = match self.composed {
                0 if !self.link.fits_record() => return self.no_room(),
                0 => self.link.area(&mut io.buffers),
                _ => self.link.area_again(),
            };
            area[start + self.composed..][..size].copy_from_slice(&bytes[..size]);
            self.composed += size;
            bytes = &bytes[size..];
        }
        if ends_frame {
            self.finish();
        }
    }

    /// Seals the frame being composed.
    pub(super) fn finish(&mut self) {
        if self.composed > 0 {
            let size = finish_frame(self.link.area_again(), End::Server, self.composed, [0; 4]);
            self.composed = 0;
            self.seal(size);
        }
    }

    pub(super) fn seal(&mut self, size: usize) {
        if let Err(error) = self.link.seal(size) {
            self.fault = Some(error.into());
        }
    }

    fn no_room(&mut self) {
        tracing::error!("more was forwarded to a link than it has room for");
        self.fault = Some(LinkFault::NoRoom);
    }

    /// Offers what was composed to the socket. Returns whether it took some of it.
    pub(super) fn flush(&mut self, io: &mut Io) -> bool {
        self.finish();
        let waiting = self.link.output_size();
        if let Err(error) = self.link.flush(io) {
            self.fault = Some(error.into());
        }
        let has_sent = self.link.output_size() < waiting;
        if has_sent {
            self.silence.sent(io.now);
        }
        has_sent
    }
}

/// Notices that a peer's host is gone although bytes are on their way to it: the keep-alive probes
/// of an idle connection are not sent then, and the system itself gives up only after a quarter
/// of an hour.
#[derive(Default)]
pub(super) struct Silence {
    /// When to look again; armed by sending.
    pub(super) check_at: Option<Instant>,
    /// Something was sent after the last look.
    has_sent: bool,
    /// Looks in a row that found the system repeating itself.
    repeats: u32,
}

/// Time between two looks.
const SILENCE_CHECK: Duration = match cfg!(test) {
    true => Duration::from_secs(1),
    false => Duration::from_secs(20),
};

/// So many looks in a row that find nothing acknowledged end the link: after at least 40 seconds,
/// as a proxy's unanswered pings do.
const REPEATS_MAX: u32 = 3;

impl Silence {
    fn sent(&mut self, now: Instant) {
        self.has_sent = true;
        self.check_at.get_or_insert(now + SILENCE_CHECK);
    }

    /// Looks when it is time. Returns whether the peer is gone.
    pub(super) fn look(&mut self, now: Instant, is_repeating: impl FnOnce() -> bool) -> bool {
        if self.check_at.is_none_or(|at| at > now) {
            return false;
        }
        self.repeats = if is_repeating() { self.repeats + 1 } else { 0 };
        let goes_on = self.repeats > 0 || std::mem::take(&mut self.has_sent);
        self.check_at = goes_on.then(|| now + SILENCE_CHECK);
        self.repeats >= REPEATS_MAX
    }
}
