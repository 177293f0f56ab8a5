//! What is done each time.

use std::fmt;

use adit_tests::apps;
use adit_tests::deadline::within;
use adit_tests::ports;
use adit_tests::process::Signal;
use adit_tests::verifier::Transfer;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::day::{self, Day};
use super::fleet::{Device, Fleet, SEED, SERVICE, terminate};

/// How often each was done.
pub(crate) struct Done {
    visits: u32,
    connections: u32,
    rotations: u32,
    cuts: u32,
    restarts: u32,
    reloads: u32,
    bytes: u64,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            visits,
            connections,
            rotations,
            cuts,
            restarts,
            reloads,
            bytes,
        } = self;
        write!(
            f,
            "{visits} tunnels, {connections} connections, {rotations} rotations, {cuts} lost links, \
             {restarts} restarts of an agent, {reloads} reloads, {bytes} bytes verified"
        )
    }
}

/// Does everything once.
pub(crate) async fn rehearse(fleet: &Fleet) -> Result<()> {
    for number in 0..2 {
        visit(fleet, number).await?;
        rotate(fleet, number).await?;
        restart(fleet, number).await?;
    }
    for number in 0..40 {
        connect(fleet, number).await?;
    }
    cut(fleet).await?;
    reload(fleet).await?;
    fill(fleet).await
}

/// Opens and closes tunnels that nobody uses, until the store is larger than what SQLite keeps of it in memory, 2 MiB
/// for each of its connections. Otherwise that fills during the day.
async fn fill(fleet: &Fleet) -> Result<()> {
    let mut calls = JoinSet::new();
    for _ in 0..FILL_AT_ONCE {
        let api = fleet.api.clone();
        calls.spawn(async move {
            for _ in 0..FILL / FILL_AT_ONCE {
                let tunnel = api.open_tunnel(&[SERVICE]).await?;
                api.close_tunnel(&tunnel.id).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = calls.join_next().await {
        done??;
    }
    Ok(())
}

/// Each leaves four records in the audit, some 1.5 KB.
const FILL: usize = 2_000;
const FILL_AT_ONCE: usize = 8;

/// Does everything at its time.
pub(crate) async fn play(fleet: &Fleet, day: &Day) -> Result<Done> {
    let before = fleet.bytes();
    let (visits, connections, rotations, cuts, restarts, reloads) = tokio::try_join!(
        day.spread(day::VISITS, "tunnel", async |number| visit(fleet, number)
            .await),
        day.spread(day::CONNECTIONS, "connection", async |number| connect(
            fleet, number
        )
        .await),
        day.spread(day::ROTATIONS, "rotation", async |number| rotate(
            fleet, number
        )
        .await),
        day.spread(day::CUTS, "lost link", async |_| cut(fleet).await),
        day.spread(day::RESTARTS, "restart", async |number| restart(
            fleet, number
        )
        .await),
        day.spread(day::RELOADS, "reload", async |_| reload(fleet).await),
    )?;
    Ok(Done {
        visits,
        connections,
        rotations,
        cuts,
        restarts,
        reloads,
        bytes: fleet.bytes() - before,
    })
}

/// A tunnel is opened for a device, which is told; somebody uses it and closes it.
async fn visit(fleet: &Fleet, number: u32) -> Result<()> {
    let device = fleet.devices[number as usize % 2].lock().await;
    let visit = Visit::begin(fleet, &device).await?;
    for length in [100, 20_000, 300_000] {
        fleet.carries(visit.port, length).await?;
    }
    visit.end(fleet).await
}

/// A connection through the tunnel that stays open: short ones, some in bulk, some that break off.
async fn connect(fleet: &Fleet, number: u32) -> Result<()> {
    let pair = fleet.steady.lock().await;
    match number % 20 {
        0 => fleet.carries(pair.port, 2 << 20).await,
        7 | 14 => break_off(fleet, pair.port).await,
        _ => {
            fleet
                .carries(pair.port, 1 + u64::from(number) * 7_919 % 65_536)
                .await
        }
    }
}

/// Half of a transfer, and a reset.
async fn break_off(fleet: &Fleet, port: u16) -> Result<()> {
    let mut client = apps::connect(port).await?;
    let mut bytes = Vec::new();
    fleet.next(50_000).send(&mut bytes).await?;
    let half = &bytes[..bytes.len() / 2];
    within("half of a transfer", async {
        Ok(client.write_all(half).await?)
    })
    .await?;
    apps::reset(client)
}

/// A token is replaced; its proxy ends, and another one comes with the new one.
async fn rotate(fleet: &Fleet, number: u32) -> Result<()> {
    let mut pair = fleet.rotated.lock().await;
    let (id, port) = (pair.tunnel.id.clone(), pair.port);
    if number.is_multiple_of(2) {
        let token = fleet.api.rotate_destination(&id).await?;
        pair.destination.end().await?;
        pair.destination = fleet.destination(&token)?;
    } else {
        let input = json!({ "tunnelId": id, "clientMode": "SOURCE" });
        let output = fleet.api.call("RotateTunnelAccessToken", &input).await?;
        let token = output["sourceAccessToken"].as_str().context("no token")?;
        pair.source.end().await?;
        pair.source = fleet.source(token, port).await?;
    }
    fleet.api.wait_connected(&id, true, true).await?;
    fleet.recovers(port).await
}

/// Both links of the steady tunnel are lost under a transfer, which is cut or complete, and never wrong;
/// its proxies come back by themselves.
async fn cut(fleet: &Fleet) -> Result<()> {
    let pair = fleet.steady.lock().await;
    let mut client = apps::connect(pair.port).await?;
    let transfer = fleet.next(1 << 30);
    // The greeting is enough for the application to begin its answer.
    client.write_all(&transfer.greeting()).await?;
    within("an answer", async { Ok(client.peek(&mut [0]).await?) }).await?;
    fleet.junction.cut();
    within(
        "the end of a cut transfer",
        Transfer::receive(&mut client, !SEED),
    )
    .await?;
    fleet.recovers(pair.port).await
}

/// An agent ends with a tunnel open, and goes on with it when it is started again.
async fn restart(fleet: &Fleet, number: u32) -> Result<()> {
    let mut device = fleet.devices[1].lock().await;
    let visit = Visit::begin(fleet, &device).await?;
    fleet.carries(visit.port, 1_000).await?;
    match number % 2 {
        0 => device.agent.kill().await?,
        _ => terminate(&mut device.agent).await?,
    }
    device.start_again().await?;
    fleet.recovers(visit.port).await?;
    visit.end(fleet).await
}

/// The service reads again what it reads again.
async fn reload(fleet: &Fleet) -> Result<()> {
    fleet
        .serve
        .lock()
        .await
        .process
        .signal(Signal::Hangup)
        .await
}

/// A tunnel between a device and a source.
struct Visit {
    tunnel: String,
    port: u16,
    source: adit_tests::process::Process,
}

impl Visit {
    async fn begin(fleet: &Fleet, device: &Device) -> Result<Self> {
        let config = json!({ "thingName": device.thing, "services": [SERVICE] });
        let input = json!({ "destinationConfig": config });
        let opened = fleet.api.call("OpenTunnel", &input).await?;
        let text = |member: &str| opened[member].as_str().context("no such member");
        let (tunnel, port) = (text("tunnelId")?.to_owned(), ports::free()?);
        let source = fleet.source(text("sourceAccessToken")?, port).await?;
        fleet.api.wait_connected(&tunnel, true, true).await?;
        Ok(Self {
            tunnel,
            port,
            source,
        })
    }

    async fn end(mut self, fleet: &Fleet) -> Result<()> {
        fleet.api.close_tunnel(&self.tunnel).await?;
        let status = self.source.end().await?;
        ensure!(status.code().is_some(), "the source ended with {status}");
        Ok(())
    }
}
