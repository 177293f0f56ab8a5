//! Who is connected: one connection a device, the newest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::codec::Ending;
use crate::registry::CertificateId;
use crate::tunnels::ThingName;

/// The connections of this process, by device. Bounded by the broker's permits, and those that wait for one of their
/// own device by its places for strangers.
#[derive(Debug, Default)]
pub(super) struct Live(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_thing: HashMap<ThingName, Entry>,
    generations_used: u64,
}

#[derive(Debug)]
struct Entry {
    generation: u64,
    certificate: CertificateId,
    bell: Arc<Bell>,
    end: watch::Sender<Option<Ending>>,
}

/// What a connection is to ask the store for; remembers one ring of each.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// There may be a message.
    pub(super) message: Notify,
    /// The session may not be the connection's any more.
    pub(super) doubt: Notify,
}

/// A connection's place in the table; leaves it when dropped, unless a newer one has taken it.
#[derive(Debug)]
pub(super) struct Seat {
    live: Arc<Live>,
    thing: ThingName,
    generation: u64,
    bell: Arc<Bell>,
    end: watch::Receiver<Option<Ending>>,
}

impl Live {
    /// Seats a connection. An older one of the same device is told to end.
    pub(super) fn enter(self: &Arc<Self>, thing: &ThingName, certificate: CertificateId) -> Seat {
        let mut table = self.table();
        table.generations_used += 1;
        let generation = table.generations_used;
        let bell = Arc::new(Bell::default());
        let (sender, end) = watch::channel(None);
        let entry = Entry {
            generation,
            certificate,
            bell: Arc::clone(&bell),
            end: sender,
        };
        if let Some(old) = table.by_thing.insert(thing.clone(), entry) {
            old.end.send_replace(Some(Ending::TakenOver));
        }
        Seat {
            live: Arc::clone(self),
            thing: thing.clone(),
            generation,
            bell,
            end,
        }
    }

    /// Whether there is a connection of this device.
    pub(super) fn has(&self, thing: &ThingName) -> bool {
        self.table().by_thing.contains_key(thing)
    }

    /// There may be a message for this device.
    pub(super) fn wake(&self, thing: &ThingName) {
        if let Some(entry) = self.table().by_thing.get(thing) {
            entry.bell.message.notify_one();
        }
    }

    /// The session may have been taken from the connection of this device.
    pub(super) fn doubt(&self, thing: &ThingName) {
        if let Some(entry) = self.table().by_thing.get(thing) {
            entry.bell.doubt.notify_one();
        }
    }

    /// There may be messages for any device, and any session may have been taken from its connection.
    pub(super) fn wake_all(&self) {
        for entry in self.table().by_thing.values() {
            entry.bell.message.notify_one();
            entry.bell.doubt.notify_one();
        }
    }

    /// Ends the connection of this device, if it is still the one seen.
    pub(super) fn end(&self, thing: &ThingName, generation: u64, ending: Ending) {
        let table = self.table();
        let entry = table.by_thing.get(thing);
        if let Some(entry) = entry.filter(|entry| entry.generation == generation) {
            entry.end.send_replace(Some(ending));
        }
    }

    /// Who is there: device, generation and certificate, of those that fit.
    pub(super) fn seen(
        &self,
        fits: impl Fn(&ThingName, CertificateId) -> bool,
    ) -> Vec<(ThingName, u64, CertificateId)> {
        let table = self.table();
        (table.by_thing.iter())
            .filter(|(thing, entry)| fits(thing, entry.certificate))
            .map(|(thing, entry)| (thing.clone(), entry.generation, entry.certificate))
            .collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing that holds the lock can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Rings when the store should be asked.
    pub(super) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// What tells that the connection is to end.
    pub(super) fn end(&self) -> End {
        End(self.end.clone())
    }
}

/// Tells a connection that it is to end.
#[derive(Debug)]
pub(super) struct End(watch::Receiver<Option<Ending>>);

impl End {
    /// Returns once it is to end, and why.
    pub(super) async fn told(&mut self) -> Ending {
        match self.0.wait_for(Option::is_some).await {
            Ok(ending) => (*ending).unwrap_or(Ending::ShuttingDown),
            // The sender leaves when a successor arrives, after the word.
            Err(_) => Ending::TakenOver,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.live.table();
        let entry = table.by_thing.get(&self.thing);
        if entry.is_some_and(|entry| entry.generation == self.generation) {
            table.by_thing.remove(&self.thing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_displaced_connection_is_told_and_does_not_unseat_its_successor() {
        let live = Arc::new(Live::default());
        let thing = ThingName::new("a").unwrap();
        let certificate = CertificateId::of(b"c");
        let old = live.enter(&thing, certificate);
        let new = live.enter(&thing, certificate);
        assert_eq!(old.end().told().await, Ending::TakenOver);
        drop(old);
        let seen = live.seen(|_, _| true);
        assert_eq!(seen, [(thing.clone(), new.generation, certificate)]);
        live.end(&thing, new.generation - 1, Ending::Revoked);
        live.wake(&thing);
        new.bell().message.notified().await;
        live.end(&thing, new.generation, Ending::Revoked);
        assert_eq!(new.end().told().await, Ending::Revoked);
        drop(new);
        assert!(live.seen(|_, _| true).is_empty());
    }
}
