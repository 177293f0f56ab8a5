//! Tasks of one thread that wait for each other.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A bell: rung once or many times, it wakes the one task that waits, or the next that will.
#[derive(Debug, Default)]
pub struct Bell {
    is_rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    /// Rings.
    pub fn ring(&self) {
        self.is_rung.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits until it has rung since the last wait.
    pub async fn heard(&self) {
        poll_fn(|context| {
            if self.is_rung.take() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// What a task does before others have their turn.
///
/// On epoll a socket that is ready is read or written at once, without waiting: a stream that never runs dry would hold
/// up all others of its loop for as long.
#[derive(Debug, Default)]
pub struct Turn {
    /// Bytes since the last.
    done: usize,
}

impl Turn {
    /// Notes that so many bytes were moved, and lets the others go first when it was enough.
    pub async fn moved(&mut self, size: usize) {
        self.done += size;
        if self.done >= TURN_SIZE {
            self.done = 0;
            give_way().await;
        }
    }
}

/// Goes behind all tasks that are ready. A task that wakes itself would come before them, so another one does it.
async fn give_way() {
    let bell = Rc::new(Bell::default());
    let ringer = Rc::clone(&bell);
    monoio::spawn(async move { ringer.ring() });
    bell.heard().await;
}

/// Four writes of bulk.
const TURN_SIZE: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::args::IoChoice;
    use crate::drive::{Loop, Timer};

    #[test]
    fn who_never_waits_lets_others_go_first() {
        for choice in [IoChoice::Auto, IoChoice::Epoll] {
            Loop::build(choice).unwrap().block_on(async {
                let timer = Timer::start().unwrap();
                let is_over = Rc::new(Cell::new(false));
                let told = Rc::clone(&is_over);
                let greedy = monoio::spawn(async move {
                    let mut turn = Turn::default();
                    // Unless it gave way, it would come to its end before the others are asked.
                    for _ in 0..50_000_000 {
                        turn.moved(TURN_SIZE / 2).await;
                        if told.get() {
                            return true;
                        }
                    }
                    false
                });
                let soon = Instant::now() + Duration::from_millis(5);
                timer.until(soon).await;
                is_over.set(true);
                assert!(greedy.await, "{choice:?}");
            });
        }
    }
}
