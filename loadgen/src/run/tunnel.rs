//! One run over a tunnel whose ends are played.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context as _;

use super::accounts::Accounts;
use super::measure::facts;
use crate::args::Direction;
use crate::direct::{self, DirectSettings, Load};
use crate::exit::Error;
use crate::place::{Ends, Stage};
use crate::report::{Ending, ErrorKind, Plan, Reporter, Summary};
use crate::settings::{Drive, Model, Profile};

/// Connects, offers load for as long as it says, and sums up.
///
/// # Errors
/// There is no tunnel, or the profile is none for it.
pub(super) fn measure(
    drive: &Drive,
    stage: &Stage,
    ends: &Ends,
    stop: &Arc<AtomicBool>,
) -> Result<Summary, Error> {
    let load = load(drive)?;
    let accounts = Accounts::open(&drive.subjects)?;
    let tunnel = direct::connect(DirectSettings {
        source: ends.source.clone(),
        destination: ends.destination.clone(),
        load,
        duration: drive.duration,
        grace: drive.grace,
        seed: drive.seed,
        stop: Arc::clone(stop),
    })
    .map_err(|fault| unreachable(ends, &fault))?;
    let start = Instant::now();
    let mut reporter = Reporter::start(Plan {
        facts: facts(drive, stage.name(), "tokio"),
        start,
        workers: 1,
        show: drive.output.show,
        directory: drive.output.directory.clone(),
    })
    .context("the report cannot be begun")?;
    accounts.begin(start + drive.duration);
    let outcome = tunnel.run(reporter.recorder())?;
    let windows = accounts.finish();
    let is_interrupted = stop.load(Ordering::Relaxed);
    let mut warnings: Vec<String> = outcome.first_fault.clone().into_iter().collect();
    let cut_short = outcome.cut_short.as_ref();
    warnings.extend(cut_short.map(|how| format!("the tunnel ended before its time: {how}")));
    let is_whole = cut_short.is_none() && !is_interrupted;
    let ending = Ending {
        measured: Some(match is_whole {
            true => drive.duration,
            false => start.elapsed().min(drive.duration),
        }),
        figures: outcome.figures(ends.destination.is_some()),
        warnings,
        is_interrupted,
        ..Ending::default()
    };
    let mut summary = reporter.finish(ending, &[]);
    // Found at the far end, where no recorder is: the generator may not have heard of it.
    if outcome.faults > 0 {
        summary
            .errors
            .entry(ErrorKind::Mismatch)
            .or_insert(outcome.faults);
    }
    let bytes = summary.bytes_up + summary.bytes_down;
    summary.processes = windows.iter().map(|it| it.to_use(bytes)).collect();
    let judge = |threshold: &crate::threshold::Threshold| threshold.judge(&summary);
    summary.thresholds = drive.output.thresholds.iter().map(judge).collect();
    Ok(summary)
}

/// What a profile offers, as connections of a tunnel.
fn load(drive: &Drive) -> Result<Load, Error> {
    let count = drive.connections;
    let mut load = Load {
        rate: match drive.model {
            Model::Open { rate } => Some(rate),
            Model::Closed => None,
        },
        ..Load::default()
    };
    match drive.profile {
        Profile::Latency { size, reply_size } => {
            (load.asks, load.size, load.reply_size) = (count, size, reply_size);
        }
        Profile::Churn { size, reply_size } => {
            (load.churns, load.size, load.reply_size) = (count, size, reply_size);
        }
        Profile::Bulk(direction) => bulk(&mut load, direction, count),
        Profile::Mixed {
            direction,
            interactive,
            size,
            reply_size,
        } => {
            (load.asks, load.size, load.reply_size) = (interactive, size, reply_size);
            bulk(&mut load, direction, count - interactive);
        }
        other @ (Profile::Idle | Profile::Stall | Profile::SshTyping | Profile::HttpMix) => {
            return Err(Error::usage(
                format!("{} is not offered by tokens", other.name()),
                "drive it over TCP: --target, or --self without --play",
            ));
        }
    }
    Ok(load)
}

/// A connection of a tunnel carries bulk one way; of both, each has its own.
fn bulk(load: &mut Load, direction: Direction, count: usize) {
    if direction != Direction::Down {
        load.pushes = count;
    }
    if direction != Direction::Up {
        load.pulls = count;
    }
}

fn unreachable(ends: &Ends, fault: &anyhow::Error) -> Error {
    let endpoint = &ends.source.endpoint;
    Error::Unreachable {
        target: format!("{}:{}", endpoint.host, endpoint.port),
        reason: format!("{fault:#}"),
        hint: "check --endpoint, --ca and the tokens; a token that was used before is refused"
            .to_owned(),
    }
}
