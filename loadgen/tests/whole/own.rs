//! Profiles on a system that the generator starts for them, and on a tunnel by its tokens.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use adit_engine::ring::IoChoice;
use adit_loadgen::report::{ErrorKind, Summary};

use crate::support::{EXECUTABLE, both};

fn run(arguments: &[&str], out: &Path) -> Output {
    let output = Command::new(EXECUTABLE)
        .args(arguments)
        .args(["--duration", "1s", "--quiet", "--out"])
        .arg(out)
        .output();
    output.unwrap()
}

/// The summary of a run without a failure.
fn passed(arguments: &[&str]) -> Summary {
    let directory = tempfile::tempdir().unwrap();
    let output = run(arguments, directory.path());
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {words}");
    let summary = Summary::load(directory.path()).unwrap();
    // A machine that is too busy may have left starts out.
    let mut kinds = summary
        .errors
        .keys()
        .chain(summary.connection_errors.keys());
    assert!(
        kinds.all(|kind| *kind == ErrorKind::Skipped),
        "{arguments:?}: {:?}",
        summary.errors
    );
    summary
}

fn name(io: IoChoice) -> &'static str {
    match io {
        IoChoice::Auto => "auto",
        IoChoice::Uring => "uring",
        IoChoice::Epoll => "epoll",
    }
}

#[test]
fn profiles_run_on_a_system_of_their_own() {
    both(|io| {
        let io = ["--self", "--system-io", name(io)];
        for profile in [
            &["latency", "--connections", "10", "--rate", "100"][..],
            &["bulk", "--direction", "both", "--tls-records", "library"],
            &["bulk", "--tunnels", "3", "--connections", "6"],
            &["churn", "--rate", "50"],
        ] {
            let summary = passed(&[profile, &io[..]].concat());
            let carried = summary.operations + summary.bytes_up + summary.bytes_down;
            assert!(carried > 0, "{profile:?}");
            let parts: Vec<&str> = summary.processes.iter().map(|it| &*it.name).collect();
            assert_eq!(parts, ["service", "server", "destination", "source"]);
            for part in &summary.processes {
                assert!(
                    !part.has_ended && part.user_memory_bytes.is_some(),
                    "{part:?}"
                );
            }
            assert!(
                summary.run.target.contains("a system of its own"),
                "{:?}",
                summary.run
            );
        }
    });
}

#[test]
fn profiles_run_in_the_place_of_one_end_or_both() {
    for play in ["source", "both"] {
        for profile in [
            &["latency", "--connections", "10", "--rate", "100"][..],
            &["bulk", "--direction", "both"],
            &["mixed", "--connections", "3", "--rate", "50"],
            &["churn", "--rate", "50"],
        ] {
            let summary = passed(&[profile, &["--self", "--play", play][..]].concat());
            let carried = summary.operations + summary.bytes_up + summary.bytes_down;
            assert!(carried > 0, "{profile:?}");
            let has_far_end = summary.figures.contains_key("far_end_received_bytes");
            assert_eq!(has_far_end, play == "both");
        }
    }
}

/// A system without proxies, kept up by another process of the generator.
struct KeptUp {
    child: Child,
    document: serde_json::Value,
    directory: tempfile::TempDir,
}

impl KeptUp {
    fn without(parts: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(EXECUTABLE)
            .args(["system", "--json", "--without", parts, "--ca-out"])
            .arg(directory.path().join("ca.pem"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.as_mut().unwrap());
        output.read_line(&mut line).unwrap();
        Self {
            child,
            document: serde_json::from_str(&line).unwrap(),
            directory,
        }
    }

    fn endpoint(&self) -> String {
        self.document["endpoint"].as_str().unwrap().to_owned()
    }

    fn ca(&self) -> String {
        self.directory.path().join("ca.pem").display().to_string()
    }

    fn of_tunnel(&self, field: &str) -> String {
        self.document["tunnels"][0][field]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

impl Drop for KeptUp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_tunnel_is_driven_by_both_its_tokens() {
    let system = KeptUp::without("source,destination");
    let (endpoint, ca) = (system.endpoint(), system.ca());
    let source = system.of_tunnel("source_token");
    let destination = system.of_tunnel("destination_token");
    let place = ["--endpoint", &endpoint, "--ca", &ca];
    let tokens = [
        "--source-token",
        &source,
        "--destination-token",
        &destination,
    ];
    let profile = ["latency", "--closed", "--connections", "4"];
    let summary = passed(&[&profile[..], &place, &tokens].concat());
    assert!(summary.operations > 10, "{}", summary.operations);

    // The tokens are bound to the run that is over.
    let directory = tempfile::tempdir().unwrap();
    let output = run(&[&profile[..], &place, &tokens].concat(), directory.path());
    assert_eq!(output.status.code(), Some(5));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("was used before"), "{words}");
    assert!(
        !words.contains(&source) && !words.contains(&destination),
        "{words}"
    );
}

#[test]
fn a_server_answers_as_the_destination_behind_a_real_source() {
    let system = KeptUp::without("destination");
    let mut server = Command::new(EXECUTABLE)
        .args([
            "serve",
            "--endpoint",
            &system.endpoint(),
            "--ca",
            &system.ca(),
        ])
        .env(
            "ADIT_LOADGEN_DESTINATION_TOKEN",
            system.of_tunnel("destination_token"),
        )
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(server.stdout.as_mut().unwrap());
    output.read_line(&mut line).unwrap();
    assert!(line.contains("destination"), "{line}");
    let listen = system.of_tunnel("listen");
    for profile in [
        &["latency", "--closed", "--connections", "4"][..],
        &["bulk", "--direction", "both"],
    ] {
        let summary = passed(&[profile, &["--target", &listen][..]].concat());
        assert!(summary.bytes_up > 0 && summary.bytes_down > 0);
    }
    drop(system);
    // Its tunnel is gone, and it says so.
    assert_eq!(server.wait().unwrap().code(), Some(1));
}

#[test]
fn what_is_to_be_driven_is_said_once() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["latency"][..],
        &["latency", "--self", "--target", "127.0.0.1:1"],
        &["latency", "--source-token", "x"],
        &[
            "latency",
            "--destination-token",
            "x",
            "--endpoint",
            "wss://127.0.0.1:1",
        ],
        &["latency", "--self", "--play", "both", "--tunnels", "2"],
        &["idle", "--self", "--play", "both"],
        &["latency", "--play", "both"],
        &["latency", "--endpoint", "http://x", "--source-token", "x"],
    ] {
        let output = run(arguments, directory.path());
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {words}");
    }
    let output = run(
        &[
            "latency",
            "--source-token",
            "x",
            "--endpoint",
            "wss://127.0.0.1:1",
        ],
        directory.path(),
    );
    assert_eq!(output.status.code(), Some(5), "nobody listens there");
}
