//! Rules 3, 4 and 7: whole messages, in order, in legal frames; pings answered.

use adit_tests::link::Event;
use adit_tests::on_each_loop;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use adit_tests::verifier::seeded_bytes;
use adit_tests::wire::{Message, PAYLOAD_MAX, Route, stream_of, v3};
use anyhow::{Context, Result, bail, ensure};

use crate::pair::{Pair, joined};

const FIRST: Route<'_> = v3("SSH", 1, 1);

async fn rule3_service_ids_come_first_once_and_alone_in_their_frame(
    scenario: Scenario,
) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    for services in [&[][..], &["SSH"], &["a:b", "HTTP", "SSH"]] {
        let tunnel = serve.api()?.open_tunnel(services).await?;
        let (mut source, mut destination) = joined(&serve, &tunnel, services).await?;
        for link in [&mut source, &mut destination] {
            ensure!(link.fence().await?.is_empty(), "more than SERVICE_IDS");
            let frames = link.reader().frames().seen();
            let expected = Message::service_ids(services).prefixed().len();
            ensure!(
                frames.len() == 1 && frames[0].size == expected,
                "{frames:?}"
            );
        }
    }
    Ok(())
}

async fn rule4_messages_arrive_whole_and_in_order_however_they_are_cut(
    scenario: Scenario,
) -> Result<()> {
    let mut pair = Pair::start(&scenario, &["SSH"]).await?;
    pair.open(&Message::stream_start(FIRST)).await?;
    let messages: Vec<Message> = [1, 100, 5_000, PAYLOAD_MAX]
        .into_iter()
        .map(|size| Message::data(FIRST, seeded_bytes(size as u64, size)))
        .collect();
    let stream = stream_of(&messages);
    for size in [1, 2, 127, 4_096, 65_536, 131_076] {
        // Byte by byte, the small ones will do.
        let sent = if size == 1 {
            &messages[..2]
        } else {
            &messages[..]
        };
        let bytes = if size == 1 {
            stream_of(sent)
        } else {
            stream.clone()
        };
        let writer = pair.source.writer();
        writer.send_in_frames_of(size, &bytes).await?;
        writer.send_fragmented(size, &bytes).await?;
        for message in sent.iter().chain(sent) {
            let arrived = pair.destination.expect(message).await;
            arrived.with_context(|| format!("cut at {size}"))?;
        }
    }
    Ok(())
}

/// A C++ destination holds back what follows a STREAM_START or a STREAM_RESET in its frame
/// frames end behind both, however they came.
async fn rule4_nothing_follows_a_start_in_its_frame(scenario: Scenario) -> Result<()> {
    let mut pair = Pair::start(&scenario, &["SSH"]).await?;
    let messages = [
        Message::stream_start(FIRST),
        Message::data(FIRST, "one"),
        Message::stream_reset(FIRST),
        Message::stream_start(v3("SSH", 2, 2)),
        Message::data(v3("SSH", 2, 2), "two"),
    ];
    pair.source.writer().send_together(&messages).await?;
    for message in &messages {
        pair.destination.expect(message).await?;
    }
    // Where each frame ended, counted in bytes of the message stream behind SERVICE_IDS.
    let frames = pair.destination.reader().frames().seen();
    let mut ends = Vec::new();
    let mut end = 0;
    for frame in &frames[1..] {
        end += frame.size;
        ends.push(end);
    }
    let mut offset = 0;
    for message in &messages {
        offset += message.prefixed().len();
        let holds_up = message.payload.is_empty();
        ensure!(
            !holds_up || ends.contains(&offset),
            "{message} is not last in its frame"
        );
    }
    Ok(())
}

/// Field order is not to be relied on: aws-c-iot sends 1, 2, 7, 3, 4, 5.
async fn rule4_any_order_of_fields_is_understood(scenario: Scenario) -> Result<()> {
    let mut pair = Pair::start(&scenario, &["SSH"]).await?;
    pair.open(&Message::stream_start(FIRST)).await?;
    let reordered = [
        0x00, 0x12, 0x08, 0x01, 0x10, 0x01, 0x38, 0x01, 0x22, 0x05, 0x68, 0x65, 0x6c, 0x6c, 0x6f,
        0x2a, 0x03, 0x53, 0x53, 0x48,
    ];
    pair.source.writer().send_payload(&reordered).await?;
    pair.destination
        .expect(&Message::data(FIRST, "hello"))
        .await
}

/// Both ends of two tunnels use the same names and numbers: no byte crosses over.
async fn tunnels_with_the_same_ids_never_mix(scenario: Scenario) -> Result<()> {
    let mut pair = Pair::start(&scenario, &["SSH"]).await?;
    let other = pair.serve.api()?.open_tunnel(&["SSH"]).await?;
    let (source, mut destination) = joined(&pair.serve, &other, &["SSH"]).await?;
    pair.open(&Message::stream_start(FIRST)).await?;
    source.send(&Message::stream_start(FIRST)).await?;
    destination.expect(&Message::stream_start(FIRST)).await?;
    for round in 0..20_u64 {
        let (here, there) = (seeded_bytes(round, 3_000), seeded_bytes(!round, 3_000));
        pair.source
            .send(&Message::data(FIRST, here.as_slice()))
            .await?;
        source.send(&Message::data(FIRST, there.as_slice())).await?;
        pair.destination.expect(&Message::data(FIRST, here)).await?;
        destination.expect(&Message::data(FIRST, there)).await?;
    }
    source.send(&Message::stream_reset(FIRST)).await?;
    destination.expect(&Message::stream_reset(FIRST)).await?;
    pair.talk(FIRST).await
}

async fn several_services_and_connections_keep_apart(scenario: Scenario) -> Result<()> {
    let mut pair = Pair::start(&scenario, &["A", "B", "C"]).await?;
    let mut routes = Vec::new();
    for service in ["A", "B", "C"] {
        pair.open(&Message::stream_start(v3(service, 1, 1))).await?;
        pair.open(&Message::connection_start(v3(service, 1, 2)))
            .await?;
        routes.extend([v3(service, 1, 1), v3(service, 1, 2)]);
    }
    for route in &routes {
        pair.talk(*route).await?;
    }
    let reset = Message::connection_reset(v3("B", 1, 1));
    pair.destination.send(&reset).await?;
    pair.source.expect(&reset).await?;
    let reset = Message::stream_reset(v3("A", 1, 1));
    pair.source.send(&reset).await?;
    pair.destination.expect(&reset).await?;
    for route in [v3("B", 1, 2), v3("C", 1, 1), v3("C", 1, 2)] {
        pair.talk(route).await?;
    }
    Ok(())
}

async fn rule7_each_ping_gets_its_pong_and_no_other_comes(scenario: Scenario) -> Result<()> {
    let mut pair = Pair::start(&scenario, &["SSH"]).await?;
    // The other side is told nothing about it.
    for payload in [&b"1795446956025"[..], b"", &[0xff; 125]] {
        pair.source.writer().ping(payload).await?;
        match pair.source.reader().event().await? {
            Event::Pong(answer) if answer == payload => {}
            other => bail!("instead of the pong: {other:?}"),
        }
    }
    pair.source.writer().pong(b"unsolicited").await?;
    pair.open(&Message::stream_start(FIRST)).await?;
    match pair.source.reader().stays_silent().await {
        Ok(()) => pair.talk(FIRST).await,
        Err(error) => Err(error),
    }
}

on_each_loop!(
    rule3_service_ids_come_first_once_and_alone_in_their_frame,
    rule4_messages_arrive_whole_and_in_order_however_they_are_cut,
    rule4_nothing_follows_a_start_in_its_frame,
    rule4_any_order_of_fields_is_understood,
    tunnels_with_the_same_ids_never_mix,
    several_services_and_connections_keep_apart,
    rule7_each_ping_gets_its_pong_and_no_other_comes,
);
