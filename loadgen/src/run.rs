//! Does the one thing that the settings say.

use anyhow::anyhow;

use crate::exit::{Error, Verdict};
use crate::server;
use crate::settings::Settings;

/// Runs to the end.
///
/// # Errors
/// It could not be done; a run that came to its end with failures is a [`Verdict`].
pub fn run(settings: Settings) -> Result<Verdict, Error> {
    match settings {
        Settings::Serve(settings) => server::serve(&settings)?,
        Settings::Drive(settings) => Err(anyhow!("not built yet: {settings:?}"))?,
    }
    Ok(Verdict::Passed)
}
