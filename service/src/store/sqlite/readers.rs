//! A few connections that read what is committed, beside the thread that writes.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{database, tunnels};
use crate::data_dir::{DataDir, DataDirError};
use crate::store::error::{Fault, Unavailable};

pub(super) struct Readers {
    /// As many as there are permits that nobody has.
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(dir: &DataDir) -> Result<Self, DataDirError> {
        let open = || {
            let connection = database::open_reader(dir)?;
            let ready = tunnels::rehearse(&connection);
            ready.map_err(|error| database::fault(&dir.file(database::FILE), error))?;
            Ok(connection)
        };
        let connections: Result<Vec<_>, DataDirError> = (0..READERS).map(|_| open()).collect();
        Ok(Self {
            idle: Arc::new(Mutex::new(connections?)),
            permits: Arc::new(Semaphore::new(READERS)),
        })
    }

    /// One look at what is committed; each statement of it sees one moment.
    pub(super) async fn read<T, E, D>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Fault<E, D>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Unavailable + Send + 'static,
        D: Display + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(WAIT_MAX, permit).await else {
            return Err(E::unavailable());
        };
        let idle = Arc::clone(&self.idle);
        let reading = tokio::task::spawn_blocking(move || {
            let connection = lock(&idle).pop();
            let Some(connection) = connection else {
                return Err(E::unavailable());
            };
            // A panic costs its own read, and no connection: there are only a few.
            let result = catch_unwind(AssertUnwindSafe(|| query(&connection)));
            lock(&idle).push(connection);
            // Only now may another one have it.
            drop(permit);
            result
                .unwrap_or_else(|_| Err(Fault::Refused(E::unavailable())))
                .map_err(super::answer)
        });
        reading.await.unwrap_or_else(|_| Err(E::unavailable()))
    }

    /// Lets the reads under way end, within a bound, and closes everything: whoever closes the
    /// database last has to be the one that may write, or its log is left lying beside it.
    pub(super) async fn drain(&self) {
        let all = self.permits.acquire_many(READERS as u32);
        let all = tokio::time::timeout(WAIT_MAX, all).await;
        self.stop();
        drop(all);
    }

    /// Closes what nobody uses; later reads are refused.
    pub(super) fn stop(&self) {
        self.permits.close();
        lock(&self.idle).clear();
    }
}

fn lock(idle: &Mutex<Vec<Connection>>) -> MutexGuard<'_, Vec<Connection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads take microseconds, so these are never all busy for long.
const READERS: usize = 4;

const WAIT_MAX: Duration = Duration::from_secs(5);
