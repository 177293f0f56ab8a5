//! Who is in a handshake and has not sent a request yet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::failures::source_of;

/// The clients that are being waited for.
#[derive(Default)]
pub(super) struct Waiting {
    next: u64,
    clients: Arc<Mutex<Clients>>,
}

/// Of each address by order of arrival; dropping the sender ends the wait, too.
type Clients = HashMap<IpAddr, BTreeMap<u64, oneshot::Sender<Ended>>>;

/// Why a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Others need the place, of which its address had more than one.
    Crowd,
    /// Others need the place.
    Oldest,
    /// The server ends.
    Shutdown,
}

/// A client's place; given up when dropped.
pub(super) struct Place {
    source: IpAddr,
    number: u64,
    clients: Arc<Mutex<Clients>>,
    ended: oneshot::Receiver<Ended>,
}

impl Waiting {
    pub(super) fn enter(&mut self, address: SocketAddr) -> Place {
        let (sender, ended) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        let source = source_of(address.ip());
        with(&self.clients, |clients| {
            clients.entry(source).or_default().insert(number, sender)
        });
        Place {
            source,
            number,
            clients: Arc::clone(&self.clients),
            ended,
        }
    }

    /// Ends the oldest wait of the address that has the most, if there is one: many silent connections from one address
    /// leave the places of others alone.
    pub(super) fn end_one(&self) {
        with(&self.clients, |clients| {
            let (source, waits) = clients.iter_mut().max_by_key(|(_, waits)| {
                let oldest = waits.keys().next().copied();
                (waits.len(), Reverse(oldest))
            })?;
            let ended = match waits.len() {
                1 => Ended::Oldest,
                _ => Ended::Crowd,
            };
            let (_, sender) = waits.pop_first()?;
            let _ = sender.send(ended);
            if waits.is_empty() {
                let source = *source;
                clients.remove(&source);
            }
            Some(())
        });
    }

    pub(super) fn end_all(&self) {
        with(&self.clients, HashMap::clear);
    }
}

impl Place {
    /// Completes when somebody has ended the wait.
    pub(super) async fn ended(&mut self) -> Ended {
        (&mut self.ended).await.unwrap_or(Ended::Shutdown)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        with(&self.clients, |clients| {
            if let Some(waits) = clients.get_mut(&self.source) {
                waits.remove(&self.number);
                if waits.is_empty() {
                    clients.remove(&self.source);
                }
            }
        });
    }
}

/// Nothing can panic while the lock is held, so a poisoned one is sound.
fn with<T>(clients: &Mutex<Clients>, work: impl FnOnce(&mut Clients) -> T) -> T {
    work(&mut clients.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_crowd_from_one_address_costs_no_other_its_place() {
        let mut waiting = Waiting::default();
        let of = |host: u8| SocketAddr::from(([192, 0, 2, host], 4_000));
        let mut honest = waiting.enter(of(1));
        let mut crowd: Vec<_> = (0..3).map(|_| waiting.enter(of(2))).collect();
        let mut late = waiting.enter(of(3));
        for place in &mut crowd[..2] {
            waiting.end_one();
            assert_eq!(place.ended().await, Ended::Crowd);
        }
        // With one each the oldest goes, whoever it is.
        waiting.end_one();
        assert_eq!(honest.ended().await, Ended::Oldest);
        drop(late);
        late = waiting.enter(of(3));
        waiting.end_one();
        assert_eq!(crowd[2].ended().await, Ended::Oldest);
        waiting.end_all();
        assert_eq!(late.ended().await, Ended::Shutdown);
        waiting.end_one();
        drop((honest, crowd, late));
        assert!(with(&waiting.clients, |clients| clients.is_empty()));
    }
}
