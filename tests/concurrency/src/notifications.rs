//! What waits for an external broker, while connections to it are lost and tunnels end: each notification arrives or
//! is taken back, none is handed out after that, and whoever waits for all to be gone hears of it.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;
use tokio::sync::Notify;

use super::Notification;
use super::queue::{Queue, QueueLimits};
use crate::AccessToken;
use crate::clock::{Clock, Timestamp};
use crate::schedules::in_many_orders;
use crate::tunnels::ThingName;

/// Connections that are lost; a letter bears more of them.
const LOSSES: usize = 2;

#[derive(Default)]
struct Broker {
    /// The connection is lost.
    lost: Notify,
    /// No more will come.
    done: Notify,
    /// The tunnel "ended" is over.
    has_ended: AtomicBool,
    arrived: Mutex<Vec<String>>,
}

fn put(queue: &Queue, tunnel: &str, token: &str) {
    let notification = Notification {
        tunnel: tunnel.parse().unwrap(),
        token: AccessToken::new(token.to_owned()).unwrap(),
        region: "r".into(),
        services: Arc::default(),
    };
    let thing = ThingName::new("thing").unwrap();
    let dropped = queue.put(&thing, &notification, Timestamp::from_millis(u64::MAX));
    assert!(dropped.is_none());
}

/// One connection after the other: what is handed out is acknowledged, until the connection is lost.
async fn send(queue: &Queue, broker: &Broker) {
    loop {
        let had_ended = broker.has_ended.load(Ordering::SeqCst);
        // In this order, as shuttle must be able to repeat it.
        tokio::select! {
            biased;
            () = broker.lost.notified() => assert_eq!(queue.take_back(Timestamp::from_millis(0)), 0),
            handed = queue.next(&Clock) => {
                let tunnel = handed.tunnel.as_str();
                assert!(!(had_ended && tunnel == "ended"), "it was taken back");
                thread::yield_now();
                broker.arrived.lock().unwrap().push(String::from_utf8_lossy(&handed.payload).into_owned());
                queue.settled(handed.ticket);
            }
            () = broker.done.notified() => return,
        }
    }
}

pub fn each_arrives_or_is_taken_back() {
    in_many_orders(|| {
        let limits = QueueLimits {
            queued_max: 8,
            queued_per_thing_max: 8,
        };
        let (queue, broker) = (Arc::new(Queue::new(limits)), Arc::new(Broker::default()));
        let on_a_thread = |action: fn(&Queue, &Broker)| {
            let (queue, broker) = (Arc::clone(&queue), Arc::clone(&broker));
            thread::spawn(move || action(&queue, &broker))
        };
        let sending = on_a_thread(|queue, broker| block_on(send(queue, broker)));
        let threads = [
            on_a_thread(|queue, _| {
                put(queue, "rotated", "old");
                put(queue, "rotated", "new");
            }),
            on_a_thread(|queue, broker| {
                put(queue, "ended", "gone");
                queue.revoke(&"ended".parse().unwrap());
                broker.has_ended.store(true, Ordering::SeqCst);
            }),
            on_a_thread(|_, broker| (0..LOSSES).for_each(|_| broker.lost.notify_one())),
        ];
        for thread in threads {
            thread.join().unwrap();
        }
        block_on(queue.emptied());
        broker.done.notify_one();
        sending.join().unwrap();
        assert_eq!(queue.len(), 0);
        assert!(
            broker
                .arrived
                .lock()
                .unwrap()
                .iter()
                .any(|token| token == "new")
        );
    });
}
