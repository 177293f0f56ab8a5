//! What the tasks of one worker share while load is offered.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use monoio::io::{CancelHandle, Canceller};

use super::{Job, Schedule, Session, SocketOptions, Timer, Trouble};
use crate::report::{ErrorKind, Recorder};
use crate::settings::Model;

/// One thread that offers load.
pub struct Worker {
    /// What all workers know.
    pub job: Arc<Job>,
    /// Which one it is, from 0.
    pub number: usize,
    /// Its clock.
    pub timer: Timer,
    /// Where it notes what happens.
    pub recorder: Recorder,
    /// When load begins to be offered.
    pub start: Instant,
    /// When no more is: earlier than planned if the run is stopped.
    end: Cell<Instant>,
    options: SocketOptions,
    canceller: RefCell<Option<Canceller>>,
    cancel: CancelHandle,
    schedule: RefCell<Option<Schedule>>,
    /// Scheduled operations that were begun, and those told to the recorder as due.
    begun: Cell<u64>,
    due: Cell<u64>,
    /// Connections so far; each has a stream id of its own.
    streams: Cell<u64>,
    notes: RefCell<Vec<String>>,
}

/// What the crew gives a worker when all are ready.
pub struct Begin {
    /// Where it notes what happens.
    pub recorder: Recorder,
    /// When load begins to be offered.
    pub start: Instant,
    /// Set when the run is to end before its time.
    pub stop: Arc<AtomicBool>,
}

impl Worker {
    pub(super) fn new(
        job: Arc<Job>,
        number: usize,
        timer: Timer,
        options: SocketOptions,
        streams: u64,
        begin: Begin,
    ) -> Rc<Self> {
        let canceller = Canceller::new();
        let schedule = match job.drive.model {
            Model::Open { rate } if job.drive.profile.has_even_starts() => {
                let workers = job.starters();
                (number < workers).then(|| Schedule::new(begin.start, rate, number, workers))
            }
            Model::Open { .. } | Model::Closed => None,
        };
        let worker = Rc::new(Self {
            end: Cell::new(begin.start + job.drive.duration),
            job,
            number,
            timer,
            recorder: begin.recorder,
            start: begin.start,
            options,
            cancel: canceller.handle(),
            canceller: RefCell::new(Some(canceller)),
            schedule: RefCell::new(schedule),
            begun: Cell::new(0),
            due: Cell::new(0),
            streams: Cell::new(streams),
            notes: RefCell::default(),
        });
        monoio::spawn(watch(Rc::downgrade(&worker), begin.stop));
        worker
    }

    /// Waits for the next operation to begin, and says when it was meant to. `None`: the time is up.
    ///
    /// In an open model whoever is free takes the next start. One that has passed is begun at once, and its latency
    /// counts from when it was meant. In a closed model the next is at once, but none before the start: what is done before
    /// would be divided by a time that it did not take.
    pub async fn next_start(&self) -> Option<Instant> {
        let taken = self.schedule.borrow_mut().as_mut().map(Schedule::take);
        let Some(intended) = taken else {
            let mut now = Instant::now();
            if now < self.start {
                self.timer.until(self.start).await;
                now = Instant::now();
            }
            return (now < self.end()).then_some(now);
        };
        if !self.wait(intended).await {
            return None;
        }
        self.begun.set(self.begun.get() + 1);
        Some(intended)
    }

    /// Waits until `intended`, unless the time is up before: then it says false. What was waited for is begun, even if
    /// the wait ends a little late.
    pub async fn wait(&self, intended: Instant) -> bool {
        let now = Instant::now();
        if now < intended && intended < self.end() {
            self.timer.until(intended).await;
            let woke = Instant::now();
            self.recorder.woke(intended, woke);
            // Starts that came due while the generator slept too long are late by its fault, too: told by wakes alone,
            // a stall of the generator would be one late wake among many.
            if let Some(schedule) = &mut *self.schedule.borrow_mut() {
                for late in schedule.overslept(woke.min(self.end())) {
                    self.recorder.woke(late, woke);
                }
            }
            return intended < self.end();
        }
        now < self.end() && intended < self.end()
    }

    /// When no more load is offered.
    pub fn end(&self) -> Instant {
        self.end.get()
    }

    /// How long load is offered.
    pub(super) fn offered(&self) -> Duration {
        self.end().saturating_duration_since(self.start)
    }

    /// The connections, of all, that are this worker's.
    pub fn connections(&self) -> impl Iterator<Item = usize> + use<> {
        self.job.places(self.number)
    }

    /// Opens a connection in the place of number `index`, with a stream id that no other has.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn open(&self, index: usize) -> Result<Session, Trouble> {
        let stream = self.streams.get();
        self.streams.set(stream + 1);
        let track = (self.job.drive.seed, self.job.stream(self.number, stream));
        let source = self.job.source(index, stream);
        let target = self.job.target(index);
        let session =
            Session::open(&self.options, target, source, track, self.cancel.clone()).await?;
        self.recorder.opened();
        Ok(session)
    }

    /// Takes over a connection that was opened before the start.
    pub fn adopt(&self, session: &mut Session) {
        session.set_cancel(&self.cancel);
        self.recorder.opened();
    }

    /// Notes what went wrong with an operation. The first of them are told in words.
    pub fn blame(&self, trouble: &Trouble) {
        self.recorder.error(trouble.kind());
        self.note(trouble);
    }

    /// The same of a connection outside of any operation: what was due is not more for it.
    pub fn blame_connection(&self, trouble: &Trouble) {
        self.recorder.connection_error(trouble.kind());
        self.note(trouble);
    }

    fn note(&self, trouble: &Trouble) {
        let mut notes = self.notes.borrow_mut();
        if notes.len() < NOTES_MAX {
            notes.push(trouble.to_string());
        }
    }

    /// Counts a start that came due and was never made.
    pub fn skip(&self) {
        self.recorder.due(1);
        self.recorder.error(ErrorKind::Skipped);
    }

    /// Waits a little before a connection that failed is opened anew. False: the time is up.
    pub async fn pause(&self) -> bool {
        self.timer
            .until(self.end().min(Instant::now() + PAUSE))
            .await;
        Instant::now() < self.end()
    }

    /// Counts the starts that nobody came to take. Gives back what was noted.
    pub(super) fn finish(&self) -> Vec<String> {
        self.tell_due(self.end());
        let skipped = self.due.get().saturating_sub(self.begun.get());
        for _ in 0..skipped {
            self.recorder.error(ErrorKind::Skipped);
        }
        self.recorder.tick(Instant::now().min(self.end()));
        self.notes.take()
    }

    fn tell_due(&self, now: Instant) {
        if let Some(schedule) = &*self.schedule.borrow() {
            let due = schedule.due(now.min(self.end()));
            self.recorder.due(due - self.due.get());
            self.due.set(due);
        }
    }

    fn stop(&self) {
        self.end.set(self.end().min(Instant::now()));
        self.timer.hurry();
    }

    fn give_up(&self) {
        if let Some(canceller) = self.canceller.take() {
            let _ = canceller.cancel();
        }
    }
}

/// Tells the recorder the time, ends the run early when asked to, and gives up what is not answered in time.
async fn watch(worker: std::rc::Weak<Worker>, stop: Arc<AtomicBool>) {
    loop {
        let Some(timer) = worker.upgrade().map(|worker| worker.timer.clone()) else {
            return;
        };
        let look_up = Instant::now() + TICK;
        timer.strictly_until(look_up).await;
        let (Some(worker), now) = (worker.upgrade(), Instant::now()) else {
            return;
        };
        // Also where no start is waited for, as in a closed model, a loop that is late shows.
        if now < worker.end() {
            worker.recorder.woke(look_up, now);
        }
        worker.tell_due(now);
        worker.recorder.tick(now);
        if stop.load(Ordering::Relaxed) && now < worker.end() {
            worker.stop();
        }
        if now >= worker.end() + worker.job.drive.grace {
            worker.give_up();
        }
    }
}

impl Job {
    /// The stream id of a worker's connection: no other of the run has it.
    pub(super) fn stream(&self, worker: usize, count: u64) -> u64 {
        count * self.drive.threads as u64 + worker as u64
    }

    /// Where a connection comes from. One address has some 28,000 ports, and a port rests for a minute after use; on
    /// loopback there are sixteen million addresses.
    pub(super) fn source(&self, index: usize, count: u64) -> Option<IpAddr> {
        let is_loopback = matches!(self.target(index).ip(), IpAddr::V4(ip) if ip.is_loopback());
        if !is_loopback || !self.spreads_sources() {
            return None;
        }
        // Neighbours differ, so that short connections are spread evenly.
        let place = match self.is_short_lived() {
            true => count % 200,
            false => index as u64 / CONNECTIONS_OF_ADDRESS,
        };
        let [high, low] = u16::try_from(place % 60_000).unwrap_or(0).to_be_bytes();
        Some(Ipv4Addr::new(127, 1 + high, low, 1).into())
    }

    fn spreads_sources(&self) -> bool {
        self.is_short_lived() || self.drive.connections as u64 > CONNECTIONS_OF_ADDRESS
    }
}

const CONNECTIONS_OF_ADDRESS: u64 = 10_000;

/// How often a worker looks up from its work.
const TICK: Duration = Duration::from_millis(50);

/// Before a connection is opened anew.
const PAUSE: Duration = Duration::from_millis(100);

/// Failures of one worker that are told in words.
const NOTES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use clap::Parser as _;

    use super::super::Loop;
    use super::*;
    use crate::args::{Args, IoChoice};
    use crate::settings::Settings;

    #[test]
    fn no_operation_of_a_closed_model_begins_before_the_start() {
        let args = "adit-loadgen latency --closed --target 127.0.0.1:1";
        let Ok(Settings::Drive(drive)) = Settings::of(Args::parse_from(args.split_whitespace()))
        else {
            panic!("{args}");
        };
        let job = Arc::new(Job {
            drive: *drive,
            targets: Vec::new(),
        });
        let mut event_loop = Loop::build(IoChoice::Auto).expect("a loop");
        event_loop.block_on(async {
            let start = Instant::now() + Duration::from_millis(100);
            let (sender, _intervals) = sync_channel(8);
            let begin = Begin {
                recorder: Recorder::new(0, start, sender),
                start,
                stop: Arc::default(),
            };
            let options = SocketOptions {
                congestion: None,
                is_uring: false,
            };
            let timer = Timer::start().expect("a timer");
            let worker = Worker::new(job, 0, timer, options, 0, begin);
            let first = worker.next_start().await.expect("the time is not up");
            assert!(first >= start, "{:?} before", start - first);
            let second = worker.next_start().await.expect("the time is not up");
            assert!(second >= first);
        });
    }
}
