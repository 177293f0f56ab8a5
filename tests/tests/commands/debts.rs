//! Whatever a command opened, it closes, at whatever moment it ends.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use adit_tests::deadline::{pause, within};
use adit_tests::process::{Process, Signal};
use adit_tests::scenario::Scenario;
use adit_tests::{on_own_choice, ports};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::desk::{Desk, run_into};
use crate::gate::Gate;

/// A service with a device that nobody plays, and a way to its API that can hold answers back.
struct Stage {
    desk: Desk,
    gate: Gate,
}

impl Stage {
    async fn set(scenario: &Scenario) -> Result<Self> {
        let desk = Desk::open(scenario).await?;
        desk.done(&["thing", "create", "lamp"]).await?;
        let url = desk.serve.api_url();
        let (_, port) = url.rsplit_once(':').context("a port")?;
        let gate = Gate::before(port.parse()?).await?;
        Ok(Self { desk, gate })
    }

    /// A command that calls the API through the gate, and is running.
    fn start(&self, words: &[&str]) -> Result<Process> {
        let mut command = self.desk.command(words);
        command.args([
            "--endpoint",
            &format!("https://localhost:{}", self.gate.port),
        ]);
        let name = words.first().context("a command")?;
        Process::start(&self.desk.scenario, name, command)
    }

    /// The tunnels that are open, asked for beside the gate.
    async fn open(&self) -> Result<Vec<Value>> {
        let list = self.desk.json(&["tunnel", "list", "--open"]).await?;
        Ok(list["tunnelSummaries"]
            .as_array()
            .context("a list")?
            .clone())
    }

    async fn until_open(&self, count: usize) -> Result<()> {
        within("waiting for tunnels to be opened or closed", async {
            while self.open().await?.len() != count {
                pause(Duration::from_millis(20)).await;
            }
            Ok(())
        })
        .await
    }
}

/// A place to listen for the device's service.
fn service() -> Result<String> {
    Ok(format!("SSH={}", ports::free()?))
}

/// The service has opened the tunnel, and the command does not know it yet.
async fn a_command_that_is_ended_while_it_opens_closes_what_comes(
    scenario: Scenario,
) -> Result<()> {
    let stage = Stage::set(&scenario).await?;
    let service = service()?;
    for (words, signal, code) in [
        (&["ssh", "lamp", "--new"][..], Signal::Interrupt, 130),
        (&["ssh", "lamp", "--new"], Signal::Hangup, 130),
        (
            &["connect", "lamp", &service, "--new"],
            Signal::Terminate,
            0,
        ),
        (&["tunnel", "open"], Signal::Interrupt, 130),
    ] {
        stage.gate.close();
        let mut process = stage.start(words)?;
        stage.until_open(1).await?;
        process.signal(signal).await?;
        process.still_runs()?;
        stage.gate.open();
        process.ends_with(code).await?;
        ensure!(stage.open().await?.is_empty(), "{words:?}");
    }
    Ok(())
}

/// Both wait for the command when it looks, and the signal was there first.
async fn a_signal_counts_that_came_before_the_answer(scenario: Scenario) -> Result<()> {
    let stage = Stage::set(&scenario).await?;
    // Each has the same chance to go wrong.
    for _ in 0..8 {
        stage.gate.close();
        let mut process = stage.start(&["tunnel", "open"])?;
        stage.until_open(1).await?;
        process.signal(Signal::Stop).await?;
        process.signal(Signal::Interrupt).await?;
        stage.gate.open();
        // For the answer to arrive; nobody tells of that.
        pause(Duration::from_millis(100)).await;
        process.signal(Signal::Continue).await?;
        process.ends_with(130).await?;
        ensure!(stage.open().await?.is_empty());
    }
    Ok(())
}

async fn a_command_that_is_ended_while_it_waits_closes_its_tunnel(
    scenario: Scenario,
) -> Result<()> {
    let stage = Stage::set(&scenario).await?;
    let service = service()?;
    for (words, code) in [
        (&["ssh", "lamp", "-v", "4"][..], 130),
        (&["connect", "lamp", &service], 0),
    ] {
        let mut process = stage.start(words)?;
        stage.until_open(1).await?;
        pause(Duration::from_millis(300)).await;
        process.signal(Signal::Terminate).await?;
        process.ends_with(code).await?;
        ensure!(stage.open().await?.is_empty(), "{words:?}");
    }
    Ok(())
}

async fn a_second_signal_ends_at_once(scenario: Scenario) -> Result<()> {
    let stage = Stage::set(&scenario).await?;
    let service = service()?;
    for words in [
        &["ssh", "lamp", "--new", "-v", "4"][..],
        &["connect", "lamp", &service, "--new", "-v", "4"],
    ] {
        stage.gate.close();
        let before = stage.open().await?.len();
        let mut process = stage.start(words)?;
        stage.until_open(before + 1).await?;
        process.signal(Signal::Interrupt).await?;
        process.line("a second signal ends at once").await?;
        process.still_runs()?;
        process.signal(Signal::Interrupt).await?;
        process.ends_with(130).await?;
    }
    Ok(())
}

/// The bound of the wait, and what is said at its end.
async fn an_answer_that_never_comes_is_not_waited_for_forever(scenario: Scenario) -> Result<()> {
    let stage = Stage::set(&scenario).await?;
    stage.gate.close();
    let mut process = stage.start(&["ssh", "lamp", "--new"])?;
    stage.until_open(1).await?;
    let since = Instant::now();
    process.signal(Signal::Interrupt).await?;
    process.ends_with(130).await?;
    ensure!(
        since.elapsed() >= Duration::from_secs(9),
        "it has not waited"
    );
    process.line("a tunnel may stay open").await?;
    process
        .line("hint: `adit tunnel list --open` shows it")
        .await?;
    Ok(())
}

async fn a_port_that_is_taken_leaves_no_tunnel_open(scenario: Scenario) -> Result<()> {
    let stage = Stage::set(&scenario).await?;
    let taken = TcpListener::bind(("127.0.0.1", 0)).await?;
    let service = format!("SSH={}", taken.local_addr()?);
    let mut connect = stage.start(&["connect", "lamp", &service])?;
    connect.ends_with(7).await?;
    connect.line("cannot listen on").await?;
    ensure!(stage.open().await?.is_empty());
    Ok(())
}

/// Its token was taken away, and it asks for another one when it is told to end.
async fn a_connect_that_is_ended_between_two_tries_closes_its_tunnel(
    scenario: Scenario,
) -> Result<()> {
    let stage = Stage::set(&scenario).await?;
    let mut connect = stage.start(&["connect", "lamp", &service()?])?;
    connect.line("tunnel connected").await?;
    let open = stage.open().await?;
    let id = open[0]["tunnelId"].as_str().context("an id")?;
    stage.gate.close();
    stage
        .desk
        .json(&["tunnel", "rotate", id, "--side", "source"])
        .await?;
    connect.line("the service closed the tunnel").await?;
    connect.signal(Signal::Interrupt).await?;
    stage.gate.open();
    connect.ends_with(0).await?;
    ensure!(stage.open().await?.is_empty());
    Ok(())
}

/// While ssh runs, it is ssh that a signal is for. One that does not listen is ended by the second, and the
/// token that it was given goes.
async fn a_signal_reaches_ssh_and_a_second_one_ends_it(scenario: Scenario) -> Result<()> {
    let stage = Stage::set(&scenario).await?;
    let desk = &stage.desk;
    let open = ["tunnel", "open", "--thing", "lamp", "--service", "SSH"];
    let open: Vec<&str> = open.into_iter().chain(["--token-dir", "tokens"]).collect();
    desk.done(&open).await?;
    let _device = desk.device("SSH=127.0.0.1:1", "tokens")?;
    // Otherwise its token would be replaced, so that it is told again, which it cannot hear.
    within("waiting for the device", async {
        let id = stage.open().await?[0]["tunnelId"]
            .as_str()
            .context("an id")?
            .to_owned();
        loop {
            let shown = desk.json(&["tunnel", "describe", &id]).await?;
            if shown["tunnel"]["destinationConnectionState"]["status"] == "CONNECTED" {
                return Ok(());
            }
            pause(Duration::from_millis(20)).await;
        }
    })
    .await?;
    let script = |name: &str, traps: &str| -> Result<String> {
        // A pipe that nobody writes to: waiting that a trap interrupts, and no process beside it.
        let text =
            format!("#!/bin/bash\n{traps}\necho is there\nwhile :; do read -rt 1 <>fifo; done\n");
        let path = scenario.write(name, text)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        Ok(path.display().to_string())
    };
    let status = std::process::Command::new("mkfifo")
        .arg(scenario.path("fifo"))
        .status()?;
    ensure!(status.success(), "{status}");
    let polite = script("polite", "trap 'exit 41' INT; trap 'exit 42' TERM")?;
    let deaf = script("deaf", "trap 'echo deaf to it' INT TERM")?;
    let runtime = scenario.path("runtime");
    std::fs::create_dir(&runtime)?;
    let start = |program: &str| {
        let mut command = desk.command(&["ssh", "lamp", "--ssh", program]);
        command.env("XDG_RUNTIME_DIR", &runtime);
        Process::start(&scenario, "ssh", command)
    };
    for (signal, code) in [
        (Signal::Interrupt, 41),
        (Signal::Terminate, 42),
        (Signal::Hangup, 42),
    ] {
        let mut ssh = start(&polite)?;
        ssh.line("is there").await?;
        ssh.signal(signal).await?;
        ssh.ends_with(code).await?;
    }
    let mut ssh = start(&deaf)?;
    ssh.line("is there").await?;
    ensure!(
        std::fs::read_dir(&runtime)?.count() == 1,
        "where is the token?"
    );
    ssh.signal(Signal::Terminate).await?;
    ssh.line("deaf to it").await?;
    ssh.still_runs()?;
    ssh.signal(Signal::Terminate).await?;
    ssh.ends_with(130).await?;
    ensure!(
        std::fs::read_dir(&runtime)?.count() == 0,
        "the token stays behind"
    );
    Ok(())
}

/// Nobody would ever use the tunnel: its tokens are lost.
async fn tokens_that_cannot_be_written_leave_no_tunnel_open(scenario: Scenario) -> Result<()> {
    let stage = Stage::set(&scenario).await?;
    let said = stage
        .desk
        .say(&["tunnel", "open", "--token-dir", "/dev/null/tokens"])
        .await?;
    ensure!(
        said.code == Some(1) && said.stderr.contains("/dev/null/tokens"),
        "{}",
        said.stderr
    );
    ensure!(stage.open().await?.is_empty());
    Ok(())
}

/// A full disk, or a reader that has gone.
async fn tokens_that_cannot_be_printed_leave_no_tunnel_open(scenario: Scenario) -> Result<()> {
    let stage = Stage::set(&scenario).await?;
    let desk = &stage.desk;
    for words in [&["tunnel", "open"][..], &["tunnel", "open", "--json"]] {
        for (stdout, reason) in [(full()?, "No space left"), (unread()?, "Broken pipe")] {
            let said = run_into(stdout, desk.command(words)).await?;
            let message = format!("error: standard output cannot be written: {reason}");
            ensure!(
                said.code == Some(1) && said.stderr.starts_with(&message),
                "{words:?}: {:?}: {}",
                said.code,
                said.stderr
            );
            ensure!(stage.open().await?.is_empty(), "{words:?}: {reason}");
        }
    }
    // Tokens in files are not lost with a reader.
    let words = ["tunnel", "open", "--token-dir", "tokens"];
    let said = run_into(unread()?, desk.command(&words)).await?;
    ensure!(said.code == Some(0), "{}", said.stderr);
    let open = stage.open().await?;
    let id = open[0]["tunnelId"].as_str().context("an id")?;
    let words = ["tunnel", "rotate", id, "--side", "all"];
    for stdout in [full()?, unread()?] {
        let said = run_into(stdout, desk.command(&words)).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("hint: the new tokens are lost"),
            "{:?}: {}",
            said.code,
            said.stderr
        );
    }
    Ok(())
}

/// A program must not take half an answer for the whole.
async fn an_answer_that_cannot_be_printed_is_no_success(scenario: Scenario) -> Result<()> {
    let stage = Stage::set(&scenario).await?;
    let desk = &stage.desk;
    for words in [
        &["tunnel", "list", "--json"][..],
        &["tunnel", "list"],
        &["thing", "list"],
        &["thing", "describe", "lamp"],
    ] {
        for (stdout, code) in [(full()?, 1), (unread()?, 0)] {
            let said = run_into(stdout, desk.command(words)).await?;
            ensure!(
                said.code == Some(code),
                "{words:?}: {:?}: {}",
                said.code,
                said.stderr
            );
        }
    }
    // What was begun is finished all the same.
    let said = run_into(full()?, desk.command(&["thing", "delete", "lamp"])).await?;
    ensure!(said.code == Some(1), "{:?}: {}", said.code, said.stderr);
    let things = desk.json(&["thing", "list"]).await?;
    ensure!(things["things"] == json!([]), "{things}");
    Ok(())
}

/// Where nothing can be written.
fn full() -> Result<Stdio> {
    Ok(File::options().write(true).open("/dev/full")?.into())
}

/// Where nobody reads.
fn unread() -> Result<Stdio> {
    let (_, writer) = std::io::pipe()?;
    Ok(writer.into())
}

on_own_choice!(
    a_command_that_is_ended_while_it_opens_closes_what_comes,
    a_signal_counts_that_came_before_the_answer,
    a_command_that_is_ended_while_it_waits_closes_its_tunnel,
    a_second_signal_ends_at_once,
    an_answer_that_never_comes_is_not_waited_for_forever,
    a_port_that_is_taken_leaves_no_tunnel_open,
    a_connect_that_is_ended_between_two_tries_closes_its_tunnel,
    a_signal_reaches_ssh_and_a_second_one_ends_it,
    tokens_that_cannot_be_written_leave_no_tunnel_open,
    tokens_that_cannot_be_printed_leave_no_tunnel_open,
    an_answer_that_cannot_be_printed_is_no_success,
);
