//! Threat T-13: fragments and control frames without end take no memory, and nobody else's time.
//!
//! `ADIT_FLOOD_FRAMES` of each kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adit_tests::deadline::pause;
use adit_tests::frames::{self, BINARY, CONTINUATION, End, PING, PONG};
use adit_tests::kernel::{processor_ticks, resident_memory};
use adit_tests::link::LinkWriter;
use adit_tests::on_each_loop;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use adit_tests::wire::{Message, v3};
use anyhow::{Result, ensure};
use tokio::task::JoinHandle;

use super::{count, joined};

const LIMIT: Duration = Duration::from_secs(10 * 60);
/// Queues of a link and of the allocator; a flood of a million would need a hundred times as much.
const GROWTH_MAX: usize = 16 << 20;
/// Frames that are sent at a time.
const BATCH: usize = 1_000;

/// A frame of a client.
fn frame(is_final: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    frames::part(End::Client, is_final, opcode, payload)
}

async fn is_flooded(
    scenario: &Scenario,
    what: &str,
    first: &[u8],
    again: &[u8],
    drains: bool,
) -> Result<()> {
    let frames = count("ADIT_FLOOD_FRAMES", 20_000)?;
    let serve = Serve::start(scenario).await?;
    let (api, id) = (serve.api()?, serve.process.id());
    let (source, _destination) =
        joined(&serve, &api.open_tunnel(&["SSH"]).await?, &["SSH"]).await?;
    let (mut other, mut far) = joined(&serve, &api.open_tunnel(&["SSH"]).await?, &["SSH"]).await?;
    let route = v3("SSH", 1, 1);
    other.send(&Message::stream_start(route)).await?;
    far.expect(&Message::stream_start(route)).await?;

    let (before, ticks, began) = (resident_memory(id)?, processor_ticks(id)?, Instant::now());
    let (writer, mut reader) = source.split();
    let draining = tokio::spawn(async move {
        // One that does not read stops the relay from reading, once it owes too many answers.
        while drains && reader.event().await.is_ok() {}
        pause(LIMIT).await;
    });
    writer.send_raw(first).await?;
    let (sent, sending) = flood(&writer, again.repeat(BATCH), frames / BATCH);
    let mut most = before;
    loop {
        // Others are served all the while.
        other.send(&Message::data(route, "ask")).await?;
        far.expect(&Message::data(route, "ask")).await?;
        most = most.max(resident_memory(id)?);
        let gone = sent.load(Ordering::Relaxed);
        pause(Duration::from_millis(50)).await;
        if sending.is_finished() || (!drains && gone == sent.load(Ordering::Relaxed) && gone > 0) {
            break;
        }
    }
    other.fence().await?;
    let (grown, used) = (most - before, processor_ticks(id)? - ticks);
    eprintln!(
        "T-13: {} frames, {what}: {} KiB more resident, {} ms of the processor in {:.1} s",
        sent.load(Ordering::Relaxed) * BATCH,
        grown >> 10,
        used * 10,
        began.elapsed().as_secs_f64(),
    );
    sending.abort();
    draining.abort();
    ensure!(grown < GROWTH_MAX, "{what}: {grown} bytes");
    Ok(())
}

/// Sends so many batches; counts those that are gone.
fn flood(
    writer: &LinkWriter,
    batch: Vec<u8>,
    count: usize,
) -> (Arc<AtomicUsize>, JoinHandle<Result<()>>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let (writer, counter) = (writer.clone(), Arc::clone(&sent));
    let task = tokio::spawn(async move {
        for _ in 0..count {
            writer.send_raw(&batch).await?;
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    (sent, task)
}

async fn empty_fragments_take_no_memory(scenario: Scenario) -> Result<()> {
    let first = frame(false, BINARY, b"");
    is_flooded(
        &scenario,
        "empty fragments",
        &first,
        &frame(false, CONTINUATION, b""),
        true,
    )
    .await
}

/// Of a message whose end never comes: 65,535 bytes in pieces of one.
async fn fragments_of_a_byte_take_no_memory(scenario: Scenario) -> Result<()> {
    let message = Message::data(v3("SSH", 1, 1), vec![7; 60_000]).prefixed();
    let start = Message::stream_start(v3("SSH", 1, 1)).prefixed();
    let bytes: Vec<u8> = [start, message].concat();
    let frames = count("ADIT_FLOOD_FRAMES", 20_000)?;
    let pieces = bytes.iter().take(frames);
    let first = frame(false, BINARY, b"");
    let again: Vec<u8> = pieces
        .flat_map(|byte| frame(false, CONTINUATION, &[*byte]))
        .collect();
    is_flooded(
        &scenario,
        "fragments of a byte",
        &[first, again].concat(),
        &frame(false, CONTINUATION, b""),
        true,
    )
    .await
}

async fn pings_are_answered_and_take_no_memory(scenario: Scenario) -> Result<()> {
    is_flooded(&scenario, "pings", b"", &frame(true, PING, &[1; 125]), true).await
}

async fn pings_whose_answers_nobody_reads_take_no_memory(scenario: Scenario) -> Result<()> {
    is_flooded(
        &scenario,
        "pings, no answer read",
        b"",
        &frame(true, PING, &[1; 125]),
        false,
    )
    .await
}

async fn pongs_that_nobody_asked_for_take_no_memory(scenario: Scenario) -> Result<()> {
    is_flooded(&scenario, "pongs", b"", &frame(true, PONG, &[1; 125]), true).await
}

on_each_loop!(within super::LIMIT;
    empty_fragments_take_no_memory,
    fragments_of_a_byte_take_no_memory,
    pings_are_answered_and_take_no_memory,
    pings_whose_answers_nobody_reads_take_no_memory,
    pongs_that_nobody_asked_for_take_no_memory,
);
