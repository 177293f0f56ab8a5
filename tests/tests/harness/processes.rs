//! Processes, applications and ports do what the tests rely on.

use std::path::Path;
use std::process::Command;

use adit_tests::apps::{self, App, Temper};
use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::ports::Congested;
use adit_tests::process::{Process, Signal, contained};
use adit_tests::scenario::{Io, Scenario};
use adit_tests::scripted_proxy::Upgrade;
use adit_tests::stack::Serve;
use adit_tests::verifier::{Transfer, seeded_bytes, sha256_hex};
use anyhow::{Result, ensure};
use tokio::io::AsyncWriteExt;

fn shell(script: &str) -> Command {
    let mut command = contained(Path::new("/bin/sh"));
    command.args(["-c", script]);
    command
}

async fn lines_and_exit_codes_are_seen(scenario: Scenario) -> Result<()> {
    let script = "echo one; echo two >&2; exit 3";
    let mut process = Process::start(&scenario, "shell", shell(script))?;
    process.line("two").await?;
    process.ends_with(3).await?;
    ensure!(process.output().text(Channel::Stdout) == "one");
    ensure!(process.output().text(Channel::Stderr) == "two");
    ensure!(
        process.line("three").await.is_err(),
        "a line that never came"
    );
    ensure!(process.ends_with(0).await.is_err(), "another exit code");
    Ok(())
}

async fn a_process_is_signalled_and_killed(scenario: Scenario) -> Result<()> {
    let script = "trap 'exit 5' TERM; echo ready; while :; do read line; done";
    let (mut process, stdin, _stdout) = Process::start_piped(&scenario, "shell", shell(script))?;
    let mut signalled = Process::start(&scenario, "sleeper", shell("echo up; exec sleep 60"))?;
    signalled.line("up").await?;
    signalled.signal(Signal::Terminate).await?;
    ensure!(
        signalled.end().await?.code().is_none(),
        "ended by the signal"
    );
    process.kill().await?;
    ensure!(process.still_runs().is_err());
    drop(stdin);
    Ok(())
}

/// What a test does next meets a process whose handler has run, or that is frozen.
async fn a_signal_has_been_taken_once_it_was_sent(scenario: Scenario) -> Result<()> {
    let mut process = Process::start(&scenario, "sleeper", shell("echo up; exec sleep 60"))?;
    process.line("up").await?;
    let status = format!("/proc/{}/status", process.id());
    let is_frozen =
        || std::fs::read_to_string(&status).is_ok_and(|text| text.contains("State:\tT"));
    for _ in 0..50 {
        process.signal(Signal::Stop).await?;
        ensure!(is_frozen());
        process.signal(Signal::Continue).await?;
        ensure!(!is_frozen());
    }
    process.signal(Signal::Stop).await?;
    // It waits for the thaw.
    process.signal(Signal::Terminate).await?;
    process.still_runs()?;
    process.signal(Signal::Continue).await?;
    ensure!(process.end().await?.code().is_none(), "ended by the signal");
    Ok(())
}

/// Wherever it is said, and whoever gave it out: a scenario whose service is asked for a tunnel knows its tokens.
async fn a_secret_that_is_told_is_found(scenario: Scenario) -> Result<()> {
    let planted = "a-token-of-more-than-16-bytes";
    for script in [
        "echo $0",
        "echo $0 >&2",
        "echo $0 >audit-1",
        "echo $0 >a.log",
    ] {
        let other = Scenario::new("planted", Io::Auto)?;
        other.secrets().keep(planted);
        let mut command = shell(script);
        command.arg(planted).current_dir(other.directory());
        Process::start(&other, "shell", command)?
            .ends_with(0)
            .await?;
        let found = other.tells_no_secret();
        ensure!(found.is_err(), "not found: {script}");
    }
    let serve = Serve::start(&scenario).await?;
    let before = scenario.secrets().count();
    let tunnel = serve.api()?.open_tunnel(&[]).await?;
    let upgrade = Upgrade::new("source", &tunnel.source_token);
    let upgrade = upgrade.with("client-token", "9b2d7c1e-4c1f-4a53-9a7e-0f5f9f1f0c11");
    serve.tunnel().upgrade(&upgrade).await?;
    serve.api()?.rotate_destination(&tunnel.id).await?;
    ensure!(scenario.secrets().count() == before + 4);
    Ok(())
}

async fn no_process_outlives_its_value(scenario: Scenario) -> Result<()> {
    let process = Process::start(&scenario, "sleeper", shell("exec sleep 60"))?;
    let directory = format!("/proc/{}", process.id());
    ensure!(Path::new(&directory).exists());
    drop(process);
    adit_tests::deadline::until("the process is gone", || !Path::new(&directory).exists()).await
}

async fn applications_behave_as_they_are_called(_scenario: Scenario) -> Result<()> {
    let bytes = seeded_bytes(3, 100_000);
    let hash = App::start(Temper::Hash).await?;
    let mut stream = apps::connect(hash.address().port()).await?;
    stream.write_all(&bytes).await?;
    stream.shutdown().await?;
    ensure!(apps::read_to_end(&mut stream).await? == sha256_hex(&bytes).as_bytes());

    let echo = App::start(Temper::Echo).await?;
    let mut stream = apps::connect(echo.address().port()).await?;
    apps::ping(&mut stream, b"hello").await?;

    let resetting = App::start(Temper::Reset).await?;
    let mut stream = apps::connect(resetting.address().port()).await?;
    stream.write_all(b"x").await?;
    ensure!(apps::read_to_end(&mut stream).await.is_err(), "no reset");

    let verifying = App::start(Temper::Verify(9)).await?;
    let mut stream = apps::connect(verifying.address().port()).await?;
    let transfer = Transfer {
        id: 1,
        length: 200_000,
        seed: 9,
    };
    transfer.exchange(&mut stream).await
}

async fn a_congested_listener_keeps_a_connection_waiting(_scenario: Scenario) -> Result<()> {
    let congested = Congested::open()?;
    let address = congested.address()?;
    let connecting = tokio::spawn(tokio::net::TcpStream::connect(address));
    adit_tests::deadline::pause(adit_tests::deadline::SILENCE).await;
    ensure!(!connecting.is_finished(), "it was accepted or refused");
    let listener = congested.relieve()?;
    apps::accept(&listener).await?;
    connecting.await??;
    Ok(())
}

on_own_choice!(
    lines_and_exit_codes_are_seen,
    a_process_is_signalled_and_killed,
    a_signal_has_been_taken_once_it_was_sent,
    a_secret_that_is_told_is_found,
    no_process_outlives_its_value,
    applications_behave_as_they_are_called,
    a_congested_listener_keeps_a_connection_waiting,
);
