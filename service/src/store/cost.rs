//! What reading costs with many tunnels stored: a measurement for a release, of which an ordinary run
//! does a small part, so that it keeps working. With `ADIT_JUDGE=1` a 99th percentile of 5 ms or more is a
//! failure, but for the first call of all.
//!
//! `ADIT_STORED` is how many tunnels (a release: 100,000, with optimisation):
//! `tests/release control-plane reading`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::TunnelStore;
use super::conformance::{config, prepare};
use crate::clock::Now;
use crate::testing::{Random, asked, judges, seed};
use crate::tunnels::{Cursor, ListRequest, ThingName};

/// Fills the store; a hundred devices have a hundredth of the tunnels each.
pub(super) async fn fill<S: TunnelStore>(store: &Arc<S>, now: Now) -> usize {
    let count = asked("ADIT_STORED", 1_000);
    let timer = Timer::start();
    let mut opens = JoinSet::new();
    for worker in 0..AT_ONCE {
        let store = Arc::clone(store);
        opens.spawn(async move {
            for number in (worker..count).step_by(AT_ONCE) {
                let (_, mut new) = prepare(&format!("t-{number}"));
                new.config = Some(config(Some(&format!("press-{}", number % 100)), &["SSH"]));
                store.open_tunnel(now, new).await.unwrap();
            }
        });
    }
    opens.join_all().await;
    eprintln!("{count} tunnels opened in {:?}", timer.elapsed());
    count
}

/// Closes all of them, and keeps them.
pub(super) async fn close<S: TunnelStore>(store: &Arc<S>, now: Now, count: usize) {
    let timer = Timer::start();
    let mut closes = JoinSet::new();
    for worker in 0..AT_ONCE {
        let store = Arc::clone(store);
        closes.spawn(async move {
            for number in (worker..count).step_by(AT_ONCE) {
                let id = format!("t-{number}").parse().unwrap();
                store.close(now, &id, false).await.unwrap();
            }
        });
    }
    closes.join_all().await;
    eprintln!("{count} tunnels closed in {:?}", timer.elapsed());
}

/// The first calls of a store that was opened a moment ago.
#[derive(Default)]
pub(super) struct Cold {
    list: Vec<Duration>,
    describe: Vec<Duration>,
}

impl Cold {
    /// Asks once for each, in turn for the list first.
    pub(super) async fn ask(&mut self, store: &impl TunnelStore, now: Now, stored: usize) {
        let lists_first = self.list.len().is_multiple_of(2);
        for lists in [lists_first, !lists_first] {
            if lists {
                self.list.push(list(store, now, None, None).await);
            } else {
                self.describe.push(describe(store, now, stored / 2).await);
            }
        }
    }

    pub(super) fn print(self) {
        print("first page, cold", self.list);
        print("describe, cold", self.describe);
    }
}

/// Calls in any order, to a store that has answered many.
pub(super) async fn warm(store: &impl TunnelStore, now: Now, stored: usize) {
    let mut random = Random(seed());
    let mut costs: [Vec<Duration>; 4] = Default::default();
    for round in 0..ROUNDS {
        let anywhere = |random: &mut Random| Cursor::from_bits(1 + random.below(stored) as u64);
        let thing = ThingName::new(&format!("press-{}", random.below(100)));
        let (one, other) = (anywhere(&mut random), anywhere(&mut random));
        let samples = [
            list(store, now, None, None).await,
            list(store, now, None, Some(one)).await,
            list(store, now, thing, Some(other)).await,
            describe(store, now, random.below(stored)).await,
        ];
        for (costs, sample) in costs.iter_mut().zip(samples) {
            if round >= WARMING {
                costs.push(sample);
            }
        }
    }
    let names = ["first page", "any page", "a page of a thing", "describe"];
    for (name, costs) in names.into_iter().zip(costs) {
        let most = print(name, costs);
        assert!(!judges() || most < GOAL, "{name}");
    }
}

async fn list(
    store: &impl TunnelStore,
    now: Now,
    thing: Option<ThingName>,
    after: Option<Cursor>,
) -> Duration {
    let count = NonZeroUsize::new(100).unwrap();
    let timer = Timer::start();
    let page = store.list(
        now,
        ListRequest {
            thing,
            after,
            count,
        },
    );
    page.await.unwrap();
    timer.elapsed()
}

async fn describe(store: &impl TunnelStore, now: Now, number: usize) -> Duration {
    let id = format!("t-{number}").parse().unwrap();
    let timer = Timer::start();
    store.describe(now, &id).await.unwrap();
    timer.elapsed()
}

/// Not a deadline, a measurement.
pub(super) struct Timer(Instant);

impl Timer {
    #[expect(clippy::disallowed_methods, reason = "it measures time")]
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Also gives the 99th percentile.
fn print(what: &str, mut costs: Vec<Duration>) -> Duration {
    costs.sort();
    let at = |part: usize| costs[(costs.len() - 1) * part / 100];
    eprintln!(
        "{what}: median {:?}, p99 {:?}, most {:?}, of {}",
        at(50),
        at(99),
        at(100),
        costs.len()
    );
    at(99)
}

const GOAL: Duration = Duration::from_millis(5);

/// Openings under way at one time.
const AT_ONCE: usize = 64;
const ROUNDS: usize = 2_100;
const WARMING: usize = 100;
