//! V1, V2 and V3 peers, recognised by what they send and answered in kind, per service.

use adit_tests::apps::{self, App, Temper};
use adit_tests::on_each_loop;
use adit_tests::proxy::Proxy;
use adit_tests::rig::{Rig, closing_soon};
use adit_tests::scenario::Scenario;
use adit_tests::wire::{Kind, Message, Route, v1, v2, v3};
use anyhow::{Result, ensure};
use tokio::io::AsyncWriteExt;

/// The reference let the second replace the first, and both died.
async fn q10_a_second_connection_is_refused_in_v1_and_v2(scenario: Scenario) -> Result<()> {
    for (dialect, route) in [("V1", v1(1)), ("V2", v2("SSH", 1))] {
        let in_dialect = |proxy: Proxy| Ok(proxy.args(["-y", dialect]));
        let mut rig = Rig::source_with(&scenario, &["SSH"], in_dialect).await?;
        let mut first = rig.connect("SSH").await?;
        rig.link.expect(&Message::stream_start(route)).await?;
        apps::is_refused(rig.port("SSH")?).await?;
        first.write_all(b"hello").await?;
        rig.link.expect_data(route, b"hello").await?;
        rig.link.send(&Message::data(route, "back")).await?;
        apps::expect_bytes(&mut first, b"back").await?;
    }
    Ok(())
}

/// In V1 and V2 the end of the one connection is the end of its stream (section 6.3), and
/// the next connection opens the next stream.
async fn a_v1_or_v2_source_ends_and_begins_streams(scenario: Scenario) -> Result<()> {
    for (dialect, service) in [("V1", ""), ("V2", "SSH")] {
        let in_dialect = |proxy: Proxy| closing_soon(proxy.args(["-y", dialect]));
        let mut rig = Rig::source_with(&scenario, &["SSH"], in_dialect).await?;
        for stream in 1..4 {
            let route = v2(service, stream);
            let mut client = rig.connect("SSH").await?;
            rig.link.expect(&Message::stream_start(route)).await?;
            client.write_all(b"hello").await?;
            rig.link.expect_data(route, b"hello").await?;
            if stream == 2 {
                rig.link.send(&Message::data(route, "bye")).await?;
                rig.link.send(&Message::stream_reset(route)).await?;
                ensure!(apps::read_to_end(&mut client).await? == b"bye");
            } else {
                drop(client);
                rig.link.expect(&Message::stream_reset(route)).await?;
            }
        }
    }
    Ok(())
}

/// The subprotocol offered is 3.0 whatever the dialect (section 1.5).
async fn the_subprotocol_does_not_follow_the_dialect(scenario: Scenario) -> Result<()> {
    for dialect in ["V1", "V2"] {
        let in_dialect = |proxy: Proxy| Ok(proxy.args(["-y", dialect]));
        let rig = Rig::source_with(&scenario, &["SSH"], in_dialect).await?;
        rig.link.drop_tcp();
        let knock = rig.service.knock().await?;
        let offered = knock.request.header("sec-websocket-protocol");
        ensure!(
            offered == Some("aws.iot.securetunneling-3.0"),
            "{offered:?}"
        );
    }
    Ok(())
}

/// The reference reconnected at every STREAM_START, which burnt its single-use token.
async fn q11_a_v1_source_reaches_the_only_service_of_a_tunnel(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let apps = [("SSH", listener.local_addr()?)];
    let mut rig = Rig::destination_with(&scenario, &apps, closing_soon).await?;
    rig.link.send(&Message::stream_start(v1(1))).await?;
    rig.link.send(&Message::data(v1(1), "hello")).await?;
    let mut app = apps::accept(&listener).await?;
    apps::expect_bytes(&mut app, b"hello").await?;
    app.write_all(b"back").await?;
    // Neither service nor connection ID may come back: a V1 peer knows none.
    rig.link.expect_data(v1(1), b"back").await?;
    drop(app);
    rig.link.expect(&Message::stream_reset(v1(1))).await?;

    rig.link.send(&Message::stream_start(v1(2))).await?;
    let mut app = apps::accept(&listener).await?;
    rig.link.send(&Message::data(v1(2), "bye")).await?;
    rig.link.send(&Message::stream_reset(v1(2))).await?;
    ensure!(apps::read_to_end(&mut app).await? == b"bye");
    rig.is_alive().await
}

/// STREAM_START without connection ID: the reference's own test (section 18).
async fn a_v2_source_is_answered_in_v2(scenario: Scenario) -> Result<()> {
    let route = v2("SSH", 1);
    let listener = apps::listener().await?;
    let apps = [("SSH", listener.local_addr()?)];
    let mut rig = Rig::destination_with(&scenario, &apps, closing_soon).await?;
    rig.link.send(&Message::stream_start(route)).await?;
    let mut app = apps::accept(&listener).await?;
    app.write_all(b"hello").await?;
    rig.link.expect_data(route, b"hello").await?;
    drop(app);
    rig.link.expect(&Message::stream_reset(route)).await
}

/// The reference downgraded every service of the process until it reconnected.
async fn q12_an_old_peer_on_one_service_leaves_the_others_alone(scenario: Scenario) -> Result<()> {
    let echo = App::start(Temper::Echo).await?;
    let services = [("OLD", echo.address()), ("NEW", echo.address())];
    let mut rig = Rig::destination(&scenario, &services).await?;
    let old = v2("OLD", 1);
    let new: [Route<'_>; 2] = [v3("NEW", 1, 1), v3("NEW", 1, 2)];
    rig.link.send(&Message::stream_start(new[0])).await?;
    rig.link.send(&Message::stream_start(old)).await?;
    rig.link.send(&Message::connection_start(new[1])).await?;
    for route in [old, new[0], new[1]] {
        rig.link.send(&Message::data(route, "hello")).await?;
        rig.link.expect_data(route, b"hello").await?;
    }
    // One connection's end still is only its own.
    rig.link.send(&Message::connection_reset(new[0])).await?;
    rig.link.send(&Message::data(new[1], "again")).await?;
    rig.link.expect_data(new[1], b"again").await
}

/// A destination that speaks V1 or V2 answers a V3 source without connection ID; the
/// source need not be told with `-y`.
async fn a_source_understands_a_destination_that_answers_in_v2(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["OLD", "NEW"]).await?;
    let mut old = rig.open_first("OLD").await?;
    let mut new = rig.open_first("NEW").await?;
    rig.link.send(&Message::data(v2("OLD", 1), "hello")).await?;
    apps::expect_bytes(&mut old, b"hello").await?;
    rig.link
        .send(&Message::data(v3("NEW", 1, 1), "hello"))
        .await?;
    apps::expect_bytes(&mut new, b"hello").await?;
    // The new one still carries several connections.
    let (mut further, id) = rig.open_further("NEW").await?;
    further.write_all(b"more").await?;
    rig.link.expect_data(v3("NEW", 1, id), b"more").await?;
    rig.link.send(&Message::stream_reset(v2("OLD", 1))).await?;
    apps::is_ended(&mut old).await
}

/// An unknown type is dropped when it may be ignored, whatever service it names.
async fn an_ignorable_message_of_an_unknown_type_is_dropped(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut client = rig.open_first("SSH").await?;
    let route = v3("SSH", 1, 1);
    for kind in [8, 99, i32::MAX] {
        rig.link.send(&Message::unknown(kind, true, route)).await?;
        rig.link.send(&Message::unknown(kind, true, v1(0))).await?;
    }
    rig.link.send(&Message::data(route, "hello")).await?;
    apps::expect_bytes(&mut client, b"hello").await?;
    ensure!(Kind::try_from(8).is_err(), "8 has become a known type");
    rig.is_alive().await
}

on_each_loop!(
    q10_a_second_connection_is_refused_in_v1_and_v2,
    a_v1_or_v2_source_ends_and_begins_streams,
    the_subprotocol_does_not_follow_the_dialect,
    q11_a_v1_source_reaches_the_only_service_of_a_tunnel,
    a_v2_source_is_answered_in_v2,
    q12_an_old_peer_on_one_service_leaves_the_others_alone,
    a_source_understands_a_destination_that_answers_in_v2,
    an_ignorable_message_of_an_unknown_type_is_dropped,
);
