//! The summary as text, in the shape that users of oha and wrk2 know.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{
    command::failure,
    latency::Latency,
    lines::by_kind,
    summary::{Model, Summary},
    text::bar,
    units,
};
use crate::threshold::RampStep;

/// The whole summary, ending in a line break.
#[must_use]
pub fn table(summary: &Summary) -> String {
    let mut out = String::new();
    head(&mut out, summary).expect(INFALLIBLE);
    latency(&mut out, summary).expect(INFALLIBLE);
    shares(&mut out, summary).expect(INFALLIBLE);
    processes(&mut out, summary).expect(INFALLIBLE);
    facts(&mut out, summary).expect(INFALLIBLE);
    ramp(&mut out, &summary.ramp).expect(INFALLIBLE);
    ends(&mut out, summary).expect(INFALLIBLE);
    out
}

fn head(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let run = &summary.run;
    writeln!(out, "Summary: {} → {}", run.profile, run.target)?;
    let stopped = if run.is_interrupted {
        ", interrupted"
    } else {
        ""
    };
    field(out, "Success rate", &success(summary))?;
    field(
        out,
        "Total",
        &format!(
            "{:.2} s of {:.2} s{stopped}",
            summary.elapsed_s, run.duration_s
        ),
    )?;
    if summary.corrected.count > 0 {
        let latency = &summary.corrected;
        field(out, "Slowest", &units::time(latency.max_ns as f64))?;
        field(out, "Fastest", &units::time(latency.min_ns as f64))?;
        field(
            out,
            "Average",
            &format!(
                "{} ± {}",
                units::time(latency.mean_ns),
                units::time(latency.stdev_ns)
            ),
        )?;
    }
    if summary.has_operations() {
        let operations = units::count(summary.operations as f64);
        field(
            out,
            "Operations",
            &format!("{operations} ({})", units::rate(summary.achieved_rate)),
        )?;
    }
    field(out, "Model", &model(summary))?;
    writeln!(out)?;
    field(
        out,
        "Up",
        &moved(summary.bytes_up, summary.up_bits_per_second),
    )?;
    field(
        out,
        "Down",
        &moved(summary.bytes_down, summary.down_bits_per_second),
    )?;
    field(
        out,
        "Connections",
        &format!("{} open at most", units::count(summary.open_max as f64)),
    )?;
    writeln!(out)
}

/// Cut, not rounded: it is 100 % only where nothing went wrong.
fn success(summary: &Summary) -> String {
    format!(
        "{:.2} %",
        ((1.0 - summary.error_share()) * 10_000.0).floor() / 100.0
    )
}

fn model(summary: &Summary) -> String {
    match (summary.run.model, summary.run.offered_rate) {
        (Model::Open, Some(offered)) => {
            format!(
                "open: {} offered, {} of what came due achieved",
                units::rate(offered),
                units::percent(summary.achieved_share().unwrap_or_default())
            )
        }
        (Model::Open, None) => "open".to_owned(),
        (Model::Closed, _) => {
            "closed: the target's speed set the rate, so its stalls are seen once each".to_owned()
        }
        (Model::Event, _) => "event: all began at once, and times are from then".to_owned(),
    }
}

fn moved(bytes: u64, bits_per_second: f64) -> String {
    format!(
        "{}, {}",
        units::bytes(bytes as f64),
        units::bits(bits_per_second)
    )
}

fn latency(out: &mut String, summary: &Summary) -> std::fmt::Result {
    if !summary.has_operations() {
        return Ok(());
    }
    if summary.corrected.count == 0 {
        return writeln!(out, "No operation ended well, so there are no latencies.\n");
    }
    let from = match summary.run.model {
        Model::Open => "the intended start",
        Model::Closed => "the start",
        Model::Event => "the event",
    };
    writeln!(out, "Latency histogram, from {from}:")?;
    let most = summary
        .corrected
        .bins
        .iter()
        .map(|bin| bin.count)
        .max()
        .unwrap_or(0)
        .max(1);
    let widest = units::count(most as f64).len();
    for bin in &summary.corrected.bins {
        let share = bin.count as f64 / most as f64;
        let row = format!(
            "  {:>8} [{:>widest$}] |{}",
            units::time(bin.up_to_ns as f64),
            units::count(bin.count as f64),
            bar(share, BAR_WIDTH)
        );
        writeln!(out, "{}", row.trim_end())?;
    }
    writeln!(out, "\nLatency percentiles:")?;
    writeln!(out, "             corrected  uncorrected")?;
    for percentile in PERCENTILES {
        percentile_row(out, percentile, &summary.corrected, &summary.uncorrected)?;
    }
    writeln!(out)
}

fn percentile_row(
    out: &mut String,
    percentile: f64,
    corrected: &Latency,
    uncorrected: &Latency,
) -> std::fmt::Result {
    let of = |latency: &Latency| match percentile {
        50.0 => latency.p50_ns,
        90.0 => latency.p90_ns,
        99.0 => latency.p99_ns,
        99.9 => latency.p999_ns,
        100.0 => latency.max_ns,
        other => latency.at(other).unwrap_or(latency.max_ns),
    };
    let (value, other) = (of(corrected), of(uncorrected));
    // Under ten operations beyond a percentile it is one of them rather than a percentile.
    let is_backed =
        percentile == 100.0 || corrected.count as f64 * (1.0 - percentile / 100.0) >= 1.0;
    if !is_backed {
        return Ok(());
    }
    let longest = (corrected.max_ns as f64).ln() - SHORTEST_NS.ln();
    let share =
        ((value as f64).max(SHORTEST_NS).ln() - SHORTEST_NS.ln()) / longest.max(f64::MIN_POSITIVE);
    let row = format!(
        "  {:>8} in {:>9}  {:>11}  {}",
        format!("{percentile}%"),
        units::time(value as f64),
        units::time(other as f64),
        bar(share, BAR_WIDTH)
    );
    writeln!(out, "{}", row.trim_end())
}

fn shares(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let Some(shares) = &summary.shares else {
        return Ok(());
    };
    let average = shares.total_bytes as f64 / shares.count.max(1) as f64;
    let of_average = |bytes: u64| {
        units::percent(if average > 0.0 {
            bytes as f64 / average
        } else {
            0.0
        })
    };
    writeln!(out, "Streams:")?;
    field(
        out,
        "Fairness",
        &format!(
            "Jain's index {:.4} over {} streams",
            shares.jain,
            units::count(shares.count as f64)
        ),
    )?;
    let least = format!(
        "{} ({} of the average)",
        units::bytes(shares.min_bytes as f64),
        of_average(shares.min_bytes)
    );
    let most = format!(
        "{} ({} of the average)",
        units::bytes(shares.max_bytes as f64),
        of_average(shares.max_bytes)
    );
    field(out, "Least", &least)?;
    field(out, "Most", &most)?;
    writeln!(out)
}

fn processes(out: &mut String, summary: &Summary) -> std::fmt::Result {
    if summary.processes.is_empty() {
        return Ok(());
    }
    writeln!(out, "Processes under test:")?;
    writeln!(
        out,
        "  {:<16} {:>9} {:>9} {:>9} {:>10} {:>12} {:>12}",
        "", "CPU", "of a core", "waiting", "CPU/GiB", "user memory", "resident"
    )?;
    let bytes = |bytes: Option<u64>| {
        bytes.map_or_else(|| "-".to_owned(), |bytes| units::bytes(bytes as f64))
    };
    for process in &summary.processes {
        let per_gib = process
            .cpu_s_per_gib
            .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2} s"));
        let row = format!(
            "  {:<16} {:>9} {:>9} {:>9} {:>10} {:>12} {:>12}",
            process.name,
            format!("{:.2} s", process.cpu_user_s + process.cpu_system_s),
            units::percent(process.cpu_cores),
            process
                .waiting_cores
                .map_or_else(|| "-".to_owned(), units::percent),
            per_gib,
            bytes(process.user_memory_max_bytes),
            bytes(process.resident_max_bytes),
        );
        let ended = if process.has_ended {
            "  ended before the run"
        } else {
            ""
        };
        writeln!(out, "{row}{ended}")?;
    }
    writeln!(out)
}

fn facts(out: &mut String, summary: &Summary) -> std::fmt::Result {
    if !summary.figures.is_empty() {
        writeln!(out, "Figures of this profile:")?;
        let widest = summary.figures.keys().map(String::len).max().unwrap_or(0);
        for (name, value) in &summary.figures {
            let shown = super::Metric::Figure(name.clone()).kind().show(*value);
            writeln!(out, "  {name:<widest$}  {shown}")?;
        }
        writeln!(out)?;
    }
    let generator = &summary.generator;
    writeln!(out, "Generator:")?;
    field(
        out,
        "CPU",
        &format!(
            "{:.2} s, {} of a core, busiest thread {} (ready to run for {})",
            generator.cpu_s,
            units::percent(generator.cpu_cores),
            units::percent(generator.cpu_busiest_thread),
            units::percent(generator.busiest_wanted)
        ),
    )?;
    if generator.wakes > 0 {
        let time = |nanoseconds: u64| units::time(nanoseconds as f64);
        let (half, most, worst) = (
            time(generator.lag_p50_ns),
            time(generator.lag_p99_ns),
            time(generator.lag_max_ns),
        );
        field(
            out,
            "Woken late by",
            &format!("{half} (p50), {most} (p99), {worst} (max)"),
        )?;
    }
    field(out, "Machine", &summary.machine.one_line())?;
    field(out, "Congestion", &congestion(summary))?;
    let program = &summary.program;
    let build = if program.is_optimised {
        ""
    } else {
        " (debug build: figures are not worth keeping)"
    };
    field(
        out,
        "Version",
        &format!("{} {}{build}", program.name, program.version),
    )?;
    for (executable, names) in executables(summary) {
        field(
            out,
            "Under test",
            &format!("{executable}: {}", names.join(", ")),
        )?;
    }
    field(out, "Seed", &summary.run.seed.to_string())
}

/// Which processes under test run which program.
fn executables(summary: &Summary) -> BTreeMap<&str, Vec<&str>> {
    let mut names: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for process in &summary.processes {
        if let Some(executable) = &process.executable {
            names.entry(&**executable).or_default().push(&*process.name);
        }
    }
    names
}

fn congestion(summary: &Summary) -> String {
    let system = summary
        .machine
        .congestion_control
        .as_deref()
        .unwrap_or("unknown");
    match &summary.run.congestion_control {
        Some(asked) => format!("{asked} (the system's: {system})"),
        None => format!("{system} (the system's)"),
    }
}

/// The rates that were tried.
fn ramp(out: &mut String, steps: &[RampStep]) -> std::fmt::Result {
    if steps.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nRamp:")?;
    writeln!(
        out,
        "  {:>12} {:>12} {:>12}",
        "offered", "achieved", "value"
    )?;
    for step in steps {
        writeln!(out, "  {}", ramp_row(step))?;
    }
    let held = steps
        .iter()
        .filter(|step| step.has_held)
        .map(|step| step.offered_rate)
        .fold(0.0, f64::max);
    match held {
        0.0 => writeln!(out, "  No rate held."),
        rate => writeln!(out, "  Highest rate that held: {}", units::rate(rate)),
    }
}

fn ramp_row(step: &RampStep) -> String {
    let verdict = if step.has_held { "held" } else { "not held" };
    let note = if step.note.is_empty() {
        String::new()
    } else {
        format!(": {}", step.note)
    };
    format!(
        "{:>12} {:>12} {:>12}  {verdict}{note}",
        units::rate(step.offered_rate),
        units::rate(step.achieved_rate),
        step.shown
    )
}

fn ends(out: &mut String, summary: &Summary) -> std::fmt::Result {
    if !summary.errors.is_empty() {
        writeln!(
            out,
            "\nErrors: {}",
            by_kind(summary.errors.iter().map(|(kind, count)| (*kind, *count)))
        )?;
    }
    if !summary.connection_errors.is_empty() {
        let errors = summary.connection_errors.iter();
        let told = by_kind(errors.map(|(kind, count)| (*kind, *count)));
        writeln!(
            out,
            "\nConnections that failed outside of an operation: {told}"
        )?;
    }
    if let Some(failure) = failure(summary) {
        writeln!(out, "\nFAILED: {failure}")?;
    }
    if !summary.thresholds.is_empty() {
        writeln!(out, "\nThresholds:")?;
        for outcome in &summary.thresholds {
            let verdict = if outcome.is_crossed { "FAILED" } else { "ok" };
            writeln!(
                out,
                "  {verdict:<6} fail if {}: {}",
                outcome.threshold, outcome.shown
            )?;
        }
    }
    if !summary.warnings.is_empty() {
        writeln!(out, "\nWarnings:")?;
        for warning in &summary.warnings {
            writeln!(out, "  ! {warning}")?;
        }
    }
    Ok(())
}

fn field(out: &mut String, name: &str, value: &str) -> std::fmt::Result {
    let name = if name.is_empty() {
        String::new()
    } else {
        format!("{name}:")
    };
    writeln!(out, "  {name:<14} {value}")
}

const INFALLIBLE: &str = "a String takes everything";
const BAR_WIDTH: usize = 32;
/// Bars of percentiles begin here and are logarithmic.
const SHORTEST_NS: f64 = 1_000.0;
const PERCENTILES: [f64; 10] = [10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0];

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn the_table_looks_as_it_did() {
        sample::assert_snapshot("summary.txt", &table(&sample::summary()));
    }

    #[test]
    fn a_run_without_a_single_answer_can_be_told() {
        let mut summary = Summary::default();
        let text = table(&summary);
        assert!(
            !text.contains("Operations") && !text.contains("NaN"),
            "{text}"
        );
        summary.run.model = Model::Open;
        summary.run.offered_rate = Some(10.0);
        let text = table(&summary);
        assert!(
            text.contains("there are no latencies") && !text.contains("NaN"),
            "{text}"
        );
    }
}
