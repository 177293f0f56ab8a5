//! One connection whose application stops reading, while the link goes on.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::profile::{Counted, StallOutcome, Windows};

/// Bytes put aside for the connection that stalls; one more, and it is reset. A proxy has such a bound, too.
pub(super) const ASIDE_MAX: usize = 4 << 20;

/// The stall of a run.
pub(super) struct Stall {
    windows: Windows,
    /// The connection that stops reading.
    victim: u32,
    others: BTreeMap<u32, Counted>,
    aside: Vec<u8>,
    /// Something came for it, and was not read.
    has_stalled: bool,
    was_cut: bool,
    is_over: bool,
}

impl Stall {
    /// `victim` stalls, and the `others` go on.
    pub(super) fn new(windows: Windows, victim: u32, others: impl Iterator<Item = u32>) -> Self {
        Self {
            windows,
            victim,
            others: others.map(|it| (it, Counted::default())).collect(),
            aside: Vec::new(),
            has_stalled: false,
            was_cut: false,
            is_over: false,
        }
    }

    pub(super) fn is_victim(&self, connection: u32) -> bool {
        connection == self.victim
    }

    /// Whether nobody reads what comes for this connection now.
    pub(super) fn holds_up(&self, connection: u32, now: Instant) -> bool {
        !self.is_over && self.may_cut(connection, now)
    }

    /// Whether it is the stall that this connection is cut for now, as a target with bounds may.
    pub(super) fn may_cut(&self, connection: u32, now: Instant) -> bool {
        self.is_victim(connection) && now >= self.windows.stall
    }

    /// Puts bytes aside. False: there is no more room, and the connection has to be cut.
    pub(super) fn put_aside(&mut self, bytes: &[u8]) -> bool {
        self.has_stalled = true;
        if self.aside.len() + bytes.len() > ASIDE_MAX {
            self.cut();
            return false;
        }
        self.aside.extend_from_slice(bytes);
        true
    }

    /// The connection is none any more, since it stalled.
    pub(super) fn cut(&mut self) {
        self.has_stalled = true;
        self.was_cut = true;
        self.aside = Vec::new();
    }

    /// It reads on: what was put aside.
    pub(super) fn end(&mut self) -> (u32, Vec<u8>) {
        self.is_over = true;
        (self.victim, std::mem::take(&mut self.aside))
    }

    /// What one of the others has carried.
    pub(super) fn count(&mut self, connection: u32, now: Instant, bytes: u64) {
        if let Some(counted) = self.others.get_mut(&connection) {
            self.windows.count(counted, now, bytes);
        }
    }

    pub(super) fn outcome(&self) -> StallOutcome {
        let others: Vec<Counted> = self.others.values().copied().collect();
        self.windows
            .outcome(&others, self.has_stalled, self.was_cut)
    }
}
