//! Round trips: latency, typing, requests of the web, and whatever is interactive beside bulk.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::task::JoinHandle;

use super::{Sessions, Shape};
use crate::drive::{Dice, Session, Worker};
use crate::settings::Model;

/// A task for each of the `places`, with its connection among the `sessions`. Where that could not be opened before, it is
/// tried again: a share of the starts belongs to the place, and what it does not make is counted.
pub(super) fn spawn(
    worker: &Rc<Worker>,
    shape: Shape,
    places: impl Iterator<Item = usize>,
    sessions: Sessions,
) -> Vec<JoinHandle<()>> {
    let mut sessions: BTreeMap<usize, Session> = sessions.into_iter().collect();
    let spawn = |index| {
        let exchange = Exchange {
            worker: Rc::clone(worker),
            shape,
            index,
            dice: Dice::new(worker.job.drive.seed, index as u64),
        };
        monoio::spawn(exchange.run(sessions.remove(&index)))
    };
    places.map(spawn).collect()
}

struct Exchange {
    worker: Rc<Worker>,
    shape: Shape,
    index: usize,
    dice: Dice,
}

impl Exchange {
    async fn run(mut self, mut session: Option<Session>) {
        let mut starts = self.starts();
        let mut left = self.shape.lifetime(&mut self.dice);
        loop {
            if session.is_none() {
                session = self.reopen().await;
                if session.is_none() {
                    break;
                }
            }
            let Some(intended) = starts.next(&self.worker, &mut self.dice).await else {
                break;
            };
            let current = session.take().expect("it was opened above");
            session = self.exchange(current, intended).await;
            if let Some(left) = &mut left {
                *left -= 1;
            }
            if left == Some(0) {
                left = self.shape.lifetime(&mut self.dice);
                self.close(session.take()).await;
            }
        }
        self.close(session).await;
        starts.give_back(&self.worker, &mut self.dice);
    }

    /// One round trip. Gives the connection back unless it failed.
    async fn exchange(&mut self, mut session: Session, intended: Instant) -> Option<Session> {
        let trip = self.shape.next(&mut self.dice);
        let started = Instant::now();
        // A closed model has no other intention than to begin now.
        let intended = match self.worker.job.drive.model {
            Model::Open { .. } => intended,
            Model::Closed => started,
        };
        let outcome = session.ask(trip.size, trip.reply).await;
        let recorder = &self.worker.recorder;
        match outcome {
            Ok(()) => {
                let ended = Instant::now();
                recorder.ok(
                    intended,
                    started,
                    ended,
                    trip.size as u64,
                    trip.reply as u64,
                );
                Some(session)
            }
            Err(trouble) => {
                self.worker.blame(&trouble);
                recorder.closed();
                None
            }
        }
    }

    /// A new connection, as soon as there is one. `None`: the time is up.
    async fn reopen(&self) -> Option<Session> {
        while Instant::now() < self.worker.end() {
            match self.worker.open(self.index).await {
                Ok(session) => return Some(session),
                Err(trouble) => self.worker.blame_connection(&trouble),
            }
            self.worker.pause().await;
        }
        None
    }

    async fn close(&self, session: Option<Session>) {
        let Some(session) = session else { return };
        if let Err(trouble) = session.close().await {
            self.worker.blame_connection(&trouble);
        }
        self.worker.recorder.closed();
    }

    fn starts(&mut self) -> Starts {
        let drive = &self.worker.job.drive;
        match drive.model {
            Model::Open { rate } if self.shape.is_by_chance() => {
                let mean = Duration::from_secs_f64(drive.connections as f64 / rate);
                Starts::ByChance {
                    mean,
                    next: self.worker.start + self.dice.gap(mean),
                }
            }
            Model::Open { .. } | Model::Closed => Starts::Shared,
        }
    }
}

/// When the operations of a connection begin.
enum Starts {
    /// The next of the worker's schedule, or at once.
    Shared,
    /// At times of its own.
    ByChance { mean: Duration, next: Instant },
}

impl Starts {
    async fn next(&mut self, worker: &Worker, dice: &mut Dice) -> Option<Instant> {
        match self {
            Self::Shared => worker.next_start().await,
            Self::ByChance { mean, next } => {
                let intended = *next;
                if !worker.wait(intended).await {
                    return None;
                }
                worker.recorder.due(1);
                *next += dice.gap(*mean);
                Some(intended)
            }
        }
    }

    /// Counts the starts of its own that came due and were never made.
    fn give_back(&mut self, worker: &Worker, dice: &mut Dice) {
        if let Self::ByChance { mean, next } = self {
            while *next < worker.end() {
                worker.skip();
                *next += dice.gap(*mean);
            }
        }
    }
}
