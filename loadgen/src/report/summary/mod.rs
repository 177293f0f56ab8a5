//! What a run measured, and everything that is needed to repeat it: `summary.json`.

mod facts;
mod generator;
mod process;
mod second;
mod shares;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use facts::{Model, Program, RunFacts, timestamp};
pub use generator::Generator;
pub use process::ProcessUse;
pub use second::{SECONDS_MAX, Second};
pub use shares::{STREAMS_MAX, Share, Shares};

use super::{error_kind::ErrorKind, latency::Latency};
use crate::{
    machine::Machine,
    threshold::{Outcome, RampStep},
};

/// Version of the shape of `summary.json`. It grows by one when a field changes its meaning or goes;
/// fields that are added leave it as it is.
pub const SCHEMA_VERSION: u32 = 2;

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// Who measured.
    pub program: Program,
    /// What was run, in words that repeat it.
    pub run: RunFacts,
    /// On what.
    pub machine: Machine,
    /// How long it was measured, in seconds; the rates are over this time.
    pub elapsed_s: f64,
    /// Operations that ended well.
    pub operations: u64,
    /// Intended starts that came due; zero in a closed model.
    pub due: u64,
    /// Operations a second that ended well.
    pub achieved_rate: f64,
    /// Payload bytes sent towards the target.
    pub bytes_up: u64,
    /// Payload bytes received from it.
    pub bytes_down: u64,
    /// Payload bits a second towards the target.
    pub up_bits_per_second: f64,
    /// Payload bits a second from it.
    pub down_bits_per_second: f64,
    /// Most connections open at the end of a second.
    pub open_max: u64,
    /// Operations that did not end well, by kind.
    pub errors: BTreeMap<ErrorKind, u64>,
    /// Connections that failed outside of any operation (opened anew, ended in order), by kind. With `operations` and
    /// `errors` they have nothing to do: those two add up to what was begun or came due.
    #[serde(default)]
    pub connection_errors: BTreeMap<ErrorKind, u64>,
    /// From the intended start: what somebody who wanted the operation then has waited.
    pub corrected: Latency,
    /// From the actual start. It hides whatever held the start itself up.
    pub uncorrected: Latency,
    /// How the bytes were shared among streams, where the profile tells streams apart.
    pub shares: Option<Shares>,
    /// CPU and memory of the processes under test.
    pub processes: Vec<ProcessUse>,
    /// The generator itself.
    pub generator: Generator,
    /// Figures that only the profile knows, by name; the name ends in the unit.
    pub figures: BTreeMap<String, f64>,
    /// What the reader should know before believing the figures.
    pub warnings: Vec<String>,
    /// `--fail-if`, and what came of it.
    pub thresholds: Vec<Outcome>,
    /// `--ramp`: the rates that were tried. The rest of the summary is a run at the highest that held; where none did,
    /// bytes were lost, or the search was stopped, it is the last run.
    pub ramp: Vec<RampStep>,
    /// One-second series, at most [`SECONDS_MAX`].
    pub series: Vec<Second>,
}

impl Summary {
    /// Operations that did not end well.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Share of the operations that did not end well, 0 to 1; 0 when there were none.
    #[must_use]
    pub fn error_share(&self) -> f64 {
        let errors = self.errors_total();
        match errors + self.operations {
            0 => 0.0,
            all => errors as f64 / all as f64,
        }
    }

    /// Whether this profile has operations: bulk, say, has none.
    #[must_use]
    pub fn has_operations(&self) -> bool {
        self.run.model == Model::Open || self.operations + self.errors_total() > 0
    }

    /// Of the operations that came due in an open model, the share that ended well. By the offered rate where it is not
    /// known how many came due.
    #[must_use]
    pub fn achieved_share(&self) -> Option<f64> {
        let offered = self.run.offered_rate?;
        Some(match self.due {
            0 => self.achieved_rate / offered,
            due => self.operations as f64 / due as f64,
        })
    }

    /// Whether nothing failed but that starts were left out, as a machine that is too busy does.
    #[must_use]
    pub fn has_only_skipped(&self) -> bool {
        let mut kinds = self.errors.keys().chain(self.connection_errors.keys());
        kinds.all(|kind| *kind == ErrorKind::Skipped)
    }

    /// Failures, of operations and of connections, by which bytes were lost or wrong.
    #[must_use]
    pub fn losses(&self) -> BTreeMap<ErrorKind, u64> {
        let mut losses = BTreeMap::new();
        let all = self.errors.iter().chain(&self.connection_errors);
        for (kind, count) in all.filter(|(kind, _)| kind.loses_bytes()) {
            *losses.entry(*kind).or_default() += count;
        }
        losses
    }

    /// Whether every byte that came was the right one, as far as this run can tell.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        !self.losses().contains_key(&ErrorKind::Mismatch)
    }

    /// Whether the generator, rather than what it drives, may have set the figures.
    #[must_use]
    pub fn is_generator_bound(&self) -> bool {
        self.generator.is_bottleneck
    }

    /// Whether a threshold was crossed.
    #[must_use]
    pub fn has_crossed(&self) -> bool {
        self.thresholds.iter().any(|outcome| outcome.is_crossed)
    }
}
