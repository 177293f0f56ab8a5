//! A bounded number of places for clients, which no address can keep from the others.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit_engine::link::source_of;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, sleep_until};

/// Places for clients. Who has one is a stranger until it has [settled](Place::settle), and a stranger may
/// have to go for another one:
///
/// * When all places are taken, the address (IPv4, or IPv6 /64) with the most strangers loses its oldest
///   one, at once if the newcomer's own address has at least two fewer, otherwise once it has been there
///   for `patience`.
/// * Where it is too early for that, the newcomer waits; from an address that has a quarter of all places
///   it is refused instead, since the next client in the queue may be another's. A client on this machine
///   always waits: it may be what passes all the world on to us.
///
/// So silent connections from one address, however many, take at most the places that nobody else asks
/// for; and who shares its address with them has `patience` to say who it is. Nor can one that is known keep
/// others out: of one owner a quarter of all places can settle, and further clients of its stay strangers.
#[derive(Debug)]
pub(crate) struct Room {
    places_max: usize,
    patience: Duration,
    table: Mutex<Table>,
    /// Somebody has left.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    numbers_used: u64,
    /// By order of arrival.
    clients: BTreeMap<u64, Client>,
}

#[derive(Debug)]
struct Client {
    /// What counts as its address.
    source: IpAddr,
    since: Instant,
    standing: Standing,
    /// Whose it is, once it has settled.
    owner: Option<Arc<str>>,
    told: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Stranger,
    /// A stranger that was told to go.
    Leaving,
    Settled,
}

/// A client's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    number: u64,
    told: Arc<Notify>,
}

/// What a newcomer gets.
#[derive(Debug)]
enum Answer {
    Place(Place),
    /// Until then, or until somebody leaves.
    Wait(Instant),
    Refused,
}

impl Room {
    /// An empty one.
    pub(crate) fn new(places_max: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            places_max,
            patience,
            table: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Takes a place, when there is one; `None` when the client is to be refused. Can be cancelled.
    pub(crate) async fn enter(self: &Arc<Self>, address: SocketAddr) -> Option<Place> {
        let source = source_of(address.ip());
        loop {
            // From before the look: who leaves after it is not missed.
            let freed = self.freed.notified();
            match self.ask(source, Instant::now()) {
                Answer::Place(place) => return Some(place),
                Answer::Refused => return None,
                Answer::Wait(until) => tokio::select! {
                    () = freed => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    fn ask(self: &Arc<Self>, source: IpAddr, now: Instant) -> Answer {
        let mut table = self.table();
        if table.clients.len() < self.places_max {
            return Answer::Place(table.seat(self, source, now));
        }
        let shares = table.shares();
        let own = shares.get(&source).map_or(0, |share| share.count);
        let largest = shares.into_values().max_by_key(Share::rank);
        let Some((share, oldest)) =
            largest.and_then(|share| Some((share.count, table.clients.get_mut(&share.oldest)?)))
        else {
            // All have settled, or are on their way out.
            return Answer::Wait(now + self.patience);
        };
        let is_due = oldest.since + self.patience;
        if share > own + 1 || is_due <= now {
            oldest.standing = Standing::Leaving;
            oldest.told.notify_one();
            Answer::Wait(now + self.patience)
        } else if own >= self.quarter() && !source.is_loopback() {
            Answer::Refused
        } else {
            Answer::Wait(is_due)
        }
    }

    fn quarter(&self) -> usize {
        self.places_max.div_ceil(4)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing that holds the lock can panic halfway through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The strangers of one address.
struct Share {
    count: usize,
    /// Number of the oldest one.
    oldest: u64,
}

impl Share {
    /// Of shares of one size, the one with the oldest stranger is first to lose it.
    fn rank(&self) -> (usize, std::cmp::Reverse<u64>) {
        (self.count, std::cmp::Reverse(self.oldest))
    }
}

impl Table {
    fn seat(&mut self, room: &Arc<Room>, source: IpAddr, now: Instant) -> Place {
        let number = self.numbers_used;
        self.numbers_used += 1;
        let told = Arc::new(Notify::new());
        let client = Client {
            source,
            since: now,
            standing: Standing::Stranger,
            owner: None,
            told: Arc::clone(&told),
        };
        self.clients.insert(number, client);
        Place {
            room: Arc::clone(room),
            number,
            told,
        }
    }

    /// A look at every client, at most some hundreds, and only when all places are taken.
    fn shares(&self) -> HashMap<IpAddr, Share> {
        let mut shares = HashMap::new();
        for (&number, client) in &self.clients {
            if client.standing == Standing::Stranger {
                let share = shares.entry(client.source).or_insert(Share {
                    count: 0,
                    oldest: number,
                });
                share.count += 1;
            }
        }
        shares
    }

    /// Places of clients of this owner that have settled; a look at every client.
    fn settled(&self, owner: Option<&Arc<str>>) -> usize {
        let settled = |client: &&Client| {
            client.standing == Standing::Settled && client.owner.as_ref() == owner
        };
        self.clients.values().filter(settled).count()
    }
}

impl Place {
    /// Completes when the client has to go.
    pub(crate) fn lost(&self) -> OwnedNotified {
        Arc::clone(&self.told).notified_owned()
    }

    /// The client has shown who it is: from here on it does not have to go for anybody, unless it was told
    /// to before, or a quarter of all places are its owner's. Those that nobody owns count as one owner's.
    /// Says whether it may stay.
    pub(crate) fn settle(&self, owner: Option<&Arc<str>>) -> bool {
        let mut table = self.room.table();
        let standing = table
            .clients
            .get(&self.number)
            .map(|client| client.standing);
        if standing == Some(Standing::Stranger)
            && table.settled(owner) < self.room.quarter()
            && let Some(client) = table.clients.get_mut(&self.number)
        {
            client.standing = Standing::Settled;
            client.owner = owner.cloned();
            return true;
        }
        standing == Some(Standing::Settled)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.table().clients.remove(&self.number);
        self.room.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    fn address(text: &str) -> IpAddr {
        source_of(text.parse().unwrap())
    }

    /// Eight places, all taken from this address by now.
    fn full(source: &str, now: Instant) -> (Arc<Room>, Vec<Place>) {
        let room = Room::new(8, PATIENCE);
        let places = (0..8).map(|_| place(&room, source, now)).collect();
        (room, places)
    }

    fn place(room: &Arc<Room>, source: &str, now: Instant) -> Place {
        match room.ask(address(source), now) {
            Answer::Place(place) => place,
            other => panic!("{source}: {other:?}"),
        }
    }

    fn is_leaving(place: &Place) -> bool {
        place.room.table().clients[&place.number].standing == Standing::Leaving
    }

    fn leaving(places: &[Place]) -> Vec<usize> {
        (0..places.len())
            .filter(|&index| is_leaving(&places[index]))
            .collect()
    }

    #[test]
    fn the_address_with_the_most_strangers_loses_its_oldest_to_another_one_at_once() {
        let now = Instant::now();
        let (room, mut places) = full("192.0.2.1", now);
        assert!(matches!(
            room.ask(address("192.0.2.2"), now),
            Answer::Wait(_)
        ));
        assert_eq!(leaving(&places), [0]);
        places.remove(0);
        let good = place(&room, "192.0.2.2", now);
        // The flood does not get that place back: it is refused, or loses one of its own.
        assert!(matches!(
            room.ask(address("192.0.2.1"), now),
            Answer::Refused
        ));
        let later = now + PATIENCE;
        assert!(matches!(
            room.ask(address("192.0.2.1"), later),
            Answer::Wait(_)
        ));
        assert!(leaving(&places) == [0] && !is_leaving(&good));
    }

    #[test]
    fn one_address_shares_with_itself_by_age() {
        let now = Instant::now();
        for source in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let (room, places) = full(source, now);
            let source = address(source);
            let early = room.ask(source, now + PATIENCE / 2);
            assert!(matches!(early, Answer::Wait(until) if until == now + PATIENCE));
            assert!(leaving(&places).is_empty());
            assert!(matches!(room.ask(source, now + PATIENCE), Answer::Wait(_)));
            assert_eq!(leaving(&places), [0]);
        }
    }

    #[test]
    fn addresses_with_a_stranger_each_wait_for_each_other() {
        let now = Instant::now();
        let room = Room::new(4, PATIENCE);
        let names = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
        let places: Vec<_> = names.map(|name| place(&room, name, now)).into();
        let soon = now + PATIENCE / 2;
        for name in ["192.0.2.5", "2001:db8::1"] {
            let answer = room.ask(address(name), soon);
            assert!(matches!(answer, Answer::Wait(until) if until == now + PATIENCE));
        }
        assert!(leaving(&places).is_empty());
        let _ = room.ask(address("192.0.2.5"), now + PATIENCE);
        assert_eq!(leaving(&places), [0]);
    }

    #[test]
    fn who_has_settled_stays_and_who_was_told_to_go_cannot_settle() {
        let now = Instant::now();
        let (room, places) = full("192.0.2.1", now);
        places[0].settle(None);
        let newcomer = address("192.0.2.2");
        let _ = room.ask(newcomer, now);
        assert_eq!(leaving(&places), [1]);
        places[1].settle(None);
        assert_eq!(leaving(&places), [1]);
        for (index, place) in places.iter().enumerate().skip(2) {
            place.settle(Some(&format!("owner {index}").into()));
        }
        let _ = room.ask(newcomer, now + PATIENCE * 2);
        assert_eq!(leaving(&places), [1], "nobody else can be told");
    }

    #[test]
    fn of_one_owner_a_quarter_settles_and_the_others_can_be_told_to_go() {
        let now = Instant::now();
        let (room, places) = full("192.0.2.1", now);
        let owners = [None, Some("one".into()), Some("two".into())];
        for (index, place) in places.iter().enumerate() {
            let stays = place.settle(owners[index.min(5) / 2].as_ref());
            assert_eq!(stays, index < 6);
        }
        assert!(
            places[0].settle(owners[0].as_ref()),
            "it has settled before"
        );
        let _ = room.ask(address("192.0.2.2"), now + PATIENCE);
        assert_eq!(leaving(&places), [6]);
        // A place that comes free is its owner's again.
        let mut places = places;
        drop(places.remove(4));
        assert!(places[6].settle(owners[2].as_ref()));
    }

    #[tokio::test]
    async fn a_newcomer_gets_the_place_of_whom_it_displaces_or_who_leaves() {
        let room = Room::new(1, PATIENCE);
        let first = "127.0.0.1:1".parse().unwrap();
        let held = room.enter(first).await.unwrap();
        held.settle(None);
        let waiting = tokio::spawn({
            let room = Arc::clone(&room);
            async move { room.enter("192.0.2.2:1".parse().unwrap()).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        let held = waiting.await.unwrap().unwrap();
        let patient = Room::new(1, Duration::from_millis(10));
        drop(held);
        let old = patient.enter(first).await.unwrap();
        let displaced = tokio::spawn(async move {
            old.lost().await;
            drop(old);
        });
        assert!(patient.enter(first).await.is_some());
        displaced.await.unwrap();
    }
}
