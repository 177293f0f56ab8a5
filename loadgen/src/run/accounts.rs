//! What the processes under test use during a run, and for each connection that they hold.

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::account::{Accountant, SubjectSpec, Usage, Window};
use crate::exit::Error;
use crate::report::ProcessUse;

/// The accounts of one run.
pub(super) struct Accounts {
    accountant: Accountant,
    /// Before any connection of the run.
    before: Vec<(String, Usage)>,
}

impl Accounts {
    /// Looks for all of them.
    pub(super) fn open(subjects: &[SubjectSpec]) -> Result<Self, Error> {
        let find = |spec: &SubjectSpec| {
            spec.find().map_err(|error| {
                Error::usage(
                    error.to_string(),
                    "give --pid and --cgroup of what is under test and runs already",
                )
            })
        };
        let subjects = subjects.iter().map(find).collect::<Result<_, _>>()?;
        let accountant = Accountant::start(subjects).context("nobody keeps the accounts")?;
        let before = accountant.snapshot();
        Ok(Self { accountant, before })
    }

    /// The measured time begins.
    pub(super) fn begin(&self) {
        self.accountant.begin_window();
    }

    /// What each connection has cost in memory so far, by the names of those who pay. Memory that was set free earlier
    /// and is used again costs nothing: only a process that held none before tells the whole.
    pub(super) fn each(&self, connections: usize) -> BTreeMap<String, f64> {
        let mut figures = BTreeMap::new();
        for (name, now) in self.accountant.snapshot() {
            let Some((_, before)) = self.before.iter().find(|(other, _)| *other == name) else {
                continue;
            };
            let kinds = [
                ("user_memory", before.user_memory, now.user_memory),
                ("resident", before.resident, now.resident),
            ];
            for (kind, before, now) in kinds {
                if let (Some(before), Some(now)) = (before, now) {
                    let each = (now as f64 - before as f64) / connections as f64;
                    figures.insert(format!("{name}_{kind}_per_connection_bytes"), each);
                }
            }
        }
        figures
    }

    /// The measured time is over.
    pub(super) fn finish(self) -> Vec<Window> {
        self.accountant.finish()
    }
}

/// What a window of the accounts says, in which `bytes` of payload were carried.
pub(super) fn process_use(window: &Window, bytes: u64) -> ProcessUse {
    ProcessUse {
        name: window.name.clone(),
        pid: window.pid,
        cpu_user_s: (window.end.cpu_user - window.begin.cpu_user).max(0.0),
        cpu_system_s: (window.end.cpu_system - window.begin.cpu_system).max(0.0),
        cpu_cores: window.cpu() / window.seconds.max(1e-9),
        // CPU time is counted in hundredths of a second: of little payload it would be rounding.
        cpu_s_per_gib: window.cpu_per_gib(bytes).filter(|_| bytes >= 64 << 20),
        resident_bytes: window.end.resident,
        resident_max_bytes: window.resident_max,
        user_memory_bytes: window.end.user_memory,
        user_memory_max_bytes: window.user_memory_max,
        descriptors: window.end.descriptors,
        has_ended: window.gone_at.is_some(),
    }
}
