//! Options of sockets, seen from outside: system calls and the clock.

use adit_tests::apps::{self, App, Temper};
use adit_tests::deadline::until;
use adit_tests::on_each_loop;
use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::programs;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::{Message, v3};
use anyhow::{Result, ensure};

/// Stalls of 40 ms were seen at the tail of the latency distribution.
async fn q34_every_socket_sends_without_delay(scenario: Scenario) -> Result<()> {
    let Some([strace]) = programs::find(&scenario, ["strace"])? else {
        return Ok(());
    };
    let works = std::process::Command::new(&strace)
        .args(["-qq", "true"])
        .output();
    if !works.is_ok_and(|output| output.status.success()) {
        return programs::lacking(&scenario, "leave to trace").map(|_: Option<()>| ());
    }
    let echo = App::start(Temper::Echo).await?;
    let service = ScriptedService::start(&scenario).await?;
    let port = ports::free()?;
    let endpoint = service.endpoint()?;
    let source = Proxy::source(&scenario, &format!("SSH={port}"), &endpoint);
    let destination = Proxy::destination(&scenario, &format!("SSH={}", echo.address()), &endpoint);
    let route = v3("SSH", 1, 1);

    let traced = Traced::start(&scenario, &strace, "source", &source)?;
    let mut link = service.admit(&["SSH"]).await?;
    ports::listened_on(port).await?;
    let _client = apps::connect(port).await?;
    link.expect(&Message::stream_start(route)).await?;
    // The accepted socket itself, or the listener that it inherits from.
    traced
        .sees_no_delay_on(&format!(":{}]", service.address()?.port()))
        .await?;
    traced.sees_no_delay_on(&format!(":{port}")).await?;
    drop(traced);

    let traced = Traced::start(&scenario, &strace, "destination", &destination)?;
    let mut link = service.admit(&["SSH"]).await?;
    link.send(&Message::stream_start(route)).await?;
    link.send(&Message::data(route, "hello")).await?;
    link.expect_data(route, b"hello").await?;
    traced
        .sees_no_delay_on(&format!(":{}]", service.address()?.port()))
        .await?;
    traced
        .sees_no_delay_on(&format!(":{}", echo.address().port()))
        .await
}

/// A proxy whose `setsockopt` calls are written down.
struct Traced {
    log: std::path::PathBuf,
    _process: Process,
}

impl Traced {
    fn start(
        scenario: &Scenario,
        strace: &std::path::Path,
        name: &str,
        proxy: &Proxy,
    ) -> Result<Self> {
        let log = scenario.path(&format!("{name}.strace"));
        let mut command = programs::command(strace);
        command.args([
            "-f",
            "-yy",
            "-qq",
            "-e",
            "trace=setsockopt,bind,connect",
            "-o",
        ]);
        command.arg(&log).arg("--");
        let command = programs::wrapped(command, &proxy.command());
        Ok(Self {
            _process: Process::start(scenario, name, command)?,
            log,
        })
    }

    /// Waits for TCP_NODELAY on a socket whose name, as strace tells it, has `part` in it;
    /// on one without a name yet it is told by the bind or connect that follows.
    async fn sees_no_delay_on(&self, part: &str) -> Result<()> {
        let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
        let seen = until(part, || has_no_delay(&log(), part)).await;
        ensure!(seen.is_ok(), "no TCP_NODELAY on {part} in:\n{}", log());
        Ok(())
    }
}

fn has_no_delay(log: &str, part: &str) -> bool {
    let port = part.trim_matches([':', ']']);
    let mut unnamed = Vec::new();
    log.lines().any(|line| {
        let sets = line.contains("TCP_NODELAY, [1]");
        if sets {
            unnamed.push(descriptor_of(line));
        }
        let names = line.contains(&format!("htons({port})"));
        sets && line.contains(part) || names && unnamed.contains(&descriptor_of(line))
    })
}

/// `123 setsockopt(9<TCP:[…]>, …` → `9`.
fn descriptor_of(line: &str) -> Option<&str> {
    let (_, arguments) = line.split_once('(')?;
    arguments.split(['<', ',']).next()
}

on_each_loop!(q34_every_socket_sends_without_delay);
