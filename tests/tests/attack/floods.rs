//! Threat T-13: fragments and control frames without end take no memory and nobody else's time, and what carries nothing
//! ends the link of who sends it.
//!
//! `ADIT_FLOOD_FRAMES` of each kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adit_tests::deadline::{pause, until, within};
use adit_tests::frames::{self, BINARY, CONTINUATION, End, PING, PONG};
use adit_tests::kernel::{processor_ticks, resident_memory};
use adit_tests::link::{Event, LinkWriter};
use adit_tests::on_each_loop;
use adit_tests::output::Channel;
use adit_tests::scenario::{Scenario, count};
use adit_tests::stack::Serve;
use adit_tests::wire::{Message, v3};
use anyhow::{Result, ensure};
use tokio::task::JoinHandle;

use super::joined;

const LIMIT: Duration = Duration::from_secs(10 * 60);
/// Queues of a link and of the allocator; a flood of a million would need a hundred times as much.
const GROWTH_MAX: usize = 16 << 20;
/// Frames that are sent at a time, and bytes of the message in fragments.
const BATCH: usize = 1_000;

/// A frame of a client.
fn frame(is_final: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    frames::part(End::Client, is_final, opcode, payload)
}

/// What becomes of who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its link is closed once it has sent more than anybody honest does.
    Closed,
    /// It is heard to the end: what it sends are bytes of messages.
    Heard,
    /// Nobody reads it any more.
    Unread,
}

async fn is_flooded(
    scenario: &Scenario,
    what: &str,
    first: &[u8],
    batch: Vec<u8>,
    fate: Fate,
) -> Result<()> {
    let frames = count("ADIT_FLOOD_FRAMES", 200_000)?;
    let serve = Serve::start(scenario).await?;
    let (api, id) = (serve.api()?, serve.process.id());
    let tunnel = api.open_tunnel(&["SSH"]).await?;
    let (source, destination) = joined(&serve, &tunnel, &["SSH"]).await?;
    let (mut other, mut far) = joined(&serve, &api.open_tunnel(&["SSH"]).await?, &["SSH"]).await?;
    let route = v3("SSH", 1, 1);
    other.send(&Message::stream_start(route)).await?;
    far.expect(&Message::stream_start(route)).await?;

    let (before, ticks, began) = (resident_memory(id)?, processor_ticks(id)?, Instant::now());
    let (writer, mut reader) = source.split();
    let draining = tokio::spawn(async move {
        // One that does not read stops the relay from reading, once it owes too many answers.
        if fate == Fate::Unread {
            pause(LIMIT).await;
            return None;
        }
        loop {
            match reader.event().await {
                Ok(Event::Ping(_) | Event::Pong(_) | Event::Message(_)) => {}
                // Nothing comes for a while.
                Err(_) => {}
                Ok(end) => return Some(end),
            }
        }
    });
    let arrived = Arc::new(AtomicUsize::new(0));
    let (_kept, mut messages) = destination.split();
    let counter = Arc::clone(&arrived);
    let hearing = tokio::spawn(async move {
        loop {
            match messages.event().await {
                Ok(Event::Message(_)) => _ = counter.fetch_add(1, Ordering::Relaxed),
                Ok(Event::Ping(_) | Event::Pong(_)) | Err(_) => {}
                Ok(_) => return,
            }
        }
    });
    writer.send_raw(first).await?;
    let (sent, sending) = flood(&writer, batch, frames / BATCH);
    let mut most = before;
    loop {
        // Others are served all the while.
        other.send(&Message::data(route, "ask")).await?;
        far.expect(&Message::data(route, "ask")).await?;
        most = most.max(resident_memory(id)?);
        let gone = sent.load(Ordering::Relaxed);
        pause(Duration::from_millis(50)).await;
        let is_stuck = fate == Fate::Unread && gone == sent.load(Ordering::Relaxed) && gone > 0;
        if sending.is_finished() || draining.is_finished() || is_stuck {
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
    ensure!(grown < GROWTH_MAX, "{what}: {grown} bytes");
    if fate == Fate::Closed {
        let end = within("the end of the link", async { Ok(draining.await?) }).await?;
        ensure!(
            matches!(&end, Some(Event::Close { code: Some(1008), reason }) if reason == REASON),
            "{what}: {end:?}"
        );
        until("a line that says so", || {
            let said = serve.process.output().text(Channel::Stderr);
            let mut lines = said.lines();
            lines.any(|line| line.contains(&tunnel.id) && line.contains(LOGGED))
        })
        .await?;
    } else {
        ensure!(!draining.is_finished(), "{what}: the link is over");
        draining.abort();
    }
    if fate == Fate::Heard {
        sending.await??;
        // Each batch is a message, after the start of their stream.
        let whole = 1 + frames / BATCH;
        let what = format!("all {whole} messages of {what}");
        until(&what, || arrived.load(Ordering::Relaxed) == whole).await?;
    } else {
        sending.abort();
    }
    hearing.abort();
    Ok(())
}

const REASON: &str = "too many pings, pongs and empty frames";
const LOGGED: &str = "more than 100000 pings, pongs and empty frames beyond the 1000 a second";

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
    let batch = frame(false, CONTINUATION, b"").repeat(BATCH);
    is_flooded(&scenario, "empty fragments", &first, batch, Fate::Closed).await
}

/// A message in as many fragments as it has bytes, again and again. It costs the sender a frame for each byte, and arrives.
async fn fragments_of_a_byte_take_no_memory(scenario: Scenario) -> Result<()> {
    let start = Message::stream_start(v3("SSH", 1, 1)).prefixed();
    let head = Message::data(v3("SSH", 1, 1), vec![7; 200])
        .prefixed()
        .len()
        - 200;
    let message = Message::data(v3("SSH", 1, 1), vec![7; BATCH - head]).prefixed();
    ensure!(message.len() == BATCH, "{} bytes", message.len());
    let pieces = message.iter();
    let batch: Vec<u8> = pieces
        .flat_map(|byte| frame(false, CONTINUATION, &[*byte]))
        .collect();
    let first = frame(false, BINARY, &start);
    is_flooded(&scenario, "fragments of a byte", &first, batch, Fate::Heard).await
}

async fn pings_are_answered_and_take_no_memory(scenario: Scenario) -> Result<()> {
    let batch = frame(true, PING, &[1; 125]).repeat(BATCH);
    is_flooded(&scenario, "pings", b"", batch, Fate::Closed).await
}

async fn pings_whose_answers_nobody_reads_take_no_memory(scenario: Scenario) -> Result<()> {
    let batch = frame(true, PING, &[1; 125]).repeat(BATCH);
    let what = "pings, no answer read";
    is_flooded(&scenario, what, b"", batch, Fate::Unread).await
}

async fn pongs_that_nobody_asked_for_take_no_memory(scenario: Scenario) -> Result<()> {
    let batch = frame(true, PONG, &[1; 125]).repeat(BATCH);
    is_flooded(&scenario, "pongs", b"", batch, Fate::Closed).await
}

on_each_loop!(within super::LIMIT;
    empty_fragments_take_no_memory,
    fragments_of_a_byte_take_no_memory,
    pings_are_answered_and_take_no_memory,
    pings_whose_answers_nobody_reads_take_no_memory,
    pongs_that_nobody_asked_for_take_no_memory,
);
