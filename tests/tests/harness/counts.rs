//! That a part of `tests/release` which raises a count runs every test that takes it. Otherwise a test runs at its
//! ordinary count alone, and nothing tells.

use std::collections::BTreeMap;
use std::path::Path;

use super::sources::{function, read, root, tests_in};

/// How `tests/release` runs tests: with which counts raised, of which binary, and chosen by which words.
struct Run {
    counts: Vec<String>,
    binary: String,
    filters: Vec<String>,
}

impl Run {
    fn covers(&self, taker: &Taker) -> bool {
        let Taker {
            count,
            binary,
            test,
        } = taker;
        self.counts.contains(count)
            && self.binary == *binary
            && self.filters.iter().any(|filter| test.contains(filter))
    }
}

/// A test that takes a count.
#[derive(Debug, PartialEq)]
struct Taker {
    count: String,
    binary: String,
    /// With its module.
    test: String,
}

/// Each line that runs test binaries of this crate, with the counts that were set above it.
fn runs(script: &str) -> Vec<Run> {
    let mut counts = Vec::new();
    let mut runs = Vec::new();
    for line in script.lines() {
        let mut words = line.split_whitespace();
        let binary = match words.next() {
            Some("with") => {
                let named = words.filter_map(|word| word.split_once('=').map(|(name, _)| name));
                counts = named.map(str::to_owned).collect();
                continue;
            }
            Some("faults") => Some("faults"),
            Some("black_box") => words.next(),
            Some("run") => words.find(|word| *word == "--test").and(words.next()),
            _ => None,
        };
        if let Some(binary) = binary {
            runs.push(Run {
                counts: counts.clone(),
                binary: binary.to_owned(),
                filters: words
                    .filter(|word| word.len() > 1 && !word.starts_with("--"))
                    .map(str::to_owned)
                    .collect(),
            });
        }
    }
    runs
}

/// The tests in a source that take counts themselves.
fn takers(binary: &str, module: &str, source: &str) -> Vec<Taker> {
    let tests = tests_in(source);
    let mut takers = Vec::new();
    let mut current = None;
    for line in source.lines() {
        current = function(line).or(current);
        let asked = line.split_once("count(\"").map(|(_, rest)| rest);
        let count = asked.and_then(|rest| rest.split_once('"'));
        if let (Some((count, _)), Some(name)) = (count, current)
            && tests.contains(name)
        {
            takers.push(Taker {
                count: count.to_owned(),
                binary: binary.to_owned(),
                test: format!("{module}::{name}"),
            });
        }
    }
    takers
}

/// Those of all test binaries.
fn all_takers() -> Vec<Taker> {
    let mut takers_of_all = Vec::new();
    let names = |directory: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(directory).expect("a directory of tests");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.filter_map(|name| name.into_string().ok()).collect()
    };
    let tests = root().join("tests/tests");
    for binary in names(&tests) {
        for file in names(&tests.join(&binary)) {
            if let Some(module) = file.strip_suffix(".rs") {
                let source = read(&format!("tests/tests/{binary}/{file}"));
                takers_of_all.extend(takers(&binary, module, &source));
            }
        }
    }
    takers_of_all
}

#[test]
fn a_count_that_a_release_raises_reaches_every_test_that_takes_it() {
    let runs = runs(&read("tests/release"));
    let takers = all_takers();
    let mut found = BTreeMap::<&str, usize>::new();
    for taker in &takers {
        *found.entry(&taker.count).or_default() += 1;
    }
    assert!(found.len() > 15, "only {found:?} are read");
    let missed = takers
        .iter()
        .filter(|taker| !runs.iter().any(|run| run.covers(taker)));
    let missed: Vec<_> = missed.collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_test_that_no_filter_meets_is_told() {
    let script = "\
one() {
  with ADIT_ONE=20 ADIT_TWO=3
  faults first::the --test-threads 1
  run cargo test --package adit-tests --test attack -- --nocapture second::
}
";
    let source = "
async fn the_first(scenario: Scenario) -> Result<()> {
    let count = count(\"ADIT_ONE\", 1)?;
}
async fn another(scenario: Scenario) -> Result<()> {
    helper()
}
fn helper() -> usize {
    count(\"ADIT_ONE\", 1)
}
on_each_loop!(the_first, another_one);
";
    let runs = runs(script);
    let covered = |binary, module| {
        let takers = takers(binary, module, source);
        assert_eq!(takers.len(), 1, "{takers:?}");
        runs.iter().any(|run| run.covers(&takers[0]))
    };
    assert!(covered("faults", "first"));
    assert!(!covered("faults", "second"));
    assert!(covered("attack", "second"));
    assert!(!covered("relay", "first"));
}
