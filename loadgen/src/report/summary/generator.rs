//! The generator's view of itself.

use serde::{Deserialize, Serialize};

/// Whether the generator kept up with its own schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Its CPU time over the run, in seconds, all threads.
    pub cpu_s: f64,
    /// Its CPU time by time: 1 is a whole core.
    pub cpu_cores: f64,
    /// The same of its busiest thread: 1 is all that one thread can have.
    pub cpu_busiest_thread: f64,
    /// The thread that was idle least: its CPU time, and the time that it was ready to run but had no core, by time.
    #[serde(default)]
    pub busiest_wanted: f64,
    /// Times it was woken by a timer, and starts that it slept through.
    pub wakes: u64,
    /// How late it was: half of them by at most this, in nanoseconds.
    pub lag_p50_ns: u64,
    /// 99 % of them by at most this.
    pub lag_p99_ns: u64,
    /// At worst.
    pub lag_max_ns: u64,
    /// Whether its own limits may have set the figures.
    pub is_bottleneck: bool,
}
