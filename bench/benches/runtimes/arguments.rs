//! What the command line asks for.

use std::time::Duration;

/// Runs of each runtime in each scenario, unless told otherwise.
const RUNS: usize = 5;
/// As many as somebody waits for.
const RUNS_MAX: usize = 1_000;
const MEASURED: Duration = Duration::from_millis(400);

pub(crate) struct Arguments {
    /// Parts of the names of scenarios; none means all.
    filters: Vec<String>,
    pub(crate) runs: usize,
    /// How long one run is measured.
    pub(crate) measured: Duration,
}

impl Arguments {
    /// As cargo gives them: `--bench` comes from `cargo bench`. Without it this is `cargo test`, which
    /// wants to know that everything runs: each once, for as short as can be.
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut is_bench = false;
        let mut runs = None;
        let mut filters = Vec::new();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--bench" => is_bench = true,
                "--runs" => runs = Some(count(words.next().as_deref())?),
                option if option.starts_with('-') => {
                    return Err(format!(
                        "{option} is not known here: name scenarios (a part of the name will do), or --runs N"
                    ));
                }
                _ => filters.push(word),
            }
        }
        let (usual, measured) = if is_bench {
            (RUNS, MEASURED)
        } else {
            (1, Duration::ZERO)
        };
        Ok(Self {
            filters,
            runs: runs.unwrap_or(usual),
            measured,
        })
    }

    pub(crate) fn choose(&self, scenario: &str) -> bool {
        self.filters.is_empty()
            || self
                .filters
                .iter()
                .any(|part| scenario.contains(part.as_str()))
    }
}

fn count(word: Option<&str>) -> Result<usize, String> {
    let problem = || {
        let said = word.unwrap_or("nothing");
        format!("--runs takes a number from 1 to {RUNS_MAX}, not {said}")
    };
    let runs = word.and_then(|word| word.parse().ok());
    runs.filter(|runs| (1..=RUNS_MAX).contains(runs))
        .ok_or_else(problem)
}
