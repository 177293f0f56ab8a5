//! a ledger that cannot be written, for want of space, for a disk that is read-only, and for a broken one. The
//! agent says so, goes on, loses no tunnel that it carries, and has all of them written down soon after the cause is
//! gone.
//!
//! `ADIT_OUTAGES` is how often each is tried (a release: 50).

use std::time::{Duration, Instant};

use adit_tests::deadline::until;
use adit_tests::namespace::is_inside;
use adit_tests::on_own_choice;
use adit_tests::scenario::{Scenario, count, judges};
use adit_tests::small_disk::SmallDisk;
use adit_tests::tampered::Tools;
use anyhow::{Context, Result, ensure};

use super::beside::Tunnels;
use super::load::{Load, recovers};
use super::stage::{READY, Stage, said, terminate};

const LIMIT: Duration = Duration::from_secs(1_800);

/// The goal of the plan.
const RECOVERY_GOAL: Duration = Duration::from_secs(5);

const UNWRITTEN: &str = "a restart of the agent will not resume its tunnels";
const WRITTEN: &str = "the tunnels are written down again";

/// Waits until the agent says that it has written its ledger since it had said `before` times.
async fn writes_again(tunnels: &Tunnels, before: usize) -> Result<()> {
    let begin = Instant::now();
    until("the ledger to be written again", || {
        said(&tunnels.agent, WRITTEN) > before
    })
    .await?;
    let took = begin.elapsed();
    eprintln!("ledger: written again after {} ms", took.as_millis());
    ensure!(!judges() || took <= RECOVERY_GOAL, "it took {took:?}");
    Ok(())
}

async fn a_ledger_that_cannot_be_written_costs_no_tunnel(scenario: Scenario) -> Result<()> {
    let Some(tools) = Tools::find(&scenario)? else {
        return Ok(());
    };
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let mut tunnels = Tunnels::start(&stage).await?;
    let loads = [&tunnels.source, &tunnels.beside].map(|source| Load::start(source.ports[0], 1));
    let files =
        ["tunnels.json", ".tunnels.json.new"].map(|name| scenario.path("device/state").join(name));
    for _ in 0..count("ADIT_OUTAGES", 1)? {
        for (call, error) in [
            ("write", "ENOSPC"),
            ("openat", "EROFS"),
            ("fsync", "EIO"),
            ("rename", "EIO"),
        ] {
            let before = [UNWRITTEN, WRITTEN].map(|words| said(&tunnels.agent, words));
            let tampered = tools
                .tamper(tunnels.agent.id(), call, error, &files)
                .await?;
            let (tunnel, source) = stage.carries(&["SSH"]).await.context(error)?;
            ensure!(said(&tunnels.agent, UNWRITTEN) > before[0], "{error}");
            let is_there = stage.state()?.contains(&tunnel.destination_token);
            ensure!(!is_there, "{error}: it was written");
            ensure!(tampered.end().await? > 0, "{call}: no call has failed");
            writes_again(&tunnels, before[1]).await.context(error)?;
            let is_there = stage.state()?.contains(&tunnel.destination_token);
            ensure!(is_there, "{error}: it was not written");
            source.echoes().await?;
            stage.serve.api()?.close_tunnel(&tunnel.id).await?;
            tunnels.agent.still_runs()?;
        }
    }
    for load in loads {
        load.stop_whole().await?;
    }
    terminate(tunnels.agent).await
}

/// On a disk that is really full an agent starts, too; and what was opened meanwhile outlives the agent once there is
/// space.
async fn a_full_disk_costs_the_agent_no_tunnel(scenario: Scenario) -> Result<()> {
    let test = "disk::a_full_disk_costs_the_agent_no_tunnel";
    if !is_inside(&scenario, test, "--mount", LIMIT).await? {
        return Ok(());
    }
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let Some(disk) = SmallDisk::mount(&scenario, "1m").await? else {
        return Ok(());
    };
    let state = disk.path().join("state").display().to_string();
    let mut tunnels = Tunnels::start_with(&stage, &format!("state_dir = \"{state}\"")).await?;
    let quiet = Load::start(tunnels.beside.ports[0], 1);
    let port = tunnels.source.ports[0];
    let api = stage.serve.api()?;
    for _ in 0..count("ADIT_OUTAGES", 1)? {
        disk.fill()?;
        tunnels.kill_agent(&stage).await?;
        recovers(port).await.context("started on a full disk")?;
        tunnels.agent.line(READY).await?;
        let load = Load::start(port, 1);
        let (tunnel, source) = stage.carries(&["SSH"]).await?;
        ensure!(said(&tunnels.agent, UNWRITTEN) > 0, "it was not told");
        load.goes_on(4).await?;
        disk.clear()?;
        writes_again(&tunnels, 0).await?;
        load.stop_whole().await?;
        tunnels.kill_agent(&stage).await?;
        recovers(port).await?;
        source.echoes().await?;
        api.close_tunnel(&tunnel.id).await?;
        tunnels.agent.line("tunnel closed").await?;
    }
    quiet.stop_whole().await?;
    terminate(tunnels.agent).await
}

on_own_choice!(
    within LIMIT;
    a_ledger_that_cannot_be_written_costs_no_tunnel,
    a_full_disk_costs_the_agent_no_tunnel,
);
