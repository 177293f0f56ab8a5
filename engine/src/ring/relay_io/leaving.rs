//! A link that the relay has ended, until its close frame has left: a peer that does not see that takes the end for an
//! outage and comes back (specification 2.1).

use super::side::compose;
use crate::ring::io::Io;
use crate::ring::link_io::{LinkFault, LinkIo, Received};
use crate::tunnel::outbox::Outbox;
use std::time::{Duration, Instant};

/// How long a link that was ended may take for what waits for it: its output of 292 KiB and the 128 KiB that the kernel
/// holds unsent have left by then at 90 kB/s.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads in one turn: 512 KiB, then others get theirs.
const READS_PER_TURN: usize = 2;

/// Of its memory it keeps the output's buffer; what still comes is read and thrown away, for a peer that does not get rid
/// of its own bytes may not read ours.
pub(super) struct Leaving {
    pub(super) link: LinkIo,
    /// What waits for it besides, the close frame last.
    outbox: Outbox,
    until: Instant,
    is_lost: bool,
}

impl Leaving {
    /// Nothing is begun in the link's area.
    pub(super) fn new(link: LinkIo, outbox: Outbox, now: Instant) -> Self {
        Self {
            link,
            outbox,
            until: now + PATIENCE,
            is_lost: false,
        }
    }

    /// When it is given up.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Sends on. Returns whether more is to be done at once.
    pub(super) fn turn(&mut self, io: &mut Io) -> bool {
        let done = self.send(io).and_then(|()| match self.is_sent() {
            true => Ok(false),
            false => self.discard(io),
        });
        self.link.release(&mut io.buffers);
        self.is_lost |= done.is_err();
        done.unwrap_or(false)
    }

    /// Ends its socket and returns true when all was sent, or cannot be.
    pub(super) fn end_if_over(&mut self, io: &mut Io) -> bool {
        let is_over = self.is_sent() || self.is_lost || self.until <= io.now;
        if is_over {
            io.end(self.link.socket);
        }
        is_over
    }

    fn is_sent(&self) -> bool {
        self.link.output_size() == 0 && !self.outbox.is_waiting()
    }

    fn send(&mut self, io: &mut Io) -> Result<(), LinkFault> {
        loop {
            compose(&mut self.outbox, &mut self.link, &mut io.buffers)?;
            if !self.outbox.is_waiting() {
                // Said once, behind all that waits.
                self.link.close_notify();
            }
            if self.link.flush(io)? == 0 {
                return Ok(());
            }
        }
    }

    /// Returns whether there may be more.
    fn discard(&mut self, io: &mut Io) -> Result<bool, LinkFault> {
        for _ in 0..READS_PER_TURN {
            match self.link.discard(io)? {
                Received::Some => {}
                // Who has ended its own direction may still read ours.
                Received::Nothing | Received::Ended => return Ok(false),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::IoChoice;
    use crate::ring::backend::Backend as _;
    use crate::ring::tests::support::link_by_itself;
    use crate::tls::{MAX_PLAINTEXT, PlainRecords, Records};
    use adit_proto::websocket::CloseCode;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    /// A link whose output is full, and its peer.
    fn leaving() -> (Io, Leaving, UnixStream) {
        let plain = Records::Plain(PlainRecords);
        let (mut io, mut link, theirs) = link_by_itself(IoChoice::Epoll, plain, Some(16 * 1024));
        while link.has_room() {
            link.area(&mut io.buffers).fill(b'a');
            link.seal(MAX_PLAINTEXT).expect("there is room");
        }
        let mut outbox = Outbox::default();
        outbox.close(CloseCode::Normal, "");
        let leaving = Leaving::new(link, outbox, io.now);
        (io, leaving, theirs)
    }

    fn turn(io: &mut Io, leaving: &mut Leaving) {
        let mut ready = Vec::new();
        let waited = io.backend.wait(&mut ready, Some(Duration::ZERO));
        waited.expect("events");
        ready.iter().for_each(|ready| leaving.link.ready(ready));
        leaving.turn(io);
    }

    #[test]
    fn a_peer_that_takes_nothing_is_given_up() {
        let (mut io, mut leaving, _theirs) = leaving();
        turn(&mut io, &mut leaving);
        assert!(!leaving.end_if_over(&mut io));
        io.now = leaving.until() - Duration::from_millis(1);
        turn(&mut io, &mut leaving);
        assert!(!leaving.end_if_over(&mut io));
        io.now = leaving.until();
        assert!(leaving.end_if_over(&mut io));
    }

    #[test]
    fn a_peer_that_is_gone_is_given_up_at_once() {
        let (mut io, mut leaving, theirs) = leaving();
        turn(&mut io, &mut leaving);
        drop(theirs);
        turn(&mut io, &mut leaving);
        assert!(leaving.end_if_over(&mut io));
    }

    #[test]
    fn a_peer_that_reads_nothing_before_it_has_sent_all_hears_the_close_frame_last() {
        let (mut io, mut leaving, mut theirs) = leaving();
        let mut unsent = 5_000_000;
        while unsent > 0 {
            let part = [0; 50_000];
            if let Ok(count) = theirs.write(&part[..unsent.min(50_000)]) {
                unsent -= count;
            }
            turn(&mut io, &mut leaving);
        }
        let (mut heard, mut part) = (Vec::new(), [0; 65_536]);
        while !leaving.end_if_over(&mut io) {
            if let Ok(count) = theirs.read(&mut part) {
                heard.extend_from_slice(&part[..count]);
            }
            turn(&mut io, &mut leaving);
        }
        while let Ok(count @ 1..) = theirs.read(&mut part) {
            heard.extend_from_slice(&part[..count]);
        }
        assert_eq!(heard[heard.len() - 4..], [0x88, 2, 0x03, 0xe8]);
        assert!(heard.len() > 256 * 1024);
    }
}
