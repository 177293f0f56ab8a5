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
    let mut ramp = Ramp::new(threshold.clone(), rate);
    let mut last = None;
    while let Some(rate) = ramp.next_rate() {
        let summary = measure(&step(drive, rate, false), stage, stop)?;
        if stop.load(Ordering::Relaxed) {
            last = Some(summary);
            break;
        }
        ramp.tell(&summary);
        last = Some(summary);
    }
    let mut summary = match ramp.best() {
        Some(best) if !stop.load(Ordering::Relaxed) => {
            measure(&step(drive, best, true), stage, stop)?
        }
        _ => last.expect("a search has a first step"),
    };
    summary.ramp = ramp.into_steps();
    Ok(summary)
}

/// The same at another rate. Only the last run leaves files.
fn step(drive: &Drive, rate: f64, is_last: bool) -> Drive {
    let mut drive = drive.clone();
    drive.model = Model::Open { rate };
    if !is_last {
        drive.output.directory = None;
        drive.output.thresholds.clear();
    }
    drive
}
