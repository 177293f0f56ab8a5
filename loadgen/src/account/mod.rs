//! What the programs under test use up: processor time, memory, descriptors.
//!
//! Read from `/proc` and from control groups, from outside and without stopping anything. A reading of
//! one process costs the kernel a walk over its page tables, well under a millisecond for programs
//! like these, so a sample a second disturbs nothing.

mod accountant;
mod cgroup;
mod process;
mod subject;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use accountant::{Accountant, SAMPLES_MAX, Sample, Window};
pub use subject::{AccountError, Subject, SubjectSpec};

/// What a process or a group of processes has used so far, and holds now.
///
/// What cannot be known from the kind of subject, or by this kernel, is `None`, never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user mode, seconds since the subject began.
    pub cpu_user: f64,
    /// Processor time in the kernel on the subject's behalf, seconds.
    pub cpu_system: f64,
    /// How long its threads were ready to run and had no core, seconds, over all threads that live.
    pub cpu_wait: Option<f64>,
    /// Resident memory, bytes; for a control group what the group is charged with, page cache
    /// included.
    pub resident: Option<u64>,
    /// User memory: bytes that are this subject's alone and were written to (private dirty; for a
    /// control group its anonymous memory). What a program costs beyond its own file.
    pub user_memory: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Times that a thread gave the processor away, over all threads that live.
    pub switches_voluntary: Option<u64>,
    /// Times that it was taken from one.
    pub switches_involuntary: Option<u64>,
}

impl Usage {
    /// Processor time, user and kernel.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        self.cpu_user + self.cpu_system
    }
}

/// Time between two samples.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
