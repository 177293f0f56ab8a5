//! Who is in a handshake and has not sent a request yet, oldest first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// The clients that are being waited for.
#[derive(Default)]
pub(super) struct Waiting {
    next: u64,
    clients: Arc<Mutex<Clients>>,
}

/// By order of arrival; dropping the sender ends the wait.
type Clients = BTreeMap<u64, oneshot::Sender<()>>;

/// A client's place; given up when dropped.
pub(super) struct Place {
    number: u64,
    clients: Arc<Mutex<Clients>>,
    ended: oneshot::Receiver<()>,
}

impl Waiting {
    pub(super) fn enter(&mut self) -> Place {
        let (sender, ended) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        with(&self.clients, |clients| clients.insert(number, sender));
        Place {
            number,
            clients: Arc::clone(&self.clients),
            ended,
        }
    }

    /// Ends the oldest wait, if there is one.
    pub(super) fn end_oldest(&self) {
        with(&self.clients, BTreeMap::pop_first);
    }

    pub(super) fn end_all(&self) {
        with(&self.clients, BTreeMap::clear);
    }
}

impl Place {
    /// Completes when somebody has ended the wait.
    pub(super) async fn ended(&mut self) {
        // Nothing is ever sent; the sender being gone is the message.
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        with(&self.clients, |clients| clients.remove(&self.number));
    }
}

/// Nothing can panic while the lock is held, so a poisoned one is sound.
fn with<T>(clients: &Mutex<Clients>, work: impl FnOnce(&mut Clients) -> T) -> T {
    work(&mut clients.lock().unwrap_or_else(PoisonError::into_inner))
}
