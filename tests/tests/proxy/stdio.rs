//! Standard input and output as a source's one connection: the exit code says whether all of it
//! was carried.

use adit_tests::deadline::{pause, until, within};
use adit_tests::link::Link;
use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::process::{Process, Signal};
use adit_tests::programs;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::{Message, Route, v3};
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};

const FIRST: Route<'_> = v3("SSH", 1, 1);
/// How long an end in order may take.
const DRAIN: Duration = Duration::from_secs(1);
/// Not all was carried.
const FAILURE: i32 = 1;

/// A source on standard input and output that has said "hello" into the tunnel.
struct Carrier {
    _service: ScriptedService,
    process: Process,
    link: Link,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Carrier {
    async fn start(scenario: &Scenario) -> Result<Self> {
        Self::start_in(scenario, "exec \"$0\" \"$@\"").await
    }

    /// Started by a line of shell.
    async fn start_in(scenario: &Scenario, script: &str) -> Result<Self> {
        let service = ScriptedService::start(scenario).await?;
        let proxy = Proxy::source(scenario, "SSH=stdio:", &service.endpoint()?);
        let proxy = proxy.args([
            "--drain-timeout".to_owned(),
            format!("{}s", DRAIN.as_secs()),
        ]);
        let mut shell = programs::command(Path::new("/bin/sh"));
        shell.args(["-c", script]);
        let command = programs::wrapped(shell, &proxy.command());
        let (process, mut stdin, stdout) = Process::start_piped(scenario, "source", command)?;
        let mut link = service.admit(&["SSH"]).await?;
        stdin.write_all(b"hello").await?;
        link.expect(&Message::stream_start(FIRST)).await?;
        link.expect_data(FIRST, b"hello").await?;
        Ok(Self {
            _service: service,
            process,
            link,
            stdin,
            stdout,
        })
    }

    async fn hears(&mut self, bytes: &[u8]) -> Result<()> {
        let mut heard = vec![0; bytes.len()];
        let read = async { Ok(self.stdout.read_exact(&mut heard).await?) };
        within("what came through the tunnel", read).await?;
        ensure!(heard == bytes, "{heard:?}");
        Ok(())
    }

    /// Sends so many times 60,000 bytes and the end of the connection, of which nothing is read yet; how many bytes.
    async fn says_unread(&mut self, count: usize) -> Result<usize> {
        let bytes = vec![7; 60_000];
        for _ in 0..count {
            let data = Message::data(FIRST, bytes.clone());
            self.link.send(&data).await?;
        }
        self.link.send(&Message::connection_reset(FIRST)).await?;
        Ok(count * bytes.len())
    }

    /// Reads to the end; how many bytes came.
    async fn rest(&mut self) -> Result<usize> {
        let mut rest = Vec::new();
        let read = async { Ok(self.stdout.read_to_end(&mut rest).await?) };
        within("the rest of the output", read).await
    }

    /// It ends by itself, with words about it.
    async fn fails_saying(mut self, words: &str) -> Result<()> {
        self.process.ends_with(FAILURE).await?;
        let said = self.process.output().text(Channel::Stderr);
        ensure!(said.contains(words), "{said}");
        drop(self.stdin);
        Ok(())
    }
}

async fn what_was_ended_in_good_order_is_a_success(scenario: Scenario) -> Result<()> {
    let mut carrier = Carrier::start(&scenario).await?;
    // More than a pipe holds: all of it is written before the end.
    let bytes = vec![7; 60_000];
    for _ in 0..4 {
        carrier
            .link
            .send(&Message::data(FIRST, bytes.clone()))
            .await?;
    }
    carrier.link.send(&Message::connection_reset(FIRST)).await?;
    for _ in 0..4 {
        carrier.hears(&bytes).await?;
    }
    carrier.process.ends_with(0).await
}

/// The tunnel is closed, and nobody reads on before it gives up: what it held is gone, and that is told.
async fn what_is_not_read_in_time_is_no_success(scenario: Scenario) -> Result<()> {
    let mut carrier = Carrier::start(&scenario).await?;
    // Several times what pipe, thread and socket hold.
    let sent = carrier.says_unread(40).await?;
    carrier.link.writer().close(1000, "closed").await?;
    until("the tunnel to be over", || {
        let said = carrier.process.output().text(Channel::Stderr);
        said.contains("the service closed the tunnel")
    })
    .await?;
    let got = carrier.rest().await?;
    ensure!(got < sent, "all of it was held");
    carrier.fails_saying("not read in time").await
}

/// What has come through the tunnel is written out before a signal ends the program.
async fn a_signal_cuts_nothing_that_has_come(scenario: Scenario) -> Result<()> {
    let mut carrier = Carrier::start(&scenario).await?;
    carrier.process.signal(Signal::Terminate).await?;
    // Less than pipe, thread and socket hold, and more than the pipe.
    let sent = carrier.says_unread(3).await?;
    carrier.link.closes_with(1000).await?;
    // Time enough to end without having written all.
    pause(Duration::from_millis(300)).await;
    let got = carrier.rest().await?;
    ensure!(got == sent, "{got} of {sent} bytes");
    carrier.process.ends_with(0).await
}

async fn a_lost_link_is_no_success(scenario: Scenario) -> Result<()> {
    let mut carrier = Carrier::start(&scenario).await?;
    carrier.link.send(&Message::data(FIRST, "half")).await?;
    carrier.hears(b"half").await?;
    carrier.link.drop_tcp();
    carrier.process.ends_with(FAILURE).await?;
    let said = carrier.process.output().text(Channel::Stderr);
    ensure!(said.contains("cut after 4 bytes"), "{said}");
    Ok(())
}

/// A relay answers so when nobody is at the other side, and a destination when nobody listens.
async fn an_absent_destination_is_no_success(scenario: Scenario) -> Result<()> {
    let carrier = Carrier::start(&scenario).await?;
    carrier.link.send(&Message::stream_reset(FIRST)).await?;
    carrier.fails_saying("before anything came").await
}

/// The other side was lost in the middle.
async fn a_stream_that_is_reset_is_no_success(scenario: Scenario) -> Result<()> {
    let mut carrier = Carrier::start(&scenario).await?;
    carrier.link.send(&Message::data(FIRST, "half")).await?;
    carrier.hears(b"half").await?;
    carrier.link.send(&Message::stream_reset(FIRST)).await?;
    carrier.fails_saying("cut after 4 bytes").await
}

async fn a_tunnel_that_is_closed_over_the_connection_is_no_success(
    scenario: Scenario,
) -> Result<()> {
    let mut carrier = Carrier::start(&scenario).await?;
    carrier.link.send(&Message::data(FIRST, "half")).await?;
    carrier.hears(b"half").await?;
    carrier.link.writer().close(1000, "closed").await?;
    carrier.fails_saying("cut after 4 bytes").await
}

async fn an_output_that_cannot_be_written_is_no_success(scenario: Scenario) -> Result<()> {
    let script = "exec \"$0\" \"$@\" >/dev/full";
    let carrier = Carrier::start_in(&scenario, script).await?;
    carrier.link.send(&Message::data(FIRST, "more")).await?;
    carrier
        .fails_saying("standard output cannot be written")
        .await
}

async fn an_input_that_cannot_be_read_is_no_success(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let proxy = Proxy::source(&scenario, "SSH=stdio:", &service.endpoint()?);
    let mut shell = programs::command(Path::new("/bin/sh"));
    // A directory opens and cannot be read.
    shell.args(["-c", "exec \"$0\" \"$@\" </"]);
    let command = programs::wrapped(shell, &proxy.command());
    let mut process = Process::start(&scenario, "source", command)?;
    let _link = service.admit(&["SSH"]).await?;
    process.ends_with(FAILURE).await?;
    let said = process.output().text(Channel::Stderr);
    ensure!(said.contains("standard input cannot be read"), "{said}");
    Ok(())
}

/// Asked to end, it has done what it was asked.
async fn a_signal_is_a_success(scenario: Scenario) -> Result<()> {
    let mut carrier = Carrier::start(&scenario).await?;
    carrier.process.signal(Signal::Terminate).await?;
    carrier.link.send(&Message::connection_reset(FIRST)).await?;
    carrier.process.ends_with(0).await
}

on_own_choice!(
    what_was_ended_in_good_order_is_a_success,
    what_is_not_read_in_time_is_no_success,
    a_signal_cuts_nothing_that_has_come,
    a_lost_link_is_no_success,
    an_absent_destination_is_no_success,
    a_stream_that_is_reset_is_no_success,
    a_tunnel_that_is_closed_over_the_connection_is_no_success,
    an_output_that_cannot_be_written_is_no_success,
    an_input_that_cannot_be_read_is_no_success,
    a_signal_is_a_success,
);
