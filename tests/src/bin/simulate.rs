//! Runs the simulator: `simulate --seeds 4096 --steps 20000`, or one seed with what happened last:
//! `simulate --seed 17 --steps 20000`. With `--days 365` in place of `--steps`, so many simulated days.

use adit_tests::simulation::{Bug, Length, Run, run_all};
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
                length: arguments.length,
                bug: arguments.bug,
                has_trace: true,
            };
            (1, run.go())
        }
        None => {
            let Arguments { first, seeds, .. } = arguments;
            (
                seeds,
                run_all(first, seeds, arguments.length, arguments.bug),
            )
        }
    };
    match result {
        Ok(tally) => {
            let (count, unit) = match arguments.length {
                Length::Steps(steps) => (seeds * steps, "steps"),
                Length::Days(days) => (seeds * days, "days"),
            };
            let time = start.elapsed();
            writeln!(
                out,
                "{seeds} seeds, {count} {unit} in {time:.1?}: {tally:?}"
            )?;
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
    length: Length,
    bug: Option<Bug>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut parsed = Self {
            seed: None,
            first: 0,
            seeds: 64,
            length: Length::Steps(20_000),
            bug: None,
        };
        let mut seen = Vec::new();
        while let Some(name) = arguments.next() {
            let value = arguments.next();
            let value = value.with_context(|| format!("{name} needs a value"))?;
            let number = || value.parse().with_context(|| format!("{name} {value}"));
            match name.as_str() {
                "--seed" => parsed.seed = Some(number()?),
                "--first" => parsed.first = number()?,
                "--seeds" => parsed.seeds = number()?,
                "--steps" => parsed.length = Length::Steps(number()?),
                "--days" => parsed.length = Length::Days(number()?),
                "--bug" => {
                    let bug = Bug::named(&value);
                    let known = (Bug::OF_STEPS, Bug::OF_DAYS);
                    parsed.bug = Some(bug.with_context(|| format!("{known:?} are planted"))?);
                }
                _ => bail!("{name}: --seed, --first, --seeds, --steps, --days and --bug are known"),
            }
            seen.push(name);
        }
        let has = |name: &str| seen.iter().any(|seen| seen == name);
        if has("--seed") && (has("--seeds") || has("--first")) {
            bail!("--seed is one seed; for several give --first and --seeds");
        }
        Ok(parsed)
    }
}
