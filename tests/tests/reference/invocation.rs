//! Invocations: what is accepted, what is refused, with which text and which exit code.

use std::process::Command;

use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::process::Process;
use adit_tests::scenario::Scenario;
use anyhow::{Context, Result, ensure};

/// How the reference reports an error (section 13, "Error classes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// The reason, and "Try 'localproxy --help'".
    Usage,
    /// One log line at level fatal.
    Fatal,
}
use Class::{Fatal, Usage};

const TRY: &str = "Try 'localproxy --help' for a list of options.";

/// `localproxy` with these arguments and a token in its environment.
fn localproxy(scenario: &Scenario, arguments: &[&str]) -> Command {
    let mut command = scenario.binary().localproxy();
    command.args(arguments).current_dir(scenario.directory());
    command.env("AWSIOT_TUNNEL_ACCESS_TOKEN", "a-token");
    command
}

async fn run(scenario: &Scenario, command: Command) -> Result<(Option<i32>, String, String)> {
    let mut process = Process::start(scenario, "localproxy", command)?;
    let code = process.end().await?.code();
    let output = process.output();
    Ok((
        code,
        output.text(Channel::Stdout),
        output.text(Channel::Stderr),
    ))
}

async fn is_refused(scenario: &Scenario, command: Command, class: Class, text: &str) -> Result<()> {
    let (code, _, said) = run(scenario, command).await?;
    ensure!(code == Some(1), "exit code {code:?}");
    ensure!(said.contains(text), "{text:?} is not in: {said}");
    match class {
        Usage => ensure!(said.contains(TRY), "no hint at --help: {said}"),
        Fatal => {
            let line = said.lines().find(|line| line.contains(text));
            let is_fatal = line.is_some_and(|line| line.contains("[fatal]"));
            ensure!(is_fatal, "no line at level fatal: {said}");
        }
    }
    Ok(())
}

async fn each_bad_invocation_has_its_text_and_exit_code_1(scenario: Scenario) -> Result<()> {
    let long = "x".repeat(5_000);
    let id = "x".repeat(33);
    let region_or_endpoint =
        "Must specify one and only one of --region/-r or --proxy-endpoint/-e options";
    let source_or_destination =
        "Must specify one and only one of --source-listen-port/-s or --destination-app/-d";
    let none_of_them =
        "Must specify one of --source-listen-port/-s or --destination-app/-d or --mode";
    let client_token = "Client token must be between 32 and 128 characters";
    let ports = "Port must be between 1 and 65535";
    let cases: &[(Class, &[&str], &str)] = &[
        (Usage, &["-s", "1"], region_or_endpoint),
        (
            Usage,
            &["-s", "1", "-e", "h", "-r", "eu-west-1"],
            region_or_endpoint,
        ),
        (
            Usage,
            &["-s", "1", "-d", "2", "-e", "h"],
            source_or_destination,
        ),
        (Usage, &["-e", "h"], none_of_them),
        (
            Usage,
            &["-e", "h", "-s", "1", "-m", "dst"],
            "-s and --mode have mismatched mode. Mode is set to destination!",
        ),
        (
            Usage,
            &["-e", "h", "-d", "1", "-m", "source"],
            "-d and --mode have mismatched mode. Mode is set to source!",
        ),
        (
            Usage,
            &["-e", "h", "-m", "both"],
            "Mode value is wrong! Allowed values are: src, dst, source, destination",
        ),
        (
            Usage,
            &["-e", "h", "-s", "1", "-v", "loud"],
            "the argument ('loud') for option '--verbose' is invalid",
        ),
        (
            Usage,
            &["-e", "h", "-s", "1", "--nonsense"],
            "unrecognised option '--nonsense'",
        ),
        (
            Usage,
            &["-e", "h", "-s", "1", "-s", "2"],
            "cannot be specified more than once",
        ),
        (Fatal, &["-e", "h", "-s", "1", "-i", "short"], client_token),
        (
            Fatal,
            &["-e", "h:port", "-s", "1"],
            "Invalid endpoint specified: h:port",
        ),
        (
            Fatal,
            &["-e", "h/x", "-s", "1"],
            "Proxy endpoint contains invalid characters",
        ),
        (
            Fatal,
            &["-r", "EU", "-s", "1"],
            "Region must contain only lowercase letters, numbers, and hyphens",
        ),
        (
            Fatal,
            &["-e", "h", "-s", "1", "-b", "a b"],
            "Bind address contains invalid characters",
        ),
        (
            Fatal,
            &["-e", "h", "-s", "1", "-c", ""],
            "Path cannot be empty",
        ),
        (
            Fatal,
            &["-e", "h", "-s", "1,2"],
            "Wrong format for the port mappings",
        ),
        (Fatal, &["-e", "h", "-s", "SSH=0"], ports),
        (Fatal, &["-e", "h", "-d", "SSH=host:65536"], ports),
        (
            Fatal,
            &["-e", "h", "-m", "src", "--config-dir", "/nonexistent"],
            "Invalid configuration directory",
        ),
        (
            Fatal,
            &["-e", "h", "-s", "1", "--settings-json", "/none"],
            "/none: cannot open file",
        ),
        (
            Usage,
            &["-e", "h", "-s", "1", "--config", "/none"],
            "can not read options configuration file '/none'",
        ),
        (
            Fatal,
            &["-e", "h", "-s", "1", "-t", &long],
            "exceeds maximum allowed length",
        ),
        (
            Fatal,
            &["-e", "h", "-s", "1", "-t", "a\nb"],
            "contains invalid control characters",
        ),
    ];
    for (class, arguments, text) in cases {
        let refused = is_refused(&scenario, localproxy(&scenario, arguments), *class, text);
        refused.await.with_context(|| {
            let shown = arguments
                .iter()
                .map(|argument| &argument[..argument.len().min(40)]);
            format!("{:?}", shown.collect::<Vec<_>>())
        })?;
    }
    // Too long for a service ID, and so not read as one.
    let mapping = format!("{}=1", id.repeat(4));
    let command = localproxy(&scenario, &["-e", "h", "-s", &mapping]);
    let (code, _, _) = run(&scenario, command).await?;
    ensure!(code == Some(1));
    Ok(())
}

async fn a_missing_token_is_bad_usage(scenario: Scenario) -> Result<()> {
    let text = "the option '--access-token' is required but missing";
    let mut command = localproxy(&scenario, &["-e", "h", "-s", "1"]);
    command.env_remove("AWSIOT_TUNNEL_ACCESS_TOKEN");
    is_refused(&scenario, command, Usage, text).await
}

/// Rejected inputs add a line that security tools look for.
async fn a_rejected_input_is_logged_for_security(scenario: Scenario) -> Result<()> {
    let command = localproxy(&scenario, &["-e", "h/x", "-s", "1"]);
    let (_, _, said) = run(&scenario, command).await?;
    ensure!(said.contains("SECURITY: Rejected input for"), "{said}");
    Ok(())
}

async fn help_version_and_export_end_with_0(scenario: Scenario) -> Result<()> {
    let banner = "Running AWS IoT Secure Tunneling Local Proxy version: v3.3.1";
    for arguments in [&["-h"][..], &["--help"], &["-h", "-s", "1", "-d", "2"]] {
        let mut command = localproxy(&scenario, arguments);
        command.env_remove("AWSIOT_TUNNEL_ACCESS_TOKEN");
        let (code, _, said) = run(&scenario, command).await?;
        ensure!(code == Some(0), "{arguments:?}: {code:?}");
        for option in [
            "--access-token",
            "--source-listen-port",
            "--destination-client-type",
        ] {
            ensure!(
                said.contains(option),
                "{option} is not in the help on stderr: {said}"
            );
        }
    }
    for arguments in [&["-V"][..], &["--version", "--help"]] {
        let (code, out, _) = run(&scenario, localproxy(&scenario, arguments)).await?;
        ensure!(code == Some(0) && out.trim() == banner, "{code:?} {out}");
    }
    let command = localproxy(&scenario, &["--export-default-settings", "defaults.json"]);
    let (code, _, _) = run(&scenario, command).await?;
    ensure!(code == Some(0), "{code:?}");
    let exported: serde_json::Value =
        serde_json::from_slice(&std::fs::read(scenario.path("defaults.json"))?)?;
    let proxy = &exported["tunneling"]["proxy"];
    ensure!(proxy["message"]["max_payload_size"] == 64_512, "{exported}");
    ensure!(
        proxy["websocket"]["connect_retry_count"] == -1,
        "{exported}"
    );
    let command = localproxy(&scenario, &["--export-default-settings", "/none/x"]);
    is_refused(&scenario, command, Fatal, "cannot open file").await
}

/// Boost's ways to write an option: `--name=value`, `-nvalue`, unambiguous prefixes; stray
/// words are ignored.
async fn options_are_read_as_boost_reads_them(scenario: Scenario) -> Result<()> {
    let nowhere = adit_tests::ports::free()?;
    let endpoint = format!("localhost:{nowhere}");
    let (long, short) = (
        format!("--proxy-endpoint={endpoint}"),
        format!("-e{endpoint}"),
    );
    let settings = scenario.write(
        "once.json",
        r#"{"tunneling":{"proxy":{"websocket":{"connect_retry_count":"0"}}}}"#,
    )?;
    let settings = settings.display().to_string();
    for arguments in [
        &["--source-listen-port", "1", long.as_str()][..],
        &["-s1", short.as_str()],
        &["--sou", "1", "--proxy-e", endpoint.as_str()],
        &["-s", "1", "-e", endpoint.as_str(), "stray", "words"],
        &["-s", "1", "-e", endpoint.as_str(), "--acc", "another-token"],
        &["-s", "1", "-e", endpoint.as_str(), "-y", "V9"],
    ] {
        let arguments = [arguments, &["--settings-json", &settings]].concat();
        // Understood: it gets as far as not reaching anybody, which the reference ends
        // with 0 once its retries are used up.
        let (code, _, said) = run(&scenario, localproxy(&scenario, &arguments)).await?;
        ensure!(code == Some(0), "{arguments:?}: {code:?}: {said}");
    }
    let command = localproxy(&scenario, &["--s", "1"]);
    is_refused(&scenario, command, Usage, "is ambiguous").await
}

/// A token on the command line can be read by everybody on the machine.
async fn a_token_on_the_command_line_is_warned_about_and_never_shown(
    scenario: Scenario,
) -> Result<()> {
    let token = "very-secret-token-value";
    let command = localproxy(&scenario, &["-t", token, "-e", "h:x", "-s", "1", "-v", "6"]);
    let (_, out, said) = run(&scenario, command).await?;
    ensure!(
        !said.contains(token) && !out.contains(token),
        "the token is shown: {said}"
    );
    let nowhere = format!("localhost:{}", adit_tests::ports::free()?);
    let command = localproxy(
        &scenario,
        &["-t", token, "-e", &nowhere, "-s", "1", "-v", "6"],
    );
    let process = Process::start(&scenario, "localproxy", command)?;
    process.line("warning").await?;
    ensure!(!process.output().has(token), "the token is shown");
    Ok(())
}

on_own_choice!(
    each_bad_invocation_has_its_text_and_exit_code_1,
    a_missing_token_is_bad_usage,
    a_rejected_input_is_logged_for_security,
    help_version_and_export_end_with_0,
    options_are_read_as_boost_reads_them,
    a_token_on_the_command_line_is_warned_about_and_never_shown,
);
