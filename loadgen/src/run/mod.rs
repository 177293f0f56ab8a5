//! Does the one thing that the settings say.

mod accounts;
mod measure;
mod search;

use anyhow::Context as _;

use crate::drive::raise_descriptor_limit;
use crate::exit::{Error, Verdict};
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
        Settings::Serve(settings) => server::serve(&settings)?,
        Settings::Drive(drive) => return offer(&drive),
        Settings::Report(args) => return report::run(&args),
        Settings::Compare(args) => return compare::run(&args),
    }
    Ok(Verdict::Passed)
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
    let stop = report::watch_signals().context("signals cannot be watched")?;
    let summary = match &drive.output.ramp {
        Some(threshold) => search::search(drive, threshold, &stop)?,
        None => measure::measure(drive, &stop)?,
    };
    report::print(&report::table(&summary))?;
    if let Some(directory) = &drive.output.directory {
        summary
            .save(directory)
            .context("the report cannot be written")?;
    }
    Ok(report::verdict(&summary))
}
