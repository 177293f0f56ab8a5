//! The program itself: both names it is called by, its streams and its exit codes.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

/// Runs the program under a name, in an empty directory, with a clean environment and a token.
fn run(
    name: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_adit"))
        .arg0(name)
        .args(arguments.iter().map(OsStr::new))
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(directory.path())
        .output()
        .expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
    (status.code(), text(stdout), text(stderr))
}

const BANNER: &str = "Running AWS IoT Secure Tunneling Local Proxy version: v3.3.1\n";
const TOKEN: &[(&str, &str)] = &[("AWSIOT_TUNNEL_ACCESS_TOKEN", "a-token")];

/// The acceptance tests of the reference's command line, said again (wire specification, section 18).
#[test]
fn localproxy_passes_the_references_acceptance_tests() {
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--version"], 0, ""),
        (&["-V"], 0, ""),
        (&["--help"], 0, "Show help message"),
        (&["-h"], 0, "Show help message"),
        (&["-Z"], 1, "unrecognised option '-Z'"),
        (
            &["-v"],
            1,
            "the required argument for option '--verbose' is missing",
        ),
        (
            &["-r", "us-east-1", "-e", "h.example.org", "-s", "5555"],
            1,
            "Must specify one and only one of --region/-r or --proxy-endpoint/-e",
        ),
        (
            &["-s", "5555"],
            1,
            "Must specify one and only one of --region/-r or --proxy-endpoint/-e",
        ),
        (
            &["-r", "us-east-1"],
            1,
            "Must specify one of --source-listen-port/-s or --destination-app/-d or --mode",
        ),
        (
            &["-r", "us-east-1", "-s", "5555", "-d", "127.0.0.1:22"],
            1,
            "Must specify one and only one of --source-listen-port/-s or --destination-app/-d",
        ),
        (
            &["-r", "us-east-1", "-m", "bogus"],
            1,
            "Mode value is wrong! Allowed values are: src, dst, source, destination",
        ),
        (
            &["-r", "us-east-1", "-s", "5555", "-m", "dst"],
            1,
            "-s and --mode have mismatched mode. Mode is set to destination!",
        ),
    ];
    for (arguments, code, text) in cases {
        let (status, stdout, stderr) = run("/some/where/localproxy", arguments, TOKEN);
        assert_eq!(status, Some(*code), "{arguments:?}: {stderr}");
        assert_eq!(stdout, BANNER, "{arguments:?}");
        assert!(stderr.contains(text), "{arguments:?}: {stderr}");
        let has_pointer = stderr.contains("Try 'localproxy --help' for a list of options.");
        assert_eq!(has_pointer, *code == 1, "{arguments:?}: {stderr}");
    }
    let (status, _, stderr) = run("localproxy", &[], &[]);
    assert_eq!(status, Some(1));
    assert!(stderr.starts_with(
        "the option '--access-token' is required but missing\nTry 'localproxy --help'"
    ));
    assert!(
        !stderr.contains("access-token-file"),
        "an option it does not have: {stderr}"
    );
}

#[test]
fn localproxy_logs_a_fatal_line_for_a_bad_value() {
    let arguments = ["-r", "EU", "-s", "1"];
    let (status, _, stderr) = run("localproxy", &arguments, TOKEN);
    assert_eq!(status, Some(1));
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(lines[0].ends_with("[warning] SECURITY: Rejected input for 'region': invalid format"));
    assert!(
        lines[1]
            .ends_with("[fatal] Region must contain only lowercase letters, numbers, and hyphens")
    );
    assert!(lines[2].starts_with("hint: "));
    let quiet = ["-r", "EU", "-s", "1", "-v", "0"];
    let (status, stdout, stderr) = run("localproxy", &quiet, TOKEN);
    assert_eq!(
        (status, stdout.as_str(), stderr.as_str()),
        (Some(1), BANNER, "")
    );
}

#[test]
fn adit_answers_on_the_right_stream_with_the_right_code() {
    let (status, stdout, stderr) = run("adit", &["--version"], &[]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("adit "), "{stdout}");
    let (status, stdout, stderr) = run("adit", &["proxy", "--help"], &[]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert!(
        stdout.contains("Examples:") && !stdout.contains('\x1b'),
        "{stdout}"
    );
    let (status, stdout, stderr) = run("adit", &[], &[]);
    assert_eq!((status, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("Usage: adit <COMMAND>"), "{stderr}");
    let (status, stdout, stderr) = run("adit", &["proxy", "-r", "EU", "-s", "1"], TOKEN);
    assert_eq!((status, stdout.as_str()), (Some(2), ""));
    assert!(
        stderr.starts_with("error: --region: ") && stderr.contains("\nhint: "),
        "{stderr}"
    );
    let arguments = ["proxy", "-e", "h", "-s", "1", "--config", "none"];
    let (status, _, stderr) = run("adit", &arguments, TOKEN);
    assert_eq!(status, Some(6), "{stderr}");
}

#[test]
fn settings_are_exported_to_a_file_or_standard_output() {
    let (status, stdout, _) = run("adit", &["proxy", "--export-default-settings", "-"], &[]);
    assert_eq!(status, Some(0));
    assert!(
        stdout.starts_with("{\n  \"tunneling\": {\n    \"proxy\": {\n"),
        "{stdout}"
    );
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("settings.json");
    let path = path.to_str().expect("a path that is text");
    let arguments = ["--export-default-settings", path];
    let (status, _, stderr) = run("localproxy", &arguments, &[]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert_eq!(
        std::fs::read_to_string(path).expect("it was written"),
        stdout
    );
    for (name, code) in [("localproxy", 1), ("adit", 2)] {
        let mut arguments = vec!["--export-default-settings", "no/such/file"];
        if name == "adit" {
            arguments.insert(0, "proxy");
        }
        let (status, _, stderr) = run(name, &arguments, &[]);
        assert_eq!(status, Some(code), "{stderr}");
        let text = if name == "adit" {
            "cannot write"
        } else {
            "cannot open file"
        };
        assert!(stderr.contains(text), "{stderr}");
    }
}

/// No matter how it is given, the token is nowhere in what the program says.
#[test]
fn a_token_is_never_printed() {
    let token = "canary-token-that-is-longer-than-most-words-and-quite-unmistakable-0123456789";
    for arguments in [
        &["proxy", token][..],
        &["proxy", "--acess-token", token],
        &["proxy", "-r", "EU", "-s", "1", "-t", token],
        &["proxy", "-r", token, "-t", token, "-s", "1"],
        &["proxy", "-e", "h", "-s", token, "-t", token],
        &[
            "proxy", "-e", "h", "-b", token, "-t", token, "-i", token, "-d", "x",
        ],
        &["-t", token, "-e", "h", "-s", "0"],
        &["--access-tokn", token],
        &["-e", "h", "-s", "1", "-t", token, "-t", token],
    ] {
        let name = if arguments[0] == "proxy" {
            "adit"
        } else {
            "localproxy"
        };
        let (status, stdout, stderr) = run(name, arguments, TOKEN);
        assert_ne!(status, Some(0), "{arguments:?}");
        assert!(
            !stdout.contains("quite") && !stderr.contains("quite"),
            "{stderr}"
        );
    }
}
