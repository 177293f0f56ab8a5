//! What the reference's unit tests ask for (section 18, `AdapterTests.cpp`).

use adit_tests::apps;
use adit_tests::on_own_choice;
use adit_tests::ports;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::{Acceptance, ScriptedService};
use adit_tests::wire::{Kind, Message, v2, v3};
use anyhow::{Result, ensure};
use tokio::io::AsyncWriteExt;

async fn source_mode(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let port = ports::free()?;
    let proxy = Proxy::source(&scenario, &port.to_string(), &service.endpoint()?);
    let mut process = proxy.as_localproxy().start()?;
    let knock = service.knock().await?;
    ensure!(knock.request.start_line == "GET /tunnel?local-proxy-mode=source HTTP/1.1");
    let offered = knock.request.header("sec-websocket-protocol");
    ensure!(
        offered == Some("aws.iot.securetunneling-3.0"),
        "{offered:?}"
    );
    let older = Acceptance {
        subprotocol: Some("aws.iot.securetunneling-2.0".to_owned()),
        ..Acceptance::default()
    };
    let mut link = knock.accept_with(&older).await?;
    link.fence().await?;
    ensure!(!ports::is_listened_on(port), "listens before SERVICE_IDS");
    link.send(&Message::service_ids(&["SSH"])).await?;
    ports::listened_on(port).await?;

    let first = v3("SSH", 1, 1);
    let mut client = apps::connect(port).await?;
    link.expect(&Message::stream_start(first)).await?;
    client.write_all(b"test string 0123").await?;
    link.expect_data(first, b"test string 0123").await?;
    link.send(&Message::data(first, "test string 0123")).await?;
    apps::expect_bytes(&mut client, b"test string 0123").await?;

    // With the defaults, a local close is announced soon enough not to be waited for.
    drop(client);
    link.expect(&Message::connection_reset(first)).await?;
    let mut client = apps::connect(port).await?;
    let again = link.message().await?;
    ensure!(again.known_kind() == Some(Kind::ConnectionStart), "{again}");
    link.writer().close(1011, "").await?;
    apps::is_ended(&mut client).await?;
    process.ends_with(0).await
}

async fn destination_mode(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let listener = apps::listener().await?;
    let mapping = ports::of(&listener)?.to_string();
    let proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?);
    // A bind address in destination mode must not break dialling.
    let mut process = proxy.as_localproxy().args(["-b", "127.0.0.1"]).start()?;
    let knock = service.knock().await?;
    ensure!(knock.request.start_line == "GET /tunnel?local-proxy-mode=destination HTTP/1.1");
    let mut link = knock.accept().await?;
    link.send(&Message::service_ids(&["SSH"])).await?;
    // Without a connection ID: V2, so that the close is the stream's.
    let route = v2("SSH", 1);
    link.send(&Message::stream_start(route)).await?;
    let mut app = apps::accept(&listener).await?;
    link.send(&Message::data(route, "test string 0123")).await?;
    apps::expect_bytes(&mut app, b"test string 0123").await?;
    app.write_all(b"test string 0123").await?;
    link.expect_data(route, b"test string 0123").await?;
    drop(app);
    link.expect(&Message::stream_reset(route)).await?;
    link.writer().close(1000, "").await?;
    process.ends_with(0).await
}

/// The exit codes of section 13.1, where section 17 does not call them defects.
async fn exit_codes_are_the_references(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let proxy = |mapping: &str| -> Result<Proxy> {
        Ok(Proxy::source(&scenario, mapping, &service.endpoint()?).as_localproxy())
    };
    let mut mismatch = proxy(&format!("SSH={}", ports::free()?))?.start()?;
    let _link = service.admit(&["HTTP"]).await?;
    mismatch.ends_with(1).await?;
    mismatch
        .line("Wrong configurations detected in local proxy")
        .await?;

    let taken = apps::listener().await?;
    let port = ports::of(&taken)?;
    let once = serde_json::json!({ "tcp": { "connection_retry_count": 0 } });
    let proxy = proxy(&format!("SSH={port}"))?.args(["-b", "127.0.0.1"]);
    let mut blocked = proxy.settings(&once)?.start()?;
    let _link = service.admit(&["SSH"]).await?;
    blocked.ends_with(1).await
}

on_own_choice!(source_mode, destination_mode, exit_codes_are_the_references);
