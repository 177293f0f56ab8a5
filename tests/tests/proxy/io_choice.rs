//! Which loop is chosen, and what happens where the kernel forbids one.

use adit_tests::apps;
use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::programs;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::{Message, v3};
use anyhow::{Result, ensure};
use std::path::Path;
use tokio::io::AsyncWriteExt;

/// Containers often forbid io_uring: the default must not depend on it, and says so once.
async fn without_io_uring_the_other_loop_is_taken(scenario: Scenario) -> Result<()> {
    let Some(sandbox) = Sandbox::without_io_uring(&scenario)? else {
        return Ok(());
    };
    let service = ScriptedService::start(&scenario).await?;
    let port = ports::free()?;
    let mapping = format!("SSH={port}");
    let proxy = Proxy::source(&scenario, &mapping, &service.endpoint()?);
    let process = sandbox.start("source", &proxy)?;
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
    let Some(sandbox) = Sandbox::without_io_uring(&scenario)? else {
        return Ok(());
    };
    let proxy = Proxy::source(&scenario, "SSH=1", "localhost:1").args(["--io", "uring"]);
    let mut process = sandbox.start("source", &proxy)?;
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

/// A sandbox whose system call filter answers `io_uring_setup` with EPERM.
struct Sandbox<'a> {
    scenario: &'a Scenario,
    program: std::path::PathBuf,
    filter: std::path::PathBuf,
}

impl<'a> Sandbox<'a> {
    fn without_io_uring(scenario: &'a Scenario) -> Result<Option<Self>> {
        let Some([program]) = programs::find(scenario, ["bwrap"])? else {
            return Ok(None);
        };
        let filter = scenario.write("filter.bpf", filter())?;
        let works = std::process::Command::new(&program)
            .args(["--dev-bind", "/", "/", "true"])
            .output();
        if !works.is_ok_and(|output| output.status.success()) {
            return programs::lacking(scenario, "leave to make a sandbox");
        }
        Ok(Some(Self {
            scenario,
            program,
            filter,
        }))
    }

    fn start(&self, name: &str, proxy: &Proxy) -> Result<Process> {
        let mut command = programs::command(Path::new("/bin/sh"));
        // bwrap takes the filter on a descriptor; a shell opens it.
        let script =
            "exec \"$0\" --die-with-parent --dev-bind / / --seccomp 9 \"$@\" 9<\"$FILTER\"";
        command.args(["-c", script]).arg(&self.program);
        command.env("FILTER", &self.filter);
        let command = programs::wrapped(command, &proxy.command());
        Process::start(self.scenario, name, command)
    }
}

/// A classic BPF program over `struct seccomp_data`, whose first word is the call's number.
fn filter() -> Vec<u8> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const FAIL_WITH_EPERM: u32 = 0x0005_0001;
    // The number is the same on every architecture that we build for.
    const IO_URING_SETUP: u32 = 425;
    let program: [(u16, u8, u8, u32); 4] = [
        (LOAD_WORD, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP),
        (RETURN, 0, 0, FAIL_WITH_EPERM),
        (RETURN, 0, 0, ALLOW),
    ];
    let encode = |(code, jump_true, jump_false, operand): (u16, u8, u8, u32)| {
        let (code, operand) = (code.to_ne_bytes(), operand.to_ne_bytes());
        [&code[..], &[jump_true, jump_false], &operand].concat()
    };
    program.into_iter().flat_map(encode).collect()
}

on_own_choice!(
    without_io_uring_the_other_loop_is_taken,
    io_uring_by_name_fails_where_it_is_forbidden,
    an_unknown_loop_is_bad_usage,
);
