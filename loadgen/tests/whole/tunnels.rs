//! Systems of many tunnels, driven by the command.

use std::path::Path;
use std::process::{Command, Output};

use adit_loadgen::report::Summary;

use crate::support::EXECUTABLE;

fn run(arguments: &[&str], out: &Path) -> Output {
    let output = Command::new(EXECUTABLE)
        .args(arguments)
        .args(["--quiet", "--system-io", "epoll", "--out"])
        .arg(out)
        .output();
    output.unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_tunnel_comes_back_from_a_storm() {
    for cut in ["restart", "reset", "close"] {
        let directory = tempfile::tempdir().unwrap();
        let output = run(
            &["storm", "--tunnels", "20", "--cut", cut],
            directory.path(),
        );
        assert!(output.status.success(), "{cut}: {}", words(&output));
        let summary = Summary::load(directory.path()).unwrap();
        let figure = |name: &str| summary.figures[name];
        assert_eq!(figure("tunnels_back_count"), 20.0, "{cut}");
        assert_eq!(summary.operations, 20, "{cut}");
        assert_eq!(summary.corrected.count, 20, "{cut}");
        assert!(summary.errors.is_empty(), "{cut}: {:?}", summary.errors);
        // Both sides of each, and whatever failed while the service was away.
        let [all, failed] = ["attempts_count", "failed_attempts_count"].map(figure);
        assert_eq!(all - failed, 40.0, "{cut}");
        let by_second: f64 = summary
            .figures
            .iter()
            .filter(|(name, _)| name.starts_with("attempts_in_second_"))
            .map(|it| it.1)
            .sum();
        assert_eq!(by_second, all, "{cut}");
        assert!(
            figure("bytes_flow_max_s") >= figure("both_links_back_max_s"),
            "{cut}"
        );
        assert!(figure("both_links_back_p50_s") > 0.0, "{cut}");
    }
}

#[test]
fn tunnels_that_are_not_back_in_time_fail_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "storm",
        "--tunnels",
        "3",
        "--outage",
        "1s",
        "--patience",
        "1s",
    ];
    let output = run(&arguments, directory.path());
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    let summary = Summary::load(directory.path()).unwrap();
    assert_eq!(summary.figures["tunnels_back_count"], 0.0);
    assert!(
        summary.warnings.iter().any(|it| it.contains("0 of 3")),
        "{:?}",
        summary.warnings
    );
}

#[test]
fn a_few_of_many_tunnels_are_active() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "many-tunnels",
        "--tunnels",
        "10",
        "--active",
        "2",
        "--rounds",
        "2",
        "--duration",
        "2s",
        "--size",
        "1000",
    ];
    let output = run(&arguments, directory.path());
    assert!(output.status.success(), "{}", words(&output));
    let summary = Summary::load(directory.path()).unwrap();
    assert!(summary.operations > 10, "{}", summary.operations);
    assert_eq!(summary.bytes_up, 1_000 * summary.operations);
    assert!(summary.errors.is_empty(), "{:?}", summary.errors);
    let figures = &summary.figures;
    assert!(figures["kept_least_share"] > 0.0, "{figures:?}");
    assert!(figures["kept_least_share"] <= figures["kept_most_share"]);
    assert!(
        figures.contains_key("service_user_memory_per_idle_tunnel_bytes"),
        "{figures:?}"
    );
    for figure in [
        "alone_cpu_per_operation_ns",
        "beside_idle_cpu_per_operation_ns",
        "all_idle_cpu_share",
    ] {
        assert!(figures.contains_key(figure), "{figures:?}");
    }
    let says_whose = |it: &String| it.contains("those of the system with idle tunnels");
    assert!(
        summary.warnings.iter().any(says_whose),
        "{:?}",
        summary.warnings
    );
    let names: Vec<&str> = summary.processes.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["service", "server", "destination", "source"]);
    assert!(summary.processes.iter().all(|it| !it.has_ended));
}

/// What the processes used is known only once all is over, and a condition on it is not crossed for that.
#[test]
fn what_the_processes_use_is_judged_by_its_figure() {
    let many = "many-tunnels --tunnels 3 --active 1 --rounds 1 --duration 500ms";
    for (arguments, crossed) in [
        (format!("{many} --fail-if cpu>1000"), false),
        (format!("{many} --fail-if memory<1GiB"), true),
        (
            "storm --tunnels 3 --cut close --fail-if cpu>1000".to_owned(),
            false,
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let words: Vec<&str> = arguments.split(' ').collect();
        let output = run(&words, directory.path());
        let summary = Summary::load(directory.path()).unwrap();
        let [outcome] = &summary.thresholds[..] else {
            panic!("{arguments}: {:?}", summary.thresholds);
        };
        assert!(outcome.value.is_some(), "{arguments}: {outcome:?}");
        assert_eq!(outcome.is_crossed, crossed, "{arguments}: {outcome:?}");
        let code = if crossed { 3 } else { 0 };
        assert_eq!(output.status.code(), Some(code), "{arguments}");
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_started() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["many-tunnels", "--tunnels", "2", "--active", "2"][..],
        &["many-tunnels", "--rounds", "0"],
        &["storm", "--tunnels", "0"],
        &["storm", "--tunnels", "10000"],
    ] {
        let output = run(arguments, directory.path());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(words(&output).contains("hint: "), "{arguments:?}");
    }
}
