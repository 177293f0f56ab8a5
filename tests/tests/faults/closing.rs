//! 1 to 10 MiB are written and the connection is closed at once, by either end: not a byte is lost.
//!
//! `ADIT_CLOSES` is how often (a release: 10,000).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adit_tests::apps;
use adit_tests::deadline::within_limit;
use adit_tests::on_each_loop;
use adit_tests::scenario::{Scenario, count, seed};
use adit_tests::stack::Stack;
use adit_tests::verifier::{Outcome, Transfer};
use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(7_200);

/// Pairs that write and close at the same time, each through a service of its own. A close takes a second or so, in
/// which nothing is done, so many at once take no longer.
const PAIRS: usize = 16;

/// Longest that one transfer may take, beside all the others.
const PATIENCE: Duration = Duration::from_secs(60);

const MIB: u64 = 1024 * 1024;

/// One end writes everything and closes; the other has all of it, and then the end.
async fn write_and_close(mut from: TcpStream, mut to: TcpStream, transfer: Transfer) -> Result<()> {
    let writing = tokio::spawn(async move { transfer.send(&mut from).await });
    let outcome = within_limit(
        PATIENCE,
        "a transfer",
        Transfer::receive(&mut to, transfer.seed),
    );
    let outcome = outcome.await?;
    ensure!(
        outcome == Outcome::Complete(transfer),
        "{outcome:?} of {transfer}"
    );
    writing.await??;
    apps::is_ended(&mut to).await
}

async fn what_is_written_before_a_close_arrives(scenario: Scenario) -> Result<()> {
    let (seed, times) = (seed()?, count("ADIT_CLOSES", 12)?);
    let mut listeners = Vec::new();
    for pair in 0..PAIRS {
        listeners.push((format!("S{pair}"), apps::listener().await?));
    }
    let places = listeners
        .iter()
        .map(|(service, listener)| Ok((service.as_str(), listener.local_addr()?.to_string())));
    let stack = Arc::new(Stack::start(&scenario, &places.collect::<Result<Vec<_>>>()?).await?);
    let next = Arc::new(AtomicUsize::new(0));
    let workers = listeners.into_iter().map(|(service, listener)| {
        let (stack, next) = (Arc::clone(&stack), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed) as u64;
                if number >= times as u64 {
                    return anyhow::Ok(());
                }
                let client = stack.connect(&service).await?;
                let app = apps::accept(&listener).await?;
                // Any size between, and both directions.
                let length = MIB + (number + 1).wrapping_mul(seed | 1) % (9 * MIB);
                let transfer = Transfer {
                    id: number,
                    length,
                    seed,
                };
                let (from, to) = if number.is_multiple_of(2) {
                    (client, app)
                } else {
                    (app, client)
                };
                let done = write_and_close(from, to, transfer).await;
                done.with_context(|| format!("close {number}"))?;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    eprintln!("{times} closes, nothing lost");
    Ok(())
}

on_each_loop!(
    within super::LIMIT;
    what_is_written_before_a_close_arrives,
);
