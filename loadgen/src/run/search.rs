//! `--ramp until`: one run after the other, for the highest rate that holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::measure::measure;
use crate::exit::Error;
use crate::place::Stage;
use crate::report::Summary;
use crate::settings::{Drive, Model};
use crate::threshold::{Ramp, Threshold};

/// Searches, then runs once more at the rate that held: that run is the one reported, with all rates that were tried.
/// Where none held, where the search was stopped, or where bytes were lost at a rate, there is no such run, and the last
/// one is reported: a search is no better than what it found.
///
/// The run reported is always the last one made, so its files are those that stay.
///
/// # Errors
/// The model is closed, or a run could not be made.
pub(super) fn search(
    drive: &Drive,
    stage: &Stage,
    threshold: &Threshold,
    stop: &Arc<AtomicBool>,
) -> Result<Summary, Error> {
    let Model::Open { rate } = drive.model else {
        return Err(Error::usage(
            "--ramp searches for a rate, and a closed model has none",
            "leave --closed away, or choose a profile that takes --rate",
        ));
    };
    let run = |rate| {
        let mut drive = drive.clone();
        drive.model = Model::Open { rate };
        measure(&drive, stage, stop)
    };
    let mut ramp = Ramp::new(threshold.clone(), rate);
    let mut last = None;
    while let Some(rate) = ramp.next_rate() {
        let summary = run(rate)?;
        let is_stopped = stop.load(Ordering::Relaxed);
        if !is_stopped {
            ramp.tell(&summary);
        }
        let is_over = is_stopped || !summary.losses().is_empty();
        last = Some(summary);
        if is_over {
            return Ok(told(last, ramp));
        }
    }
    if let Some(best) = ramp.best() {
        last = Some(run(best)?);
    }
    Ok(told(last, ramp))
}

fn told(last: Option<Summary>, ramp: Ramp) -> Summary {
    let mut summary = last.expect("a search has a first run");
    summary.ramp = ramp.into_steps();
    summary
}
