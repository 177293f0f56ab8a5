//! How a thread wakes a loop: the one thing that threads share without a lock, in every order of events that the
//! memory model allows.

use loom::sync::atomic::AtomicUsize;
use loom::sync::{Arc, Mutex};
use loom::thread;

/// In the place of std's.
mod atomic {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};
}
#[path = "../../../engine/src/ring/pending.rs"]
mod pending;

use atomic::Ordering;
use pending::Pending;

const THREADS: usize = 2;
const NEWS_EACH: usize = 2;

/// How often the loop looks for an edge while the others run.
const TURNS: usize = 2;

struct Shared {
    pending: Pending,
    /// News of each thread. Relaxed, as only the protocol may make it visible.
    news: [AtomicUsize; THREADS],
    /// Whether an edge was made that was not waited for: what the kernel keeps.
    edge: Mutex<bool>,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            pending: Pending::new(),
            news: [AtomicUsize::new(0), AtomicUsize::new(0)],
            edge: Mutex::new(false),
        })
    }

    fn tell(&self, thread: usize) {
        for news in 1..=NEWS_EACH {
            self.news[thread].store(news, Ordering::Relaxed);
            if self.pending.announce() {
                *self.edge.lock().unwrap() = true;
            }
        }
    }

    /// Whether a wait would end at once; however many edges there were, they are one event.
    fn has_edge(&self) -> bool {
        std::mem::take(&mut *self.edge.lock().unwrap())
    }

    fn is_all_told(&self) -> bool {
        let told = self.news.iter().map(|news| news.load(Ordering::Relaxed));
        told.sum::<usize>() == THREADS * NEWS_EACH
    }
}

/// In every order of events: a loop that has looked at each edge, and would wait now, knows all news.
fn in_every_order(look: impl Fn(&Shared) -> bool + Send + Sync + Copy + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let shared = Shared::new();
        let tell = |number: usize| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.tell(number))
        };
        let threads: Vec<_> = (0..THREADS).map(tell).collect();
        let mut knows_all = false;
        for _ in 0..TURNS {
            if shared.has_edge() {
                knows_all = look(&shared);
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
        while shared.has_edge() {
            knows_all = look(&shared);
        }
        assert!(knows_all, "news are there, and no edge");
    });
}

pub fn no_news_is_missed_by_a_loop_that_waits() {
    in_every_order(|shared| {
        shared.pending.acknowledge();
        shared.is_all_told()
    });
}

/// Fails, which tests the model: who looks first, and acknowledges then, misses what comes between.
pub fn a_loop_that_looks_before_it_acknowledges() {
    in_every_order(|shared| {
        let is_all_told = shared.is_all_told();
        shared.pending.acknowledge();
        is_all_told
    });
}
