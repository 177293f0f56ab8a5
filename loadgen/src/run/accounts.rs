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

/// What was used while connections were held.
pub(super) struct Held(Vec<(String, Usage)>);

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

    /// What is used now, by the names of those who use it.
    pub(super) fn look(&self) -> Held {
        Held(self.accountant.snapshot())
    }

    /// What each of so many connections cost in memory when it was looked, by the names of those who pay. Memory that was
    /// set free earlier and is used again costs nothing: only a process that held none before tells the whole.
    pub(super) fn each(&self, held: Held, connections: u64) -> BTreeMap<String, f64> {
        let mut figures = BTreeMap::new();
        if connections == 0 {
            return figures;
        }
        for (name, now) in held.0 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::SubjectSpec;
    use crate::report::assert_directions;

    #[test]
    fn memory_is_shared_by_the_connections_that_were_held() {
        let own: SubjectSpec = format!("{}=own", std::process::id()).parse().unwrap();
        let accounts = Accounts::open(&[own]).unwrap();
        let of = |resident| {
            let usage = Usage {
                resident: Some(resident),
                user_memory: None,
                ..accounts.before[0].1
            };
            Held(vec![("own".to_owned(), usage)])
        };
        let before = accounts.before[0].1.resident.unwrap();
        let figures = accounts.each(of(before + 1000), 10);
        assert_eq!(figures["own_resident_per_connection_bytes"], 100.0);
        assert_directions(&figures, &[], &["own_resident_per_connection_bytes"]);
        assert!(accounts.each(of(before + 1000), 0).is_empty());
    }
}
