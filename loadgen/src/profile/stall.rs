//! One reader of many stops reading: do the others notice?

use std::cell::RefCell;
use std::rc::Rc;

use super::bulk::{Progress, Stalled, Stream};
use super::windows::{Counted, Windows};
use super::{Outcome, Sessions};
use crate::args::Direction;
use crate::drive::Worker;

/// All read bulk; connection number 0 stops for a time, and reads the rest when the time is up.
pub(super) async fn run(worker: &Rc<Worker>, sessions: Sessions) -> Outcome {
    let windows = Windows::new(worker.start, worker.job.drive.duration);
    let counts = Rc::new(RefCell::new(vec![Counted::default(); sessions.len()]));
    let mut tasks = Vec::new();
    let mut others = Vec::new();
    let mut victim = None;
    for (place, (index, session)) in sessions.into_iter().enumerate() {
        let (counts, windows_of) = (Rc::clone(&counts), windows.clone());
        let tell = move |progress: Progress| {
            let counted = &mut counts.borrow_mut()[place];
            windows_of.count(counted, progress.now, progress.bytes);
        };
        let stream = Stream::new(worker, index);
        if index == STALLED {
            victim = Some(monoio::spawn(stream.stall(session, tell, windows.stall)));
        } else {
            others.push(place);
            tasks.push(monoio::spawn(stream.run(session, Direction::Down, tell)));
        }
    }
    super::finish(tasks).await;
    let stalled = match victim {
        Some(victim) => victim.await,
        None => Stalled::default(),
    };
    let counts = counts.borrow();
    let others: Vec<Counted> = others.iter().map(|&place| counts[place]).collect();
    Outcome {
        stall: Some(windows.outcome(&others, stalled.has_stalled, stalled.was_cut)),
        ..Outcome::default()
    }
}

/// The connection that stalls.
const STALLED: usize = 0;
