//! A connection between a proxy and the relay, inside its TLS: two pipes.

use super::dice::Dice;
use super::pipe::Pipe;
use super::profile::Network;
use adit_proto::ids::{Mode, Subprotocol};
use std::fmt;

/// Which link; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(pub(super) u64);

/// One link. Either end may be gone before the other one knows.
pub(super) struct Link {
    /// Whose it is.
    pub(super) mode: Mode,
    /// The number that the gate gave it.
    pub(super) session: u64,
    /// What was agreed on in the handshake.
    pub(super) offered: Subprotocol,
    /// The proxy's end is somebody who says anything.
    pub(super) is_hostile: bool,
    /// From the proxy to the relay.
    pub(super) up: Pipe,
    /// From the relay to the proxy.
    pub(super) down: Pipe,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "up {:?}, down {:?}", self.up, self.down)
    }
}

impl Link {
    /// A fresh one.
    #[must_use]
    pub(super) fn new(
        mode: Mode,
        session: u64,
        offered: Subprotocol,
        network: &Network,
        dice: &mut Dice,
    ) -> Self {
        let capacity = dice.pick(&network.capacities);
        let delay = dice.pick(&network.delays);
        Self {
            mode,
            session,
            offered,
            is_hostile: false,
            up: Pipe::new(capacity, delay),
            down: Pipe::new(capacity, delay),
        }
    }

    /// Both ends are told that it is broken.
    pub(super) fn reset(&mut self) {
        self.up.reset();
        self.down.reset();
    }

    /// No end is told that it is broken.
    pub(super) fn vanish(&mut self) {
        self.up.vanish();
        self.down.vanish();
    }
}
