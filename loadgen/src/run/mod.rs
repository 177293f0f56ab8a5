//! Does the one thing that the settings say.

mod accounts;
mod measure;
mod search;
mod tunnel;

use anyhow::Context as _;

use crate::direct::{self, LinkSettings};
use crate::drive::raise_descriptor_limit;
use crate::exit::{Error, Verdict};
use crate::place::Stage;
use crate::settings::{Drive, Settings};
use crate::{compare, report, server, system, tunnels};

/// Runs to the end.
///
/// # Errors
/// It could not be done; a run that came to its end with failures is a [`Verdict`].
pub fn run(settings: Settings) -> Result<Verdict, Error> {
    match settings {
        Settings::Storm(it) => return tunnels::storm(*it),
        Settings::Many(it) => return tunnels::many(*it),
        Settings::System(it) => system::keep_up(*it)?,
        Settings::Part => system::run_part()?,
        Settings::Answer(link) => answer(&link)?,
        Settings::Serve(settings) => server::serve(&settings)?,
        Settings::Drive(drive) => return offer(&drive),
        Settings::Report(args) => return report::run(&args),
        Settings::Compare(args) => return compare::run(&args),
    }
    Ok(Verdict::Passed)
}

/// Plays the destination of a tunnel until it ends, which is a failure.
fn answer(link: &LinkSettings) -> Result<(), Error> {
    let ready = || report::print("answering as the destination of the tunnel\n");
    Ok(direct::serve(link, ready)?)
}

/// Offers load, and reports.
fn offer(drive: &Drive) -> Result<Verdict, Error> {
    raise_descriptor_limit(drive.connections).map_err(|(limit, needed)| {
        Error::usage(
            format!(
                "--connections {} needs {needed} descriptors, and {limit} are allowed",
                drive.connections
            ),
            "raise the limit (ulimit -n), or share the connections among several processes",
        )
    })?;
    let stage = Stage::set(&drive.place)?;
    let mut drive = drive.clone();
    drive.subjects.extend(stage.subjects());
    let drive = &drive;
    let stop = report::watch_signals().context("signals cannot be watched")?;
    let summary = match &drive.ramp {
        Some(threshold) => search::search(drive, &stage, threshold, &stop)?,
        None => measure::measure(drive, &stage, &stop)?,
    };
    if let Some(fault) = stage.fault() {
        return Err(anyhow::anyhow!(fault).into());
    }
    report::print(&report::table(&summary))?;
    if let Some(directory) = &drive.output.directory {
        summary
            .save(directory)
            .context("the report cannot be written")?;
    }
    Ok(report::conclude(&summary))
}
