//! Threat T-17: handshakes that take their time are ended in time, wherever they dawdle, and good ones are
//! served meanwhile.
//!
//! `ADIT_SLOW` sockets at once.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use adit_tests::deadline::{pause, within_limit};
use adit_tests::kernel::processor_ticks;
use adit_tests::on_own_choice;
use adit_tests::scenario::{Scenario, count, judges};
use adit_tests::scripted_proxy::{Endpoint, Upgrade};
use adit_tests::stack::Serve;
use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(5 * 60);
/// What the relay grants a handshake, and what a busy machine may add.
const GIVEN_UP: Duration = Duration::from_secs(11);
const PATIENCE: Duration = Duration::from_secs(40);
/// Of the processor, for a head of single bytes.
const HEAD_GOAL_MS: f64 = 5.0;
/// Between two bytes.
const PACE: Duration = Duration::from_millis(500);

const CLIENT: &str = "client-0123456789-0123456789-0123456789";

/// The beginning of a TLS record with a ClientHello that is never finished.
const HELLO: [u8; 5] = [0x16, 0x03, 0x01, 0x02, 0x00];

async fn slow_handshakes_are_ended_and_good_ones_served(scenario: Scenario) -> Result<()> {
    let sockets = count("ADIT_SLOW", 200)?;
    let serve = Serve::start(&scenario).await?;
    let tunnel = serve.api()?.open_tunnel(&["SSH"]).await?;
    let upgrade = Upgrade::new("source", &tunnel.source_token).with("client-token", CLIENT);
    let mut slow = JoinSet::new();
    for number in 0..sockets {
        let endpoint = serve.tunnel();
        slow.spawn(within_limit(
            PATIENCE,
            "the end of a slow handshake",
            async move { dawdle(&endpoint, number).await },
        ));
        // Not all of them in one packet of the kernel's queue.
        if number % 100 == 99 {
            pause(Duration::from_millis(10)).await;
        }
    }
    let mut good = Vec::new();
    let mut ended = Vec::new();
    while !slow.is_empty() {
        tokio::select! {
            Some(socket) = slow.join_next() => ended.push(socket??),
            () = pause(Duration::from_millis(100)) => {
                let began = Instant::now();
                serve.tunnel().upgrade(&upgrade).await.context("a handshake in good time")?;
                good.push(began.elapsed());
            }
        }
    }
    good.sort_unstable();
    ended.sort_unstable();
    let (worst, last) = (
        good.last().context("no good one")?,
        ended.last().context("no slow one")?,
    );
    eprintln!(
        "T-17: {sockets} slow handshakes ended after {:.1} to {:.1} s, median {:.1} s; {} good ones beside them took \
         {:.1} ms at most, median {:.1} ms",
        ended[0].as_secs_f64(),
        last.as_secs_f64(),
        ended[ended.len() / 2].as_secs_f64(),
        good.len(),
        worst.as_secs_f64() * 1e3,
        good[good.len() / 2].as_secs_f64() * 1e3,
    );
    if judges() {
        ensure!(*last < GIVEN_UP, "one lived for {last:?}");
    }
    Ok(())
}

/// One byte after the other, at one of four places; how long it is let.
async fn dawdle(endpoint: &Endpoint, number: usize) -> Result<Duration> {
    let began = Instant::now();
    // So many addresses that none is at the limit of failures: that is T-07's.
    let from = Ipv4Addr::new(127, 0, 0, 2 + (number % 249) as u8);
    let text = Upgrade::new("source", "nobody").encode("localhost");
    match number % 4 {
        // Nothing at all, and a record that never is one.
        0 => drip(endpoint.tcp_from(from).await?, std::iter::empty()).await,
        1 => {
            drip(
                endpoint.tcp_from(from).await?,
                HELLO.into_iter().chain(std::iter::repeat(0)),
            )
            .await
        }
        place => {
            // Beyond the bound of handshakes the oldest has to go, which may be in the middle of TLS.
            let Ok(mut connected) = endpoint.connect_from(from).await else {
                return Ok(began.elapsed());
            };
            // TLS is done; no head, or one byte of it after the other.
            if place == 2 {
                connected.is_hung_up().await?;
                return Ok(began.elapsed());
            }
            for byte in text {
                if connected.send(&[byte]).await.is_err() {
                    break;
                }
                pause(PACE).await;
            }
        }
    }
    Ok(began.elapsed())
}

/// Until the other end has had enough.
async fn drip(mut socket: TcpStream, bytes: impl Iterator<Item = u8>) {
    for byte in bytes {
        if socket.write_all(&[byte]).await.is_err() {
            return;
        }
        pause(PACE).await;
    }
    let _ = socket.read(&mut [0]).await;
}

/// A head is read once, however it comes: no quadratic work.
async fn a_head_of_4096_single_bytes_costs_little(scenario: Scenario) -> Result<()> {
    let heads = count("ADIT_SLOW", 200)? / 20;
    let serve = Serve::start(&scenario).await?;
    let id = serve.process.id();
    let plain = Upgrade::new("source", "nobody");
    let room = 4_096 - plain.encode("localhost").len() - "x-filler: \r\n".len();
    let head = plain
        .with("x-filler", &"f".repeat(room))
        .encode("localhost");
    ensure!(head.len() == 4_096);
    let ticks = processor_ticks(id)?;
    for _ in 0..heads {
        let mut connected = serve.tunnel().connect().await?;
        for byte in &head {
            connected.send(&[*byte]).await?;
        }
        ensure!(connected.answer().await?.is_err(), "nobody was let in");
    }
    let each = (processor_ticks(id)? - ticks) as f64 * 10.0 / heads as f64;
    eprintln!(
        "T-17: {heads} heads of 4,096 single bytes, each in a TLS record: {each:.1} ms of the processor each"
    );
    // A parser that begins anew with each byte would take some hundred.
    let limit = if judges() { HEAD_GOAL_MS } else { 100.0 };
    ensure!(each <= limit, "{each} ms of {limit}");
    Ok(())
}

on_own_choice!(within LIMIT; slow_handshakes_are_ended_and_good_ones_served, a_head_of_4096_single_bytes_costs_little);
