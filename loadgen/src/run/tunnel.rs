//! One run over a tunnel whose ends are played.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, bail};

use super::accounts::Accounts;
use super::measure::{HEAD_START, facts, holding};
use crate::args::Direction;
use crate::direct::{self, DirectSettings, Load};
use crate::exit::Error;
use crate::place::{Ends, Stage};
use crate::profile::Shape;
use crate::report::{Ending, ErrorKind, Plan, Reporter, Summary};
use crate::settings::{Drive, Model, Profile};

/// Connects, offers load for as long as it says, and sums up.
///
/// # Errors
/// There is no tunnel, or a peer breaks the protocol.
pub(super) fn measure(
    drive: &Drive,
    stage: &Stage,
    ends: &Ends,
    stop: &Arc<AtomicBool>,
) -> Result<Summary, Error> {
    let load = load(drive);
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
    let start = Instant::now() + HEAD_START;
    let mut reporter = Reporter::start(Plan {
        facts: facts(drive, stage.name(), "tokio"),
        start,
        workers: 1,
        show: drive.output.show,
        directory: drive.output.directory.clone(),
    })
    .context("the report cannot be begun")?;
    let recorder = reporter.recorder();
    let (outcome, held) = thread::scope(|scope| {
        let running = scope.spawn(|| tunnel.run(recorder, start));
        accounts.begin(start, drive.duration);
        let is_over = || stop.load(Ordering::Relaxed) || running.is_finished();
        let held = holding(drive, start, &accounts, is_over);
        let outcome = running.join();
        let panicked = || bail!("the thread of the source's end panicked");
        (outcome.unwrap_or_else(|_| panicked()), held)
    });
    let outcome = outcome?;
    let is_interrupted = stop.load(Ordering::Relaxed);
    let mut warnings: Vec<String> = outcome.first_fault.clone().into_iter().collect();
    let cut_short = outcome.cut_short.as_ref();
    warnings.extend(cut_short.map(|how| format!("the tunnel ended before its time: {how}")));
    warnings.extend(outcome.profile.warnings());
    let is_whole = cut_short.is_none() && !is_interrupted;
    let mut figures = outcome.figures(ends.destination.is_some());
    if let Some(held) = held.filter(|_| is_whole) {
        figures.extend(accounts.each(held, outcome.profile.held.unwrap_or_default()));
    }
    let windows = accounts.finish();
    let ending = Ending {
        measured: Some(match is_whole {
            true => drive.duration,
            false => outcome.offered.min(drive.duration),
        }),
        figures,
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
fn load(drive: &Drive) -> Load {
    let count = drive.connections;
    let rate = match drive.model {
        Model::Open { rate } => Some(rate),
        Model::Closed => None,
    };
    let none = |shape| Load::none(shape, rate);
    let nothing = none(Shape::Typing);
    match drive.profile {
        Profile::Latency { size, reply_size } => Load {
            asks: count,
            ..none(Shape::fixed(size, reply_size))
        },
        Profile::Churn { size, reply_size } => Load {
            churns: count,
            ..none(Shape::fixed(size, reply_size))
        },
        Profile::SshTyping => Load {
            asks: count,
            ..none(Shape::Typing)
        },
        Profile::HttpMix => Load {
            asks: count,
            ..none(Shape::Http)
        },
        Profile::Bulk(direction) => bulk(nothing, direction, count),
        Profile::Stall => Load {
            pulls: count,
            stalls: true,
            ..nothing
        },
        Profile::Idle => Load {
            holds: count,
            ..nothing
        },
        Profile::Mixed {
            direction,
            interactive,
            size,
            reply_size,
        } => {
            let asks = Load {
                asks: interactive,
                ..none(Shape::fixed(size, reply_size))
            };
            bulk(asks, direction, count - interactive)
        }
    }
}

/// A connection of a tunnel carries bulk one way; of both, each has its own.
fn bulk(load: Load, direction: Direction, count: usize) -> Load {
    let of = |goes: bool| if goes { count } else { 0 };
    Load {
        pushes: of(direction != Direction::Down),
        pulls: of(direction != Direction::Up),
        ..load
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
