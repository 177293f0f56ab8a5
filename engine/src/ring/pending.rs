//! What threads share without a lock when one wakes another: whether a wake is on its way that the woken
//! thread has not acknowledged.
//!
//! The protocol: a thread makes its news visible, then [`announces`](Pending::announce) it, and makes an edge
//! if that says so. The woken thread waits for an edge, [`acknowledges`](Pending::acknowledge), *then* looks.
//! `tests/concurrency` compiles this file a second time, on loom's atomics, and tries every order of
//! events.

use super::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
pub(super) struct Pending(AtomicBool);

impl Pending {
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// True where the caller has to make an edge; false where one is on its way that was not acknowledged.
    pub(super) fn announce(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Allows the next announcement to be an edge again. True if there was one to acknowledge.
    ///
    /// What a thread did before an announcement is visible after this call, also when the announcement
    /// was folded into an earlier one.
    pub(super) fn acknowledge(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}
