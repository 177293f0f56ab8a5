//! Connections that live for one round trip.

use std::rc::Rc;
use std::time::Instant;

use monoio::task::JoinHandle;

use super::Sessions;
use crate::drive::{Session, Trouble, Worker};
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
            let mut leaving: Option<JoinHandle<()>> = None;
            while let Some(intended) = worker.next_start().await {
                let session = visit(&worker, index, intended, (size, reply)).await;
                // The next one need not wait for it, the one after that does: there are two for a place at most.
                if let Some(before) = leaving.take() {
                    before.await;
                }
                leaving = session.map(|it| monoio::spawn(leave(Rc::clone(&worker), it)));
            }
            if let Some(last) = leaving {
                last.await;
            }
        })
    }));
    tasks
}

/// Dial, and one round trip with both trailers: the operation is the whole life of a connection. Gives back one that has
/// come to its end.
async fn visit(
    worker: &Worker,
    index: usize,
    intended: Instant,
    (size, reply): (usize, usize),
) -> Option<Session> {
    let started = Instant::now();
    let intended = match worker.job.drive.model {
        Model::Open { .. } => intended,
        Model::Closed => started,
    };
    match live(worker, index, size, reply).await {
        Ok(session) => {
            let (up, down) = (size as u64, reply as u64);
            worker
                .recorder
                .ok(intended, started, Instant::now(), up, down);
            Some(session)
        }
        Err(trouble) => {
            worker.blame(&trouble);
            // A target that refuses at once would be asked as fast as this machine can.
            if worker.job.drive.model == Model::Closed {
                worker.pause().await;
            }
            None
        }
    }
}

async fn live(
    worker: &Worker,
    index: usize,
    size: usize,
    reply: usize,
) -> Result<Session, Trouble> {
    let mut session = worker.open(index).await?;
    let outcome = session.ask_last(size, reply).await;
    worker.recorder.closed();
    outcome.map(|()| session)
}

/// Nothing may come behind the trailer.
async fn leave(worker: Rc<Worker>, session: Session) {
    if let Err(trouble) = session.leave().await {
        worker.blame_connection(&trouble);
    }
}
