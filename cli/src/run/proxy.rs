//! Runs one side of a tunnel, until it ends.

use tracing::error;

use crate::exit::ExitCode;
use crate::settings::ProxySettings;

/// Runs one side of a tunnel, until it ends.
pub fn proxy(settings: ProxySettings) -> ExitCode {
    let _ = settings;
    error!("not wired yet");
    ExitCode::Failure
}
