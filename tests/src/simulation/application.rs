//! An application at one end of a connection: sends a transfer, receives one, each in its manner.

use super::dice::Dice;
use super::profile::People;
use super::socket::{Socket, Use};
use crate::verifier::{Incoming, Outcome, Outgoing, Transfer};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// One application. What it sends has its end's number for an id, so that who receives it knows
/// who it is.
pub(super) struct Application {
    outgoing: Outgoing,
    incoming: Incoming,
    manner: Manner,
    is_written: bool,
    asleep_until: Option<Instant>,
}

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// It answers: writes after it has read everything.
    pub(super) answers: bool,
    /// When all is written it ends its direction. One that does not closes when it also has
    /// everything.
    pub(super) half_closes: bool,
    /// It waits for its partner's end before it closes; else it closes as soon as it has everything.
    pub(super) lingers: bool,
    /// It leaves at some time, like this.
    pub(super) leaves: Option<Use>,
}

impl Manner {
    /// A client's.
    pub(super) fn of_client(dice: &mut Dice, people: &People) -> Self {
        Self {
            answers: false,
            half_closes: dice.chance(people.half_closing),
            lingers: dice.chance(500),
            leaves: leaves(dice, people),
        }
    }

    /// A server's: it ends its direction, as that ends the connection, when it has everything.
    pub(super) fn of_server(dice: &mut Dice, people: &People) -> Self {
        Self {
            answers: dice.chance(500),
            half_closes: false,
            lingers: true,
            leaves: leaves(dice, people),
        }
    }

    /// That of a client who must get everything.
    pub(super) const PATIENT: Self = Self {
        answers: false,
        half_closes: false,
        lingers: false,
        leaves: None,
    };
}

fn leaves(dice: &mut Dice, people: &People) -> Option<Use> {
    dice.chance(people.rude)
        .then(|| dice.pick(&[Use::Reset, Use::Closed, Use::Finished]))
}

/// What one act was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Acted {
    /// Bytes read and written.
    pub(super) moved: usize,
    /// It left before it and its partner had everything.
    pub(super) has_left: bool,
    /// It ended its direction, closed or reset.
    pub(super) has_turned: bool,
}

impl Application {
    /// One that sends the transfer and behaves like this.
    #[must_use]
    pub(super) fn new(transfer: Transfer, manner: Manner) -> Self {
        Self {
            outgoing: Outgoing::new(transfer),
            incoming: Incoming::new(transfer.seed),
            manner,
            is_written: false,
            asleep_until: None,
        }
    }

    /// Whom it hears, once it does.
    #[must_use]
    pub(super) fn hears(&self) -> Option<Transfer> {
        self.incoming.transfer()
    }

    /// Whether it has received everything.
    #[must_use]
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.incoming.outcome(), Outcome::Complete(_))
    }

    /// Whether it has written everything.
    #[must_use]
    pub(super) fn is_written(&self) -> bool {
        self.is_written
    }

    /// Reads some, writes some, and does what its manner says. `polite`: it neither sleeps nor
    /// leaves.
    ///
    /// # Errors
    /// It received a wrong byte.
    pub(super) fn act(
        &mut self,
        now: Instant,
        dice: &mut Dice,
        people: &People,
        socket: &mut Socket,
        polite: bool,
    ) -> Result<Acted> {
        let mut acted = Acted::default();
        if matches!(socket.app(), Use::Closed | Use::Reset) {
            return Ok(acted);
        }
        if !polite {
            if self.asleep_until.is_some_and(|until| until > now) {
                return Ok(acted);
            }
            if dice.chance(people.sleepy) {
                self.asleep_until = Some(now + dice.pause(Duration::from_secs(40)));
                return Ok(acted);
            }
            if let Some(to) = self.manner.leaves
                && dice.chance(30)
            {
                self.manner.leaves = None;
                acted.has_left = !(self.is_written && self.is_complete());
                acted.has_turned = true;
                socket.app_turns(to);
                return Ok(acted);
            }
        }
        let count = if polite {
            people.room
        } else {
            dice.size(people.room)
        };
        acted.moved += self.read(count, socket)?;
        if socket.app_sees_end() {
            acted.has_turned = true;
            socket.app_turns(Use::Closed);
            return Ok(acted);
        }
        acted.moved += self.write(count, socket);
        acted.has_turned = self.turn(socket);
        Ok(acted)
    }

    fn read(&mut self, max: usize, socket: &mut Socket) -> Result<usize> {
        let bytes = socket.app_read(max);
        let taken = self.incoming.take(&bytes)?;
        ensure!(taken == bytes.len(), "bytes came behind the trailer");
        Ok(taken)
    }

    fn write(&mut self, max: usize, socket: &mut Socket) -> usize {
        if socket.app() != Use::Open || (self.manner.answers && !self.is_complete()) {
            return 0;
        }
        let mut written = 0;
        while written < max {
            let waiting = self.outgoing.waiting();
            if waiting.is_empty() {
                self.is_written = true;
                break;
            }
            let count = socket.app_write(&waiting[..waiting.len().min(max - written)]);
            if count == 0 {
                break;
            }
            self.outgoing.sent(count);
            written += count;
        }
        written
    }

    /// Ends its direction or closes when its manner says so.
    fn turn(&mut self, socket: &mut Socket) -> bool {
        let is_done = self.is_written && self.is_complete();
        let to = match socket.app() {
            Use::Open | Use::Finished if is_done && !self.manner.lingers => Use::Closed,
            Use::Open if is_done => Use::Finished,
            Use::Open if self.is_written && self.manner.half_closes => Use::Finished,
            Use::Open | Use::Finished | Use::Closed | Use::Reset => return false,
        };
        socket.app_turns(to);
        true
    }
}
