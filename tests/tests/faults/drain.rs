//! SIGTERM under load. What ends within the drain time ends whole, nothing new begins, and the process ends
//! with 0. A service does not drain: its links end at once, and proxies go to what takes its place (see
//! `kills`).
//!
//! `ADIT_DRAINS` is how often each end is drained (a release: 50).

use std::time::Duration;

use adit_tests::apps;
use adit_tests::on_each_loop;
use adit_tests::process::Signal;
use adit_tests::resting::Resting;
use adit_tests::scenario::{Scenario, count};
use adit_tests::stack::Serve;
use anyhow::{Context, Result, ensure};

use super::pair::Pair;

const LIMIT: Duration = Duration::from_secs(1_200);

/// Under way at the same time.
const CONNECTIONS: usize = 20;

async fn a_drained_end_lets_everything_end_that_had_begun(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    for round in 0..count("ADIT_DRAINS", 1)? {
        for is_source in [true, false] {
            drain_one(&scenario, &serve, is_source)
                .await
                .with_context(|| format!("round {round}, source: {is_source}"))?;
        }
    }
    Ok(())
}

async fn drain_one(scenario: &Scenario, serve: &Serve, is_source: bool) -> Result<()> {
    let mut pair = Pair::start(scenario, serve).await?;
    let mut exchanges = Vec::new();
    for _ in 0..CONNECTIONS {
        exchanges.push(pair.rests().await?);
    }
    let process = match is_source {
        true => &mut pair.source,
        false => &mut pair.destination,
    };
    process.signal(Signal::Terminate).await?;
    // Once the handler's orders are carried out.
    apps::is_soon_refused(pair.port).await?;
    ensure!(!exchanges.iter().any(Resting::is_over), "one was cut");
    for exchange in exchanges {
        exchange.end().await?;
    }
    let process = match is_source {
        true => &mut pair.source,
        false => &mut pair.destination,
    };
    process.ends_with(0).await?;
    serve.api()?.close_tunnel(&pair.tunnel.id).await
}

on_each_loop!(
    within super::LIMIT;
    a_drained_end_lets_everything_end_that_had_begun,
);
