//! Runs the agent, until a signal ends it.

use tracing::error;

use super::runtime;
use crate::agent;
use crate::agent::settings::AgentSettings;
use crate::exit::ExitCode;

/// Runs the agent, until a signal ends it.
pub fn agent(settings: AgentSettings) -> ExitCode {
    match runtime::run(agent::run(settings)) {
        Ok(Ok(())) => ExitCode::Ended,
        Ok(Err(code)) => code,
        Err(fault) => {
            error!("cannot start: {fault}");
            ExitCode::Failure
        }
    }
}
