//! What the processes under test use during a run, and for each connection that they hold.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::account::{Accountant, SubjectSpec, Usage, Window};
use crate::exit::Error;

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

    /// Waits until `start`, when the measured time begins; it is over after `duration`. Bytes that come before or later
    /// are not counted, so what they cost is not either.
    pub(super) fn begin(&self, start: Instant, duration: Duration) {
        std::thread::sleep(start.saturating_duration_since(Instant::now()));
        self.accountant.begin_window(start + duration);
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

    /// The run is over.
    pub(super) fn finish(self) -> Vec<Window> {
        self.accountant.finish()
    }
}
