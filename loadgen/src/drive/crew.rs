//! The threads that offer load, from the first dial to the last byte.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use monoio::io::{CancelHandle, Canceller};

use super::{Begin, Loop, Session, SocketOptions, Timer, Trouble, Worker};
use crate::profile::{self, Outcome};
use crate::settings::{Drive, Profile};

/// What all workers of a run know.
#[derive(Debug)]
pub struct Job {
    /// What is offered, and how.
    pub drive: Drive,
    /// Where to, at least one: each leads to the far end.
    pub targets: Vec<SocketAddr>,
}

/// Workers that have opened their connections and wait to begin.
pub struct Crew {
    workers: Vec<Hand>,
    /// What the loops run on.
    pub backend: &'static str,
    /// Connections that are open.
    pub opened: usize,
    /// Why there is none, where there is none.
    pub trouble: Option<Trouble>,
}

struct Hand {
    begin: mpsc::Sender<Begin>,
    thread: thread::JoinHandle<anyhow::Result<(Outcome, Duration)>>,
}

/// What a worker tells when it is ready.
struct Ready {
    is_uring: bool,
    opened: usize,
    trouble: Option<Trouble>,
}

impl Job {
    /// Where the connection in the place of number `index` goes.
    pub(super) fn target(&self, index: usize) -> SocketAddr {
        self.targets[index % self.targets.len()]
    }

    /// Whether each operation has a connection of its own.
    #[must_use]
    pub fn is_short_lived(&self) -> bool {
        matches!(self.drive.profile, Profile::Churn { .. })
    }
}

impl Crew {
    /// Starts the threads, and waits until all connections are open, or were tried. Each has carried one round trip
    /// then: it leads to the far end, and no byte was wrong.
    ///
    /// # Errors
    /// A thread or a loop cannot be had.
    pub fn muster(job: &Arc<Job>) -> anyhow::Result<Self> {
        let mut workers = Vec::new();
        let mut waiting = Vec::new();
        for number in 0..job.drive.threads {
            let (begin, begins) = mpsc::channel();
            let (ready, readies) = mpsc::channel();
            let job = Arc::clone(job);
            let thread = thread::Builder::new().name(format!("drive-{number}"));
            let thread = thread.spawn(move || run(&job, number, &ready, &begins))?;
            workers.push(Hand { begin, thread });
            waiting.push(readies);
        }
        let mut crew = Self {
            workers,
            backend: "epoll",
            opened: 0,
            trouble: None,
        };
        for readies in waiting {
            let Ok(ready) = readies.recv() else {
                return Err(crew.why_ended());
            };
            crew.opened += ready.opened;
            crew.trouble = crew.trouble.or(ready.trouble);
            if ready.is_uring {
                crew.backend = "io_uring";
            }
        }
        Ok(crew)
    }

    /// Begins; each worker has its orders from `order`.
    ///
    /// # Errors
    /// A worker has ended.
    pub fn begin(&self, mut order: impl FnMut() -> Begin) -> anyhow::Result<()> {
        for hand in &self.workers {
            hand.begin.send(order()).ok().context("a worker ended")?;
        }
        Ok(())
    }

    /// Waits until all has been offered, answered or given up. Gives what came of it, and how long load was offered: the
    /// time of the run, unless that was stopped before. What is still waited for then is not a part of it.
    ///
    /// # Errors
    /// A worker failed.
    pub fn finish(self) -> anyhow::Result<(Outcome, Duration)> {
        let (mut all, mut longest) = (Outcome::default(), Duration::ZERO);
        for hand in self.workers {
            let outcome = hand.thread.join();
            let (outcome, offered) =
                outcome.map_err(|_| anyhow::anyhow!("a worker panicked"))??;
            all.add(outcome);
            longest = longest.max(offered);
        }
        Ok((all, longest))
    }

    fn why_ended(self) -> anyhow::Error {
        self.finish()
            .err()
            .unwrap_or_else(|| anyhow::anyhow!("a worker ended before it had begun"))
    }
}

fn run(
    job: &Arc<Job>,
    number: usize,
    ready: &mpsc::Sender<Ready>,
    begins: &mpsc::Receiver<Begin>,
) -> anyhow::Result<(Outcome, Duration)> {
    let mut event_loop = Loop::build(job.drive.io).context("the loop of a worker")?;
    let options = SocketOptions {
        congestion: job.drive.congestion.clone(),
        is_uring: event_loop.is_uring(),
    };
    event_loop.block_on(async {
        let timer = Timer::start().context("the timer of a worker")?;
        let setup = Setup::new(Arc::clone(job), number, options.clone(), timer.clone());
        let (mut sessions, mut troubles, streams) = setup.run().await;
        let _ = ready.send(Ready {
            is_uring: options.is_uring,
            opened: sessions.len(),
            trouble: sessions.is_empty().then(|| troubles.pop()).flatten(),
        });
        // Nothing happens on this loop meanwhile, so it may stand still.
        let Ok(begin) = begins.recv() else {
            return Ok(Default::default());
        };
        let worker = Worker::new(Arc::clone(job), number, timer, options, streams, begin);
        for (_, session) in &mut sessions {
            worker.adopt(session);
        }
        for trouble in &troubles {
            worker.blame_connection(trouble);
        }
        let mut outcome = profile::offer(&worker, sessions).await;
        outcome.notes.extend(worker.finish());
        Ok((outcome, worker.offered()))
    })
}

/// Opens the connections of a worker, some at a time.
struct Setup {
    job: Arc<Job>,
    number: usize,
    options: SocketOptions,
    timer: Timer,
    /// How many have been begun.
    next: Cell<u64>,
    sessions: RefCell<Vec<(usize, Session)>>,
    /// One for each connection that is not open.
    troubles: RefCell<Vec<Trouble>>,
}

type Opened = (Vec<(usize, Session)>, Vec<Trouble>, u64);

impl Setup {
    fn new(job: Arc<Job>, number: usize, options: SocketOptions, timer: Timer) -> Rc<Self> {
        Rc::new(Self {
            job,
            number,
            options,
            timer,
            next: Cell::new(0),
            sessions: RefCell::default(),
            troubles: RefCell::default(),
        })
    }

    /// The connections by their numbers, why those that failed did, and the streams used up.
    async fn run(self: Rc<Self>) -> Opened {
        let canceller = Canceller::new();
        let openers: Vec<_> = (0..OPENING_MAX)
            .map(|_| monoio::spawn(Rc::clone(&self).open_some(canceller.handle())))
            .collect();
        let patience = monoio::spawn(patience(Rc::downgrade(&self), canceller));
        for opener in openers {
            opener.await;
        }
        drop(patience);
        let mut sessions = self.sessions.take();
        sessions.sort_by_key(|(index, _)| *index);
        (sessions, self.troubles.take(), self.next.get())
    }

    async fn open_some(self: Rc<Self>, cancel: CancelHandle) {
        loop {
            let count = self.next.get();
            // One connection of a profile that opens its own tries the way.
            let wanted = match self.job.is_short_lived() {
                true => 1,
                false => usize::MAX,
            };
            let mut places = self.job.places(self.number).take(wanted);
            let Some(index) = places.nth(count as usize) else {
                return;
            };
            // When the first fail, so will the others.
            if !self.troubles.borrow().is_empty() && self.sessions.borrow().is_empty() {
                return;
            }
            self.next.set(count + 1);
            match self.open(index, count, cancel.clone()).await {
                Ok(session) => self.sessions.borrow_mut().push((index, session)),
                Err(trouble) => self.troubles.borrow_mut().push(trouble),
            }
        }
    }

    async fn open(
        &self,
        index: usize,
        count: u64,
        cancel: CancelHandle,
    ) -> Result<Session, Trouble> {
        let track = (self.job.drive.seed, self.job.stream(self.number, count));
        let source = self.job.source(index, count);
        let mut session =
            Session::open(&self.options, self.job.target(index), source, track, cancel).await?;
        session.ask(TRIAL_SIZE, TRIAL_SIZE).await?;
        session.rest();
        Ok(session)
    }
}

/// Gives up what has made no progress for a while: neither a connection nor a failure.
async fn patience(setup: std::rc::Weak<Setup>, canceller: Canceller) {
    let progress = |setup: &Setup| (setup.next.get(), setup.sessions.borrow().len());
    let mut last = (0, 0);
    let mut since = Instant::now();
    loop {
        let Some(timer) = setup.upgrade().map(|setup| setup.timer.clone()) else {
            return;
        };
        timer.until(Instant::now() + Duration::from_secs(1)).await;
        let Some(now) = setup.upgrade().map(|setup| progress(&setup)) else {
            return;
        };
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > PATIENCE {
            let _ = canceller.cancel();
            return;
        }
    }
}

/// Whether this process may have as many descriptors as connections; raises the soft limit to the hard one.
///
/// # Errors
/// The limit, and how many would be needed.
pub fn raise_descriptor_limit(connections: usize) -> Result<(), (u64, u64)> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = connections as u64 + DESCRIPTORS_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let usable = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => hard,
        Err(_) => limit.current.unwrap_or(u64::MAX),
    };
    match usable >= needed {
        true => Ok(()),
        false => Err((usable, needed)),
    }
}

/// Kernel interface, timer, files of the report; while a connection is dialled it has two.
const DESCRIPTORS_BESIDE: u64 = 256;

/// Connections of one worker that are opened at once, before the start.
const OPENING_MAX: usize = 64;

/// How long the connections may make no progress before the start.
const PATIENCE: Duration = Duration::from_secs(15);

/// The round trip that tries a connection.
const TRIAL_SIZE: usize = 64;
