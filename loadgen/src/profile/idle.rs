//! Connections that are open, and that is all.

use std::rc::Rc;

use super::{Outcome, Sessions};
use crate::drive::Worker;

/// Holds the connections until the time is up; then each has to carry a round trip, byte by byte, and an end in order.
pub(super) async fn hold(worker: &Rc<Worker>, sessions: Sessions) -> Outcome {
    worker.timer.until(worker.end()).await;
    let mut held = 0;
    let mut waiting = sessions.into_iter();
    // Some at a time: ten thousand at once would measure the far end's queue.
    loop {
        let batch: Vec<_> = waiting
            .by_ref()
            .take(AT_ONCE)
            .map(|(_, mut session)| {
                let worker = Rc::clone(worker);
                monoio::spawn(async move {
                    let asked = session.ask(SIZE, SIZE).await;
                    let outcome = match asked {
                        Ok(()) => session.close().await,
                        Err(trouble) => Err(trouble),
                    };
                    worker.recorder.closed();
                    outcome.inspect_err(|trouble| worker.blame(trouble)).is_ok()
                })
            })
            .collect();
        if batch.is_empty() {
            break;
        }
        for task in batch {
            held += u64::from(task.await);
        }
    }
    Outcome {
        held: Some(held),
        ..Outcome::default()
    }
}

/// Connections that are proved at once.
pub(crate) const AT_ONCE: usize = 256;
/// Bytes of the question that proves a connection, and of its answer.
pub(crate) const SIZE: usize = 64;
