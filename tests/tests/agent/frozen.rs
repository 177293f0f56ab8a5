//! the agent and its broker are stopped, and go on. Nothing that its tunnels carry is wrong or lost, and what is
//! opened meanwhile reaches the device afterwards, once.
//!
//! `ADIT_FREEZES` is how often each is stopped; the n-th time for n seconds, up to 120 (a release: 12, ten seconds
//! longer each time).

use std::time::{Duration, Instant};

use adit_tests::api::Tunnel;
use adit_tests::deadline::{pause, within_limit};
use adit_tests::on_own_choice;
use adit_tests::process::Signal;
use adit_tests::scenario::{Scenario, count};
use anyhow::{Context, Result, ensure};

use super::beside::Tunnels;
use super::load::{Load, recovers};
use super::stage::{Stage, said, terminate};

const LIMIT: Duration = Duration::from_secs(3_600);

/// Within it an exchange is only late: a third of what pings and handshakes are given.
const HARMLESS: Duration = Duration::from_secs(5);

/// For a message that the broker has, or is given, as soon as it goes on; the agent may wait before it connects again.
const REACHED: Duration = Duration::from_secs(60);

fn times() -> Result<impl Iterator<Item = Duration>> {
    let freezes = count("ADIT_FREEZES", 1)?;
    let step = if freezes > 1 { 10 } else { 1 };
    let seconds = (1..=freezes).map(move |round| (round * step).min(120) as u64);
    Ok(seconds.map(Duration::from_secs))
}

/// Makes sure that a tunnel comes to the device, carries bytes, and ends.
async fn comes_to_its_device(stage: &Stage, tunnel: &Tunnel) -> Result<()> {
    let api = stage.serve.api()?;
    within_limit(REACHED, "a tunnel to come to its device", async {
        while !api.connected(&tunnel.id).await?.1 {
            pause(Duration::from_millis(10)).await;
        }
        Ok(())
    })
    .await?;
    stage.source(tunnel, &["SSH"]).await?.echoes().await?;
    api.close_tunnel(&tunnel.id).await
}

async fn an_agent_that_stood_still_goes_on(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let mut tunnels = Tunnels::start(&stage).await?;
    let port = tunnels.source.ports[0];
    let mut opened = 1;
    for time in times()? {
        // Nobody takes it for dead while its kernel acknowledges: what is under way waits for it.
        let load = Load::patient(port, 2, time);
        let quiet = Load::start(tunnels.beside.ports[0], 1);
        load.goes_on(4).await?;
        tunnels.agent.signal(Signal::Stop).await?;
        let tunnel = stage.open(&["SSH"]).await?;
        stage.notify(&tunnel, &["SSH"]).await?;
        pause(time).await;
        quiet.goes_on(1).await?;
        let is_there = stage.serve.api()?.connected(&tunnel.id).await?.1;
        ensure!(!is_there, "the agent did not stand still");
        tunnels.agent.signal(Signal::Continue).await?;
        let begin = Instant::now();
        recovers(port).await?;
        let took = begin.elapsed();
        comes_to_its_device(&stage, &tunnel).await?;
        opened += 1;
        let (whole, cut) = load.stop().await.with_context(|| format!("{time:?}"))?;
        let untouched = quiet.stop_whole().await?;
        eprintln!(
            "agent for {time:?}: carries after {took:?}; {whole} complete, {cut} cut; {untouched} beside, none cut"
        );
        ensure!(
            cut == 0 || time > HARMLESS,
            "{cut} exchanges were cut within {time:?}"
        );
    }
    ensure!(said(&tunnels.agent, "tunnel opened") == opened);
    terminate(tunnels.agent).await
}

async fn a_broker_that_stood_still_costs_no_tunnel_anything(scenario: Scenario) -> Result<()> {
    let Some(mut stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let tunnels = Tunnels::start(&stage).await?;
    let mut opened = 1;
    let loads = [&tunnels.source, &tunnels.beside].map(|source| Load::start(source.ports[0], 1));
    for time in times()? {
        stage.broker.process.signal(Signal::Stop).await?;
        let tunnel = stage.open(&["SSH"]).await?;
        let mut publisher = stage.begin_to_notify(&tunnel, &["SSH"])?;
        pause(time).await;
        for load in &loads {
            load.goes_on(4).await?;
        }
        stage.broker.process.signal(Signal::Continue).await?;
        let begin = Instant::now();
        // It may have given up, as any control plane does that tries again then.
        if !publisher.end().await?.success() {
            stage.notify(&tunnel, &["SSH"]).await?;
        }
        comes_to_its_device(&stage, &tunnel).await?;
        let took = begin.elapsed();
        opened += 1;
        eprintln!("broker for {time:?}: the next tunnel carries after {took:?}");
    }
    for load in loads {
        let whole = load.stop_whole().await?;
        eprintln!("{whole} exchanges, none cut");
    }
    ensure!(said(&tunnels.agent, "tunnel opened") == opened);
    terminate(tunnels.agent).await
}

on_own_choice!(
    within LIMIT;
    an_agent_that_stood_still_goes_on,
    a_broker_that_stood_still_costs_no_tunnel_anything,
);
