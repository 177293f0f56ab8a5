//! One thread that writes, many operations at a time.
//!
//! Operations queue up while a commit is on its way to the disk. The next transaction takes all of
//! them, each in a savepoint of its own, and only after its commit are they answered. So a failed
//! commit leaves no trace, and a burst of any size costs few waits for the disk.
//!
//! ```text
//! queue ─► savepoint, rules, savepoint, rules, … ─► commit ─► answers
//!                                                     └─ failed ─► Unavailable
//! ```

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use adit_engine::failpoint::fallible;
use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::data_dir::{DataDir, DataDirError};
use crate::store::error::{Fault, Unavailable};
use crate::sync::mpsc::{Receiver, SyncSender, sync_channel};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Makes a change within the transaction; gives what answers it, or `None` when nobody waits for it
/// any more.
type Job = Box<dyn FnOnce(&Connection) -> Option<Answer> + Send>;

/// Told whether the transaction is durable.
type Answer = Box<dyn FnOnce(bool) + Send>;

/// The way to the thread that writes.
pub(super) struct Writer {
    queue: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// The directory stays locked until the thread ends.
    pub(super) fn start(connection: Connection, dir: Arc<DataDir>) -> Result<Self, DataDirError> {
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let path = dir.file(super::database::FILE);
        let thread = thread::Builder::new()
            .name("adit-store".to_owned())
            .spawn(move || {
                run(connection, &jobs);
                drop(dir);
            })
            .map_err(|source| DataDirError::io("start the writer of", &path, source))?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Makes a change, durable when this returns.
    ///
    /// When the caller gives up before the change's turn has come, it is not made.
    pub(super) async fn change<T, E, D>(
        &self,
        apply: impl FnOnce(&Connection) -> Result<T, Fault<E, D>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Unavailable + Send + 'static,
        D: Display,
    {
        self.change_then(apply, |value| value).await
    }

    /// Makes a change, and does `then` with its result once it is durable, even when the caller has given
    /// up meanwhile. It holds up other changes, so it only tells.
    pub(super) async fn change_then<T, U, E, D>(
        &self,
        apply: impl FnOnce(&Connection) -> Result<T, Fault<E, D>> + Send + 'static,
        then: impl FnOnce(T) -> U + Send + 'static,
    ) -> Result<U, E>
    where
        T: Send + 'static,
        U: Send + 'static,
        E: Unavailable + Send + 'static,
        D: Display,
    {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(move |connection: &Connection| {
            if sender.is_closed() {
                return None;
            }
            let result = in_savepoint(connection, apply);
            // Refusals too: the reason may be a change of the same transaction, which has not happened.
            let answer = move |durable| {
                let _ = sender.send(if durable {
                    result.map(then)
                } else {
                    Err(E::unavailable())
                });
            };
            Some(Box::new(answer) as Answer)
        });
        if self.submit(job).is_err() {
            return Err(E::unavailable());
        }
        receiver.await.unwrap_or_else(|_| Err(E::unavailable()))
    }

    /// Lets the thread finish what is queued, and waits for that.
    pub(super) fn stop(&self) {
        drop(lock(&self.queue).take());
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A panic of it was reported by everything that it left undone.
            let _ = thread.join();
        }
    }

    /// Refused when the thread has ended or has too much to do.
    fn submit(&self, job: Job) -> Result<(), Refused> {
        let queue = lock(&self.queue);
        let queue = queue.as_ref().ok_or(Refused)?;
        queue.try_send(job).map_err(|_| Refused)
    }
}

/// There is nobody to take the change.
struct Refused;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(connection: Connection, jobs: &Receiver<Job>) {
    let mut failing = false;
    while let Ok(first) = jobs.recv() {
        let mut answers = Vec::new();
        let committed = catch_unwind(AssertUnwindSafe(|| {
            transaction(&connection, first, jobs, &mut answers)
        }));
        // The thread writes on. Whether the commit was made is not known, and so nobody hears that it was.
        let committed = committed.unwrap_or_else(|_| {
            let _ = connection.execute_batch("ROLLBACK");
            Err(lost())
        });
        report(&committed, answers.len(), &mut failing);
        let durable = committed.is_ok();
        for answer in answers {
            // Whoever waits for it hears that nothing is known of the change, as after a lost answer.
            if catch_unwind(AssertUnwindSafe(|| answer(durable))).is_err() {
                error!("a mistake in adit kept the answer to a change of the store");
            }
        }
    }
}

/// One transaction with everything that is queued by now.
fn transaction(
    connection: &Connection,
    first: Job,
    jobs: &Receiver<Job>,
    answers: &mut Vec<Answer>,
) -> rusqlite::Result<()> {
    let begun = connection.execute_batch("BEGIN IMMEDIATE");
    let mut job = Some(first);
    while let Some(next) = job.take() {
        // Without a transaction nothing may be tried: the answers would not be undone together.
        if begun.is_ok() && connection.is_autocommit() {
            return Err(lost());
        }
        answers.extend(next(connection));
        if answers.len() < TRANSACTION_MAX {
            job = jobs.try_recv().ok();
        }
    }
    begun?;
    if connection.is_autocommit() {
        return Err(lost());
    }
    let may_commit = fallible("store-commit", &"sqlite").map_err(failed);
    let committed = may_commit.and_then(|()| connection.execute_batch("COMMIT"));
    committed.inspect_err(|_| {
        // Fails when the failure itself has rolled back, which is as good.
        let _ = connection.execute_batch("ROLLBACK");
    })?;
    fallible("store-committed", &"sqlite").map_err(failed)
}

/// A failure of the disk in the middle of a transaction undoes all of it, and so does a panic.
fn lost() -> rusqlite::Error {
    failed("the transaction was rolled back")
}

fn failed(why: impl Display) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
    rusqlite::Error::SqliteFailure(code, Some(why.to_string()))
}

fn in_savepoint<T, E: Unavailable, D: Display>(
    connection: &Connection,
    apply: impl FnOnce(&Connection) -> Result<T, Fault<E, D>>,
) -> Result<T, E> {
    if connection.is_autocommit() {
        return Err(E::unavailable());
    }
    if let Err(error) = connection.execute_batch("SAVEPOINT operation") {
        return Err(super::answer(Fault::Database(error)));
    }
    // A panic half-way is undone as a refusal is, and costs its own change alone: the thread writes on.
    let result = catch_unwind(AssertUnwindSafe(|| {
        let value = apply(connection)?;
        match fallible("store-change", &"sqlite") {
            Ok(()) => Ok(value),
            Err(_) => Err(Fault::Refused(E::unavailable())),
        }
    }));
    let end = match &result {
        Ok(Ok(_)) => "RELEASE operation",
        Ok(Err(_)) | Err(_) => "ROLLBACK TO operation; RELEASE operation",
    };
    // Where the whole transaction is lost, its end finds out.
    let ended = connection.execute_batch(end);
    match result {
        Ok(Ok(value)) if ended.is_ok() => Ok(value),
        Ok(Ok(_)) => Err(E::unavailable()),
        Ok(Err(fault)) => Err(super::answer(fault)),
        Err(_) => {
            error!("a mistake in adit ended a change of the store half-way; it was undone");
            Err(E::unavailable())
        }
    }
}

/// Says so when storing begins to fail, and when it works again; not for every transaction between.
fn report(committed: &rusqlite::Result<()>, changes: usize, failing: &mut bool) {
    match committed {
        Err(error) if !*failing => {
            error!(%error, changes, "the store cannot be written; changes are refused until it can");
        }
        Ok(()) if *failing => info!("the store can be written again"),
        Ok(()) | Err(_) => {}
    }
    *failing = committed.is_err();
}

/// Each waits for an answer, so there cannot be more than API requests and handshakes at one time;
/// they take about 1 KiB each.
const QUEUE_MAX: usize = 16_384;

/// Operations of one transaction; some 20 microseconds each, so that the first of them does not wait
/// for the last for long.
const TRANSACTION_MAX: usize = 1_024;
