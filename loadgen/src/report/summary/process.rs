//! What a process under test used.

use serde::{Deserialize, Serialize};

/// One process or control group over the measured time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessUse {
    /// Who: a role such as `relay`, or what was given by `--pid` or `--cgroup`.
    pub name: String,
    /// Its number; none for a control group.
    pub pid: Option<u32>,
    /// Path and build id of its program; none for a control group, or where that may not be read.
    #[serde(default)]
    pub executable: Option<String>,
    /// CPU time in user mode, seconds.
    pub cpu_user_s: f64,
    /// CPU time in the kernel, seconds.
    pub cpu_system_s: f64,
    /// Both by time: 1 is a whole core.
    pub cpu_cores: f64,
    /// Threads of it that were ready to run and had no core, on average; none where that cannot be known.
    #[serde(default)]
    pub waiting_cores: Option<f64>,
    /// Both by payload carried (both directions), seconds for each GiB; none where little was carried.
    pub cpu_s_per_gib: Option<f64>,
    /// Resident memory at the end, bytes.
    pub resident_bytes: Option<u64>,
    /// The most of it at any second.
    pub resident_max_bytes: Option<u64>,
    /// Memory of its own that it has written (private dirty, or anonymous), at the end, bytes.
    pub user_memory_bytes: Option<u64>,
    /// The most of it at any second.
    pub user_memory_max_bytes: Option<u64>,
    /// Descriptors open at the end.
    pub descriptors: Option<u64>,
    /// Whether it ended before the run did.
    pub has_ended: bool,
}
