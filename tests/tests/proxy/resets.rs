//! What ends a stream, a connection, or every one of them, and what must not.

use adit_tests::apps::{self, App, Temper};
use adit_tests::on_each_loop;
use adit_tests::proxy::Proxy;
use adit_tests::rig::Rig;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::{Kind, Message, Route, v1, v3};
use adit_tests::{deadline, ports};
use anyhow::{Result, ensure};
use tokio::io::AsyncWriteExt;

const FIRST: Route<'_> = v3("SSH", 1, 1);
const SECOND: Route<'_> = v3("SSH", 1, 2);

/// The reference stopped to read for good.
async fn q07_a_session_reset_ends_every_stream_and_nothing_else(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["A", "B"]).await?;
    let mut clients = [rig.open_first("A").await?, rig.open_first("B").await?];
    rig.link.send(&Message::session_reset()).await?;
    for client in &mut clients {
        apps::is_ended(client).await?;
    }
    rig.is_alive().await?;
    let _client = rig.connect("A").await?;
    rig.link
        .expect(&Message::stream_start(v3("A", 2, 2)))
        .await?;

    let listener = apps::listener().await?;
    let rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    let mut app = apps::accept(&listener).await?;
    rig.link.send(&Message::session_reset()).await?;
    apps::is_ended(&mut app).await?;
    rig.link
        .send(&Message::stream_start(v3("SSH", 2, 1)))
        .await?;
    apps::accept(&listener).await?;
    Ok(())
}

/// The reference stopped to read for good.
async fn q07_messages_of_an_unknown_service_are_dropped(scenario: Scenario) -> Result<()> {
    let stranger = v3("STRANGER", 1, 1);
    let messages = [
        Message::connection_reset(stranger),
        Message::connection_start(stranger),
        Message::data(stranger, "x"),
        Message::stream_reset(stranger),
    ];
    let echo = App::start(Temper::Echo).await?;
    let mut rig = Rig::destination(&scenario, &[("SSH", echo.address())]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    for message in &messages {
        rig.link.send(message).await?;
    }
    rig.link.send(&Message::data(FIRST, "hello")).await?;
    let is_echo = |message: &Message| message.known_kind() == Some(Kind::Data);
    let reply = rig.link.reader().until(is_echo).await?;
    ensure!(reply == Message::data(FIRST, "hello"), "{reply}");

    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut client = rig.open_first("SSH").await?;
    for message in [&messages[0], &messages[2], &messages[3]] {
        rig.link.send(message).await?;
    }
    rig.link.send(&Message::data(FIRST, "hello")).await?;
    apps::expect_bytes(&mut client, b"hello").await?;
    rig.is_alive().await
}

/// Stale messages are told by their stream ID, and a reset for a connection that is not
/// there is no reason to answer: the reference echoes, and two echoes would never end.
async fn stale_and_unknown_messages_are_dropped_without_an_answer(
    scenario: Scenario,
) -> Result<()> {
    let echo = App::start(Temper::Echo).await?;
    let mut rig = Rig::destination(&scenario, &[("SSH", echo.address())]).await?;
    rig.link
        .send(&Message::stream_start(v3("SSH", 5, 1)))
        .await?;
    for message in [
        Message::data(v3("SSH", 4, 1), "stale"),
        Message::data(v3("SSH", 0, 1), "no stream"),
        Message::data(v3("SSH", 5, 9), "no such connection"),
        Message::connection_reset(v3("SSH", 5, 9)),
        Message::stream_reset(v3("SSH", 4, 0)),
    ] {
        rig.link.send(&message).await?;
    }
    let live = v3("SSH", 5, 1);
    rig.link.send(&Message::data(live, "hello")).await?;
    // The very next message is the echo.
    rig.link.expect(&Message::data(live, "hello")).await
}

/// The reference closed the old stream and lost the new one.
async fn q13_a_start_with_a_new_stream_id_replaces_the_old_stream(
    scenario: Scenario,
) -> Result<()> {
    let listener = apps::listener().await?;
    let mut rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    let mut old = apps::accept(&listener).await?;
    let renewed = v3("SSH", 2, 1);
    rig.link.send(&Message::stream_start(renewed)).await?;
    let mut new = apps::accept(&listener).await?;
    apps::is_ended(&mut old).await?;
    rig.link.send(&Message::data(renewed, "hello")).await?;
    apps::expect_bytes(&mut new, b"hello").await?;
    new.write_all(b"back").await?;
    // It may say that the old stream is over, first.
    let is_data = |message: &Message| message.known_kind() == Some(Kind::Data);
    let data = rig.link.reader().until(is_data).await?;
    ensure!(data == Message::data(renewed, "back"), "{data}");
    Ok(())
}

async fn the_same_start_again_changes_nothing(scenario: Scenario) -> Result<()> {
    let echo = App::start(Temper::Echo).await?;
    let mut rig = Rig::destination(&scenario, &[("SSH", echo.address())]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    rig.link.send(&Message::data(FIRST, "one")).await?;
    rig.link.expect_data(FIRST, b"one").await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    rig.link.send(&Message::data(FIRST, "two")).await?;
    rig.link.expect_data(FIRST, b"two").await
}

/// A destination that was restarted sees the stream of a source that was not.
async fn a_connection_start_without_a_stream_opens_one(scenario: Scenario) -> Result<()> {
    let echo = App::start(Temper::Echo).await?;
    let mut rig = Rig::destination(&scenario, &[("SSH", echo.address())]).await?;
    let route = v3("SSH", 7, 12);
    rig.link.send(&Message::connection_start(route)).await?;
    rig.link.send(&Message::data(route, "hello")).await?;
    rig.link.expect_data(route, b"hello").await
}

/// The reference reset the whole stream, after 12.5 s.
async fn q15_a_failed_later_dial_resets_one_connection(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let mut rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    let mut app = apps::accept(&listener).await?;
    drop(listener);
    let limit = std::time::Duration::from_secs(5);
    rig.link.send(&Message::connection_start(SECOND)).await?;
    let reset = Message::connection_reset(SECOND);
    deadline::within_limit(limit, "a refusal within a second", rig.link.expect(&reset)).await?;
    rig.link.send(&Message::data(FIRST, "hello")).await?;
    apps::expect_bytes(&mut app, b"hello").await
}

/// The reference tried to connect the live socket again and reset the whole stream.
async fn q15_a_duplicate_connection_id_harms_no_other_connection(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let mut rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    let mut first = apps::accept(&listener).await?;
    rig.link.send(&Message::connection_start(SECOND)).await?;
    let _second = apps::accept(&listener).await?;
    rig.link.send(&Message::connection_start(SECOND)).await?;
    rig.link.expect(&Message::connection_reset(SECOND)).await?;
    rig.link.send(&Message::data(FIRST, "hello")).await?;
    apps::expect_bytes(&mut first, b"hello").await?;
    first.write_all(b"back").await?;
    rig.link.expect_data(FIRST, b"back").await
}

/// The reference ended with "unordered_map::at".
async fn q16_messages_before_a_stream_are_dropped_by_a_v1_source(scenario: Scenario) -> Result<()> {
    let as_v1 = |proxy: Proxy| Ok(proxy.args(["-y", "V1"]));
    let mut rig = Rig::source_with(&scenario, &["SSH"], as_v1).await?;
    rig.link.send(&Message::data(v1(1), "early")).await?;
    rig.link.send(&Message::stream_reset(v1(1))).await?;
    rig.is_alive().await?;
    let mut client = rig.connect("SSH").await?;
    rig.link.expect(&Message::stream_start(v1(1))).await?;
    rig.link.send(&Message::data(v1(1), "hello")).await?;
    apps::expect_bytes(&mut client, b"hello").await
}

/// The first dial of a stream that fails ends the stream (section 8.3), and the reset of
/// a stream names no connection: the reference left a stale one in it.
async fn q19_a_stream_reset_carries_no_connection_id(scenario: Scenario) -> Result<()> {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], ports::free()?));
    let mut rig = Rig::destination(&scenario, &[("SSH", nowhere)]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    let limit = std::time::Duration::from_secs(5);
    let reset = Message::stream_reset(FIRST);
    deadline::within_limit(limit, "a refusal within a second", rig.link.expect(&reset)).await
}

/// And a receiver does not look at the one that a reference peer left in.
async fn q19_a_stale_connection_id_on_a_stream_reset_is_ignored(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut first = rig.open_first("SSH").await?;
    let (mut second, _) = rig.open_further("SSH").await?;
    let stale = Message::new(Kind::StreamReset, v3("SSH", 1, 2));
    rig.link.send(&stale).await?;
    apps::is_ended(&mut first).await?;
    apps::is_ended(&mut second).await
}

/// A tunnel without services has no service ID in any message (section 5.1).
async fn a_tunnel_without_services_works_without_service_ids(scenario: Scenario) -> Result<()> {
    let route = v3("", 1, 1);
    let echo = App::start(Temper::Echo).await?;
    let service = ScriptedService::start(&scenario).await?;
    let mapping = echo.address().to_string();
    let _proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?).start()?;
    let mut link = service.admit(&[]).await?;
    link.send(&Message::stream_start(route)).await?;
    link.send(&Message::data(route, "hello")).await?;
    link.expect_data(route, b"hello").await?;

    let port = ports::free()?;
    let _proxy = Proxy::source(&scenario, &port.to_string(), &service.endpoint()?).start()?;
    let mut link = service.admit(&[]).await?;
    ports::listened_on(port).await?;
    let _client = apps::connect(port).await?;
    link.expect(&Message::stream_start(route)).await
}

/// One connection's reset harms no other (section 8), and FIN and RST look alike.
async fn a_local_reset_ends_one_connection(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut first = rig.open_first("SSH").await?;
    let (second, id) = rig.open_further("SSH").await?;
    apps::reset(second)?;
    let reset = Message::connection_reset(v3("SSH", 1, id));
    rig.link.expect(&reset).await?;
    first.write_all(b"hello").await?;
    rig.link.expect_data(FIRST, b"hello").await?;

    let app = App::start(Temper::Reset).await?;
    let mut rig = Rig::destination(&scenario, &[("SSH", app.address())]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    rig.link.send(&Message::connection_start(SECOND)).await?;
    rig.link.send(&Message::data(SECOND, "x")).await?;
    rig.link.expect(&Message::connection_reset(SECOND)).await?;
    rig.is_alive().await
}

on_each_loop!(
    q07_a_session_reset_ends_every_stream_and_nothing_else,
    q07_messages_of_an_unknown_service_are_dropped,
    stale_and_unknown_messages_are_dropped_without_an_answer,
    q13_a_start_with_a_new_stream_id_replaces_the_old_stream,
    the_same_start_again_changes_nothing,
    a_connection_start_without_a_stream_opens_one,
    q15_a_failed_later_dial_resets_one_connection,
    q15_a_duplicate_connection_id_harms_no_other_connection,
    q16_messages_before_a_stream_are_dropped_by_a_v1_source,
    q19_a_stream_reset_carries_no_connection_id,
    q19_a_stale_connection_id_on_a_stream_reset_is_ignored,
    a_tunnel_without_services_works_without_service_ids,
    a_local_reset_ends_one_connection,
);
