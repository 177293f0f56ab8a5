//! Who lost a right: what those that hold connections of devices wait for.

use tokio::sync::broadcast::{self, error::RecvError};

use super::types::CertificateId;
use crate::tunnels::ThingName;

/// Something that connections depend on has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This certificate: its status, or what is attached to it, or it is gone.
    Certificate(CertificateId),
    /// This thing is gone. A later one of the same name is another device.
    ThingDeleted(ThingName),
    /// Possibly everything: the listener was too slow to be told one by one.
    Anything,
}

/// The sending end, kept by a store.
#[derive(Clone, Debug)]
pub struct ChangeSender(broadcast::Sender<Change>);

impl ChangeSender {
    /// A sender without listeners.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(CHANGES_MAX))
    }

    /// Tells all listeners. To be called when the change can be read, not before.
    pub fn send(&self, change: Change) {
        // Nobody listening is fine.
        let _ = self.0.send(change);
    }

    /// A new listener: it hears of every change from now on.
    pub fn listen(&self) -> Changes {
        Changes(self.0.subscribe())
    }
}

impl Default for ChangeSender {
    fn default() -> Self {
        Self::new()
    }
}

/// The listening end.
///
/// Contract: whoever listens *first*, then looks a device up, and looks it up again whenever a change
/// concerns it, misses no revocation. A change is told at least once after it can be read; one that is
/// told without anything having changed is possible. A listener that is more than 4,096 changes behind
/// gets [`Change::Anything`] in place of what it missed, and has to look up everything it holds.
#[derive(Debug)]
pub struct Changes(broadcast::Receiver<Change>);

impl Changes {
    /// Waits for the next change; `None` when the store is gone. Can be cancelled without loss.
    pub async fn next(&mut self) -> Option<Change> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(RecvError::Lagged(_)) => Some(Change::Anything),
            Err(RecvError::Closed) => None,
        }
    }
}

/// A change is 40 bytes, so this is 160 KiB, once.
const CHANGES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_falls_behind_is_told_to_look_everywhere() {
        let sender = ChangeSender::new();
        let mut slow = sender.listen();
        for index in 0..=CHANGES_MAX {
            let id = CertificateId::of(&index.to_be_bytes());
            sender.send(Change::Certificate(id));
        }
        assert_eq!(slow.next().await, Some(Change::Anything));
        // And then of what is still there.
        let second = CertificateId::of(&1usize.to_be_bytes());
        assert_eq!(slow.next().await, Some(Change::Certificate(second)));
    }

    #[tokio::test]
    async fn the_end_of_the_store_ends_the_listener_after_the_last_change() {
        let sender = ChangeSender::new();
        let mut listener = sender.listen();
        let change = Change::ThingDeleted(ThingName::new("t").unwrap());
        sender.send(change.clone());
        drop(sender);
        assert_eq!(listener.next().await, Some(change));
        assert_eq!(listener.next().await, None);
    }
}
