//! `ssh`, `scp` and `rsync` to a real `sshd`, through a tunnel.

use std::path::Path;
use std::time::{Duration, Instant};

use adit_tests::process::Process;
use adit_tests::programs;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::{Io, Scenario, play};
use adit_tests::stack::{Serve, Stack};
use adit_tests::verifier::{seeded_bytes, sha256_hex};
use adit_tests::{on_each_loop, on_own_choice};
use anyhow::{Result, ensure};

use crate::sshd::Sshd;

/// For a command that moves little.
const LIMIT: Duration = Duration::from_secs(30);
/// For 256 MiB, and for the scenario around it.
const BULK_LIMIT: Duration = Duration::from_secs(150);
const BULK_SIZE: usize = 256 * 1024 * 1024;

async fn tunnel_to(scenario: &Scenario, sshd: &Sshd) -> Result<Stack> {
    let place = format!("127.0.0.1:{}", sshd.port);
    Stack::start(scenario, &[("SSH", place)]).await
}

async fn ssh_runs_commands_through_the_tunnel(scenario: Scenario) -> Result<()> {
    let Some(sshd) = Sshd::start(&scenario).await? else {
        return Ok(());
    };
    let stack = tunnel_to(&scenario, &sshd).await?;
    let mut command = sshd.client(stack.port("SSH")?);
    command.args([&sshd.login(), "echo to stdout; echo to stderr >&2; exit 0"]);
    let output = programs::run(LIMIT, command).await?;
    ensure!(output.stdout == b"to stdout\n" && output.stderr == b"to stderr\n");

    // Several sessions at the same time, each of them a connection of its own.
    let mut sessions = Vec::new();
    for number in 0..5 {
        let mut command = sshd.client(stack.port("SSH")?);
        command.args([&sshd.login(), &format!("seq {number} {}", number + 20_000)]);
        sessions.push(tokio::spawn(programs::run(LIMIT, command)));
    }
    for (number, session) in sessions.into_iter().enumerate() {
        let output = session.await??;
        let lines = (number..=number + 20_000).map(|line| format!("{line}\n"));
        ensure!(output.stdout == lines.collect::<String>().as_bytes());
    }
    Ok(())
}

async fn rsync_copies_a_tree(scenario: Scenario) -> Result<()> {
    let Some([rsync]) = programs::find(&scenario, ["rsync"])? else {
        return Ok(());
    };
    let Some(sshd) = Sshd::start(&scenario).await? else {
        return Ok(());
    };
    let stack = tunnel_to(&scenario, &sshd).await?;
    for number in 0..200 {
        let bytes = seeded_bytes(number, 100 + (number as usize * 977) % 60_000);
        scenario.write(&format!("tree/{}/{number}", number % 7), bytes)?;
    }
    let options = sshd.options().join(" ");
    let shell = format!("{} {options} -p {}", sshd.ssh.display(), stack.port("SSH")?);
    let target = scenario.path("copy");
    for _ in 0..2 {
        let mut command = programs::command(&rsync);
        command.args(["-a", "--delete", "-e", &shell]);
        command.arg(format!("{}/", scenario.path("tree").display()));
        command.arg(format!("{}:{}/", sshd.login(), target.display()));
        programs::run(LIMIT, command).await?;
        for number in 0..200 {
            let name = format!("{}/{number}", number % 7);
            let copied = std::fs::read(target.join(&name)).unwrap_or_default();
            ensure!(
                copied == std::fs::read(scenario.path("tree").join(&name))?,
                "{name}"
            );
        }
        // The second round has only differences to carry.
        scenario.write("tree/0/7", seeded_bytes(7_777, 50_000))?;
    }
    Ok(())
}

/// `ssh -o ProxyCommand="adit proxy --source stdio: …"`: no port is opened at all.
async fn ssh_takes_a_proxy_for_its_proxy_command(scenario: Scenario) -> Result<()> {
    let Some(sshd) = Sshd::start(&scenario).await? else {
        return Ok(());
    };
    let serve = Serve::start(&scenario).await?;
    let tunnel = serve.api()?.open_tunnel(&["SSH"]).await?;
    let place = format!("SSH=127.0.0.1:{}", sshd.port);
    let destination = Proxy::destination(&scenario, &place, &serve.endpoint())
        .token(&tunnel.destination_token)
        .trusting(&serve.ca_file());
    let _destination = destination.start()?;
    let api = serve.api()?;
    api.wait_connected(&tunnel.id, false, true).await?;
    let io = scenario.io().argument().unwrap_or("auto");
    let proxy_command = format!(
        "{} proxy --source stdio: -e {} -c {} --io {io}",
        scenario.binary().adit_path().display(),
        serve.endpoint(),
        serve.ca_file().display()
    );
    let mut command = programs::command(&sshd.ssh);
    command.args(sshd.options());
    command.args(["-o", &format!("ProxyCommand={proxy_command}")]);
    command.args([&sshd.login(), "seq 1 30000"]);
    command.env("AWSIOT_TUNNEL_ACCESS_TOKEN", &tunnel.source_token);
    command.env("HOME", scenario.binary().home());
    let output = programs::run(LIMIT, command).await?;
    let lines = (1..=30_000).map(|line| format!("{line}\n"));
    ensure!(output.stdout == lines.collect::<String>().as_bytes());
    Ok(())
}

/// There and back, and the sums agree.
async fn scp_carries_256_mib_there_and_back(scenario: Scenario) -> Result<()> {
    let Some([scp]) = programs::find(&scenario, ["scp"])? else {
        return Ok(());
    };
    let Some(sshd) = Sshd::start(&scenario).await? else {
        return Ok(());
    };
    let stack = tunnel_to(&scenario, &sshd).await?;
    let bytes = seeded_bytes(256, BULK_SIZE);
    let sum = sha256_hex(&bytes);
    let original = scenario.write("original", bytes)?;
    let (there, back) = (scenario.path("there"), scenario.path("back"));
    let remote = format!("{}:{}", sshd.login(), there.display());
    let copy = |from: String, to: String| -> Result<_> {
        let mut command = programs::command(&scp);
        command.args(sshd.options());
        command.args(["-P", &stack.port("SSH")?.to_string(), &from, &to]);
        Ok(programs::run(BULK_LIMIT, command))
    };
    let begun = Instant::now();
    copy(original.display().to_string(), remote.clone())?.await?;
    ensure!(sum_of(&there)? == sum, "the sums differ");
    eprintln!("256 MiB there took {:?}", begun.elapsed());
    let begun = Instant::now();
    copy(remote, back.display().to_string())?.await?;
    ensure!(sum_of(&back)? == sum, "the sums differ");
    eprintln!("256 MiB back took {:?}", begun.elapsed());
    Ok(())
}

fn sum_of(file: &Path) -> Result<String> {
    Ok(sha256_hex(&std::fs::read(file)?))
}

/// A session outlives a long silence of its own and ends with the tunnel.
async fn a_session_ends_with_its_tunnel(scenario: Scenario) -> Result<()> {
    let Some(sshd) = Sshd::start(&scenario).await? else {
        return Ok(());
    };
    let stack = tunnel_to(&scenario, &sshd).await?;
    let mut command = sshd.client(stack.port("SSH")?);
    command.args([&sshd.login(), "echo ready; exec sleep 60"]);
    let mut session = Process::start(&scenario, "ssh", command)?;
    session.line("ready").await?;
    stack.serve.api()?.close_tunnel(&stack.tunnel.id).await?;
    let status = session.end().await?;
    ensure!(!status.success(), "ssh ended with {status}");
    Ok(())
}

mod scp_carries_256_mib {
    use super::*;

    #[test]
    fn auto() {
        let name = "scp_carries_256_mib";
        play(
            name,
            Io::Auto,
            BULK_LIMIT,
            scp_carries_256_mib_there_and_back,
        );
    }
}

on_each_loop!(
    ssh_runs_commands_through_the_tunnel,
    ssh_takes_a_proxy_for_its_proxy_command,
);
on_own_choice!(rsync_copies_a_tree, a_session_ends_with_its_tunnel);
