//! `adit-loadgen compare A B…`

use std::path::PathBuf;

use anyhow::Context as _;

use super::{
    load::Group,
    verdict::{Comparison, compare, table},
};
use crate::{
    exit::{Error, Verdict},
    report::Metric,
};

/// Arguments of `compare`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Groups of runs, the first of which the others are judged against: each a summary.json, the directory of a
    /// run, or a directory of such directories (repeated runs of the same)
    #[arg(required = true, num_args = 2.., value_name = "RUNS")]
    pub groups: Vec<PathBuf>,
    /// Judge this metric alone; may be repeated. Fewer metrics find smaller changes
    #[arg(long = "metric", value_name = "NAME", value_parser = metric)]
    pub metrics: Vec<Metric>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Compares, prints, and ends with [`Verdict::Failed`] (1) where a byte was wrong in any run, with
/// [`Verdict::ThresholdCrossed`] (3) where anything got worse, with [`Verdict::Undecided`] (4) where there are too few
/// runs to tell.
///
/// # Errors
/// A group cannot be read, or the profiles differ.
pub fn run(args: &Args) -> Result<Verdict, Error> {
    let groups: Vec<Group> = args
        .groups
        .iter()
        .map(|path| Group::load(path))
        .collect::<Result<_, _>>()?;
    let (base, others) = groups.split_first().expect("clap wants two and more");
    if let Some(other) = others
        .iter()
        .find(|other| other.profile() != base.profile())
    {
        return Err(Error::usage(
            format!(
                "{} ran '{}' but {} ran '{}'",
                base.name,
                base.profile(),
                other.name,
                other.profile()
            ),
            "only runs of the same profile can be compared",
        ));
    }
    let metrics = if args.metrics.is_empty() {
        judged()
    } else {
        args.metrics.clone()
    };
    let comparisons: Vec<Comparison> = others
        .iter()
        .map(|other| compare(base, other, &metrics))
        .collect();
    if let Some(metric) = args.metrics.iter().find(|it| is_missing(it, &comparisons)) {
        return Err(Error::usage(
            format!("{} was not measured in every run", metric.name()),
            "leave it out, or leave out the runs that failed",
        ));
    }
    crate::report::print(&text(&comparisons, args.json)?)?;
    let any = |is: fn(&Comparison) -> bool| comparisons.iter().any(is);
    Ok(match () {
        () if any(|it| it.is_broken) => Verdict::Failed,
        () if any(Comparison::is_worse) => Verdict::ThresholdCrossed,
        () if any(Comparison::is_undecided) => Verdict::Undecided,
        () => Verdict::Passed,
    })
}

/// Whether a metric that was asked for is judged nowhere, or not everywhere: then nothing can be said of it.
fn is_missing(metric: &Metric, comparisons: &[Comparison]) -> bool {
    let name = metric.name();
    let has = |it: &Comparison| it.lines.iter().any(|line| line.metric == name);
    !comparisons.iter().all(has)
}

fn text(comparisons: &[Comparison], is_json: bool) -> Result<String, Error> {
    if is_json {
        let json = serde_json::to_string_pretty(comparisons)
            .context("the comparison cannot be written as JSON")?;
        return Ok(json + "\n");
    }
    Ok(comparisons.iter().map(table).collect::<Vec<_>>().join("\n"))
}

/// What is judged when nobody says.
pub(super) fn judged() -> Vec<Metric> {
    let names = [
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "rate",
        "up",
        "down",
        "error-rate",
        "cpu",
        "cpu-per-gib",
        "memory",
        "jain",
    ];
    names.into_iter().filter_map(Metric::parse).collect()
}

fn metric(name: &str) -> Result<Metric, String> {
    Metric::parse(name).ok_or_else(|| {
        let known = Metric::names().collect::<Vec<_>>().join(", ");
        format!("there is no such metric; there are {known}")
    })
}
