//! What the processes under test use during a run, and for each connection that they hold.

use std::collections::{BTreeMap, BTreeSet};
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
        let names: BTreeSet<&str> = held.0.iter().map(|it| &*it.0).collect();
        for name in names {
            // Several may have one name, and of one that is gone it is not known what it held.
            let [before, now] = [&self.before, &held.0].map(|all| named(all, name));
            if before.len() != now.len() {
                continue;
            }
            for (kind, of) in KINDS {
                let sum = |usages: &[&Usage]| usages.iter().map(|it| of(it)).sum::<Option<u64>>();
                if let (Some(before), Some(now)) = (sum(&before), sum(&now)) {
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

/// What is used by all of that name.
fn named<'a>(usages: &'a [(String, Usage)], name: &str) -> Vec<&'a Usage> {
    let named = usages.iter().filter(|it| it.0 == name);
    named.map(|it| &it.1).collect()
}

type Of = fn(&Usage) -> Option<u64>;

/// Memory that is told for each connection.
const KINDS: [(&str, Of); 2] = [
    ("user_memory", |usage| usage.user_memory),
    ("resident", |usage| usage.resident),
];

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

    /// `--pid 10=relay --pid 11=relay`: a connection costs what it costs in both.
    #[test]
    fn processes_of_one_name_are_accounted_for_together() {
        let of = |name: &str, user_memory| {
            let usage = Usage {
                user_memory: Some(user_memory),
                ..Usage::default()
            };
            (name.to_owned(), usage)
        };
        let accounts = Accounts {
            accountant: Accountant::start(Vec::new()).unwrap(),
            before: vec![of("relay", 1_000), of("relay", 5_000), of("gone", 0)],
        };
        let now = vec![of("relay", 2_000), of("relay", 9_000)];
        let each = accounts.each(Held(now), 10);
        let expected = ("relay_user_memory_per_connection_bytes".to_owned(), 500.0);
        assert_eq!(each, BTreeMap::from([expected]));
        // Of one that is gone nobody knows what it holds.
        let each = accounts.each(Held(vec![of("relay", 2_000)]), 10);
        assert_eq!(each, BTreeMap::new());
    }
}
