//! SIGTERM at the agent, under load. What had begun ends whole within the drain time, nothing new begins, the
//! agent ends with 0, and the next one goes on with its tunnel and with what it was told meanwhile.
//!
//! `ADIT_DRAINS` is how often (a release: 50).

use std::time::Duration;

use adit_tests::apps;
use adit_tests::on_each_loop;
use adit_tests::process::Signal;
use adit_tests::resting::Resting;
use adit_tests::scenario::{Scenario, count};
use anyhow::{Context, Result, ensure};

use super::beside::Tunnels;
use super::load::{Load, recovers, rests};
use super::stage::{READY, Stage, said, terminate};

const LIMIT: Duration = Duration::from_secs(1_200);

/// Under way at the same time.
const CONNECTIONS: usize = 20;

async fn a_drained_agent_lets_everything_end_and_the_next_one_goes_on(
    scenario: Scenario,
) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let mut tunnels = Tunnels::start(&stage).await?;
    let quiet = Load::start(tunnels.beside.ports[0], 1);
    let drains = count("ADIT_DRAINS", 1)?;
    for round in 0..drains {
        drain_one(&stage, &mut tunnels)
            .await
            .with_context(|| format!("round {round}"))?;
    }
    let untouched = quiet.stop_whole().await?;
    eprintln!(
        "{drains} runs, {} exchanges whole; {untouched} beside them, none cut",
        drains * CONNECTIONS
    );
    terminate(tunnels.agent).await
}

async fn drain_one(stage: &Stage, tunnels: &mut Tunnels) -> Result<()> {
    let port = tunnels.source.ports[0];
    let mut exchanges = Vec::new();
    for _ in 0..CONNECTIONS {
        exchanges.push(rests(port).await?);
    }
    let opened = said(&tunnels.agent, "tunnel opened");
    tunnels.agent.signal(Signal::Terminate).await?;
    // Once the handler's orders are carried out.
    apps::is_soon_refused(port).await?;
    ensure!(!exchanges.iter().any(Resting::is_over), "one was cut");
    let missed = stage.open(&["SSH"]).await?;
    stage.notify(&missed, &["SSH"]).await?;
    for exchange in exchanges {
        exchange.end().await?;
    }
    tunnels.agent.ends_with(0).await?;
    ensure!(said(&tunnels.agent, "tunnel opened") == opened);
    tunnels.agent = stage.launch_terse()?;
    tunnels.agent.line("tunnel resumed").await?;
    recovers(port).await?;
    tunnels.agent.line(READY).await?;
    stage.connected(&missed).await?;
    stage.source(&missed, &["SSH"]).await?.echoes().await?;
    ensure!(said(&tunnels.agent, "tunnel opened") == 1);
    stage.serve.api()?.close_tunnel(&missed.id).await?;
    tunnels.agent.line("tunnel closed").await?;
    Ok(())
}

on_each_loop!(
    within super::LIMIT;
    a_drained_agent_lets_everything_end_and_the_next_one_goes_on,
);
