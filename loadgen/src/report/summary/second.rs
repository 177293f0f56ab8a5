//! One second of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::error_kind::ErrorKind;

/// Seconds of a series that are kept, a day; of a longer run, the first. One takes about 200 bytes
/// of memory, so a series takes 17 MB at most.
pub const SECONDS_MAX: usize = 24 * 3600;

/// What happened in one second. The last one of a run may be shorter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// The second of the run, from 0.
    pub second: u32,
    /// Intended starts that came due.
    pub due: u64,
    /// Operations that ended well.
    pub operations: u64,
    /// Payload bytes sent towards the target.
    pub bytes_up: u64,
    /// Payload bytes received from it.
    pub bytes_down: u64,
    /// Connections open at its end.
    pub open: u64,
    /// Operations that did not end well.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<ErrorKind, u64>,
    /// Connections that failed outside of any operation.
    #[serde(default)]
    pub connection_errors: u64,
    /// Corrected latency: half of the operations took at most this, in nanoseconds.
    pub p50_ns: u64,
    /// 90 % of them.
    pub p90_ns: u64,
    /// 99 % of them.
    pub p99_ns: u64,
    /// 99.9 % of them.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The longest from its actual start.
    pub uncorrected_max_ns: u64,
    /// 99 % of the wakes of the generator were at most so late, in nanoseconds.
    pub lag_p99_ns: u64,
    /// CPU time of the generator by time: 1 is a whole core.
    pub generator_cpu: f64,
    /// The same of its busiest thread.
    pub generator_cpu_busiest: f64,
}

impl Second {
    /// Operations that did not end well.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }
}
