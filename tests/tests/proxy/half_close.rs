//! Half-close does not exist in the protocol; nobody may lose an answer over it
//! (section 9.3).

use adit_tests::apps;
use adit_tests::on_each_loop;
use adit_tests::rig::Rig;
use adit_tests::scenario::Scenario;
use adit_tests::verifier::seeded_bytes;
use adit_tests::wire::{Message, Route, v3};
use anyhow::{Result, ensure};
use tokio::io::AsyncWriteExt;

const FIRST: Route<'_> = v3("SSH", 1, 1);

/// `nc -N`, or an HTTP/1.0 client: the reference threw the answer away.
async fn a_client_that_ends_its_request_still_gets_the_answer(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut client = rig.open_first("SSH").await?;
    client.write_all(b"request").await?;
    client.shutdown().await?;
    rig.link.expect_data(FIRST, b"request").await?;
    let answer = seeded_bytes(1, 100_000);
    for chunk in answer.chunks(10_000) {
        rig.link.send(&Message::data(FIRST, chunk)).await?;
    }
    rig.link.send(&Message::connection_reset(FIRST)).await?;
    ensure!(apps::read_to_end(&mut client).await? == answer);
    Ok(())
}

/// The mirror: a receiver that has nothing to say ends its own direction at once.
async fn an_application_that_ends_its_side_at_once_still_gets_everything(
    scenario: Scenario,
) -> Result<()> {
    let listener = apps::listener().await?;
    let rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    rig.link.send(&Message::data(FIRST, "begin ")).await?;
    let mut app = apps::accept(&listener).await?;
    app.shutdown().await?;
    let upload = seeded_bytes(2, 100_000);
    for chunk in upload.chunks(10_000) {
        rig.link.send(&Message::data(FIRST, chunk)).await?;
    }
    rig.link.send(&Message::connection_reset(FIRST)).await?;
    let received = apps::read_to_end(&mut app).await?;
    let is_whole = received == [b"begin ".as_slice(), &upload].concat();
    ensure!(is_whole, "{} bytes came", received.len());
    Ok(())
}

/// The time of grace ends: the peer learns of the end although nobody sends anything.
async fn an_ended_connection_is_announced_after_a_time_of_grace(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut client = rig.open_first("SSH").await?;
    client.shutdown().await?;
    rig.link.expect(&Message::connection_reset(FIRST)).await?;
    apps::is_ended(&mut client).await
}

on_each_loop!(
    a_client_that_ends_its_request_still_gets_the_answer,
    an_application_that_ends_its_side_at_once_still_gets_everything,
    an_ended_connection_is_announced_after_a_time_of_grace,
);
