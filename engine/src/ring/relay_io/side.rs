//! One WebSocket of a relay: the frame being composed for it, and whether its host still lives.

use crate::ring::buffers::Buffers;
use crate::ring::handle::Admitted;
use crate::ring::io::Io;
use crate::ring::link_io::{LinkFault, LinkIo};
use crate::ring::socket::{Echo, SILENCE_CHECK};
use crate::tls::RecordError;
use crate::tunnel::compose::{End, finish_frame};
use crate::tunnel::outbox::Outbox;
use crate::tunnel::relay::{Composer, Frames, Relay};
use std::ops::Range;
use std::time::Instant;

/// One side of a tunnel at the relay: its WebSocket and the frame being composed for it.
pub(super) struct Side {
    pub(super) link: LinkIo,
    /// Reported as gone when this side is dropped.
    pub(super) admitted: Admitted,
    /// Of the frame that is in the link's area.
    composer: Composer,
    /// Why it can send no more; it is ended at the end of the turn.
    pub(super) fault: Option<LinkFault>,
    pub(super) silence: Silence,
}

impl Side {
    pub(super) fn new(link: LinkIo, admitted: Admitted) -> Self {
        Self {
            link,
            admitted,
            composer: Composer::default(),
            fault: None,
            silence: Silence::default(),
        }
    }

    /// Puts what the relay forwards to this side into frames. There is room for it, see `make_room`; a mistake about that
    /// costs this link, not the loop.
    pub(super) fn forward(&mut self, io: &mut Io, relay: &Relay, buffer: &mut [u8]) {
        let (composer, mut output) = self.parts(io);
        composer.forward(relay, buffer, &mut output);
    }

    /// Seals the frame being composed.
    pub(super) fn finish(&mut self, io: &mut Io) {
        let (composer, mut output) = self.parts(io);
        composer.finish(&mut output);
    }

    fn parts<'a>(&'a mut self, io: &'a mut Io) -> (&'a mut Composer, Output<'a>) {
        let output = Output {
            link: &mut self.link,
            buffers: &mut io.buffers,
            fault: &mut self.fault,
        };
        (&mut self.composer, output)
    }

    /// Composes the control messages and frames that wait in `outbox`, as far as there is room.
    pub(super) fn compose(&mut self, io: &mut Io, outbox: &mut Outbox) {
        if outbox.is_waiting() {
            self.finish(io);
        }
        if self.fault.is_none()
            && let Err(error) = compose(outbox, &mut self.link, &mut io.buffers)
        {
            self.fault = Some(error.into());
        }
    }

    /// Offers what was composed to the socket. Returns whether it took some of it.
    pub(super) fn flush(&mut self, io: &mut Io) -> bool {
        self.finish(io);
        match self.link.flush(io) {
            Ok(0) => false,
            Ok(_) => {
                self.silence.sent(io.now);
                true
            }
            Err(error) => {
                self.fault = Some(error.into());
                false
            }
        }
    }
}

/// Composes what waits in `outbox` for `link`, as far as there is room.
pub(super) fn compose(
    outbox: &mut Outbox,
    link: &mut LinkIo,
    buffers: &mut Buffers,
) -> Result<(), RecordError> {
    while outbox.is_waiting() && link.has_room() {
        let area = link.area(buffers);
        let mut frame = Vec::new();
        let size = if outbox.write_frame(None, &mut frame) {
            area[..frame.len()].copy_from_slice(&frame);
            frame.len()
        } else {
            let room = End::Server.header_room();
            let (size, _) = outbox.write_messages(&mut area[room..]);
            if size == 0 {
                break;
            }
            finish_frame(area, End::Server, size, [0; 4])
        };
        link.seal(size)?;
    }
    Ok(())
}

/// The link of a side, as frames are put into it.
struct Output<'a> {
    link: &'a mut LinkIo,
    buffers: &'a mut Buffers,
    fault: &'a mut Option<LinkFault>,
}

impl Output<'_> {
    fn has_room(&mut self) -> bool {
        let has_room = self.link.fits_record();
        if !has_room {
            tracing::error!("more was forwarded to a link than it has room for");
            *self.fault = Some(LinkFault::NoRoom);
        }
        has_room
    }

    fn note(&mut self, sealed: Result<(), RecordError>) {
        if let Err(error) = sealed {
            *self.fault = Some(error.into());
        }
    }
}

impl Frames for Output<'_> {
    fn area(&mut self, is_new: bool) -> Option<&mut [u8]> {
        match is_new {
            true if !self.has_room() => None,
            true => Some(self.link.area(self.buffers)),
            false => Some(self.link.area_again()),
        }
    }

    fn seal(&mut self, size: usize) {
        let sealed = self.link.seal(size);
        self.note(sealed);
    }

    fn seal_from(&mut self, buffer: &mut [u8], frame: Range<usize>) {
        if self.has_room() {
            let sealed = self.link.seal_from(self.buffers, &buffer[frame]);
            self.note(sealed);
        }
    }

    fn can_carry(&self) -> bool {
        self.fault.is_none()
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
}

impl Silence {
    fn sent(&mut self, now: Instant) {
        self.has_sent = true;
        self.check_at.get_or_insert(now + SILENCE_CHECK);
    }

    /// Looks when it is time. Returns whether the peer is gone.
    pub(super) fn look(&mut self, now: Instant, echo: impl FnOnce() -> Echo) -> bool {
        if self.check_at.is_none_or(|at| at > now) {
            return false;
        }
        let echo = echo();
        let goes_on = std::mem::take(&mut self.has_sent) || echo.is_awaited;
        self.check_at = goes_on.then(|| now + SILENCE_CHECK);
        echo.is_silent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::socket::{SILENCE_MAX, UNANSWERED_IN_VAIN};
    use std::time::Duration;

    /// One look after the other at a peer of which so much comes back.
    fn looks(seen: &[Echo]) -> (Silence, Vec<bool>) {
        let mut silence = Silence::default();
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let start = Instant::now();
        silence.sent(start);
        let looks = (1..).zip(seen);
        let gone =
            looks.map(|(number, echo)| silence.look(start + SILENCE_CHECK * number, || *echo));
        let gone = gone.collect();
        (silence, gone)
    }

    const GONE: Echo = Echo {
        is_awaited: true,
        retransmissions: UNANSWERED_IN_VAIN,
        probes: 0,
        silent_for: SILENCE_MAX,
        round_trip: Duration::ZERO,
    };

    #[test]
    fn a_peer_that_was_silent_before_anything_was_sent_has_no_time_left() {
        assert_eq!(looks(&[GONE]).1, [true]);
    }

    /// Where round trips are long, or the machine is slow.
    #[test]
    fn a_peer_whose_first_retransmissions_come_late_is_given_up_too() {
        let seen = [0, 0, 0, 1, 2, 3].map(|retransmissions| Echo {
            retransmissions,
            ..GONE
        });
        assert_eq!(looks(&seen).1, [false, false, false, false, false, true]);
    }

    #[test]
    fn a_peer_of_which_anything_came_lately_is_there() {
        let lately = Echo {
            silent_for: SILENCE_MAX - Duration::from_millis(1),
            retransmissions: u8::MAX,
            ..GONE
        };
        assert_eq!(looks(&[lately; 9]).1, [false; 9]);
    }

    #[test]
    fn probes_in_vain_and_silence_end_a_link_and_are_no_ground_for_suspicion() {
        let probed = Echo {
            retransmissions: 0,
            probes: UNANSWERED_IN_VAIN,
            ..GONE
        };
        assert_eq!(looks(&[probed]).1, [true]);
        assert!(GONE.is_gone(SILENCE_MAX) && !probed.is_gone(SILENCE_MAX));
    }

    #[test]
    fn retransmissions_in_vain_are_no_ground_for_suspicion_while_acknowledgements_come() {
        let acknowledging = Echo {
            silent_for: SILENCE_MAX - Duration::from_millis(1),
            ..GONE
        };
        assert!(!acknowledging.is_gone(SILENCE_MAX));
    }

    #[test]
    fn a_peer_that_was_asked_too_seldom_is_there() {
        let seldom = Echo {
            silent_for: SILENCE_MAX * 9,
            retransmissions: UNANSWERED_IN_VAIN - 1,
            ..GONE
        };
        assert_eq!(looks(&[seldom; 9]).1, [false; 9]);
    }

    #[test]
    fn a_peer_that_has_acknowledged_all_is_not_looked_at_any_more() {
        let (silence, gone) = looks(&[
            Echo {
                retransmissions: 1,
                ..GONE
            },
            Echo::default(),
        ]);
        assert_eq!(gone, [false; 2]);
        assert!(silence.check_at.is_none());
    }
}
