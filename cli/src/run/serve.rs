//! Runs the service, until a signal ends it.

use tracing::error;

use crate::exit::ExitCode;
use crate::settings::ServeSettings;

/// Runs the service, until a signal ends it.
pub fn serve(settings: ServeSettings) -> ExitCode {
    let _ = settings;
    error!("not wired yet");
    ExitCode::Failure
}
