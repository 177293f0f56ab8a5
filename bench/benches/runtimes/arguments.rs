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
    /// Whether it is a mistake when no scenario is chosen.
    pub(crate) must_choose: bool,
}

impl Arguments {
    /// As cargo gives them: `--bench` comes from `cargo bench`.
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let words: Vec<String> = words.collect();
        match words.iter().any(|word| word == "--bench") {
            true => Self::of_bench(words),
            false => Ok(Self::of_test(words)),
        }
    }

    /// `cargo test` wants to know that everything runs: each once, for as short as can be. Its filters and options are
    /// those of all tests, so that one that is nothing here is no mistake.
    fn of_test(words: Vec<String>) -> Self {
        Self {
            filters: words
                .into_iter()
                .filter(|word| !word.starts_with('-'))
                .collect(),
            runs: 1,
            measured: Duration::ZERO,
            must_choose: false,
        }
    }

    fn of_bench(words: Vec<String>) -> Result<Self, String> {
        let mut runs = RUNS;
        let mut filters = Vec::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--bench" => {}
                "--runs" => runs = count(words.next().as_deref())?,
                option if option.starts_with('-') => {
                    return Err(format!(
                        "{option} is not known here: name scenarios (a part of the name will do), or --runs N"
                    ));
                }
                _ => filters.push(word),
            }
        }
        Ok(Self {
            filters,
            runs,
            measured: MEASURED,
            must_choose: true,
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
