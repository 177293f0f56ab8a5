//! Connections that live for one round trip.

use std::rc::Rc;
use std::time::Instant;

use monoio::task::JoinHandle;

use super::Sessions;
use crate::drive::{Trouble, Worker};
use crate::settings::Model;

/// As many tasks as there may be connections at once; each opens one after the other.
pub(super) fn spawn(
    worker: &Rc<Worker>,
    size: usize,
    reply: usize,
    trials: Sessions,
) -> Vec<JoinHandle<()>> {
    let mut tasks: Vec<_> = trials
        .into_iter()
        .map(|(_, session)| {
            let worker = Rc::clone(worker);
            monoio::spawn(async move {
                if let Err(trouble) = session.close().await {
                    worker.blame_connection(&trouble);
                }
                worker.recorder.closed();
            })
        })
        .collect();
    tasks.extend(worker.connections().map(|index| {
        let worker = Rc::clone(worker);
        monoio::spawn(async move {
            while let Some(intended) = worker.next_start().await {
                visit(&worker, index, intended, (size, reply)).await;
            }
        })
    }));
    tasks
}

/// Dial, and one round trip with both trailers: the operation is the whole life of a connection.
async fn visit(worker: &Worker, index: usize, intended: Instant, (size, reply): (usize, usize)) {
    let started = Instant::now();
    let intended = match worker.job.drive.model {
        Model::Open { .. } => intended,
        Model::Closed => started,
    };
    match live(worker, index, size, reply).await {
        Ok(()) => {
            let (up, down) = (size as u64, reply as u64);
            worker
                .recorder
                .ok(intended, started, Instant::now(), up, down);
        }
        Err(trouble) => {
            worker.blame(&trouble);
            // A target that refuses at once would be asked as fast as this machine can.
            if worker.job.drive.model == Model::Closed {
                worker.pause().await;
            }
        }
    }
}

async fn live(worker: &Worker, index: usize, size: usize, reply: usize) -> Result<(), Trouble> {
    let session = worker.open(index).await?;
    let outcome = session.ask_last(size, reply).await;
    worker.recorder.closed();
    outcome
}
