//! Pings, pongs, and a peer that is no longer there.

use adit_tests::link::Event;
use adit_tests::ports;
use adit_tests::proxy::Proxy;
use adit_tests::rig::Rig;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::{Acceptance, ScriptedService};
use adit_tests::wire::Message;
use adit_tests::{on_each_loop, on_own_choice};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

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
    let payloads: [&[u8]; 5] = [b"1", b"", &[0xff; 125], b"1795446956025", b"last"];
    for payload in payloads {
        rig.link.writer().ping(payload).await?;
        // A second pong to the ping before would come first.
        ensure!(next_pong(&mut rig).await? == payload);
    }
    let _client = rig.open_first("SSH").await?;
    Ok(())
}

async fn next_pong(rig: &mut Rig) -> Result<Vec<u8>> {
    loop {
        match rig.link.reader().event().await? {
            Event::Pong(payload) => return Ok(payload),
            Event::Ping(_) => {}
            other => bail!("instead of a pong: {other:?}"),
        }
    }
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

/// AWS is known not to answer while no source is connected: silence from the start is no
/// death.
async fn a_service_that_never_answers_pings_is_not_given_up(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let mapping = format!("SSH={}", ports::free()?);
    let proxy = Proxy::source(&scenario, &mapping, &service.endpoint()?);
    let mut proxy = proxy.args(["--ping-interval", "100ms"]).start()?;
    let silent = Acceptance {
        answers_pings: false,
        ..Acceptance::default()
    };
    let mut link = service.knock().await?.accept_with(&silent).await?;
    link.send(&Message::service_ids(&["SSH"])).await?;
    for _ in 0..17 {
        match link.reader().event().await? {
            Event::Ping(_) => {}
            other => bail!("instead of a ping: {other:?}"),
        }
    }
    link.fence().await?;
    proxy.still_runs()
}

/// The reference never notices. A service that used to answer and no longer does is given
/// up, although its TCP connection still stands. (With connections open the silence may be
/// back-pressure; then it takes the network's own silence as well.)
async fn q37_a_peer_that_went_silent_is_noticed(scenario: Scenario) -> Result<()> {
    let watchful = |proxy: Proxy| Ok(proxy.args(["--ping-interval", "200ms"]));
    let mut rig = Rig::source_with(&scenario, &["SSH"], watchful).await?;
    for _ in 0..2 {
        while !matches!(rig.link.reader().event().await?, Event::Ping(_)) {}
    }
    rig.link.writer().leave_pings_unanswered();
    let again = rig.service.knock().await;
    again.context("the silent peer was not given up")?;
    Ok(())
}

on_each_loop!(
    q08_a_pong_may_say_anything,
    q20_each_ping_gets_one_pong_with_its_payload,
    a_service_that_never_answers_pings_is_not_given_up,
    q37_a_peer_that_went_silent_is_noticed,
);
on_own_choice!(a_proxy_pings_at_once_and_then_periodically);
