//! What the comparison of two groups says, figure by figure.

use std::{collections::BTreeSet, fmt::Write as _};

use serde::Serialize;

use super::{
    load::Group,
    statistic::{RUNS_MIN, SIGNIFICANCE, Sample, interval, is_consistent, median, p_values},
};
use crate::report::{Better, Metric, Summary};

/// What is said of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It has got better, by more than chance explains.
    Better,
    /// It has got worse, by more than chance explains.
    Worse,
    /// Chance may explain the difference, or nobody would notice it.
    WithinNoise,
    /// There are not enough runs to tell.
    TooFewRuns,
}

/// One figure of two groups.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The metric's name.
    pub metric: String,
    /// Median over the runs of the first group, in the metric's unit.
    pub base: f64,
    /// Median over the runs of the other.
    pub other: f64,
    /// The ratio of medians less one; none where the first is zero.
    pub change: Option<f64>,
    /// 95 % bootstrap interval of `change`.
    pub interval: Option<(f64, f64)>,
    /// Share of shuffles in which any figure differs so much; none with too few runs.
    pub p: Option<f64>,
    /// What is said of it.
    pub verdict: Verdict,
    #[serde(skip)]
    shown: [String; 2],
}

/// One group against the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The first group.
    pub base: String,
    /// Its runs.
    pub base_runs: usize,
    /// The other group.
    pub other: String,
    /// Its runs.
    pub other_runs: usize,
    /// Circumstances that were not the same, and warnings that the runs carried.
    pub notes: Vec<String>,
    /// Whether bytes were wrong in any run: then there is nothing to compare.
    pub is_broken: bool,
    /// Figure by figure.
    pub lines: Vec<Line>,
}

impl Comparison {
    /// Whether anything got worse.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.lines.iter().any(|line| line.verdict == Verdict::Worse)
    }

    /// Whether there were not enough runs to say anything.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        let mut verdicts = self.lines.iter().map(|line| line.verdict);
        verdicts.all(|verdict| verdict == Verdict::TooFewRuns)
    }
}

/// Compares `other` with `base` by `metrics`, those that both have in every run. What only some runs have is told in the
/// notes: where nothing was answered nothing was measured, and silence would pass for no difference.
#[must_use]
pub fn compare(base: &Group, other: &Group, metrics: &[Metric]) -> Comparison {
    let measured: Vec<(&Metric, Sample)> = metrics
        .iter()
        .filter_map(|it| Some((it, sample(base, other, it)?)))
        .collect();
    let samples: Vec<Sample> = measured.iter().map(|(_, sample)| sample.clone()).collect();
    let p_values = p_values(&samples);
    let lines = measured
        .iter()
        .enumerate()
        .map(|(index, (metric, sample))| {
            let p = p_values.as_ref().map(|p_values| p_values[index]);
            line(metric, sample, p)
        });
    Comparison {
        base: base.name.clone(),
        base_runs: base.runs.len(),
        other: other.name.clone(),
        other_runs: other.runs.len(),
        notes: notes(base, other)
            .into_iter()
            .chain(metrics.iter().filter_map(|it| gap(base, other, it)))
            .collect(),
        is_broken: !base.runs.iter().chain(&other.runs).all(Summary::is_intact),
        lines: lines.collect(),
    }
}

fn sample(base: &Group, other: &Group, metric: &Metric) -> Option<Sample> {
    let values = |group: &Group| {
        group
            .runs
            .iter()
            .map(|run| metric.read(run))
            .collect::<Option<Vec<f64>>>()
    };
    Some(Sample {
        base: values(base)?,
        other: values(other)?,
    })
}

/// Why a metric is not judged that some of the runs measured.
fn gap(base: &Group, other: &Group, metric: &Metric) -> Option<String> {
    let without = |group: &Group| {
        let runs = group.runs.iter();
        runs.filter(|run| metric.read(run).is_none()).count()
    };
    let all = base.runs.len() + other.runs.len();
    let missing = without(base) + without(other);
    (1..all).contains(&missing).then(|| {
        format!(
            "{} is not judged: {} of {} runs of {} and {} of {} of {} did not measure it",
            metric.name(),
            without(base),
            base.runs.len(),
            base.name,
            without(other),
            other.runs.len(),
            other.name
        )
    })
}

fn line(metric: &Metric, sample: &Sample, p: Option<f64>) -> Line {
    let (base, other) = (
        median(&mut sample.base.clone()),
        median(&mut sample.other.clone()),
    );
    let change = (base != 0.0).then(|| other / base - 1.0);
    let is_better = match metric.better() {
        Better::Lower => other < base,
        Better::Higher => other > base,
    };
    // From nothing to something is a change of any size.
    let is_small = change.map_or(other == base, |change| change.abs() < CHANGE_MIN);
    let verdict = match p {
        None => Verdict::TooFewRuns,
        Some(p) if p > SIGNIFICANCE || is_small || !is_consistent(sample) => Verdict::WithinNoise,
        Some(_) if is_better => Verdict::Better,
        Some(_) => Verdict::Worse,
    };
    let show = |value| metric.kind().show(value);
    Line {
        metric: metric.name(),
        base,
        other,
        change,
        interval: interval(sample),
        p,
        verdict,
        shown: [show(base), show(other)],
    }
}

/// Everything that should be the same and is not, and what the runs themselves warned of.
fn notes(base: &Group, other: &Group) -> Vec<String> {
    type Fact = fn(&Summary) -> String;
    let facts: [(&str, Fact); 9] = [
        ("model", |run| run.run.model.name().to_owned()),
        ("offered rate", |run| format!("{:?}", run.run.offered_rate)),
        ("connections", |run| run.run.connections.to_string()),
        ("duration", |run| format!("{} s", run.run.duration_s)),
        ("kernel", |run| run.machine.kernel.clone()),
        ("cores", |run| run.machine.cores_usable.to_string()),
        ("congestion control", |run| {
            let asked = run
                .run
                .congestion_control
                .clone()
                .or_else(|| run.machine.congestion_control.clone());
            asked.unwrap_or_else(|| "unknown".to_owned())
        }),
        ("generator's version", |run| run.program.version.clone()),
        ("profile's options", |run| {
            format!("{:?}", run.run.parameters)
        }),
    ];
    let mut notes = Vec::new();
    for (name, fact) in facts {
        let values = |group: &Group| group.runs.iter().map(fact).collect::<BTreeSet<String>>();
        let (one, two) = (values(base), values(other));
        if one != two || one.len() > 1 {
            let list =
                |values: BTreeSet<String>| values.into_iter().collect::<Vec<_>>().join(" and ");
            notes.push(format!(
                "{name} is not the same: {} against {}",
                list(one),
                list(two)
            ));
        }
    }
    for group in [base, other] {
        let bound = group
            .runs
            .iter()
            .filter(|run| run.is_generator_bound())
            .count();
        if bound > 0 {
            notes.push(format!(
                "{}: the generator was a limit in {bound} of {} runs",
                group.name,
                group.runs.len()
            ));
        }
        let stopped = group.runs.iter().filter(|run| run.run.is_interrupted);
        let (stopped, all) = (stopped.count(), group.runs.len());
        if stopped > 0 {
            notes.push(format!(
                "{}: {stopped} of {all} runs were interrupted",
                group.name
            ));
        }
        if group.runs.iter().any(|run| !run.is_intact()) {
            notes.push(format!(
                "{}: a byte was wrong in at least one run",
                group.name
            ));
        }
    }
    notes
}

/// The comparison as text, ending in a line break.
#[must_use]
pub fn table(comparison: &Comparison) -> String {
    let mut out = String::new();
    write_table(&mut out, comparison).expect("a String takes everything");
    out
}

fn write_table(out: &mut String, comparison: &Comparison) -> std::fmt::Result {
    let Comparison {
        base,
        base_runs,
        other,
        other_runs,
        notes,
        lines,
        is_broken: _,
    } = comparison;
    writeln!(out, "A  {base} ({base_runs} runs)")?;
    writeln!(out, "B  {other} ({other_runs} runs)\n")?;
    writeln!(
        out,
        "{:<18} {:>12} {:>12} {:>9}  {:<20} {:>6}  verdict",
        "median of runs", "A", "B", "change", "95 % interval", "p"
    )?;
    for line in lines {
        let change = line.change.map_or_else(|| "-".to_owned(), signed);
        let interval = line.interval.map_or_else(
            || "-".to_owned(),
            |(low, high)| format!("{} to {}", signed(low), signed(high)),
        );
        let p = line.p.map_or_else(|| "-".to_owned(), |p| format!("{p:.3}"));
        let verdict = match line.verdict {
            Verdict::Better => "better",
            Verdict::Worse => "WORSE",
            Verdict::WithinNoise => "within noise",
            Verdict::TooFewRuns => "too few runs",
        };
        let [one, two] = &line.shown;
        writeln!(
            out,
            "{:<18} {one:>12} {two:>12} {change:>9}  {interval:<20} {p:>6}  {verdict}",
            line.metric
        )?;
    }
    if lines.iter().any(|line| line.verdict == Verdict::TooFewRuns) {
        writeln!(
            out,
            "\nA verdict needs at least {RUNS_MIN} runs on each side; 5 and more find smaller changes."
        )?;
    }
    for note in notes {
        writeln!(out, "\n! {note}")?;
    }
    Ok(())
}

fn signed(share: f64) -> String {
    format!("{:+.1} %", share * 100.0)
}

/// Changes smaller than this are within noise.
const CHANGE_MIN: f64 = 0.01;

#[cfg(test)]
mod tests {
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{RngCore, SeedableRng},
    };

    use super::super::command::judged;
    use super::*;
    use crate::report::ErrorKind;

    /// Runs whose figures scatter by 2 % each and by 2 % all together, as runs on one machine do.
    fn group(random: &mut ChaCha8Rng, runs: usize, slower: f64) -> Group {
        let run = |random: &mut ChaCha8Rng| {
            let together = scatter(random);
            let mut time = |nanoseconds: f64| {
                (nanoseconds * slower * (1.0 + together + scatter(random))) as u64
            };
            let mut summary = Summary::default();
            summary.corrected.count = 1000;
            summary.corrected.p50_ns = time(50_000.0);
            summary.corrected.p90_ns = time(90_000.0);
            summary.corrected.p99_ns = time(400_000.0);
            summary.corrected.p999_ns = time(2_000_000.0);
            summary.corrected.max_ns = time(9_000_000.0);
            summary.corrected.mean_ns = time(60_000.0) as f64;
            summary.achieved_rate = 10_000.0 / slower * (1.0 - together + scatter(random));
            summary.up_bits_per_second = summary.achieved_rate * 512.0;
            summary.down_bits_per_second = summary.up_bits_per_second;
            summary
        };
        Group {
            name: "group".to_owned(),
            runs: (0..runs).map(|_| run(random)).collect(),
        }
    }

    /// Nearly normal, with a standard deviation of 2 %.
    fn scatter(random: &mut ChaCha8Rng) -> f64 {
        let sum: f64 = (0..12)
            .map(|_| f64::from(random.next_u32()) / f64::from(u32::MAX))
            .sum();
        (sum - 6.0) * 0.02
    }

    #[test]
    fn the_same_is_within_noise_in_19_of_20_trials_over_all_figures() {
        for runs in [4, 6] {
            let called = (0..200).filter(|seed| {
                let mut random = ChaCha8Rng::seed_from_u64(*seed);
                let (base, other) = (group(&mut random, runs, 1.0), group(&mut random, runs, 1.0));
                let lines = compare(&base, &other, &judged()).lines;
                assert!(lines.len() >= 8);
                lines
                    .iter()
                    .any(|line| line.verdict != Verdict::WithinNoise)
            });
            let called = called.count();
            assert!(
                called <= 10,
                "{called} of 200 trials with {runs} runs saw a difference where there was none"
            );
        }
    }

    #[test]
    fn a_tenth_is_found() {
        let found = |seed: u64, slower: f64, verdict: Verdict| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (base, other) = (group(&mut random, 8, 1.0), group(&mut random, 8, slower));
            let lines = compare(&base, &other, &judged()).lines;
            let of = |name: &str| {
                lines
                    .iter()
                    .find(|line| line.metric == name)
                    .map(|line| line.verdict)
            };
            of("p99") == Some(verdict) && of("rate") == Some(verdict)
        };
        let worse = (0..40)
            .filter(|seed| found(*seed, 1.1, Verdict::Worse))
            .count();
        let better = (0..40)
            .filter(|seed| found(*seed, 1.0 / 1.1, Verdict::Better))
            .count();
        assert!(
            worse >= 36 && better >= 36,
            "worse in {worse}, better in {better} of 40"
        );
    }

    #[test]
    fn a_solid_change_under_one_per_cent_is_within_noise() {
        let fixed = |rate: f64| {
            let run = |step: usize| Summary {
                achieved_rate: rate + step as f64 * 1e-3,
                ..Summary::default()
            };
            Group {
                name: "x".to_owned(),
                runs: (0..6).map(run).collect(),
            }
        };
        let verdict =
            |rate| compare(&fixed(1000.0), &fixed(rate), &[Metric::Rate]).lines[0].verdict;
        assert_eq!(verdict(1005.0), Verdict::WithinNoise);
        assert_eq!(verdict(1015.0), Verdict::Better);
        assert_eq!(verdict(985.0), Verdict::Worse);
    }

    #[test]
    fn what_some_runs_did_not_measure_is_told() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let base = group(&mut random, 5, 1.0);
        let mut other = group(&mut random, 5, 1.0);
        let metrics = [Metric::Rate, Metric::parse("p99").unwrap()];
        assert!(compare(&base, &other, &metrics).notes.is_empty());
        for run in &mut other.runs[..2] {
            // Nothing was answered.
            run.corrected = crate::report::Latency::default();
        }
        let comparison = compare(&base, &other, &metrics);
        assert_eq!(comparison.lines.len(), 1);
        let told = "p99 is not judged: 0 of 5 runs of";
        assert!(
            comparison.notes.iter().any(|note| note.contains(told)),
            "{:?}",
            comparison.notes
        );
        // Of a profile that has none at all there is nothing to tell.
        let jain = [Metric::Jain];
        assert!(compare(&base, &other, &jain).notes.is_empty());
    }

    #[test]
    fn wrong_bytes_and_too_few_runs_are_no_success() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let base = group(&mut random, 5, 1.0);
        let mut other = group(&mut random, 5, 1.0);
        let fine = compare(&base, &other, &judged());
        assert!(!fine.is_broken && !fine.is_undecided());
        other.runs[2].errors.insert(ErrorKind::Mismatch, 1);
        assert!(compare(&base, &other, &judged()).is_broken);
        assert!(compare(&other, &base, &judged()).is_broken);
        let few = group(&mut random, 1, 10.0);
        assert!(compare(&base, &few, &judged()).is_undecided());
    }

    #[test]
    fn few_runs_are_called_few_and_other_circumstances_are_named() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let base = group(&mut random, 3, 1.0);
        let mut other = group(&mut random, 9, 5.0);
        other.runs[0].machine.kernel = "6.1".to_owned();
        other.runs[1].generator.is_bottleneck = true;
        let comparison = compare(&base, &other, &judged());
        assert!(
            comparison
                .lines
                .iter()
                .all(|line| line.verdict == Verdict::TooFewRuns)
                && !comparison.is_worse()
        );
        let text = table(&comparison);
        for part in [
            "at least 4 runs",
            "kernel is not the same",
            "limit in 1 of 9 runs",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
