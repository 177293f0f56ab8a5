//! Rules 8, 9 and 10: peers that are absent, lost, or replaced.

use adit_tests::deadline::{pause, within};
use adit_tests::link::Event;
use adit_tests::on_each_loop;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_proxy::{Upgrade, expect_service_ids};
use adit_tests::stack::Serve;
use adit_tests::wire::{Message, Route, v3};
use anyhow::{Result, ensure};
use serde_json::json;
use std::time::Duration;

use crate::pair::Pair;

const CLIENT_TOKEN: &str = "0123456789abcdef-0123456789abcdef";
const FIRST: Route<'_> = v3("A", 1, 1);

/// Takes STREAM_RESETs for these services with stream 1, in any order, and nothing else.
async fn expect_stream_resets(link: &mut adit_tests::link::Link, services: &[&str]) -> Result<()> {
    let mut left = services.to_vec();
    while !left.is_empty() {
        let message = link.message().await?;
        let service = message.service_id.clone();
        ensure!(
            message == Message::stream_reset(v3(&service, 1, 0)),
            "{message}"
        );
        let index = left.iter().position(|expected| *expected == service);
        ensure!(index.is_some(), "not expected: {message}");
        left.retain(|expected| *expected != service);
    }
    ensure!(link.fence().await?.is_empty(), "more than the resets came");
    Ok(())
}

async fn rule8_a_lost_peer_resets_every_active_stream_of_the_other(
    scenario: Scenario,
) -> Result<()> {
    for lost in ["source", "destination"] {
        let mut pair = Pair::start(&scenario, &["A", "B", "C"]).await?;
        for start in [
            Message::stream_start(FIRST),
            Message::connection_start(v3("A", 1, 2)),
            Message::stream_start(v3("B", 1, 1)),
        ] {
            pair.open(&start).await?;
        }
        // C never had a stream, and B's stays although its connection has ended.
        pair.source
            .send(&Message::connection_reset(v3("B", 1, 1)))
            .await?;
        let (gone, mut left) = match lost {
            "source" => (pair.source, pair.destination),
            _ => (pair.destination, pair.source),
        };
        if lost == "source" {
            left.expect(&Message::connection_reset(v3("B", 1, 1)))
                .await?;
        }
        gone.drop_tcp();
        expect_stream_resets(&mut left, &["A", "B"]).await?;
    }
    Ok(())
}

/// A close frame of a client is an end like any other (the reference sends none).
async fn rule8_a_peer_that_says_goodbye_is_lost_as_well(scenario: Scenario) -> Result<()> {
    let mut pair = Pair::start(&scenario, &["A"]).await?;
    pair.open(&Message::stream_start(FIRST)).await?;
    pair.source.writer().close(1000, "done").await?;
    pair.source.closes_with(1000).await?;
    expect_stream_resets(&mut pair.destination, &["A"]).await?;
    // The API learns it after the peer does.
    let (api, id) = (pair.serve.api()?, &pair.tunnel.id);
    within(
        "the API sees the source gone and the destination there",
        async {
            while api.connected(id).await? != (false, true) {
                pause(Duration::from_millis(10)).await;
            }
            Ok(())
        },
    )
    .await
}

/// Applications fail fast instead of waiting for nobody.
async fn rule9_without_a_peer_starts_are_answered_with_resets(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let tunnel = serve.api()?.open_tunnel(&["A"]).await?;
    let endpoint = serve.tunnel();
    let mut source = endpoint
        .join("source", &tunnel.source_token, &["A"])
        .await?;
    for stream in 1..4 {
        let route = v3("A", stream, 1);
        source.send(&Message::stream_start(route)).await?;
        source.send(&Message::data(route, "into the void")).await?;
        source.expect(&Message::stream_reset(route)).await?;
    }
    // A connection of a stream that was begun while there was a peer.
    let destination = endpoint.join("destination", &tunnel.destination_token, &["A"]);
    let mut destination = destination.await?;
    let start = Message::stream_start(v3("A", 9, 1));
    source.send(&start).await?;
    destination.expect(&start).await?;
    destination.drop_tcp();
    source.expect(&Message::stream_reset(v3("A", 9, 0))).await?;
    let further = v3("A", 9, 2);
    source.send(&Message::connection_start(further)).await?;
    let answer = source.message().await?;
    let is_reset =
        answer == Message::connection_reset(further) || answer == Message::stream_reset(further);
    ensure!(is_reset, "{answer}");
    Ok(())
}

/// A peer that comes later finds nothing of what was said before.
async fn rule9_what_was_said_to_nobody_is_not_delivered_later(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let tunnel = serve.api()?.open_tunnel(&["A"]).await?;
    let endpoint = serve.tunnel();
    let mut source = endpoint
        .join("source", &tunnel.source_token, &["A"])
        .await?;
    source.send(&Message::stream_start(FIRST)).await?;
    source.send(&Message::data(FIRST, "lost")).await?;
    source.expect(&Message::stream_reset(FIRST)).await?;
    let destination = endpoint.join("destination", &tunnel.destination_token, &["A"]);
    let mut destination = destination.await?;
    let start = Message::stream_start(v3("A", 2, 1));
    source.send(&start).await?;
    destination.expect(&start).await
}

/// A reconnect with the same pair of tokens: the old connection usually is a dead one that
/// nobody has noticed.
async fn rule10_a_newer_connection_replaces_the_older_one(scenario: Scenario) -> Result<()> {
    for replaced in ["source", "destination"] {
        let serve = Serve::start(&scenario).await?;
        let tunnel = serve.api()?.open_tunnel(&["A"]).await?;
        let upgrade = |mode: &str| {
            let token = match mode {
                "source" => &tunnel.source_token,
                _ => &tunnel.destination_token,
            };
            let client_token = format!("{CLIENT_TOKEN}-{mode}");
            Upgrade::new(mode, token).with("client-token", &client_token)
        };
        let endpoint = serve.tunnel();
        let mut source = endpoint.upgrade(&upgrade("source")).await?;
        let mut destination = endpoint.upgrade(&upgrade("destination")).await?;
        expect_service_ids(&mut source, &["A"]).await?;
        expect_service_ids(&mut destination, &["A"]).await?;
        source.send(&Message::stream_start(FIRST)).await?;
        destination.expect(&Message::stream_start(FIRST)).await?;

        let mut newer = endpoint.upgrade(&upgrade(replaced)).await?;
        expect_service_ids(&mut newer, &["A"]).await?;
        let (mut older, mut other) = match replaced {
            "source" => (source, destination),
            _ => (destination, source),
        };
        older.reader().end().await?;
        expect_stream_resets(&mut other, &["A"]).await?;

        let (source, destination) = match replaced {
            "source" => (&mut newer, &mut other),
            _ => (&mut other, &mut newer),
        };
        let start = Message::stream_start(v3("A", 2, 1));
        source.send(&start).await?;
        destination.expect(&start).await?;
        // The API learns of the old end and of the new link one after the other, and after the peers.
        let api = serve.api()?;
        api.wait_connected(&tunnel.id, true, true).await?;
    }
    Ok(())
}

/// Rotation revokes the old token and closes that side; the other side stays, and is told
/// by stream resets, not by a session reset that C++ cannot take (rule 13).
async fn rule10_and_rule13_a_rotation_ends_one_side(scenario: Scenario) -> Result<()> {
    let mut pair = Pair::start(&scenario, &["A", "B"]).await?;
    pair.open(&Message::stream_start(FIRST)).await?;
    pair.open(&Message::stream_start(v3("B", 1, 1))).await?;
    let input = json!({ "tunnelId": pair.tunnel.id, "clientMode": "SOURCE" });
    let rotated = pair
        .serve
        .api()?
        .call("RotateTunnelAccessToken", &input)
        .await?;
    let ended = pair.source.reader().end().await?;
    ensure!(
        matches!(ended, Event::Close { .. } | Event::Lost(_)),
        "{ended:?}"
    );
    expect_stream_resets(&mut pair.destination, &["A", "B"]).await?;

    let endpoint = pair.serve.tunnel();
    let old = Upgrade::new("source", &pair.tunnel.source_token);
    endpoint.refused(&old).await?;
    let token = rotated["sourceAccessToken"].as_str().unwrap_or_default();
    pair.source = endpoint.join("source", token, &["A", "B"]).await?;
    pair.open(&Message::stream_start(v3("A", 2, 1))).await?;
    pair.talk(v3("A", 2, 1)).await
}

/// The stream IDs of a restarted source begin again at 1: a destination must not mistake
/// its first stream for the one it had before (section 10.2).
async fn a_restarted_source_finds_no_stream_of_its_former_life(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let tunnel = serve.api()?.open_tunnel(&["A"]).await?;
    let endpoint = serve.tunnel();
    let upgrade = Upgrade::new("source", &tunnel.source_token).with("client-token", CLIENT_TOKEN);
    let destination = endpoint.join("destination", &tunnel.destination_token, &["A"]);
    let mut destination = destination.await?;
    for _ in 0..3 {
        let mut source = endpoint.upgrade(&upgrade).await?;
        expect_service_ids(&mut source, &["A"]).await?;
        source.send(&Message::stream_start(FIRST)).await?;
        // The relay may give the stream another number, and keeps to it.
        let start = destination.message().await?;
        let route = v3("A", start.stream_id, 1);
        ensure!(start == Message::stream_start(route), "{start}");
        source.send(&Message::data(FIRST, "there")).await?;
        destination.expect(&Message::data(route, "there")).await?;
        destination.send(&Message::data(route, "back")).await?;
        source.expect(&Message::data(FIRST, "back")).await?;
        source.reset_tcp()?;
        destination.expect(&Message::stream_reset(route)).await?;
    }
    Ok(())
}

on_each_loop!(
    rule8_a_lost_peer_resets_every_active_stream_of_the_other,
    rule8_a_peer_that_says_goodbye_is_lost_as_well,
    rule9_without_a_peer_starts_are_answered_with_resets,
    rule9_what_was_said_to_nobody_is_not_delivered_later,
    rule10_a_newer_connection_replaces_the_older_one,
    rule10_and_rule13_a_rotation_ends_one_side,
    a_restarted_source_finds_no_stream_of_its_former_life,
);
