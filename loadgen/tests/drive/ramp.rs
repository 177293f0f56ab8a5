//! A search for the highest rate ends as the run does that it reports.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use adit_loadgen::args::IoChoice;
use adit_loadgen::report::{ErrorKind, Summary};

use crate::forwarder::{self, Lie, Way};
use crate::support::{Run, command, far_end};

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
    let directory = tempfile::tempdir().unwrap();
    let arguments =
        "latency --rate 50 --duration 60s --lines --ramp until rate>=100 --fail-if rate>=0";
    let mut generator = command(arguments, server.address, IoChoice::Auto)
        .arg("--out")
        .arg(directory.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(generator.stderr.take().unwrap());
    // Its first second is over.
    lines.read_line(&mut String::new()).unwrap();
    let pid = generator.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    lines.read_to_string(&mut String::new()).unwrap();
    let run = Run::ended(&generator.wait_with_output().unwrap(), directory.path());
    assert_eq!(run.code, 3, "{}", run.text);
    let summary = run.summary.expect("it ran");
    assert!(summary.run.is_interrupted);
    is_judged_and_logged(&summary, &run.log);
}

/// What `--fail-if rate>=0` and `--out` ask for is there.
fn is_judged_and_logged(summary: &Summary, log: &str) {
    assert!(summary.has_crossed(), "{:?}", summary.thresholds);
    // Lines of the log itself, after the comments and the names of the columns.
    let intervals = log.lines().filter(|line| line.starts_with("Tag="));
    assert!(intervals.count() > 0, "{log}");
}
