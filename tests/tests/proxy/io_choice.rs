//! Which loop is chosen, and what happens where the kernel forbids one.

use adit_tests::apps;
use adit_tests::confinement::Confinement;
use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::{Message, v3};
use anyhow::{Result, ensure};
use tokio::io::AsyncWriteExt;

/// Containers often forbid io_uring: the default must not depend on it, and says so once.
async fn without_io_uring_the_other_loop_is_taken(scenario: Scenario) -> Result<()> {
    let Some(sandbox) = Confinement::without_call(&scenario, "io_uring_setup")? else {
        return Ok(());
    };
    let service = ScriptedService::start(&scenario).await?;
    let port = ports::free()?;
    let mapping = format!("SSH={port}");
    let proxy = Proxy::source(&scenario, &mapping, &service.endpoint()?);
    let process = Process::start(&scenario, "source", sandbox.confine(&proxy.command()))?;
    let mut link = service.admit(&["SSH"]).await?;
    ports::listened_on(port).await?;
    let route = v3("SSH", 1, 1);
    let mut client = apps::connect(port).await?;
    link.expect(&Message::stream_start(route)).await?;
    client.write_all(b"hello").await?;
    link.expect_data(route, b"hello").await?;
    process.line("epoll").await?;
    Ok(())
}

/// Asked for by name, it is not silently replaced.
async fn io_uring_by_name_fails_where_it_is_forbidden(scenario: Scenario) -> Result<()> {
    let Some(sandbox) = Confinement::without_call(&scenario, "io_uring_setup")? else {
        return Ok(());
    };
    let proxy = Proxy::source(&scenario, "SSH=1", "localhost:1").args(["--io", "uring"]);
    let mut process = Process::start(&scenario, "source", sandbox.confine(&proxy.command()))?;
    let code = process.end().await?.code();
    ensure!(code.is_some_and(|code| code != 0), "ended with {code:?}");
    let said = process.output().text(Channel::Stderr);
    ensure!(said.contains("io_uring") && said.contains("--io"), "{said}");
    Ok(())
}

async fn an_unknown_loop_is_bad_usage(scenario: Scenario) -> Result<()> {
    let proxy = Proxy::source(&scenario, "SSH=1", "localhost:1").args(["--io", "kqueue"]);
    let process = proxy.ends_with(2).await?;
    let said = process.output().text(Channel::Stderr);
    ensure!(said.contains("epoll") && said.contains("uring"), "{said}");
    Ok(())
}

on_own_choice!(
    without_io_uring_the_other_loop_is_taken,
    io_uring_by_name_fails_where_it_is_forbidden,
    an_unknown_loop_is_bad_usage,
);
