//! What a tunnel costs the service once it was used and rests: whoever opens many takes little.
//!
//! `ADIT_IDLE_TUNNELS`, each with both ends and a stream, beside as many that came first and filled what all of them
//! share.

use std::time::Duration;

use adit_tests::kernel::resident_memory;
use adit_tests::link::Link;
use adit_tests::on_each_loop;
use adit_tests::scenario::{Scenario, count};
use adit_tests::stack::Serve;
use adit_tests::wire::{Message, Route, v3};
use anyhow::{Result, ensure};

use super::joined;

/// Of a release run on two cores.
const LIMIT: Duration = Duration::from_secs(10 * 60);
const ROUTE: Route<'_> = v3("SSH", 1, 1);
/// What moves through each before it rests, each way.
const USE: usize = 60_000;
/// For both links of a tunnel.
const EACH_MAX: usize = 40 << 10;

async fn a_tunnel_that_rests_takes_little(scenario: Scenario) -> Result<()> {
    let tunnels = count("ADIT_IDLE_TUNNELS", 60)?;
    let serve = Serve::start(&scenario).await?;
    let mut kept = used(&serve, tunnels).await?;
    let before = resident_memory(serve.process.id())?;
    kept.append(&mut used(&serve, tunnels).await?);
    let after = resident_memory(serve.process.id())?;
    let each = after.saturating_sub(before) / tunnels;
    eprintln!(
        "idle: {} tunnels, {} KiB resident; the last {tunnels} took {each} bytes each",
        kept.len(),
        after >> 10,
    );
    ensure!(each <= EACH_MAX, "{each} bytes each");
    Ok(())
}

/// Tunnels that have carried bytes both ways.
async fn used(serve: &Serve, tunnels: usize) -> Result<Vec<(Link, Link)>> {
    let (api, mut kept) = (serve.api()?, Vec::with_capacity(tunnels));
    let message = Message::data(ROUTE, vec![7; USE]);
    for _ in 0..tunnels {
        let tunnel = api.open_tunnel(&["SSH"]).await?;
        let (mut source, mut destination) = joined(serve, &tunnel, &["SSH"]).await?;
        let start = Message::stream_start(ROUTE);
        source.send(&start).await?;
        destination.expect(&start).await?;
        source.send(&message).await?;
        destination.expect(&message).await?;
        destination.send(&message).await?;
        source.expect(&message).await?;
        kept.push((source, destination));
    }
    Ok(kept)
}

on_each_loop!(within super::LIMIT; a_tunnel_that_rests_takes_little);
