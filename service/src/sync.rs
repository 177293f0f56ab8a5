//! What `tests/concurrency` puts others in the place of, where it compiles modules a second time.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
pub(crate) use std::thread;

pub(crate) use tokio::time::timeout;
