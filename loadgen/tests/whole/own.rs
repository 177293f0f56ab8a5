//! Profiles on a system that the generator starts for them, and on a tunnel by its tokens.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use adit_loadgen::report::{ErrorKind, Summary};

use crate::support::{self, EXECUTABLE, KeptUp, PATIENCE, both};

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
    let told = (&summary.errors, &summary.connection_errors);
    assert!(summary.has_only_skipped(), "{arguments:?}: {told:?}");
    summary
}

#[test]
fn profiles_run_on_a_system_of_their_own() {
    both(|io| {
        let io = ["--self", "--system-io", io.as_str()];
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
fn what_ends_that_are_played_cannot_do_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let profile = ["latency", "--self", "--play", "both"];
    for more in [["--threads", "2"], ["--io", "epoll"]] {
        let output = run(&[&profile[..], &more].concat(), directory.path());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        let words = String::from_utf8_lossy(&output.stderr);
        let told =
            words.contains(&format!("{} has no meaning", more[0])) && words.contains("hint: ");
        assert!(told, "{words}");
    }
}

#[test]
fn profiles_run_in_the_place_of_one_end_or_both() {
    for play in ["source", "both"] {
        for profile in [
            &["latency", "--connections", "10", "--rate", "100"][..],
            &["bulk", "--direction", "both"],
            &["mixed", "--connections", "3", "--rate", "50"],
            &["churn", "--rate", "50"],
            &["ssh-typing", "--rate", "100"],
            &["http-mix", "--rate", "50"],
            &["stall", "--connections", "3"],
            &["idle", "--connections", "50"],
        ] {
            let summary = passed(&[profile, &["--self", "--play", play][..]].concat());
            let carried = summary.operations + summary.bytes_up + summary.bytes_down;
            match profile[0] {
                "idle" => is_held_and_accounted_for(&summary),
                _ => assert!(carried > 0, "{profile:?}"),
            }
            let has_stall = summary.figures.contains_key("others_kept_share");
            assert_eq!(has_stall, profile[0] == "stall");
            let has_far_end = summary.figures.contains_key("far_end_received_bytes");
            assert_eq!(has_far_end, play == "both");
        }
    }
}

/// All 50.
fn is_held_and_accounted_for(summary: &Summary) {
    assert_eq!(summary.figures["held_connections"], 50.0);
    let memory = "service_user_memory_per_connection_bytes";
    assert!(
        summary.figures.contains_key(memory),
        "{:?}",
        summary.figures
    );
}

#[test]
fn a_tunnel_is_driven_by_both_its_tokens() {
    let system = KeptUp::start(&["--without", "source,destination"]);
    let (endpoint, ca) = (system.endpoint(), system.ca().display().to_string());
    let source = system.of_tunnel(0, "source_token");
    let destination = system.of_tunnel(0, "destination_token");
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
    // A summary is shown to others.
    let told = summary.run.command_line.join(" ");
    assert!(
        !told.contains(&source) && !told.contains(&destination),
        "{told}"
    );
    assert!(told.contains("--source-token (hidden)"), "{told}");

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

/// Most of the time none is open: one is opened each second, and carries a single round trip.
#[test]
fn a_destination_that_leaves_between_two_connections_fails_the_run() {
    let system = KeptUp::start(&["--without", "source"]);
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(EXECUTABLE)
        .args(["churn", "--rate", "1", "--duration", "600s", "--lines"])
        .args(["--endpoint", &system.endpoint()])
        .args(["--source-token", &system.of_tunnel(0, "source_token")])
        .args(["--ca".as_ref(), system.ca().as_os_str()])
        .args(["--out".as_ref(), directory.path().as_os_str()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap());
    // The first second is over, and the connection of the next one soon.
    words.read_line(&mut String::new()).unwrap();
    thread::sleep(Duration::from_millis(400));
    support::kill(system.pid_of("destination"));
    let mut rest = String::new();
    words.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest}");
    assert!(rest.contains("bytes were lost"), "{rest}");
    let summary = Summary::load(directory.path()).unwrap();
    assert_eq!(summary.connection_errors[&ErrorKind::Tunnel], 1, "{rest}");
    let told = summary.warnings.join("\n");
    assert!(told.contains("the tunnel ended before its time"), "{told}");
    assert!(summary.elapsed_s < 300.0, "{}", summary.elapsed_s);
}

#[test]
fn a_server_answers_as_the_destination_behind_a_real_source() {
    let system = KeptUp::start(&["--without", "destination"]);
    let mut server = Command::new(EXECUTABLE)
        .args(["serve", "--endpoint", &system.endpoint(), "--ca"])
        .arg(system.ca())
        .env(
            "ADIT_LOADGEN_DESTINATION_TOKEN",
            system.of_tunnel(0, "destination_token"),
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(server.stdout.as_mut().unwrap());
    output.read_line(&mut line).unwrap();
    assert!(line.contains("destination"), "{line}");
    let listen = system.of_tunnel(0, "listen");
    for profile in [
        &["latency", "--closed", "--connections", "4"][..],
        &["bulk", "--direction", "both"],
    ] {
        let summary = passed(&[profile, &["--target", &listen][..]].concat());
        assert!(summary.bytes_up > 0 && summary.bytes_down > 0);
    }
    drop(system);
    // Its tunnel is gone, and it says so.
    let ended = server.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{words}");
    assert!(
        words.contains("the connection was cut") && !words.contains("https://"),
        "{words}"
    );
}

/// A listener that answers nothing, and the arguments and variables of a process that has come to it.
fn shown_once_it_dials(arguments: &[&str], variables: &[(&str, &str)]) -> [String; 2] {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = format!("wss://{}", listener.local_addr().unwrap());
    let mut child = Command::new(EXECUTABLE)
        .args(arguments)
        .args(["--endpoint", &endpoint])
        .envs(variables.iter().copied())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (came, comes) = std::sync::mpsc::channel();
    thread::spawn(move || came.send(listener.accept()));
    let connection = comes.recv_timeout(PATIENCE);
    let shown = ["cmdline", "environ"].map(|file| {
        let bytes = std::fs::read(format!("/proc/{}/{file}", child.id())).unwrap();
        String::from_utf8(bytes).unwrap()
    });
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(connection.is_ok(), "{arguments:?}: {words}");
    shown
}

/// Threats T-01 and T-02: a run may be long, and its tokens are seen in it by nobody.
#[test]
fn tokens_are_shown_to_nobody_once_they_were_read() {
    let (source, destination) = ("canary-of-the-source", "canary-of-the-destination");
    let source_variable = ("ADIT_LOADGEN_SOURCE_TOKEN", source);
    let destination_variable = ("ADIT_LOADGEN_DESTINATION_TOKEN", destination);
    let source_option = ["--source-token", source];
    let destination_option = format!("--destination-token={destination}");
    let destination_option = [destination_option.as_str()];
    for (command, options, variables) in [
        (
            "latency",
            &[][..],
            &[source_variable, destination_variable][..],
        ),
        ("latency", &source_option, &[destination_variable]),
        ("bulk", &source_option, &[]),
        ("serve", &destination_option, &[]),
        ("serve", &[], &[destination_variable]),
    ] {
        let arguments = [&[command], options].concat();
        let [line, environment] = shown_once_it_dials(&arguments, variables);
        assert!(
            line.contains("--endpoint") && !line.contains("canary"),
            "{line:?}"
        );
        assert_eq!(line.contains("****"), !options.is_empty(), "{line:?}");
        assert!(environment.contains("PATH="), "{environment:?}");
        assert!(!environment.contains("canary"), "{environment:?}");
    }
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
