//! A service that takes no more calls for now is asked again.

use adit_tests::process::{Process, Signal};
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::{Message, v3};
use adit_tests::{apps, on_own_choice, ports};
use anyhow::{Result, ensure};
use serde_json::json;

use crate::scripted_api::ScriptedApi;

/// More often than one call is tried: by then the tunnel is lost, and connections of the one before it may go on.
async fn connect_outlasts_a_service_that_throttles_it(scenario: Scenario) -> Result<()> {
    let mut refusals = 5;
    let api = ScriptedApi::start(&scenario, move |operation| match operation {
        "ListTunnels" => (200, json!({ "tunnelSummaries": [] })),
        "OpenTunnel" => {
            let opened = json!({ "tunnelId": "scripted", "sourceAccessToken": "first" });
            (200, opened)
        }
        "DescribeTunnel" => {
            let there = json!({ "status": "CONNECTED" });
            let tunnel = json!({ "status": "OPEN", "destinationConnectionState": there });
            (200, json!({ "tunnel": tunnel }))
        }
        "RotateTunnelAccessToken" if refusals > 0 => {
            refusals -= 1;
            (400, json!({ "__type": "ThrottlingException" }))
        }
        "RotateTunnelAccessToken" => (200, json!({ "sourceAccessToken": "second" })),
        _ => (200, json!({})),
    });
    let api = api.await?;
    let relay = ScriptedService::start(&scenario).await?;
    let port = ports::free()?;
    let mut connect = scenario.binary().adit();
    connect
        .args(["connect", "lamp", &format!("SSH={port}"), "-b", "127.0.0.1"])
        .args(["--endpoint", &format!("https://localhost:{}", api.port)])
        .args(["--tunnel-endpoint", &relay.endpoint()?])
        .arg("--no-sign-request")
        .arg("--ca-bundle")
        .arg(scenario.ca_file());
    let mut connect = Process::start(&scenario, "connect", connect)?;
    let link = relay.admit(&["SSH"]).await?;
    connect.line(&format!("SSH  127.0.0.1:{port}")).await?;
    link.writer().close(1000, "").await?;
    connect.line("ThrottlingException").await?;

    let knock = relay.knock().await?;
    ensure!(knock.request.header("access-token") == Some("second"));
    let mut link = knock.accept().await?;
    link.send(&Message::service_ids(&["SSH"])).await?;
    let client = apps::connect(port).await?;
    let first = v3("SSH", 1, 1);
    link.expect(&Message::stream_start(first)).await?;
    apps::reset(client)?;
    link.expect(&Message::connection_reset(first)).await?;
    connect.signal(Signal::Interrupt).await?;
    link.closes_with(1000).await?;
    connect.ends_with(0).await
}

on_own_choice!(connect_outlasts_a_service_that_throttles_it);
