//! One reader of many stops reading: do the others notice?

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::bulk::{Pause, Progress, Stream};
use super::outcome::StallOutcome;
use super::{Outcome, Sessions};
use crate::args::Direction;
use crate::drive::Worker;

/// When what is measured, in shares of the duration. Between the windows all settles.
const BEFORE: (f64, f64) = (0.1, 0.4);
const STALL: f64 = 0.4;
const DURING: (f64, f64) = (0.5, 1.0);

/// All read bulk; connection number 0 stops at [`STALL`], and reads the rest when the time is up.
pub(super) async fn run(worker: &Rc<Worker>, sessions: Sessions) -> Outcome {
    let duration = worker.job.drive.duration;
    let at = |share| worker.start + duration.mul_f64(share);
    let windows = [BEFORE, DURING].map(|(begin, end)| (at(begin), at(end)));
    let counts = Rc::new(RefCell::new(vec![[0_u64; 2]; sessions.len()]));
    let mut tasks = Vec::new();
    let mut others = Vec::new();
    let mut victim = None;
    for (place, (index, session)) in sessions.into_iter().enumerate() {
        let counts = Rc::clone(&counts);
        let tell = move |progress: Progress| {
            for (window, (begin, end)) in windows.into_iter().enumerate() {
                if (begin..end).contains(&progress.now) {
                    counts.borrow_mut()[place][window] += progress.bytes;
                }
            }
        };
        let stream = Stream::new(worker, index);
        if index == STALLED {
            let pause = Pause { from: at(STALL) };
            victim = Some(monoio::spawn(stream.stall(session, tell, pause)));
        } else {
            others.push(place);
            tasks.push(monoio::spawn(stream.run(session, Direction::Down, tell)));
        }
    }
    super::finish(tasks).await;
    let has_stalled = victim.is_some();
    let was_cut = match victim {
        Some(victim) => victim.await,
        None => false,
    };
    let counts = counts.borrow();
    let of = |window: usize| others.iter().map(|&place| counts[place][window]).collect();
    let length = |(begin, end): (Instant, Instant)| -> Duration { end - begin };
    Outcome {
        stall: Some(StallOutcome {
            before: of(0),
            during: of(1),
            windows: (length(windows[0]), length(windows[1])),
            has_stalled,
            was_cut,
        }),
        ..Outcome::default()
    }
}

/// The connection that stalls.
const STALLED: usize = 0;
