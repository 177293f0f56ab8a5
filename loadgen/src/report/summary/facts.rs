//! What was run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The program that measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it was built with optimisation and without debug assertions.
    pub is_optimised: bool,
}

impl Program {
    /// This program.
    #[must_use]
    pub fn this() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            is_optimised: !cfg!(debug_assertions),
        }
    }
}

/// When operations begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// At times that were set beforehand, whatever the answers do.
    Open,
    /// Each when the one before it has ended: a slow target is asked less, and its worst is not seen.
    #[default]
    Closed,
    /// All by one event, at once.
    Event,
}

impl Model {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Event => "event",
        }
    }
}

/// What was run, in words that repeat it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The command line, as it was given.
    pub command_line: Vec<String>,
    /// When it began, RFC 3339, in UTC.
    pub started_at: String,
    /// The profile.
    pub profile: String,
    /// What was driven: an address, a tunnel, or the system that the generator started.
    pub target: String,
    /// Open or closed.
    pub model: Model,
    /// Operations a second that were to begin; none in a closed model.
    pub offered_rate: Option<f64>,
    /// How long it was to run, in seconds.
    pub duration_s: f64,
    /// Connections held open.
    pub connections: u64,
    /// Threads that offered load.
    pub threads: u64,
    /// All payloads, sizes and times follow from it.
    pub seed: u64,
    /// Congestion control that the generator's sockets asked for; none: the system's.
    pub congestion_control: Option<String>,
    /// The kernel interface of the workers.
    pub io: String,
    /// Whatever else the profile was told, by the names of its options.
    pub parameters: BTreeMap<String, String>,
    /// Whether somebody stopped it before its time.
    pub is_interrupted: bool,
}

/// The time now, RFC 3339, in UTC, to the second.
#[must_use]
pub fn timestamp() -> String {
    let now = time::OffsetDateTime::now_utc();
    let whole = now.replace_nanosecond(0).unwrap_or(now);
    whole
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default()
}
