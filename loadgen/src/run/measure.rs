//! One run: from the first dial to the summary.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::accounts::{Accounts, Held};
use super::tunnel;
use crate::drive::{Begin, Crew, Job, Trouble};
use crate::exit::Error;
use crate::place::{Place, Stage, Stand};
use crate::profile::Outcome;
use crate::report::{
    self, Ending, ErrorKind, Plan, ProcessUse, Reporter, RunFacts, Summary, timestamp,
};
use crate::settings::{Drive, Model, Profile};
use crate::threshold::Threshold;

/// Opens the connections, offers load for as long as it says, and sums up.
///
/// # Errors
/// No connection can be opened, or the machine gives not what is needed.
pub(super) fn measure(
    drive: &Drive,
    stage: &Stage,
    stop: &Arc<AtomicBool>,
) -> Result<Summary, Error> {
    let targets = match &stage.stand {
        Stand::Targets(targets) => targets.clone(),
        Stand::Tunnel(ends) => return tunnel::measure(drive, stage, ends, stop),
    };
    let target = *targets.first().context("there is no target")?;
    let job = Arc::new(Job {
        drive: drive.clone(),
        targets,
    });
    let accounts = Accounts::open(&drive.subjects)?;
    let crew = Crew::muster(&job)?;
    if crew.opened == 0 {
        return Err(nothing_opened(target, crew));
    }
    let facts = facts(drive, stage.name(), crew.backend);
    let start = Instant::now() + HEAD_START;
    let mut reporter = Reporter::start(Plan {
        facts,
        start,
        workers: drive.threads,
        show: drive.output.show,
        directory: drive.output.directory.clone(),
    })
    .context("the report cannot be begun")?;
    crew.begin(|| Begin {
        recorder: reporter.recorder(),
        start,
        stop: Arc::clone(stop),
    })?;
    accounts.begin(start, drive.duration);
    let is_stopped = || stop.load(Ordering::Relaxed);
    let held = holding(drive, start, &accounts, is_stopped);
    let (outcome, offered) = crew.finish()?;
    let mut ending = ending(&outcome, offered, is_stopped());
    if let Some(held) = held.filter(|_| !is_stopped()) {
        let each = accounts.each(held, outcome.held.unwrap_or_default());
        ending.figures.extend(each);
    }
    let windows = accounts.finish();
    let mut summary = reporter.finish(ending, &[]);
    let bytes = summary.bytes_up + summary.bytes_down;
    summary.processes = windows.iter().map(|it| it.to_use(bytes)).collect();
    if let Some(warning) = own_far_end(drive, &summary).and_then(report::far_end) {
        summary.warnings.push(warning);
        summary.generator.is_bottleneck = true;
    }
    let judge = |threshold: &Threshold| threshold.judge(&summary);
    summary.thresholds = drive.output.thresholds.iter().map(judge).collect();
    Ok(summary)
}

/// The verifying server, where it was started for the run.
fn own_far_end<'a>(drive: &Drive, summary: &'a Summary) -> Option<&'a ProcessUse> {
    let mut processes = summary.processes.iter();
    match drive.place {
        Place::System(..) => processes.find(|it| it.name == "server"),
        Place::Target(_) | Place::Tunnel(_) => None,
    }
}

/// What is used while a profile holds its connections, read shortly before its end. `None`: it holds none, or it was over
/// before, and then it cannot be said how long any of them was there.
pub(super) fn holding(
    drive: &Drive,
    start: Instant,
    accounts: &Accounts,
    is_over: impl Fn() -> bool,
) -> Option<Held> {
    if drive.profile != Profile::Idle {
        return None;
    }
    let at = start + drive.duration.saturating_sub(BEFORE_END);
    wait_for(at, is_over).then(|| accounts.look())
}

/// Waits on the main thread, which has nothing else to do. False: the run is over before.
fn wait_for(at: Instant, is_over: impl Fn() -> bool) -> bool {
    while !is_over() {
        match at.checked_duration_since(Instant::now()) {
            Some(left) => std::thread::sleep(left.min(LOOK_UP)),
            None => return true,
        }
    }
    false
}

/// What is run, as reports tell it.
pub(super) fn facts(drive: &Drive, target: String, backend: &str) -> RunFacts {
    let (model, offered_rate) = match drive.model {
        Model::Open { rate } => (report::Model::Open, Some(rate)),
        Model::Closed => (report::Model::Closed, None),
    };
    RunFacts {
        command_line: report::command_line(std::env::args_os()),
        started_at: timestamp(),
        profile: drive.profile.name().to_owned(),
        target,
        model,
        offered_rate,
        duration_s: drive.duration.as_secs_f64(),
        connections: drive.connections as u64,
        threads: drive.threads as u64,
        seed: drive.seed,
        congestion_control: drive.congestion.clone(),
        io: backend.to_owned(),
        parameters: drive.profile.parameters(),
        ..RunFacts::default()
    }
}

fn ending(outcome: &Outcome, offered: Duration, is_stopped: bool) -> Ending {
    Ending {
        // What was answered after the time was up belongs to it.
        measured: Some(offered),
        figures: outcome.figures(),
        warnings: outcome.warnings(),
        is_interrupted: is_stopped,
        ..Ending::default()
    }
}

fn nothing_opened(target: SocketAddr, crew: Crew) -> Error {
    let trouble = crew.trouble.expect("a connection was tried");
    let failure = |why: String| Error::Failure(anyhow::anyhow!(why));
    match trouble {
        // Only the far end complains, so it is there.
        Trouble::Complaint { .. } => {
            failure(format!("bytes are wrong on the way of {target}: {trouble}"))
        }
        _ if trouble.kind() == ErrorKind::Mismatch => failure(format!(
            "{target} does not lead to `adit-loadgen serve`, or bytes are wrong: {trouble}"
        )),
        _ => Error::Unreachable {
            target: target.to_string(),
            reason: trouble.to_string(),
            hint: match trouble {
                Trouble::GivenUp => {
                    "the target takes connections, but the first question or its answer did not come through whole; \
                     lead it to `adit-loadgen serve`, and look for lost bytes on the way"
                }
                _ => "start `adit-loadgen serve` and lead the target to it",
            }
            .to_owned(),
        },
    }
}

/// Memory is read while all connections are still idle.
const BEFORE_END: Duration = Duration::from_millis(200);

/// How often a run that waits looks whether it is stopped.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Between the last connection and the first operation: all workers hear of it before.
pub(super) const HEAD_START: Duration = Duration::from_millis(20);
