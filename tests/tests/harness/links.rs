//! Scripted service and scripted proxy agree, and both notice what no peer may do.

use adit_tests::frames::{self, BINARY, End};
use adit_tests::link::{Event, Link};
use adit_tests::on_own_choice;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_proxy::{Endpoint, Upgrade, expect_service_ids};
use adit_tests::scripted_service::{Acceptance, ScriptedService};
use adit_tests::verifier::seeded_bytes;
use adit_tests::wire::{Message, stream_of, v1, v3};
use anyhow::{Result, ensure};

const ROUTE: adit_tests::wire::Route<'_> = v3("SSH", 1, 1);

/// A service and a proxy, connected.
async fn pair(scenario: &Scenario) -> Result<(Link, Link)> {
    let service = ScriptedService::start(scenario).await?;
    let endpoint = endpoint_of(scenario, &service)?;
    let upgrade = Upgrade::new("source", "t");
    let (service, proxy) = tokio::join!(service.admit(&["SSH"]), endpoint.upgrade(&upgrade));
    let (service, mut proxy) = (service?, proxy?);
    expect_service_ids(&mut proxy, &["SSH"]).await?;
    Ok((service, proxy))
}

fn endpoint_of(scenario: &Scenario, service: &ScriptedService) -> Result<Endpoint> {
    Ok(Endpoint {
        host: "localhost".to_owned(),
        port: service.address()?.port(),
        ca_pem: scenario.pki().ca_pem().to_owned(),
        secrets: scenario.secrets().clone(),
    })
}

async fn every_way_to_cut_a_stream_gives_the_same_messages(scenario: Scenario) -> Result<()> {
    let (mut service, mut proxy) = pair(&scenario).await?;
    let messages = [
        Message::stream_start(ROUTE),
        Message::data(ROUTE, seeded_bytes(1, 9_000)),
        Message::connection_reset(ROUTE),
    ];
    let stream = stream_of(&messages);
    for size in [1, 7, 4096, stream.len()] {
        proxy.writer().send_in_frames_of(size, &stream).await?;
        proxy.writer().send_fragmented(size, &stream).await?;
        service.writer().send_in_frames_of(size, &stream).await?;
        for _ in 0..2 {
            for message in &messages {
                service.expect(message).await?;
            }
        }
        for message in &messages {
            proxy.expect(message).await?;
        }
    }
    let frames = service.reader().frames().seen();
    ensure!(
        frames.iter().any(|frame| !frame.is_whole),
        "no fragments seen"
    );
    Ok(())
}

async fn a_fence_waits_for_what_was_sent_before_it(scenario: Scenario) -> Result<()> {
    let (mut service, mut proxy) = pair(&scenario).await?;
    proxy.send(&Message::stream_start(ROUTE)).await?;
    // The proxy's own task answers the ping, so the message must have come before.
    ensure!(service.fence().await? == [Message::stream_start(ROUTE)]);
    ensure!(proxy.fence().await?.is_empty());
    Ok(())
}

async fn each_kind_of_end_is_told_apart(scenario: Scenario) -> Result<()> {
    let (mut service, proxy) = pair(&scenario).await?;
    proxy.writer().close(1000, "bye").await?;
    ensure!(service.closes_with(1000).await? == "bye");

    let (mut service, proxy) = pair(&scenario).await?;
    proxy.drop_tcp();
    service.is_lost().await?;

    let (mut service, proxy) = pair(&scenario).await?;
    proxy.reset_tcp()?;
    service.is_lost().await
}

async fn what_no_peer_may_send_is_a_violation(scenario: Scenario) -> Result<()> {
    let start = Message::stream_start(v1(1)).prefixed();
    let unknown_field = [0, 6, 0x08, 2, 0x10, 1, 0x40, 1];
    let cases = [
        frames::frame(End::Server, BINARY, &start),
        frames::frame(End::Client, frames::TEXT, &start),
        frames::frame(End::Client, BINARY, &unknown_field),
        frames::frame(End::Client, BINARY, &[0, 1, 0xff]),
        frames::frame(End::Client, BINARY, &vec![0; 131_077]),
        vec![0xf2, 0x80, 0, 0, 0, 0],
    ];
    for (index, bytes) in cases.iter().enumerate() {
        let (mut service, proxy) = pair(&scenario).await?;
        proxy.writer().send_raw(bytes).await?;
        let end = service.reader().end().await?;
        ensure!(matches!(end, Event::Violation(_)), "case {index}: {end:?}");
    }
    Ok(())
}

async fn an_answer_can_leave_out_anything_and_bring_more(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let endpoint = endpoint_of(&scenario, &service)?;
    let upgrade = Upgrade::new("source", "t").encode("localhost");
    let acceptance = Acceptance {
        trailing: Message::service_ids(&[]).prefixed(),
        subprotocol: None,
        ..Acceptance::default()
    };
    let played = async {
        let knock = service.knock().await?;
        ensure!(knock.request.raw == upgrade, "the request is literal");
        knock.accept_with(&acceptance).await
    };
    let asked = async {
        let mut connected = endpoint.connect().await?;
        connected.send(&upgrade).await?;
        connected.answer().await
    };
    let (played, asked) = tokio::join!(played, asked);
    played?;
    ensure!(asked.is_err(), "a missing subprotocol goes unnoticed");
    Ok(())
}

async fn a_refusal_is_read_with_its_text(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let endpoint = endpoint_of(&scenario, &service)?;
    let upgrade = Upgrade::new("destination", "t").with("client-token", "x");
    let (knock, refused) = tokio::join!(
        async {
            let knock = service.knock().await?;
            ensure!(knock.request.header("client-token") == Some("x"));
            knock.refuse("403 Forbidden", "no such token").await
        },
        endpoint.refused(&upgrade)
    );
    knock?;
    let refused = refused?;
    ensure!(refused.head.status()? == 403 && refused.body == "no such token");
    Ok(())
}

on_own_choice!(
    every_way_to_cut_a_stream_gives_the_same_messages,
    a_fence_waits_for_what_was_sent_before_it,
    each_kind_of_end_is_told_apart,
    what_no_peer_may_send_is_a_violation,
    an_answer_can_leave_out_anything_and_bring_more,
    a_refusal_is_read_with_its_text,
);
