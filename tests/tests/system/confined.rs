//! Threat T-27: the programs work in what the units of `deploy/systemd/` leave them, on each loop.

use std::path::Path;
use std::process::Command;

use adit_tests::apps::{App, Temper};
use adit_tests::confinement::Confinement;
use adit_tests::on_each_loop;
use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::programs;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use adit_tests::verifier::Transfer;
use anyhow::{Context, Result, ensure};

const SEED: u64 = 20_261_130;
const SERVICE: &str = "SSH";

/// Service and proxies start, carry what they should, and end in good order.
async fn service_and_proxies_work_in_what_their_units_leave_them(scenario: Scenario) -> Result<()> {
    let service = Confinement::of_unit(&scenario, "adit-serve.service")?;
    let proxies = Confinement::of_unit(&scenario, "adit-proxy@.service")?;
    let (Some(service), Some(proxies)) = (service, proxies) else {
        return Ok(());
    };
    denies_what_the_unit_denies(&service)?;
    let app = App::start(Temper::Verify(SEED)).await?;
    let serve =
        Serve::start_changed(&scenario, |command| *command = service.confine(command)).await?;
    let api = serve.api()?;
    let tunnel = api.open_tunnel(&[SERVICE]).await?;
    let port = ports::free()?;
    let mut ends = Vec::new();
    for (name, proxy, token) in [
        (
            "source",
            Proxy::source(&scenario, &format!("{SERVICE}={port}"), &serve.endpoint()),
            &tunnel.source_token,
        ),
        (
            "destination",
            Proxy::destination(
                &scenario,
                &format!("{SERVICE}={}", app.address()),
                &serve.endpoint(),
            ),
            &tunnel.destination_token,
        ),
    ] {
        let command = proxy.token(token).trusting(&serve.ca_file()).command();
        ends.push(Process::start(&scenario, name, proxies.confine(&command))?);
    }
    api.wait_connected(&tunnel.id, true, true).await?;
    ports::listened_on(port).await?;
    let transfer = Transfer {
        id: 1,
        length: 8 * 1024 * 1024,
        seed: SEED,
    };
    transfer
        .exchange(&mut adit_tests::apps::connect(port).await?)
        .await?;
    for process in ends.into_iter().chain([serve.process]) {
        end(process).await?;
    }
    Ok(())
}

/// Of the sandbox itself: what it let through beyond the unit, no other assertion would notice.
fn denies_what_the_unit_denies(confinement: &Confinement) -> Result<()> {
    // Calls of a group that the unit takes away, for which nobody needs a capability.
    for (words, call) in [
        (["nice", "-n", "1", "true"].as_slice(), "setpriority"),
        (["taskset", "1", "true"].as_slice(), "sched_setaffinity"),
    ] {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        let output = confinement.confine(&command).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_refused = said.contains("not permitted") || said.contains("Permission denied");
        ensure!(is_refused, "{call} was not refused: {said}");
    }
    Ok(())
}

/// Its state is as it should be to the end, which is a good one.
async fn end(mut process: Process) -> Result<()> {
    let inside = Confinement::program_of(&process)?;
    let mut kill = programs::command(Path::new("/bin/kill"));
    kill.args(["-TERM", &inside.to_string()]);
    ensure!(kill.status().context("kill")?.success());
    process.ends_with(0).await
}

on_each_loop!(service_and_proxies_work_in_what_their_units_leave_them);
