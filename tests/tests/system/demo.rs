//! `adit demo`: everything in one process, nothing else needed.

use adit_tests::on_each_loop;
use adit_tests::process::{Process, Signal};
use adit_tests::scenario::Scenario;
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Longer than the check allows itself.
const CHECK_LIMIT: Duration = adit_cli::run::CHECK_DEADLINE.saturating_add(Duration::from_secs(10));
/// For the scenario around it.
const SETUP_LIMIT: Duration = Duration::from_secs(10);

fn demo(scenario: &Scenario, arguments: &[&str]) -> Result<Process> {
    let mut command = scenario.binary().adit();
    command
        .arg("demo")
        .args(arguments)
        .current_dir(scenario.directory())
        .env("TMPDIR", temporary(scenario)?);
    if let Some(io) = scenario.io().argument() {
        command.args(["--io", io]);
    }
    Process::start(scenario, "demo", command)
}

/// Where the demo may leave nothing behind.
fn temporary(scenario: &Scenario) -> Result<PathBuf> {
    let directory = scenario.path("temporary");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn left_nothing_behind(scenario: &Scenario) -> Result<()> {
    if let Some(left) = std::fs::read_dir(temporary(scenario)?)?.next() {
        bail!("{} is left behind", left?.path().display());
    }
    Ok(())
}

async fn a_demo_checks_itself(scenario: Scenario) -> Result<()> {
    let mut process = demo(&scenario, &["--check"])?;
    // It ends by itself, and says what was wrong: nobody cuts it short.
    let status = process.end_within(CHECK_LIMIT).await?;
    ensure!(status.code() == Some(0), "the check ended with {status}");
    left_nothing_behind(&scenario)
}

/// It says what to type next, what it says works, and Ctrl-C ends it in good order.
async fn a_demo_can_be_tried_and_left(scenario: Scenario) -> Result<()> {
    let mut process = demo(&scenario, &[])?;
    let line = process.line("curl http").await?;
    let url = line
        .split_whitespace()
        .find(|word| word.contains("http://"))
        .context("no address in the line with curl")?;
    let address = url.trim_matches(|character: char| !character.is_ascii_alphanumeric());
    let address = address.trim_start_matches("http://").trim_end_matches('/');
    let (_, port) = address.rsplit_once(':').context("no port")?;
    let mut client = adit_tests::apps::connect(port.parse()?).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut client, request.as_bytes()).await?;
    let head = adit_tests::http::Head::read(&mut client).await?;
    ensure!(head.status()? == 200, "{}", head.start_line);
    let mut list = client_of_the_demo(&scenario, &process).await?;
    list.args(["thing", "list"]);
    let mut list = Process::start(&scenario, "list", list)?;
    list.line("demo-device").await?;
    list.ends_with(0).await?;
    process.signal(Signal::Interrupt).await?;
    process.ends_with(0).await?;
    left_nothing_behind(&scenario)
}

/// `adit`, with what the demo says that a shell is to export.
async fn client_of_the_demo(scenario: &Scenario, process: &Process) -> Result<Command> {
    let mut command = scenario.binary().adit();
    for needle in ["AWS_SHARED_CREDENTIALS_FILE=", "AWS_ENDPOINT_URL="] {
        let line = process.line(needle).await?;
        let (_, exports) = line.split_once("export ").context("no export")?;
        let exports = exports.split_whitespace();
        command.envs(exports.filter_map(|export| export.split_once('=')));
    }
    Ok(command)
}

on_each_loop!(within super::CHECK_LIMIT + super::SETUP_LIMIT; a_demo_checks_itself);
on_each_loop!(a_demo_can_be_tried_and_left);
