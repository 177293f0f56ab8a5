//! Threat T-15: connections come and go in one tunnel, each end in its own way, and no byte of one is seen in
//! another.
//!
//! `ADIT_CONNECTIONS` in all; each carries bytes of its own, which the other end checks and answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adit_tests::apps::{self, App, Temper};
use adit_tests::deadline::within;
use adit_tests::kernel::resident_memory;
use adit_tests::on_each_loop;
use adit_tests::scenario::{Scenario, count, seed};
use adit_tests::stack::Stack;
use adit_tests::verifier::Transfer;
use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Open at once.
const CALLERS: u64 = 24;
/// What an allocator may keep of the largest moment.
const SLACK: usize = 16 << 20;

async fn connections_come_and_go_and_no_byte_crosses(scenario: Scenario) -> Result<()> {
    let (connections, seed) = (count("ADIT_CONNECTIONS", 1_000)? as u64, seed()?);
    let app = App::start(Temper::Verify(seed)).await?;
    let mut stack = Stack::start(&scenario, &[("SSH", app.address().to_string())]).await?;
    let port = stack.port("SSH")?;
    let (next, broken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    let before = [stack.source.id(), stack.destination.id()].map(resident_memory);
    for _ in 0..CALLERS {
        let (next, broken) = (Arc::clone(&next), Arc::clone(&broken));
        callers.spawn(async move {
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                if id >= connections {
                    return anyhow::Ok(());
                }
                let transfer = Transfer {
                    id,
                    length: id * 7_919 % 6_000,
                    seed,
                };
                let name = || format!("connection {id}");
                match id % 8 {
                    3 | 6 => {
                        broken.fetch_add(1, Ordering::Relaxed);
                        breaks_off(port, transfer, id % 16 < 8)
                            .await
                            .with_context(name)?;
                    }
                    _ => {
                        let mut client = apps::connect(port).await.with_context(name)?;
                        let exchanged = within("an exchange", transfer.exchange(&mut client));
                        exchanged.await.with_context(name)?;
                    }
                }
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    stack.still_run()?;
    let mut client = stack.connect("SSH").await?;
    Transfer {
        id: connections,
        length: 100_000,
        seed,
    }
    .exchange(&mut client)
    .await?;
    let after = [stack.source.id(), stack.destination.id()].map(resident_memory);
    let broken = broken.load(Ordering::Relaxed);
    eprintln!(
        "T-15: {connections} connections in one tunnel, {broken} broken off: no crossed byte"
    );
    for ((name, before), after) in ["source", "destination"].iter().zip(before).zip(after) {
        let (before, after) = (before?, after?);
        eprintln!(
            "T-15: {name}: {} to {} KiB resident",
            before >> 10,
            after >> 10
        );
        ensure!(
            after < before + SLACK,
            "{name} has grown by {} bytes",
            after - before
        );
    }
    Ok(())
}

/// Sends a part of a transfer, and ends the connection without waiting for the answer to it.
async fn breaks_off(port: u16, transfer: Transfer, by_reset: bool) -> Result<()> {
    let mut client = apps::connect(port).await?;
    let mut bytes = Vec::new();
    transfer.send(&mut bytes).await?;
    let part = &bytes[..(transfer.id as usize * 31) % bytes.len()];
    within("part of a transfer", async {
        Ok(client.write_all(part).await?)
    })
    .await?;
    if by_reset {
        apps::reset(client)?;
    }
    Ok(())
}

on_each_loop!(within super::LIMIT; connections_come_and_go_and_no_byte_crosses);
