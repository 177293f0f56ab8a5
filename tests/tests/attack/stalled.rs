//! Threat T-16: readers that do not read cost a bounded piece of memory, which does not grow, and others do not
//! feel them.
//!
//! `ADIT_STALLED` tunnels whose destination does not read, for `ADIT_STALLED_SECONDS`.

use std::time::{Duration, Instant};

use adit_tests::deadline::pause;
use adit_tests::kernel::resident_memory;
use adit_tests::link::Link;
use adit_tests::on_each_loop;
use adit_tests::scenario::{Scenario, count, judges};
use adit_tests::stack::Serve;
use adit_tests::wire::{Message, PAYLOAD_MAX, Route, v3};
use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use super::joined;

const LIMIT: Duration = Duration::from_secs(20 * 60);
const ROUTE: Route<'_> = v3("SSH", 1, 1);
/// Between two round trips of the tunnel that is watched.
const PACE: Duration = Duration::from_millis(10);
/// A writer that has not been let go on for so long is stalled.
const QUIET: Duration = Duration::from_secs(2);
/// What a tunnel may take that nobody reads: the relay's own queues.
const EACH_MAX: usize = 1 << 20;

async fn readers_that_do_not_read_cost_a_bounded_piece_of_memory(scenario: Scenario) -> Result<()> {
    let tunnels = count("ADIT_STALLED", 10)?;
    let length = Duration::from_secs(count("ADIT_STALLED_SECONDS", 4)? as u64);
    let serve = Serve::start(&scenario).await?;
    let (api, id) = (serve.api()?, serve.process.id());
    let mut watched = joined(&serve, &api.open_tunnel(&["SSH"]).await?, &["SSH"]).await?;
    open(&mut watched).await?;
    let alone = trips(&mut watched, length.min(Duration::from_secs(60))).await?;
    let before = resident_memory(id)?;

    let (mut writers, mut kept) = (JoinSet::new(), Vec::new());
    for _ in 0..tunnels {
        let mut pair = joined(&serve, &api.open_tunnel(&["SSH"]).await?, &["SSH"]).await?;
        open(&mut pair).await?;
        let (source, destination) = pair;
        // Whoever does not take events does not read, after a few of them.
        kept.push(destination);
        writers.spawn(async move {
            let message = Message::data(ROUTE, vec![9; PAYLOAD_MAX]);
            let mut written = 0usize;
            while let Ok(sent) = tokio::time::timeout(QUIET, source.send(&message)).await {
                sent?;
                written += PAYLOAD_MAX;
            }
            anyhow::Ok((source, written))
        });
    }
    let mut written = 0;
    while let Some(writer) = writers.join_next().await {
        let (source, bytes) = writer??;
        written += bytes;
        kept.push(source);
    }
    let full = resident_memory(id)?;
    let beside = trips(&mut watched, length).await?;
    let after = resident_memory(id)?;
    let change = (after as f64 / full as f64 - 1.0) * 100.0;
    eprintln!(
        "T-16: {tunnels} tunnels stalled for {length:?} with {written} bytes on their way: {} KiB resident before, \
         {} when all had stalled, {} at the end ({change:+.1} %)",
        before >> 10,
        full >> 10,
        after >> 10,
    );
    eprintln!(
        "T-16: round trips of another tunnel, p99: {:.2} ms alone, {:.2} ms beside them",
        alone.as_secs_f64() * 1e3,
        beside.as_secs_f64() * 1e3,
    );
    ensure!(
        full.saturating_sub(before) < tunnels * EACH_MAX,
        "{} bytes each",
        (full - before) / tunnels
    );
    ensure!(change < 5.0, "it grew by {change:.1} % while nothing moved");
    if judges() {
        ensure!(
            beside < alone.mul_f64(1.5),
            "others wait for {beside:?}, and {alone:?} alone"
        );
    }
    Ok(())
}

async fn open((source, destination): &mut (Link, Link)) -> Result<()> {
    source.send(&Message::stream_start(ROUTE)).await?;
    destination.expect(&Message::stream_start(ROUTE)).await
}

/// Round trips of a small message for so long, at a pace; the 99th percentile.
async fn trips((source, destination): &mut (Link, Link), length: Duration) -> Result<Duration> {
    let (ask, answer) = (Message::data(ROUTE, "ask"), Message::data(ROUTE, "answer"));
    let (end, mut took) = (Instant::now() + length, Vec::new());
    while Instant::now() < end {
        let began = Instant::now();
        source.send(&ask).await?;
        destination.expect(&ask).await?;
        destination.send(&answer).await?;
        source.expect(&answer).await?;
        took.push(began.elapsed());
        pause(PACE).await;
    }
    took.sort_unstable();
    Ok(took[took.len() * 99 / 100])
}

on_each_loop!(within super::LIMIT; readers_that_do_not_read_cost_a_bounded_piece_of_memory);
