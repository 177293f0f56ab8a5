//! What was read of a link and not yet by a core.

use super::scene::Scene;

/// Received bytes that the core has not read: records of one buffer, opened one after the other.
pub(super) struct Input {
    /// The buffer.
    pub(super) bytes: Vec<u8>,
    /// What was read.
    pub(super) position: usize,
    /// The end of the last record that was opened.
    pub(super) opened: usize,
    /// The core has not said that it is done with that record; the position alone does not tell.
    pub(super) is_open: bool,
}

impl Input {
    /// Nothing of it was read.
    #[must_use]
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            position: 0,
            opened: 0,
            is_open: false,
        }
    }

    /// Opens the next record unless one is open. False: there is none.
    pub(super) fn open(&mut self, scene: &mut Scene) -> bool {
        let left = self.bytes.len() - self.opened;
        if !self.is_open && left > 0 {
            self.is_open = true;
            self.opened += match scene.dice.chance(500) {
                true => left,
                false => scene.dice.size(left).min(left),
            };
        }
        self.is_open
    }

    /// Whether something was not read.
    pub(super) fn has_more(&self) -> bool {
        self.is_open || self.opened < self.bytes.len()
    }
}
