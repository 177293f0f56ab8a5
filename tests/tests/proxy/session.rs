//! The life of a session: what comes before SERVICE_IDS, what ends it, what survives.

use adit_tests::apps;
use adit_tests::on_each_loop;
use adit_tests::ports;
use adit_tests::process::Signal;
use adit_tests::proxy::Proxy;
use adit_tests::rig::{Rig, closing_soon};
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::{Message, Route, v3};
use anyhow::{Result, ensure};
use tokio::io::AsyncWriteExt;

const FIRST: Route<'_> = v3("SSH", 1, 1);

async fn nothing_happens_locally_before_service_ids(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let port = ports::free()?;
    let proxy = Proxy::source(&scenario, &format!("SSH={port}"), &service.endpoint()?);
    let _proxy = proxy.start()?;
    let mut link = service.knock().await?.accept().await?;
    link.fence().await?;
    ensure!(!ports::is_listened_on(port), "listens too early");
    link.send(&Message::service_ids(&["SSH"])).await?;
    ports::listened_on(port).await
}

/// Stream and connection IDs count as in the session that section 16 shows.
async fn a_source_numbers_streams_and_connections_as_the_reference(
    scenario: Scenario,
) -> Result<()> {
    let mut rig = Rig::source_with(&scenario, &["SSH"], closing_soon).await?;
    let mut first = rig.open_first("SSH").await?;
    first.write_all(b"hello").await?;
    rig.link.expect_data(FIRST, b"hello").await?;
    let (second, id) = rig.open_further("SSH").await?;
    ensure!(id == 2, "the second connection is {id}");
    drop(second);
    let reset = Message::connection_reset(v3("SSH", 1, 2));
    rig.link.expect(&reset).await?;

    // A stream survives its last connection.
    rig.link.send(&Message::connection_reset(FIRST)).await?;
    ensure!(apps::read_to_end(&mut first).await?.is_empty());
    let (_third, id) = rig.open_further("SSH").await?;
    ensure!(id == 3, "the third connection is {id}");

    // Stream IDs go on, and so do connection IDs.
    rig.link.send(&Message::stream_reset(FIRST)).await?;
    rig.link.fence().await?;
    let _fourth = rig.connect("SSH").await?;
    let start = Message::stream_start(v3("SSH", 2, 4));
    rig.link.expect(&start).await
}

/// The reference read nothing until the next local connection came.
async fn q05_a_source_reads_on_after_a_stream_reset(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut client = rig.open_first("SSH").await?;
    rig.link.send(&Message::stream_reset(FIRST)).await?;
    ensure!(apps::read_to_end(&mut client).await?.is_empty());
    rig.is_alive().await?;
    rig.link.writer().close(1000, "tunnel closed").await?;
    rig.proxy.ends_with(0).await
}

/// The reference tore down all connections, or ended.
async fn q14_service_ids_again_change_nothing_when_they_are_equal(
    scenario: Scenario,
) -> Result<()> {
    let echo = apps::App::start(apps::Temper::Echo).await?;
    let services = [("A", echo.address()), ("B", echo.address())];
    let mut destination = Rig::destination(&scenario, &services).await?;
    let route = v3("A", 1, 1);
    destination.link.send(&Message::stream_start(route)).await?;
    for order in [["A", "B"], ["B", "A"]] {
        destination.link.send(&Message::service_ids(&order)).await?;
        destination
            .link
            .send(&Message::data(route, "hello"))
            .await?;
        destination.link.expect_data(route, b"hello").await?;
    }
    let mut source = Rig::source(&scenario, &["A", "B"]).await?;
    let mut client = source.open_first("A").await?;
    source.link.send(&Message::service_ids(&["B", "A"])).await?;
    source.link.send(&Message::data(route, "hello")).await?;
    apps::expect_bytes(&mut client, b"hello").await?;
    source.open_first("B").await?;
    Ok(())
}

/// The reference ended with a segmentation fault.
async fn q17_a_close_frame_before_service_ids_ends_in_good_order(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let port = ports::free()?;
    let proxy = Proxy::source(&scenario, &format!("SSH={port}"), &service.endpoint()?);
    let mut proxy = proxy.start()?;
    let mut link = service.knock().await?.accept().await?;
    link.writer().close(1000, "tunnel closed").await?;
    link.closes_with(1000).await?;
    proxy.ends_with(0).await
}

/// CloseTunnel and expiry arrive as a close frame, whatever its code (section 2.1).
async fn a_close_frame_ends_the_proxy_and_its_local_connections(scenario: Scenario) -> Result<()> {
    for code in [1000, 1011] {
        let mut rig = Rig::source(&scenario, &["SSH"]).await?;
        let mut client = rig.open_first("SSH").await?;
        rig.link.writer().close(code, "").await?;
        apps::is_ended(&mut client).await?;
        rig.proxy.ends_with(0).await?;
        ports::silent(rig.port("SSH")?).await?;
    }
    Ok(())
}

/// Nothing survives a reconnect but the numbers that were given out: what is late for an old connection must not reach a new
/// one. The reference begins with 1 again. Tokens are sent again.
async fn a_lost_link_is_dialled_again_and_everything_starts_afresh(
    scenario: Scenario,
) -> Result<()> {
    let token = "0123456789abcdef0123456789abcdef";
    let with_token = |proxy: Proxy| Ok(proxy.env("AWSIOT_TUNNEL_CLIENT_TOKEN", token));
    let mut rig = Rig::source_with(&scenario, &["SSH"], with_token).await?;
    for nth in 1..=2 {
        let mut client = rig.open_anew("SSH", nth).await?;
        rig.link.drop_tcp();
        apps::is_ended(&mut client).await?;
        let knock = rig.service.knock().await?;
        ensure!(knock.request.header("client-token") == Some(token));
        ensure!(knock.request.header("access-token") == Some(adit_tests::proxy::TOKEN));
        rig.link = knock.accept().await?;
        rig.link.send(&Message::service_ids(&["SSH"])).await?;
        ports::listened_on(rig.port("SSH")?).await?;
    }
    let client = rig.open_anew("SSH", 3).await?;
    rig.link.reset_tcp()?;
    drop(client);
    rig.service.admit(&["SSH"]).await?;
    rig.proxy.still_runs()
}

/// A client token is made when none is given, and kept, so that a reconnect is accepted.
async fn a_proxy_keeps_a_client_token_of_its_own(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut tokens = Vec::new();
    for _ in 0..2 {
        rig.link.drop_tcp();
        let knock = rig.service.knock().await?;
        let token = knock.request.header("client-token").map(str::to_owned);
        tokens.push(token.unwrap_or_default());
        rig.link = knock.accept().await?;
    }
    ensure!(tokens[0] == tokens[1], "two tokens: {tokens:?}");
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    ensure!((32..=128).contains(&tokens[0].len()), "{tokens:?}");
    ensure!(tokens[0].bytes().all(is_allowed), "{tokens:?}");
    Ok(())
}

/// The reference has no signal handling at all.
async fn q36_a_signal_ends_with_a_close_frame(scenario: Scenario) -> Result<()> {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let mut rig = Rig::source(&scenario, &["SSH"]).await?;
        rig.proxy.signal(signal).await?;
        rig.link.closes_with(1000).await?;
        rig.proxy.ends_with(0).await?;
    }
    Ok(())
}

/// Also while it has no link yet, or is dialling one in vain.
async fn q36_a_signal_ends_a_proxy_that_waits(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let port = ports::free()?;
    let proxy = Proxy::source(&scenario, &format!("SSH={port}"), &service.endpoint()?);
    // TLS never begins.
    let mut waiting = proxy.start()?;
    let _tcp = service.accept_tcp().await?;
    waiting.signal(Signal::Terminate).await?;
    // By itself, not by the signal's default: with a code, and with what it says.
    waiting.ends_with(0).await?;
    // The upgrade is never answered.
    let mut waiting = proxy.start()?;
    let _knock = service.knock().await?;
    waiting.signal(Signal::Interrupt).await?;
    waiting.ends_with(0).await?;
    // Nobody listens.
    let nowhere = format!("localhost:{}", ports::free()?);
    let mut waiting = proxy.endpoint(&nowhere).start()?;
    waiting.line("").await?;
    waiting.signal(Signal::Terminate).await?;
    waiting.ends_with(0).await
}

/// Whoever sees a proxy's first line may end it: it already knows what to do then.
async fn q36_a_signal_right_after_the_first_line_ends_in_good_order(
    scenario: Scenario,
) -> Result<()> {
    let nowhere = format!("localhost:{}", ports::free()?);
    for signal in [Signal::Terminate, Signal::Interrupt] {
        for _ in 0..10 {
            let mapping = format!("SSH={}", ports::free()?);
            let mut proxy = Proxy::source(&scenario, &mapping, &nowhere).start()?;
            proxy.line("").await?;
            proxy.signal(signal).await?;
            proxy.ends_with(0).await?;
        }
    }
    Ok(())
}

on_each_loop!(
    nothing_happens_locally_before_service_ids,
    a_source_numbers_streams_and_connections_as_the_reference,
    q05_a_source_reads_on_after_a_stream_reset,
    q14_service_ids_again_change_nothing_when_they_are_equal,
    q17_a_close_frame_before_service_ids_ends_in_good_order,
    a_close_frame_ends_the_proxy_and_its_local_connections,
    a_lost_link_is_dialled_again_and_everything_starts_afresh,
    a_proxy_keeps_a_client_token_of_its_own,
    q36_a_signal_ends_with_a_close_frame,
    q36_a_signal_ends_a_proxy_that_waits,
    q36_a_signal_right_after_the_first_line_ends_in_good_order,
);
