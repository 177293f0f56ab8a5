//! Runs a tunnel on this machine.

use tracing::error;

use crate::exit::ExitCode;
use crate::settings::DemoSettings;

/// Runs a tunnel on this machine.
pub fn demo(settings: DemoSettings) -> ExitCode {
    let _ = settings;
    error!("not wired yet");
    ExitCode::Failure
}
