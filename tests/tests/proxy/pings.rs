//! Pings, pongs, and a peer that is no longer there.

use std::time::Duration;

use adit_tests::apps;
use adit_tests::deadline::within_limit;
use adit_tests::link::Event;
use adit_tests::proxy::Proxy;
use adit_tests::rig::Rig;
use adit_tests::scenario::Scenario;
use adit_tests::wire::{Message, Route, v3};
use adit_tests::{on_each_loop, on_own_choice};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

const FIRST: Route<'_> = v3("SSH", 1, 1);

/// The reference ended with exit 1.
async fn q08_a_pong_may_say_anything(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    for payload in ["", "no number", "\u{1f600}", "99999999999999999999999999"] {
        rig.link.writer().pong(payload.as_bytes()).await?;
    }
    rig.link.writer().pong(&[0xff; 125]).await?;
    rig.is_alive().await?;
    rig.open_first("SSH").await?;
    Ok(())
}

/// The reference answers twice.
async fn q20_each_ping_gets_one_pong_with_its_payload(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut client = rig.open_first("SSH").await?;
    let payloads: [&[u8]; 4] = [b"1", b"", &[0xff; 125], b"1795446956025"];
    for payload in payloads {
        rig.link.writer().ping(payload).await?;
    }
    rig.link.send(&Message::data(FIRST, "hello")).await?;
    apps::expect_bytes(&mut client, b"hello").await?;
    // One more, to see whether anything came in between.
    rig.link.writer().ping(b"last").await?;
    let mut pongs = Vec::new();
    while pongs.last().map(Vec::as_slice) != Some(b"last") {
        match rig.link.reader().event().await? {
            Event::Pong(payload) => pongs.push(payload),
            Event::Ping(_) => {}
            other => bail!("instead of a pong: {other:?}"),
        }
    }
    ensure!(
        pongs[..payloads.len()] == payloads && pongs.len() == 5,
        "{pongs:?}"
    );
    Ok(())
}

/// A ping right after the 101, then one every `ping_period_ms` (section 2.1).
async fn a_proxy_pings_at_once_and_then_periodically(scenario: Scenario) -> Result<()> {
    let often = |proxy: Proxy| proxy.settings(&json!({ "websocket": { "ping_period_ms": 200 } }));
    let mut rig = Rig::source_with(&scenario, &["SSH"], often).await?;
    for _ in 0..3 {
        match rig.link.reader().event().await? {
            Event::Ping(payload) => ensure!(payload.len() <= 125),
            other => bail!("instead of a ping: {other:?}"),
        }
    }
    Ok(())
}

/// AWS is known not to answer while no source is connected: silence alone is no death.
async fn missing_pongs_alone_do_not_end_a_session(scenario: Scenario) -> Result<()> {
    let often = |proxy: Proxy| proxy.settings(&json!({ "websocket": { "ping_period_ms": 100 } }));
    let mut rig = Rig::source_with(&scenario, &["SSH"], often).await?;
    rig.link.writer().leave_pings_unanswered();
    for _ in 0..17 {
        match rig.link.reader().event().await? {
            Event::Ping(_) => {}
            other => bail!("instead of a ping: {other:?}"),
        }
    }
    rig.is_alive().await
}

/// The reference never notices.
async fn q37_a_peer_that_went_silent_is_noticed_when_asked_for(scenario: Scenario) -> Result<()> {
    let watchful =
        |proxy: Proxy| Ok(proxy.args(["--ping-interval", "200ms", "--pong-timeout", "1s"]));
    let rig = Rig::source_with(&scenario, &["SSH"], watchful).await?;
    rig.link.writer().leave_pings_unanswered();
    // It dials again while the old connection still stands.
    let limit = Duration::from_secs(20);
    let again = within_limit(limit, "waiting for a new connection", rig.service.knock());
    again.await.context("the silent peer was not given up")?;
    Ok(())
}

on_each_loop!(
    q08_a_pong_may_say_anything,
    q20_each_ping_gets_one_pong_with_its_payload,
    missing_pongs_alone_do_not_end_a_session,
    q37_a_peer_that_went_silent_is_noticed_when_asked_for,
);
on_own_choice!(a_proxy_pings_at_once_and_then_periodically);
