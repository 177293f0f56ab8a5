//! Bytes keep their order and their number, whoever is slow, and memory stays bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adit_tests::apps;
use adit_tests::deadline::{until, until_stalled, within_limit};
use adit_tests::kernel::resident_memory;
use adit_tests::link::LinkWriter;
use adit_tests::rig::{Rig, closing_soon};
use adit_tests::scenario::Scenario;
use adit_tests::verifier::seeded_bytes;
use adit_tests::wire::{Kind, Message, PAYLOAD_MAX, Route, v3};
use adit_tests::{on_each_loop, on_own_choice};
use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinHandle, JoinSet};

const MIB: usize = 1024 * 1024;

/// More than all queues and socket buffers of a path together, so that it must stall.
const FLOOD_SIZE: usize = 48 * MIB;

/// What a path may take in while its far end does not read: the proxy's caps (4 MiB per
/// connection, 8 MiB per tunnel) and the kernel's socket buffers on both sides of it.
const PATH_SIZE_MAX: usize = 32 * MIB;

/// What a proxy's memory may grow by while it is flooded; its caps are a quarter of this.
const GROWTH_MAX: usize = 40 * MIB;

/// Applications that do not read while they are flooded: one alone may only have half of what a tunnel may queue.
const SLOW: u32 = 3;

/// Resident after that: 1 MiB of chunks, two buffers of the link, the tables of some hundred connections, code that had not run.
const SETTLED_MAX: usize = 3 * MIB;

/// Far less than a connection's queue holds, by design 4 MiB.
const QUEUED: usize = 200_000;

/// Sends bytes as DATA in a task of its own, and counts what went out.
fn flood(
    to: &LinkWriter,
    route: Route<'static>,
    bytes: Vec<u8>,
) -> (Arc<AtomicUsize>, JoinHandle<Result<()>>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let (to, counter) = (to.clone(), Arc::clone(&sent));
    let task = tokio::spawn(async move {
        for chunk in bytes.chunks(PAYLOAD_MAX) {
            to.send(&Message::data(route, chunk)).await?;
            counter.fetch_add(chunk.len(), Ordering::Relaxed);
        }
        Ok(())
    });
    (sent, task)
}

const FIRST: Route<'_> = v3("SSH", 1, 1);
const SECOND: Route<'_> = v3("SSH", 1, 2);

/// The reference ends with "basic_multi_buffer too long".
async fn q01_a_slow_application_gets_every_byte_within_bounded_memory(
    scenario: Scenario,
) -> Result<()> {
    let listener = apps::narrow_listener()?;
    let mut rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    let mut app = apps::accept(&listener).await?;
    let before = resident_memory(rig.proxy.id())?;

    let bytes = seeded_bytes(1, FLOOD_SIZE);
    let (sent, sending) = flood(rig.link.writer(), FIRST, bytes.clone());
    until_stalled(&sent, PATH_SIZE_MAX).await?;
    let grown = resident_memory(rig.proxy.id())?.saturating_sub(before);
    ensure!(grown < GROWTH_MAX, "the proxy grew by {grown} bytes");

    let mut received = vec![0; bytes.len()];
    app.read_exact(&mut received).await?;
    ensure!(received == bytes, "the application got other bytes");
    sending.await??;
    rig.is_alive().await
}

/// small things that come to lie above what queues needed at their height do not keep it.
async fn q01_memory_that_slow_applications_needed_goes_back(scenario: Scenario) -> Result<()> {
    let listener = apps::narrow_listener()?;
    let mut rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    let mut slow = Vec::new();
    for id in 1..=SLOW {
        let route = v3("SSH", 1, id);
        rig.link.send(&started(route)).await?;
        let bytes = seeded_bytes(id.into(), FLOOD_SIZE / SLOW as usize);
        slow.push((apps::accept(&listener).await?, bytes));
    }
    let before = resident_memory(rig.proxy.id())?;
    let (to, sent) = (rig.link.writer().clone(), Arc::new(AtomicUsize::new(0)));
    let (counter, all) = (
        Arc::clone(&sent),
        slow.iter().map(|(_, bytes)| bytes.clone()),
    );
    let all: Vec<_> = all.collect();
    let sending = tokio::spawn(async move {
        for (round, at) in (0..all[0].len()).step_by(PAYLOAD_MAX).enumerate() {
            for (id, bytes) in (1..).zip(&all) {
                let payload = &bytes[at..bytes.len().min(at + PAYLOAD_MAX)];
                to.send(&Message::data(v3("SSH", 1, id), payload)).await?;
                counter.fetch_add(payload.len(), Ordering::Relaxed);
            }
            to.send(&started(v3("SSH", 1, SLOW + 1 + round as u32)))
                .await?;
        }
        anyhow::Ok(())
    });
    let others = tokio::spawn(async move {
        let mut others = Vec::new();
        while let Ok(app) = apps::accept(&listener).await {
            others.push(app);
        }
    });
    until_stalled(&sent, PATH_SIZE_MAX).await?;
    let full = resident_memory(rig.proxy.id())?.saturating_sub(before);
    ensure!(full > 2 * SETTLED_MAX, "only {full} bytes were queued");

    // All at once: one that is not read holds up the others.
    let mut reading = JoinSet::new();
    for (mut app, bytes) in slow {
        reading.spawn(async move { apps::expect_bytes(&mut app, &bytes).await });
    }
    while let Some(read) = reading.join_next().await {
        read??;
    }
    sending.await??;
    let mut left = 0;
    let settled = until("the memory of the queues to be given back", || {
        left = resident_memory(rig.proxy.id()).map_or(0, |now| now.saturating_sub(before));
        left < SETTLED_MAX
    });
    settled
        .await
        .with_context(|| format!("{left} of {full} bytes are resident"))?;
    others.abort();
    rig.is_alive().await
}

/// The start of a connection, or with the first one of the stream.
fn started(route: Route<'static>) -> Message {
    match route.connection {
        1 => Message::stream_start(route),
        _ => Message::connection_start(route),
    }
}

/// Five messages of 60,000 bytes at once were enough to end the reference.
async fn q01_a_burst_reaches_a_reading_application_whole(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let mut rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    let mut app = apps::accept(&listener).await?;
    let bytes = seeded_bytes(2, 600_000);
    let stream: Vec<u8> = bytes
        .chunks(60_000)
        .flat_map(|chunk| Message::data(FIRST, chunk).prefixed())
        .collect();
    rig.link
        .writer()
        .send_in_frames_of(131_076, &stream)
        .await?;
    apps::expect_bytes(&mut app, &bytes).await?;
    rig.is_alive().await
}

async fn q01_a_stuck_application_does_not_stop_the_others(scenario: Scenario) -> Result<()> {
    let listener = apps::narrow_listener()?;
    let mut rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    let mut stuck = apps::accept(&listener).await?;
    rig.link.send(&Message::connection_start(SECOND)).await?;
    let mut other = apps::accept(&listener).await?;

    let bytes = seeded_bytes(3, QUEUED);
    let (_, sending) = flood(rig.link.writer(), FIRST, bytes.clone());
    sending.await??;
    rig.link.send(&Message::data(SECOND, "hello")).await?;
    apps::expect_bytes(&mut other, b"hello").await?;
    other.write_all(b"back").await?;
    rig.link.expect_data(SECOND, b"back").await?;
    apps::expect_bytes(&mut stuck, &bytes).await
}

/// The stall time-out is 10 s: a connection that takes nothing for so long while others
/// wait behind it is reset, and only it.
async fn q01_one_that_takes_nothing_while_others_wait_is_reset(scenario: Scenario) -> Result<()> {
    let listener = apps::narrow_listener()?;
    let rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    let (writer, mut reader) = rig.link.split();
    writer.send(&Message::stream_start(FIRST)).await?;
    let _stuck = apps::accept(&listener).await?;
    writer.send(&Message::connection_start(SECOND)).await?;
    let mut other = apps::accept(&listener).await?;

    let (_, sending) = flood(&writer, FIRST, seeded_bytes(4, FLOOD_SIZE));
    let waiting = tokio::spawn(async move {
        sending.await??;
        writer.send(&Message::data(SECOND, "hello")).await
    });
    let limit = Duration::from_secs(45);
    let reset = Message::connection_reset(FIRST);
    within_limit(limit, "waiting for the stuck one's reset", async {
        loop {
            // Each wait of the reader has its own, shorter deadline.
            match reader.until(|message| *message == reset).await {
                Ok(_) => return Ok(()),
                Err(error) if format!("{error:#}").contains("nothing happened") => {}
                Err(error) => return Err(error),
            }
        }
    })
    .await?;
    apps::expect_bytes(&mut other, b"hello").await?;
    waiting.await?
}

/// Up to 128 KiB were lost.
async fn q02_a_connection_reset_flushes_queued_bytes_before_the_close(
    scenario: Scenario,
) -> Result<()> {
    flushed_by_destination(&scenario, Message::connection_reset(FIRST)).await?;
    flushed_by_source(&scenario, Message::connection_reset(FIRST)).await
}

async fn q02_a_stream_reset_flushes_queued_bytes_before_the_close(
    scenario: Scenario,
) -> Result<()> {
    flushed_by_destination(&scenario, Message::stream_reset(FIRST)).await?;
    flushed_by_source(&scenario, Message::stream_reset(FIRST)).await
}

async fn flushed_by_destination(scenario: &Scenario, reset: Message) -> Result<()> {
    let listener = apps::narrow_listener()?;
    let mut rig = Rig::destination(scenario, &[("SSH", listener.local_addr()?)]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    let mut app = apps::accept(&listener).await?;
    let bytes = seeded_bytes(5, QUEUED);
    let (_, sending) = flood(rig.link.writer(), FIRST, bytes.clone());
    sending.await??;
    rig.link.send(&reset).await?;
    // The proxy has taken in the reset before the application reads its first byte.
    rig.link.fence().await?;
    let received = apps::read_to_end(&mut app).await?;
    ensure!(received == bytes, "{} of {QUEUED} bytes", received.len());
    Ok(())
}

async fn flushed_by_source(scenario: &Scenario, reset: Message) -> Result<()> {
    let mut rig = Rig::source(scenario, &["SSH"]).await?;
    let mut client = apps::connect_narrow(rig.port("SSH")?).await?;
    rig.link.expect(&Message::stream_start(FIRST)).await?;
    let bytes = seeded_bytes(6, QUEUED);
    let (_, sending) = flood(rig.link.writer(), FIRST, bytes.clone());
    sending.await??;
    rig.link.send(&reset).await?;
    rig.link.fence().await?;
    let received = apps::read_to_end(&mut client).await?;
    ensure!(received == bytes, "{} of {QUEUED} bytes", received.len());
    Ok(())
}

/// The other direction of Q-02: what an application wrote before it closed goes first.
async fn a_reset_never_overtakes_the_data_before_it(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source_with(&scenario, &["SSH"], closing_soon).await?;
    let mut client = rig.open_first("SSH").await?;
    let bytes = seeded_bytes(7, 2 * MIB);
    let writing = {
        let bytes = bytes.clone();
        tokio::spawn(async move {
            client.write_all(&bytes).await?;
            drop(client);
            anyhow::Ok(())
        })
    };
    rig.link.expect_data(FIRST, &bytes).await?;
    rig.link.expect(&Message::connection_reset(FIRST)).await?;
    writing.await?
}

/// The reference took 600 MB into memory in 0.9 s.
async fn q22_local_sockets_are_left_unread_while_the_tunnel_is_full(
    scenario: Scenario,
) -> Result<()> {
    let mut rig = Rig::source_with(&scenario, &["SSH"], closing_soon).await?;
    let mut client = rig.open_first("SSH").await?;
    let before = resident_memory(rig.proxy.id())?;
    let bytes = Arc::new(seeded_bytes(8, FLOOD_SIZE));
    let written = Arc::new(AtomicUsize::new(0));
    let writing = {
        let (bytes, written) = (Arc::clone(&bytes), Arc::clone(&written));
        tokio::spawn(async move {
            for chunk in bytes.chunks(PAYLOAD_MAX) {
                client.write_all(chunk).await?;
                written.fetch_add(chunk.len(), Ordering::Relaxed);
            }
            anyhow::Ok(client)
        })
    };
    // The service takes no message from its link meanwhile.
    until_stalled(&written, PATH_SIZE_MAX).await?;
    let grown = resident_memory(rig.proxy.id())?.saturating_sub(before);
    ensure!(grown < GROWTH_MAX, "the proxy grew by {grown} bytes");

    rig.link.expect_data(FIRST, &bytes).await?;
    drop(writing.await??);
    rig.link.expect(&Message::connection_reset(FIRST)).await
}

/// What is not full goes on: the tunnel's two directions have nothing to do with each other.
async fn a_full_tunnel_still_delivers_what_comes_from_it(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let client = rig.open_first("SSH").await?;
    let (mut from_tunnel, mut to_tunnel) = client.into_split();
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let writing = tokio::spawn(async move {
        let chunk = vec![0; PAYLOAD_MAX];
        while to_tunnel.write_all(&chunk).await.is_ok() {
            counter.fetch_add(chunk.len(), Ordering::Relaxed);
        }
    });
    until_stalled(&written, PATH_SIZE_MAX).await?;
    let bytes = seeded_bytes(9, MIB);
    let (_, sending) = flood(rig.link.writer(), FIRST, bytes.clone());
    apps::expect_bytes(&mut from_tunnel, &bytes).await?;
    sending.await??;
    writing.abort();
    Ok(())
}

/// A trickle beside a flood is served in turn, not after it.
async fn an_interactive_connection_does_not_wait_behind_a_bulk_transfer(
    scenario: Scenario,
) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut bulk = rig.open_first("SSH").await?;
    let (mut interactive, id) = rig.open_further("SSH").await?;
    let writing = tokio::spawn(async move {
        let chunk = vec![0; PAYLOAD_MAX];
        while bulk.write_all(&chunk).await.is_ok() {}
    });
    // Let the flood fill the way first, so that the small one has something to wait behind.
    let mut carried = 0;
    while carried < 4 * MIB {
        carried += rig.link.message().await?.payload.len();
    }
    interactive.write_all(b"key").await?;
    let mut between = 0;
    loop {
        let message = rig.link.message().await?;
        ensure!(message.known_kind() == Some(Kind::Data), "{message}");
        if message.connection_id == id {
            break;
        }
        between += message.payload.len();
        // Socket buffers of the path, 256 KiB in the proxy, and a generous rest.
        ensure!(between < 24 * MIB, "{between} bulk bytes went first");
    }
    writing.abort();
    Ok(())
}

on_each_loop!(
    q01_a_slow_application_gets_every_byte_within_bounded_memory,
    q01_memory_that_slow_applications_needed_goes_back,
    q01_a_burst_reaches_a_reading_application_whole,
    q01_a_stuck_application_does_not_stop_the_others,
    q02_a_connection_reset_flushes_queued_bytes_before_the_close,
    q02_a_stream_reset_flushes_queued_bytes_before_the_close,
    a_reset_never_overtakes_the_data_before_it,
    q22_local_sockets_are_left_unread_while_the_tunnel_is_full,
    a_full_tunnel_still_delivers_what_comes_from_it,
    an_interactive_connection_does_not_wait_behind_a_bulk_transfer,
);
on_own_choice!(q01_one_that_takes_nothing_while_others_wait_is_reset);
