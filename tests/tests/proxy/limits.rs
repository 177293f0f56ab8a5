//! How many connections there may be, and what happens to one too many.

use adit_tests::apps::{self, App, Temper};
use adit_tests::deadline::{STALL, pause, until};
use adit_tests::kernel::processor_ticks;
use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::programs;
use adit_tests::proxy::Proxy;
use adit_tests::rig::{Rig, closing_soon};
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::{Message, Route, v3};
use adit_tests::{on_each_loop, on_own_choice};
use anyhow::{Result, ensure};
use serde_json::json;
use tokio::io::AsyncWriteExt;

const FIRST: Route<'_> = v3("SSH", 1, 1);

/// The reference ended with a segmentation fault at the 129th.
async fn q17b_the_129th_connection_is_one_like_the_others(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut clients = vec![(rig.open_first("SSH").await?, 1)];
    for _ in 1..200 {
        clients.push(rig.open_further("SSH").await?);
    }
    for (client, id) in &mut clients {
        let (route, bytes) = (v3("SSH", 1, *id), id.to_string());
        client.write_all(bytes.as_bytes()).await?;
        rig.link.expect_data(route, bytes.as_bytes()).await?;
        rig.link.send(&Message::data(route, bytes.clone())).await?;
        apps::expect_bytes(client, bytes.as_bytes()).await?;
    }
    Ok(())
}

/// A limit is policy, set by the operator: one too many is refused, and harms nobody.
async fn q17b_a_connection_over_the_configured_limit_is_refused(scenario: Scenario) -> Result<()> {
    let of_two = |proxy: Proxy| {
        let tcp = json!({ "max_active_connections": 2 });
        closing_soon(proxy.settings(&json!({ "tcp": tcp }))?)
    };
    let mut rig = Rig::source_with(&scenario, &["SSH"], of_two).await?;
    let mut first = rig.open_first("SSH").await?;
    let (second, id) = rig.open_further("SSH").await?;
    apps::is_refused(rig.port("SSH")?).await?;
    first.write_all(b"hello").await?;
    rig.link.expect_data(FIRST, b"hello").await?;
    // One place becomes free.
    drop(second);
    let reset = Message::connection_reset(v3("SSH", 1, id));
    rig.link.expect(&reset).await?;
    rig.open_further("SSH").await?;
    Ok(())
}

/// The usual soft limit is 1,024: a program that may have more helps itself to it.
async fn a_proxy_uses_all_the_descriptors_that_it_may_have(scenario: Scenario) -> Result<()> {
    let Some([prlimit]) = programs::find(&scenario, ["prlimit"])? else {
        return Ok(());
    };
    let service = ScriptedService::start(&scenario).await?;
    let port = ports::free()?;
    let proxy = Proxy::source(&scenario, &format!("SSH={port}"), &service.endpoint()?);
    let mut limited = programs::command(&prlimit);
    limited.args(["--nofile=128:2048", "--"]);
    let limited = programs::wrapped(limited, &proxy.command());
    let mut process = Process::start(&scenario, "source", limited)?;
    let mut link = service.admit(&["SSH"]).await?;
    ports::listened_on(port).await?;
    let mut clients = Vec::new();
    for id in 1..=300 {
        clients.push(apps::connect(port).await?);
        ensure!(link.message().await?.connection_id == id);
    }
    process.still_runs()
}

/// No descriptors left: no exit, no spinning, and all is well again when there are some.
async fn a_proxy_without_descriptors_waits_for_some(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let id = rig.proxy.id().to_string();
    let limited = tokio::process::Command::new("prlimit")
        .args(["--pid", &id, "--nofile=40:40"])
        .status()
        .await;
    if !limited.is_ok_and(|status| status.success()) {
        return programs::lacking(&scenario, "prlimit, or leave to use it").map(|_: Option<()>| ());
    }
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(rig.connect("SSH").await?);
    }
    rig.is_alive().await?;
    let before = processor_ticks(rig.proxy.id())?;
    pause(STALL).await;
    let used = processor_ticks(rig.proxy.id())? - before;
    // A spinning loop would use all of the second: 100 ticks.
    ensure!(
        used < 30,
        "{used} ticks of processor time in a second of waiting"
    );

    // The stream ends and gives all its descriptors back: one more is welcome.
    rig.link.send(&Message::stream_reset(FIRST)).await?;
    drop(clients);
    rig.link.fence().await?;
    let mut client = rig.connect("SSH").await?;
    client.write_all(b"hello").await?;
    let is_hello = |message: &Message| message.payload == b"hello";
    rig.link.reader().until(is_hello).await?;
    rig.proxy.still_runs()
}

/// Hundreds of connections in turn leave nothing behind.
async fn connections_in_turn_leave_nothing_behind(scenario: Scenario) -> Result<()> {
    let app = App::start(Temper::Greet(b"hello".to_vec())).await?;
    let mut rig = Rig::destination(&scenario, &[("SSH", app.address())]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    let descriptors = |id: u32| {
        let entries = std::fs::read_dir(format!("/proc/{id}/fd"));
        entries.map(Iterator::count).unwrap_or_default()
    };
    rig.link.send(&Message::connection_reset(FIRST)).await?;
    rig.link.fence().await?;
    let before = descriptors(rig.proxy.id());
    for connection in 2..502 {
        let route = v3("SSH", 1, connection);
        rig.link.send(&Message::connection_start(route)).await?;
        let data = rig
            .link
            .reader()
            .until(|message| message.connection_id == connection);
        ensure!(data.await? == Message::data(route, "hello"));
        rig.link.send(&Message::connection_reset(route)).await?;
    }
    rig.link.fence().await?;
    until("the descriptors are given back", || {
        descriptors(rig.proxy.id()) <= before
    })
    .await
}

on_own_choice!(a_proxy_uses_all_the_descriptors_that_it_may_have);
on_each_loop!(
    q17b_the_129th_connection_is_one_like_the_others,
    q17b_a_connection_over_the_configured_limit_is_refused,
    a_proxy_without_descriptors_waits_for_some,
    connections_in_turn_leave_nothing_behind,
);
