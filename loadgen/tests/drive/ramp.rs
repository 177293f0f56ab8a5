//! A search for the highest rate ends as the run does that it reports.

use std::time::Duration;

use adit_loadgen::args::IoChoice;
use adit_loadgen::report::{ErrorKind, Summary};
use adit_loadgen::threshold::RampStep;

use crate::forwarder::{self, Lie, Way};
use crate::support::{Run, Running, far_end};

/// The first rate has a connection that is honest, and so has every rate after the second.
#[test]
fn bytes_that_were_lost_at_one_rate_end_the_search_and_fail_it() {
    for (lie, way, offset, kind) in [
        (Lie::Flip, Way::Down, 140, ErrorKind::Mismatch),
        (Lie::Truncate, Way::Down, 140, ErrorKind::Closed),
        (Lie::Drop, Way::Up, 170, ErrorKind::TimedOut),
    ] {
        let server = far_end(IoChoice::Auto);
        let target = forwarder::start(server.address, lie, way, offset, 1..2);
        let arguments = "latency --rate 20 --duration 300ms --grace 300ms --ramp until rate>=70 --fail-if rate>=0";
        let run = Run::of(arguments, target, IoChoice::Auto);
        let told = format!("{lie:?}: {}", run.text);
        assert_eq!(run.code, 1, "{told}");
        let summary = run.summary.expect("it ran");
        assert_eq!(summary.ramp.len(), 2, "{told}");
        assert!(summary.errors.contains_key(&kind), "{told}");
        // What is told is the run that failed.
        let last = summary.ramp.last().map(|step| step.offered_rate);
        assert_eq!(summary.run.offered_rate, last, "{told}");
        assert!(summary.ramp.iter().skip(1).all(|step| !step.has_held));
        is_judged_and_logged(&summary, &run.log);
    }
}

#[test]
fn a_search_in_which_no_rate_holds_is_judged_and_leaves_its_log() {
    let server = far_end(IoChoice::Auto);
    let arguments = "latency --rate 4 --duration 300ms --ramp until rate>=0 --fail-if rate>=0";
    let run = Run::of(arguments, server.address, IoChoice::Auto);
    assert_eq!(run.code, 3, "{}", run.text);
    let summary = run.summary.expect("it ran");
    assert!(summary.ramp.len() > 1 && summary.ramp.iter().all(|step| !step.has_held));
    is_judged_and_logged(&summary, &run.log);
}

#[test]
fn the_rate_that_held_is_judged_and_leaves_its_log() {
    let server = far_end(IoChoice::Auto);
    let arguments = "latency --rate 20 --duration 300ms --ramp until rate>=30 --fail-if rate>=0";
    let run = Run::of(arguments, server.address, IoChoice::Auto);
    assert_eq!(run.code, 3, "{}", run.text);
    is_judged_and_logged(&run.summary.expect("it ran"), &run.log);
}

#[test]
fn a_search_that_is_stopped_is_judged_and_leaves_its_log() {
    let server = far_end(IoChoice::Auto);
    let arguments = "latency --rate 50 --duration 60s --ramp until rate>=100 --fail-if rate>=0";
    let running = Running::start(arguments, server.address, IoChoice::Auto);
    running.interrupt();
    let run = running.end();
    assert_eq!(run.code, 3, "{}", run.text);
    let summary = run.summary.expect("it ran");
    assert!(summary.run.is_interrupted);
    is_judged_and_logged(&summary, &run.log);
}

/// One connection, and a forwarder that holds every answer for 20 ms: no more than 50 round trips a second go through, on
/// any machine; how many fewer is the machine's affair.
const HOLD: Lie = Lie::Hold(Duration::from_millis(20));

fn run_slowly(arguments: &str) -> Run {
    let server = far_end(IoChoice::Auto);
    let target = forwarder::start(server.address, HOLD, Way::Down, 0, forwarder::ALL);
    Run::of(arguments, target, IoChoice::Auto)
}

#[test]
fn a_search_ends_below_what_a_slow_forwarder_lets_through() {
    let search = || {
        let arguments = "latency --rate 10 --duration 1s --ramp until p99>300ms";
        let run = run_slowly(arguments);
        assert_eq!(run.code, 0, "{}", run.text);
        run.summary.expect("it ran")
    };
    // On a machine that is too busy no rate may hold.
    let mut searches = (0..10).map(|_| search());
    let has_held = |summary: &Summary| summary.ramp.iter().any(|step| step.has_held);
    let summary = searches.find(has_held).expect("one of ten finds a rate");
    let (held, failed): (Vec<_>, Vec<_>) = summary.ramp.iter().partition(|step| step.has_held);
    let rates = |steps: &[&RampStep]| steps.iter().map(|step| step.offered_rate).collect();
    let [held, failed]: [Vec<f64>; 2] = [rates(&held), rates(&failed)];
    let best = held.iter().copied().fold(0.0, f64::max);
    let worst = failed.iter().copied().fold(f64::INFINITY, f64::min);
    // What is achieved to 95 % counts as held.
    assert!(best <= 50.0 / 0.95, "{:?}", summary.ramp);
    assert!(best < worst && worst / best < 1.06, "{:?}", summary.ramp);
    assert_eq!(summary.run.offered_rate, Some(best));
    let why = |step: &RampStep| step.note.starts_with("crossed") || step.note.contains("95 %");
    let mut unheld = summary.ramp.iter().filter(|step| !step.has_held);
    assert!(unheld.all(why), "{:?}", summary.ramp);
}

#[test]
fn a_threshold_fails_a_run_through_a_slow_forwarder_and_names_what_was_measured() {
    let run = run_slowly("latency --rate 20 --duration 500ms --fail-if p50>15ms --fail-if p50>60s");
    assert_eq!(run.code, 3, "{}", run.text);
    assert!(run.text.contains("p50>15ms"), "{}", run.text);
    let summary = run.summary.expect("it ran");
    let crossed = summary.thresholds.iter().map(|it| it.is_crossed);
    assert_eq!(crossed.collect::<Vec<_>>(), [true, false]);
    assert!(summary.corrected.p50_ns >= 20_000_000);
    let run = run_slowly("latency --rate 20 --duration 500ms --fail-if p50>60s");
    assert_eq!(run.code, 0, "{}", run.text);
}

/// What `--fail-if rate>=0` and `--out` ask for is there.
fn is_judged_and_logged(summary: &Summary, log: &str) {
    assert!(summary.has_crossed(), "{:?}", summary.thresholds);
    // Lines of the log itself, after the comments and the names of the columns.
    let intervals = log.lines().filter(|line| line.starts_with("Tag="));
    assert!(intervals.count() > 0, "{log}");
}
