//! Rule 11: back-pressure within bounds, and nobody else feels it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_tests::deadline::until_stalled;
use adit_tests::kernel::resident_memory;
use adit_tests::on_each_loop;
use adit_tests::scenario::Scenario;
use adit_tests::verifier::seeded_bytes;
use adit_tests::wire::{Message, PAYLOAD_MAX, Route, v3};
use anyhow::{Result, ensure};

use crate::pair::{Pair, joined};

const MIB: usize = 1024 * 1024;
const FLOOD_SIZE: usize = 48 * MIB;
/// Socket buffers of four sockets and the relay's own queues.
const PATH_SIZE_MAX: usize = 36 * MIB;
const FIRST: Route<'_> = v3("SSH", 1, 1);

async fn rule11_a_side_that_does_not_read_stops_the_other_within_bounds(
    scenario: Scenario,
) -> Result<()> {
    let mut pair = Pair::start(&scenario, &["SSH"]).await?;
    pair.open(&Message::stream_start(FIRST)).await?;
    let before = resident_memory(pair.serve.process.id())?;
    let bytes = Arc::new(seeded_bytes(1, FLOOD_SIZE));
    let sent = Arc::new(AtomicUsize::new(0));
    let sending = {
        let (bytes, sent) = (Arc::clone(&bytes), Arc::clone(&sent));
        let writer = pair.source.writer().clone();
        tokio::spawn(async move {
            for chunk in bytes.chunks(PAYLOAD_MAX) {
                writer.send(&Message::data(FIRST, chunk)).await?;
                sent.fetch_add(chunk.len(), Ordering::Relaxed);
            }
            anyhow::Ok(())
        })
    };
    until_stalled(&sent, PATH_SIZE_MAX).await?;
    let grown = resident_memory(pair.serve.process.id())?.saturating_sub(before);
    ensure!(grown < 24 * MIB, "the relay grew by {grown} bytes");

    // The other direction, and other tunnels, go on.
    pair.destination.send(&Message::data(FIRST, "back")).await?;
    pair.source.expect(&Message::data(FIRST, "back")).await?;
    let other = pair.serve.api()?.open_tunnel(&["SSH"]).await?;
    let (source, mut destination) = joined(&pair.serve, &other, &["SSH"]).await?;
    source.send(&Message::stream_start(FIRST)).await?;
    destination.expect(&Message::stream_start(FIRST)).await?;

    // And all of it arrives.
    pair.destination.expect_data(FIRST, &bytes).await?;
    sending.await?
}

/// The bytes of many tunnels at once are each tunnel's own.
async fn many_tunnels_at_once_carry_their_own_bytes(scenario: Scenario) -> Result<()> {
    let pair = Pair::start(&scenario, &["SSH"]).await?;
    let mut transfers = tokio::task::JoinSet::new();
    for seed in 0..12 {
        let tunnel = pair.serve.api()?.open_tunnel(&["SSH"]).await?;
        let (source, mut destination) = joined(&pair.serve, &tunnel, &["SSH"]).await?;
        let bytes = seeded_bytes(seed, 2 * MIB);
        let expected = bytes.clone();
        transfers.spawn(async move {
            source.send(&Message::stream_start(FIRST)).await?;
            for chunk in bytes.chunks(10_000) {
                source.send(&Message::data(FIRST, chunk)).await?;
            }
            anyhow::Ok(())
        });
        transfers.spawn(async move {
            destination.expect(&Message::stream_start(FIRST)).await?;
            destination.expect_data(FIRST, &expected).await
        });
    }
    for outcome in transfers.join_all().await {
        outcome?;
    }
    Ok(())
}

on_each_loop!(
    rule11_a_side_that_does_not_read_stops_the_other_within_bounds,
    many_tunnels_at_once_carry_their_own_bytes,
);
