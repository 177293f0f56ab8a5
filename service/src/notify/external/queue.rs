//! What waits for the broker, and what it has not acknowledged yet.

use std::collections::BTreeMap;
use std::time::Duration;

use adit_proto::TunnelId;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::clock::{Clock, Timestamp};
use crate::notify::{Notification, notify_topic};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::token::TokenHash;
use crate::tunnels::ThingName;

/// How much may wait for the broker.
///
/// A notification of one service takes some 500 bytes, the largest about 10 KiB: the defaults allow
/// between half a MiB and 10 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Notifications altogether; one more drops the oldest.
    pub queued_max: usize,
    /// Notifications for one thing; one more drops its oldest, so that whoever may open tunnels to one
    /// thing cannot push out the others'.
    pub queued_per_thing_max: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            queued_max: 1_024,
            queued_per_thing_max: 20,
        }
    }
}

/// The queue. Nothing here waits but [`next`](Self::next) and [`emptied`](Self::emptied), each of which
/// has one caller.
pub(super) struct Queue {
    limits: QueueLimits,
    letters: Mutex<Letters>,
    filled: Notify,
    emptied: Notify,
}

/// Names a letter, also when it is gone. The later one is the larger.
pub(super) type Ticket = u64;

/// A notification that had to make room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) tunnel: TunnelId,
    pub(super) thing: ThingName,
}

/// What is to be published.
pub(super) struct Handed {
    pub(super) ticket: Ticket,
    pub(super) tunnel: TunnelId,
    pub(super) token: TokenHash,
    pub(super) topic: String,
    pub(super) payload: Bytes,
}

#[derive(Default)]
struct Letters {
    next: Ticket,
    all: BTreeMap<Ticket, Letter>,
}

struct Letter {
    tunnel: TunnelId,
    token: TokenHash,
    thing: ThingName,
    /// Holds the token: wiped when the last copy is gone.
    payload: Bytes,
    expires: Timestamp,
    /// Connections that were lost while it was on its way, and the time of the first one.
    losses: u32,
    first_loss: Timestamp,
    /// On its way to the broker.
    is_handed: bool,
}

impl Letter {
    /// It may be what the broker ends connections for.
    fn is_suspect(&self) -> bool {
        self.losses > 0
    }
}

impl Queue {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            letters: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// Takes in a notification in place of an earlier one of the same tunnel.
    pub(super) fn put(
        &self,
        thing: &ThingName,
        notification: &Notification,
        expires: Timestamp,
    ) -> Option<Dropped> {
        let letter = Letter {
            tunnel: notification.tunnel.clone(),
            token: TokenHash::of(&notification.token),
            thing: thing.clone(),
            payload: Bytes::from_owner(notification.payload()),
            expires,
            losses: 0,
            first_loss: Timestamp::from_millis(0),
            is_handed: false,
        };
        let mut letters = self.letters();
        letters.all.retain(|_, other| other.tunnel != letter.tunnel);
        let dropped = letters.make_room(thing, &self.limits);
        let ticket = letters.next;
        letters.next += 1;
        letters.all.insert(ticket, letter);
        drop(letters);
        self.filled.notify_one();
        dropped
    }

    /// Nothing of this tunnel leaves from here on.
    pub(super) fn revoke(&self, tunnel: &TunnelId) {
        self.remove(|_, letter| letter.tunnel == *tunnel);
    }

    /// Hands out the oldest that is not on its way, as soon as there is one. One with which a connection was lost goes
    /// behind the others, and alone: if the next one is lost with it, nobody else is to blame.
    pub(super) async fn next(&self, clock: &Clock) -> Handed {
        loop {
            let filled = self.filled.notified();
            if let Some(handed) = self.take(clock.now().steady) {
                return handed;
            }
            filled.await;
        }
    }

    /// The broker has it.
    pub(super) fn settled(&self, ticket: Ticket) {
        self.remove(|other, _| *other == ticket);
    }

    /// Whether a letter is still here: it may have been revoked since it was handed out.
    pub(super) fn holds(&self, ticket: Ticket) -> bool {
        self.letters().all.contains_key(&ticket)
    }

    /// The connection was lost: what was on its way waits again. Says how many are given up, because
    /// this has happened to them too often and for too long.
    pub(super) fn take_back(&self, now: Timestamp) -> usize {
        let mut letters = self.letters();
        for letter in letters.all.values_mut().filter(|letter| letter.is_handed) {
            letter.is_handed = false;
            if letter.losses == 0 {
                letter.first_loss = now;
            }
            letter.losses += 1;
        }
        drop(letters);
        self.filled.notify_one();
        self.remove(|_, letter| {
            letter.losses >= LOSSES_MIN && now.since(letter.first_loss) >= SUSPECTED_FOR
        })
    }

    /// How many are here.
    pub(super) fn len(&self) -> usize {
        self.letters().all.len()
    }

    /// Waits until nothing is here.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn take(&self, now: Timestamp) -> Option<Handed> {
        self.remove(|_, letter| !letter.is_handed && letter.expires <= now);
        let mut letters = self.letters();
        let handed = letters.all.values().filter(|letter| letter.is_handed);
        let (is_alone, has_suspect) = handed.fold((true, false), |(_, has_suspect), letter| {
            (false, has_suspect || letter.is_suspect())
        });
        let waiting = letters.all.iter_mut();
        let waiting = waiting.filter(|(_, letter)| !letter.is_handed);
        let (ticket, letter) = waiting.min_by_key(|(ticket, letter)| (letter.losses, **ticket))?;
        if has_suspect || letter.is_suspect() && !is_alone {
            return None;
        }
        letter.is_handed = true;
        Some(Handed {
            ticket: *ticket,
            tunnel: letter.tunnel.clone(),
            token: letter.token,
            topic: notify_topic(&letter.thing),
            payload: letter.payload.clone(),
        })
    }

    fn remove(&self, is_meant: impl Fn(&Ticket, &Letter) -> bool) -> usize {
        let mut letters = self.letters();
        let before = letters.all.len();
        letters
            .all
            .retain(|ticket, letter| !is_meant(ticket, letter));
        let after = letters.all.len();
        drop(letters);
        if after == 0 {
            self.emptied.notify_one();
        } else if after < before {
            // One that waited to be alone may be.
            self.filled.notify_one();
        }
        before - after
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Letters {
    fn make_room(&mut self, thing: &ThingName, limits: &QueueLimits) -> Option<Dropped> {
        let of_thing = |letter: &&Letter| letter.thing == *thing;
        let count = self.all.values().filter(of_thing).count();
        let oldest = if count >= limits.queued_per_thing_max {
            self.all.iter().find(|(_, letter)| letter.thing == *thing)
        } else if self.all.len() >= limits.queued_max {
            self.all.first_key_value()
        } else {
            None
        };
        let ticket = *oldest?.0;
        let letter = self.all.remove(&ticket)?;
        Some(Dropped {
            tunnel: letter.tunnel,
            thing: letter.thing,
        })
    }
}

/// Connections that are lost over one notification before it is given up, if so much time has passed: some
/// brokers answer with that what they forbid. A broker that is started anew, or a way to it that flaps, is
/// there again by then.
const LOSSES_MIN: u32 = 5;
const SUSPECTED_FOR: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use adit_proto::AccessToken;

    use super::*;

    const LIMITS: QueueLimits = QueueLimits {
        queued_max: 4,
        queued_per_thing_max: 2,
    };

    fn queue() -> Queue {
        Queue::new(LIMITS)
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn tunnel(name: &str) -> TunnelId {
        name.parse().unwrap()
    }

    fn put(queue: &Queue, thing: &str, tunnel: &str, token: &str) -> Option<String> {
        let notification = Notification {
            tunnel: tunnel.parse().unwrap(),
            token: AccessToken::new(token.to_owned()).unwrap(),
            region: "r".into(),
            services: Arc::default(),
        };
        let thing = ThingName::new(thing).unwrap();
        let dropped = queue.put(&thing, &notification, at(100));
        dropped.map(|dropped| dropped.tunnel.to_string())
    }

    /// Ticket and token.
    fn take(queue: &Queue) -> Option<(Ticket, String)> {
        let handed = queue.take(at(99))?;
        let body: serde_json::Value = serde_json::from_slice(&handed.payload).unwrap();
        let token = body["clientAccessToken"].as_str().unwrap();
        Some((handed.ticket, token.to_owned()))
    }

    fn tokens(queue: &Queue) -> Vec<String> {
        std::iter::from_fn(|| take(queue))
            .map(|(_, token)| token)
            .collect()
    }

    fn tokens_one_by_one(queue: &Queue) -> Vec<String> {
        let each = std::iter::from_fn(|| take(queue));
        let settled = each.map(|(ticket, token)| {
            queue.settled(ticket);
            token
        });
        settled.collect()
    }

    #[test]
    fn each_is_handed_out_once_in_order_and_stays_until_it_is_settled() {
        let queue = queue();
        put(&queue, "a", "t1", "one");
        put(&queue, "b", "t2", "two");
        let (ticket, first) = take(&queue).unwrap();
        assert_eq!(first, "one");
        assert_eq!(tokens(&queue), ["two"]);
        assert_eq!(queue.len(), 2);
        queue.settled(ticket);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn the_oldest_makes_room() {
        let queue = queue();
        for (thing, tunnel) in [("a", "t1"), ("b", "t2"), ("c", "t3"), ("b", "t4")] {
            assert_eq!(put(&queue, thing, tunnel, tunnel), None);
        }
        let own = put(&queue, "b", "t5", "t5");
        assert_eq!(own.as_deref(), Some("t2"), "its own, before others'");
        let any = put(&queue, "d", "t6", "t6");
        assert_eq!(any.as_deref(), Some("t1"));
        assert_eq!(tokens(&queue), ["t3", "t4", "t5", "t6"]);
    }

    #[test]
    fn what_was_revoked_or_replaced_never_leaves() {
        let queue = queue();
        put(&queue, "a", "t1", "old");
        put(&queue, "a", "t1", "new");
        put(&queue, "b", "t2", "closed");
        queue.revoke(&tunnel("t2"));
        assert_eq!(tokens(&queue), ["new"]);
    }

    #[test]
    fn after_a_loss_all_comes_again_but_for_what_was_revoked_meanwhile() {
        let queue = queue();
        for name in ["t1", "t2", "t3"] {
            put(&queue, name, name, name);
        }
        take(&queue);
        take(&queue);
        queue.revoke(&tunnel("t1"));
        assert_eq!(queue.take_back(at(5)), 0);
        assert_eq!(tokens_one_by_one(&queue), ["t3", "t2"]);
    }

    /// As a broker does that ends the connection at this one, and has acknowledged nothing.
    #[test]
    fn one_that_ends_every_connection_is_given_up_and_takes_no_other_along() {
        let queue = queue();
        for name in ["poison", "good", "better"] {
            put(&queue, name, name, name);
        }
        assert_eq!(tokens(&queue), ["poison", "good", "better"]);
        assert_eq!(queue.take_back(at(0)), 0);
        let mut heard = Vec::new();
        for loss in 1..LOSSES_MIN {
            while let Some((ticket, token)) = take(&queue) {
                if token == "poison" {
                    break;
                }
                heard.push(token);
                queue.settled(ticket);
            }
            let given_up = queue.take_back(at(u64::from(loss) * 40_000));
            assert_eq!(given_up, usize::from(loss == LOSSES_MIN - 1), "{loss}");
        }
        assert_eq!(heard, ["good", "better"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_broker_that_is_started_anew_costs_nothing() {
        let queue = queue();
        put(&queue, "a", "t1", "t1");
        for loss in 0..3 * LOSSES_MIN {
            assert!(take(&queue).is_some());
            assert_eq!(queue.take_back(at(u64::from(loss) * 1_000)), 0);
        }
        assert_eq!(tokens(&queue), ["t1"]);
    }

    #[test]
    fn one_that_is_suspected_goes_alone() {
        let queue = queue();
        put(&queue, "a", "t1", "suspect");
        take(&queue);
        queue.take_back(at(0));
        put(&queue, "b", "t2", "new");
        let (new, token) = take(&queue).unwrap();
        assert_eq!(token, "new");
        assert!(
            take(&queue).is_none(),
            "it waits for the end of the new one"
        );
        queue.settled(new);
        let (suspect, _) = take(&queue).unwrap();
        put(&queue, "c", "t3", "newer");
        assert!(take(&queue).is_none(), "and the next for its");
        queue.settled(suspect);
        assert_eq!(tokens(&queue), ["newer"]);
    }

    #[test]
    fn what_waited_too_long_is_gone() {
        let queue = queue();
        put(&queue, "a", "t1", "late");
        assert!(queue.take(at(100)).is_none());
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test]
    async fn waiting_ends_when_something_comes_and_when_all_is_gone() {
        let queue = Arc::new(queue());
        let (clock, other) = (Clock::system(), Arc::clone(&queue));
        let next = tokio::spawn(async move { other.next(&clock).await.ticket });
        tokio::task::yield_now().await;
        let notification = Notification {
            tunnel: tunnel("t1"),
            token: AccessToken::new("x".to_owned()).unwrap(),
            region: "r".into(),
            services: Arc::default(),
        };
        let thing = ThingName::new("a").unwrap();
        queue.put(&thing, &notification, at(u64::MAX));
        let ticket = next.await.unwrap();
        let other = Arc::clone(&queue);
        let emptied = tokio::spawn(async move { other.emptied().await });
        tokio::task::yield_now().await;
        queue.settled(ticket);
        emptied.await.unwrap();
    }
}
