//! `kill -9` of the agent and of its broker at random moments, under load: no byte is wrong, nobody hangs, what was
//! killed soon does its work again, and the tunnel of two proxies beside it loses nothing. A broker that is gone costs no
//! tunnel anything.
//!
//! `ADIT_KILLS` is how often each is killed (a release: 200).

use std::time::{Duration, Instant};

use adit_tests::deadline::pause;
use adit_tests::on_own_choice;
use adit_tests::scenario::{Scenario, count, seed};
use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::beside::Tunnels;
use super::load::{Load, Times, recovers};
use super::stage::{READY, Stage, terminate};

const LIMIT: Duration = Duration::from_secs(7_200);

/// The plan's, for what is no relay.
const GOAL: Duration = Duration::from_secs(5);

/// A connection to the broker that ends earlier makes the agent wait longer before the next.
const SETTLED: Duration = Duration::from_secs(2);

/// Up to 200 ms, so that each part of an exchange is met.
async fn random_moment(random: &mut ChaCha8Rng) {
    pause(Duration::from_micros(u64::from(
        random.next_u32() % 200_000,
    )))
    .await;
}

async fn a_killed_agent_comes_back_and_touches_no_other_tunnel(scenario: Scenario) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed()?);
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let mut tunnels = Tunnels::start(&stage).await?;
    let port = tunnels.source.ports[0];
    let (load, quiet) = (
        Load::start(port, 2),
        Load::start(tunnels.beside.ports[0], 1),
    );
    let (mut times, mut again) = (Times::default(), 0);
    for _ in 0..count("ADIT_KILLS", 2)? {
        random_moment(&mut random).await;
        let mut killed = tunnels.kill_agent(&stage).await?;
        // Now and then while it comes back, too.
        if random.next_u32().is_multiple_of(4) {
            random_moment(&mut random).await;
            killed = tunnels.kill_agent(&stage).await?;
            again += 1;
        }
        recovers(port).await?;
        times.took_since(killed);
        tunnels.agent.still_runs()?;
    }
    let (whole, cut) = load.stop().await?;
    let untouched = quiet.stop_whole().await?;
    ensure!(cut > 0, "nothing was under way when the agent was killed");
    eprintln!("{whole} exchanges whole, {cut} cut; {untouched} exchanges beside them, none cut");
    eprintln!("{again} kills more, of an agent that was coming back");
    times.tell("agent", GOAL)?;
    // It hears of tunnels, as before.
    tunnels.agent.line(READY).await?;
    let (tunnel, _source) = stage.carries(&["SSH"]).await?;
    stage.serve.api()?.close_tunnel(&tunnel.id).await?;
    terminate(tunnels.agent).await
}

async fn a_killed_broker_costs_no_tunnel_anything(scenario: Scenario) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed()?);
    let Some(mut stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let tunnels = Tunnels::start(&stage).await?;
    let loads = [&tunnels.source, &tunnels.beside].map(|source| Load::start(source.ports[0], 1));
    let (mut times, mut forgotten) = (Times::default(), 0);
    for _ in 0..count("ADIT_KILLS", 2)? {
        pause(SETTLED).await;
        random_moment(&mut random).await;
        let (seen, killed) = (tunnels.agent.output().count(), Instant::now());
        // With the sessions that it has saved, or without any.
        if random.next_u32().is_multiple_of(2) {
            stage.broker.kill_and_restart().await?;
            forgotten += 1;
        } else {
            stage.broker.process.kill().await?;
            stage.broker.start_again().await?;
        }
        tunnels.agent.output().line_after(seen, READY).await?;
        times.took_since(killed);
        let tunnel = stage.open(&["SSH"]).await?;
        stage.notify(&tunnel, &["SSH"]).await?;
        stage.connected(&tunnel).await?;
        stage.serve.api()?.close_tunnel(&tunnel.id).await?;
    }
    for load in loads {
        let whole = load.stop_whole().await?;
        eprintln!("{whole} exchanges, none cut");
    }
    eprintln!("{forgotten} of the kills took the broker's sessions with them");
    times.tell("broker", GOAL)?;
    terminate(tunnels.agent).await
}

on_own_choice!(
    within LIMIT;
    a_killed_agent_comes_back_and_touches_no_other_tunnel,
    a_killed_broker_costs_no_tunnel_anything,
);
