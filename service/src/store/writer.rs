//! One thread that makes changes durable, many at a time.
//!
//! Changes queue up while a snapshot is on its way to the disk. The next batch takes all of them: they
//! are tried out on a copy of the table, the copy is written, and only then it takes the table's place
//! and the changes are answered. So what others see is always what the disk has, a failed write leaves
//! no trace, and a burst of any size costs two writes.
//!
//! ```text
//! queue ─► copy ─► changes made on it ─► snapshot written ─► copy becomes the table ─► answers
//!                                             └─ failed ───► copy dropped ──────────► Unavailable
//! ```

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use adit_proto::{Mode, TunnelId};
use tracing::{error, info};

use super::snapshot_file;
use crate::clock::Now;
use crate::data_dir::DataDirError;
use crate::tunnels::Tunnels;

/// Makes a change on the copy; gives what answers it, or `None` when nobody waits for it any more.
pub(super) type Change = Box<dyn FnOnce(&mut Tunnels) -> Option<Answer> + Send>;

/// Told whether the batch is durable.
pub(super) type Answer = Box<dyn FnOnce(bool) + Send>;

/// Replaces the snapshot with these bytes; durable when it returns.
pub(super) type Save = Box<dyn FnMut(&[u8]) -> Result<(), DataDirError> + Send>;

/// The table, and what is on its way into it.
pub(super) struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

pub(super) struct State {
    /// What everybody sees; durable, except who is connected and what time has done.
    pub(super) live: Tunnels,
    /// The latest time that a caller has brought; always there when there is a writer.
    now: Option<Now>,
    queue: Vec<Change>,
    /// While a batch is away: what happened to the table meanwhile. Bounded by what the relay reports
    /// within the time of a write.
    meanwhile: Option<Vec<Passing>>,
    /// Time has removed something that is still on the disk.
    stale: bool,
    stored: Stored,
    stopping: bool,
}

/// What is known of the snapshot on the disk.
#[derive(Clone, Copy)]
struct Stored {
    revision: u64,
    sessions_until: u64,
}

/// What happens to the table at once, durable or not.
pub(super) enum Passing {
    Connected(Now, TunnelId, Mode, u64),
    Disconnected(Now, TunnelId, Mode, u64),
    Ended(Now, Vec<TunnelId>),
}

impl Shared {
    pub(super) fn new(live: Tunnels, now: Option<Now>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                live,
                now,
                queue: Vec::new(),
                meanwhile: None,
                stale: false,
                stored: Stored {
                    revision: 0,
                    sessions_until: 0,
                },
                stopping: false,
            }),
            work: Condvar::new(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let state = self.state.lock();
        state.expect("no operation of the table panics half-way")
    }

    /// Refused when the writer has ended or has too much to do.
    pub(super) fn submit(&self, now: Option<Now>, change: Change) -> Result<(), Refused> {
        let mut state = self.state();
        if state.stopping || state.queue.len() >= QUEUE_MAX {
            return Err(Refused);
        }
        state.see(now);
        state.queue.push(change);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Has the table written soon, with nobody waiting for it.
    pub(super) fn refresh(&self) {
        self.state().stale = true;
        self.work.notify_one();
    }

    /// Lets the writer finish what is queued; whatever comes later is refused.
    pub(super) fn stop(&self) {
        self.state().stopping = true;
        self.work.notify_one();
    }

    /// Writes the table before anybody uses it: proves that it can be done, and that the sessions of
    /// this run are above those of the last.
    pub(super) fn write_first(&self, save: &mut Save) -> Result<(), DataDirError> {
        let mut state = self.state();
        state.stored = write(&state.live, state.time(), save)?;
        Ok(())
    }

    /// The writer's thread.
    pub(super) fn run(&self, mut save: Save) {
        let _ending = Ending(self);
        let mut failing = false;
        while let Some(mut batch) = self.next_batch() {
            let changes = std::mem::take(&mut batch.changes);
            let make = changes
                .into_iter()
                .filter_map(|change| change(&mut batch.copy));
            let answers: Vec<_> = make.collect();
            let written = if batch.stored.covers(&batch.copy) {
                Ok(batch.stored)
            } else {
                write(&batch.copy, batch.now, &mut save)
            };
            report(&written, answers.len(), &mut failing);
            let durable = written.is_ok();
            // The table that is not needed any more is dropped here, not under the lock.
            let _old = self.finish(batch.copy, written.ok());
            answers.into_iter().for_each(|answer| answer(durable));
        }
    }

    /// Waits for something to do; `None` when there will be nothing more.
    fn next_batch(&self) -> Option<Batch> {
        let idle = |state: &mut State| state.queue.is_empty() && !state.stale && !state.stopping;
        let state = self.work.wait_while(self.state(), idle);
        let mut state = state.expect("no operation of the table panics half-way");
        if state.queue.is_empty() && !state.stale {
            return None;
        }
        state.stale = false;
        state.meanwhile = Some(Vec::new());
        Some(Batch {
            changes: std::mem::take(&mut state.queue),
            copy: state.live.clone(),
            now: state.time(),
            stored: state.stored,
        })
    }

    /// Puts the copy in the table's place if it is durable; returns the one that is over.
    fn finish(&self, mut copy: Tunnels, stored: Option<Stored>) -> Tunnels {
        let mut state = self.state();
        let meanwhile = state.meanwhile.take().unwrap_or_default();
        let Some(stored) = stored else {
            return copy;
        };
        meanwhile
            .iter()
            .for_each(|passing| passing.repeat(&mut copy));
        state.stored = stored;
        std::mem::replace(&mut state.live, copy)
    }
}

impl State {
    /// Whether a session can be given out on the table as it is, without the disk: not while another
    /// table may take its place, and only with a number that no later run gives out.
    pub(super) fn can_admit(&self) -> bool {
        self.meanwhile.is_none() && self.live.next_session() < self.stored.sessions_until
    }

    /// Does it to the table, and remembers it for the one that may be about to take its place.
    pub(super) fn pass<T>(&mut self, passing: Passing, apply: impl FnOnce(&mut Tunnels) -> T) -> T {
        let (Passing::Connected(now, ..)
        | Passing::Disconnected(now, ..)
        | Passing::Ended(now, ..)) = &passing;
        self.see(Some(*now));
        let result = apply(&mut self.live);
        self.note(passing);
        result
    }

    pub(super) fn note(&mut self, passing: Passing) {
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.push(passing);
        }
    }

    pub(super) fn see(&mut self, now: Option<Now>) {
        let later = |now: &Now| self.now.is_none_or(|known| now.instant > known.instant);
        if let Some(now) = now.filter(later) {
            self.now = Some(now);
        }
    }

    fn time(&self) -> Now {
        self.now.expect("a table with a writer began at some time")
    }
}

/// There is no writer to take the change.
pub(super) struct Refused;

struct Batch {
    changes: Vec<Change>,
    copy: Tunnels,
    now: Now,
    stored: Stored,
}

impl Stored {
    fn covers(self, tunnels: &Tunnels) -> bool {
        tunnels.revision() == self.revision && tunnels.next_session() <= self.sessions_until
    }
}

impl Passing {
    fn repeat(&self, tunnels: &mut Tunnels) {
        match self {
            Self::Connected(now, id, mode, session) => {
                // Whether it was cut was decided on the old table. A change that has just become
                // durable cuts by itself, after its answer.
                let _ = tunnels.set_connected(*now, id, *mode, *session);
            }
            Self::Disconnected(now, id, mode, session) => {
                tunnels.set_disconnected(*now, id, *mode, *session);
            }
            Self::Ended(now, ids) => tunnels.end(*now, ids),
        }
    }
}

/// However the thread ends, nobody may wait for it afterwards.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.state.lock() {
            state.stopping = true;
            state.queue.clear();
        }
    }
}

fn write(tunnels: &Tunnels, now: Now, save: &mut Save) -> Result<Stored, DataDirError> {
    let stored = Stored {
        revision: tunnels.revision(),
        sessions_until: tunnels.next_session() + SESSIONS_RESERVED,
    };
    save(&snapshot_file::encode(tunnels, now, stored.sessions_until))?;
    Ok(stored)
}

/// Says so when storing begins to fail, and when it works again; not for every batch between.
fn report(written: &Result<Stored, DataDirError>, changes: usize, failing: &mut bool) {
    match written {
        Err(error) if !*failing => {
            error!(%error, changes, "tunnels cannot be stored; changes are refused until they can");
        }
        Ok(_) if *failing => info!("tunnels can be stored again"),
        Ok(_) | Err(_) => {}
    }
    *failing = written.is_err();
}

/// Each waits for an answer, so there cannot be more than API requests and handshakes at one time.
const QUEUE_MAX: usize = 16_384;

/// Sessions that may be given out between two snapshots: clients that come back with their client
/// token need no write of their own.
const SESSIONS_RESERVED: u64 = 1 << 20;
