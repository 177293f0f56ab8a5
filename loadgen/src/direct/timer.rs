//! Waking at an instant, to some tens of microseconds: tokio's own timers have a millisecond.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A thread that sleeps in the place of a task. It ends with this.
pub(super) struct Timer {
    /// The instant to wake at; a later one of them takes the place of an earlier.
    instants: Sender<Instant>,
    woke: Arc<Notify>,
}

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let (instants, asked) = channel();
        let woke = Arc::new(Notify::new());
        let wakes = Arc::clone(&woke);
        let thread = thread::Builder::new().name("timer".to_owned());
        thread.spawn(move || sleep(&asked, &wakes))?;
        Ok(Self { instants, woke })
    }

    /// Returns at `instant` or a little later; at once if it has passed. May be dropped.
    pub(super) async fn until(&mut self, instant: Instant) {
        if Instant::now() >= instant {
            return;
        }
        // The thread ends with its sender alone.
        let _ = self.instants.send(instant);
        // One that was given up may still wake.
        while Instant::now() < instant {
            self.woke.notified().await;
        }
    }
}

fn sleep(asked: &Receiver<Instant>, woke: &Notify) {
    /// For ever, in pieces.
    const IDLE: Duration = Duration::from_secs(3600);
    let mut instant: Option<Instant> = None;
    loop {
        let left = instant.map_or(IDLE, |it| it.saturating_duration_since(Instant::now()));
        match asked.recv_timeout(left) {
            Ok(next) => instant = Some(next),
            Err(RecvTimeoutError::Timeout) if instant.is_none_or(|it| it <= Instant::now()) => {
                instant = None;
                woke.notify_one();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_does_not_wake_early_and_can_be_set_again() {
        let mut timer = Timer::new().unwrap();
        for _ in 0..3 {
            let instant = Instant::now() + Duration::from_millis(5);
            timer.until(instant).await;
            assert!(Instant::now() >= instant);
        }
        timer.until(Instant::now()).await;
        // Given up half-way, then set to something sooner.
        let later = Instant::now() + Duration::from_secs(600);
        tokio::select! {
            () = timer.until(later) => panic!("too early"),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        let soon = Instant::now() + Duration::from_millis(5);
        timer.until(soon).await;
        assert!(Instant::now() >= soon);
    }
}
