//! What is offered.

mod bulk;
mod churn;
mod exchange;
pub(crate) mod idle;
mod outcome;
mod shape;
mod stall;
mod windows;

use std::rc::Rc;

use monoio::task::JoinHandle;

pub use outcome::{Outcome, StallOutcome};
pub use shape::{RoundTrip, Shape};
pub(crate) use windows::{Counted, Windows};

use crate::drive::{Session, Worker};
use crate::settings::Profile;

/// Connections by their numbers in the run.
pub(crate) type Sessions = Vec<(usize, Session)>;

/// Offers what the profile says over connections that are open, until the time is up and all that was begun is answered
/// or given up.
pub(crate) async fn offer(worker: &Rc<Worker>, sessions: Sessions) -> Outcome {
    match worker.job.drive.profile {
        Profile::Latency { size, reply_size } => {
            round_trips(worker, Shape::fixed(size, reply_size), sessions).await;
        }
        Profile::SshTyping => round_trips(worker, Shape::Typing, sessions).await,
        Profile::HttpMix => round_trips(worker, Shape::Http, sessions).await,
        Profile::Bulk(direction) => finish(bulk::spawn(worker, direction, sessions)).await,
        Profile::Mixed {
            direction,
            interactive,
            size,
            reply_size,
        } => {
            let (asking, pushing) = sessions
                .into_iter()
                .partition(|(index, _)| *index < interactive);
            let shape = Shape::fixed(size, reply_size);
            let pushing = bulk::spawn(worker, direction, pushing);
            let places = worker.connections().filter(|index| *index < interactive);
            finish(exchange::spawn(worker, shape, places, asking)).await;
            finish(pushing).await;
        }
        Profile::Churn { size, reply_size } => {
            finish(churn::spawn(worker, size, reply_size, sessions)).await;
        }
        Profile::Idle => return idle::hold(worker, sessions).await,
        Profile::Stall => return stall::run(worker, sessions).await,
    }
    Outcome::default()
}

async fn round_trips(worker: &Rc<Worker>, shape: Shape, sessions: Sessions) {
    let places = worker.connections();
    finish(exchange::spawn(worker, shape, places, sessions)).await;
}

async fn finish(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        task.await;
    }
}
