//! Runs the simulator: `simulate --seeds 4096 --steps 20000`, or one seed with what happened last:
//! `simulate --seed 17 --steps 20000`.

use adit_tests::simulation::{Bug, Run, run_all};
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let mut out = std::io::stdout();
    let start = Instant::now();
    let (seeds, result) = match arguments.seed {
        Some(seed) => {
            let run = Run {
                seed,
                steps: arguments.steps,
                bug: arguments.bug,
                has_trace: true,
            };
            (1, run.go())
        }
        None => {
            let Arguments { first, seeds, .. } = arguments;
            (seeds, run_all(first, seeds, arguments.steps, arguments.bug))
        }
    };
    match result {
        Ok(tally) => {
            let steps = seeds * arguments.steps;
            let time = start.elapsed();
            writeln!(out, "{seeds} seeds, {steps} steps in {time:.1?}: {tally:?}")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            writeln!(out, "{failure}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

struct Arguments {
    seed: Option<u64>,
    first: u64,
    seeds: u64,
    steps: u64,
    bug: Option<Bug>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut parsed = Self {
            seed: None,
            first: 0,
            seeds: 64,
            steps: 20_000,
            bug: None,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next();
            let value = value.with_context(|| format!("{name} needs a value"))?;
            let number = || value.parse().with_context(|| format!("{name} {value}"));
            match name.as_str() {
                "--seed" => parsed.seed = Some(number()?),
                "--first" => parsed.first = number()?,
                "--seeds" => parsed.seeds = number()?,
                "--steps" => parsed.steps = number()?,
                "--bug" => {
                    let bug = Bug::named(&value);
                    parsed.bug = Some(bug.with_context(|| format!("{:?} are planted", Bug::ALL))?);
                }
                _ => bail!("{name}: --seed, --first, --seeds, --steps and --bug are known"),
            }
        }
        Ok(parsed)
    }
}
