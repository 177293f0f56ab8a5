//! Does the one thing that the settings say.

use anyhow::anyhow;

use crate::exit::{Error, Verdict};
use crate::settings::Settings;
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
        Settings::Drive(settings) => Err(anyhow!("not built yet: {settings:?}"))?,
        Settings::Report(args) => return report::run(&args),
        Settings::Compare(args) => return compare::run(&args),
    }
    Ok(Verdict::Passed)
}
