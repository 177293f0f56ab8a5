//! Frame boundaries mean nothing, and a session's bytes end with it.

use adit_tests::apps;
use adit_tests::frames::{self, End};
use adit_tests::on_each_loop;
use adit_tests::ports;
use adit_tests::proxy::Proxy;
use adit_tests::rig::Rig;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::{Acceptance, ScriptedService};
use adit_tests::verifier::seeded_bytes;
use adit_tests::wire::{FRAME_PAYLOAD_MAX, Message, Route, stream_of, v3};
use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;

const FIRST: Route<'_> = v3("SSH", 1, 1);

/// The reference threw away what followed.
async fn q03_messages_behind_service_ids_in_the_same_frame_count(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let service = ScriptedService::start(&scenario).await?;
    let mapping = format!("SSH={}", listener.local_addr()?);
    let _proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?).start()?;
    let link = service.knock().await?.accept().await?;
    let together = [
        Message::service_ids(&["SSH"]),
        Message::stream_start(FIRST),
        Message::data(FIRST, "hello"),
    ];
    link.writer().send_together(&together).await?;
    let mut app = apps::accept(&listener).await?;
    apps::expect_bytes(&mut app, b"hello").await
}

/// The reference held it back until another frame came.
async fn q03_messages_behind_a_start_or_a_reset_in_the_same_frame_count(
    scenario: Scenario,
) -> Result<()> {
    let listener = apps::listener().await?;
    let rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    let second = v3("SSH", 2, 2);
    let start = [Message::stream_start(FIRST), Message::data(FIRST, "one")];
    rig.link.writer().send_together(&start).await?;
    let mut app = apps::accept(&listener).await?;
    apps::expect_bytes(&mut app, b"one").await?;

    let again = [
        Message::data(FIRST, "two"),
        Message::stream_reset(FIRST),
        Message::stream_start(second),
        Message::data(second, "three"),
    ];
    rig.link.writer().send_together(&again).await?;
    ensure!(apps::read_to_end(&mut app).await? == b"two");
    let mut app = apps::accept(&listener).await?;
    apps::expect_bytes(&mut app, b"three").await
}

/// What comes in one TCP segment with the 101 belongs to the tunnel.
async fn what_follows_the_answer_in_the_same_write_is_not_lost(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let service = ScriptedService::start(&scenario).await?;
    let mapping = format!("SSH={}", listener.local_addr()?);
    let _proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?).start()?;
    let messages = stream_of(&[
        Message::service_ids(&["SSH"]),
        Message::stream_start(FIRST),
        Message::data(FIRST, "hello"),
    ]);
    // The last frame is cut: its end comes later.
    let mut trailing = frames::frame(End::Server, frames::BINARY, &messages);
    let end = trailing.split_off(trailing.len() - 3);
    let acceptance = Acceptance {
        trailing,
        // A pong would fall into the middle of the frame.
        answers_pings: false,
        ..Acceptance::default()
    };
    let link = service.knock().await?.accept_with(&acceptance).await?;
    link.writer().dribble(1, &end).await?;
    let mut app = apps::accept(&listener).await?;
    apps::expect_bytes(&mut app, b"hello").await
}

/// The reference put the old half in front of the new session and hung.
async fn q04_half_a_message_of_a_lost_session_is_forgotten(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let half = Message::data(FIRST, seeded_bytes(1, 5_000)).prefixed();
    rig.link.writer().send_payload(&half[..3_000]).await?;
    rig.is_alive().await?;
    rig.link.drop_tcp();

    rig.link = rig.service.admit(&["SSH"]).await?;
    ports::listened_on(rig.port("SSH")?).await?;
    let mut client = rig.open_first("SSH").await?;
    client.write_all(b"hello").await?;
    rig.link.expect_data(FIRST, b"hello").await
}

/// One byte per frame, one byte per fragment, pings between fragments: the same transcript.
async fn every_cut_of_the_byte_stream_gives_the_same_bytes(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let mut rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    let mut apps = Vec::new();
    for (round, size) in (1..).zip([1, 2, 3, 125, 126, 4096, 65_535, FRAME_PAYLOAD_MAX]) {
        let bytes = seeded_bytes(size as u64, 3_000);
        let (whole, cut) = (v3("SSH", round, 1), v3("SSH", round, 2));
        let stream = stream_of(&[
            Message::stream_start(whole),
            Message::data(whole, bytes.as_slice()),
            Message::connection_start(cut),
            Message::data(cut, bytes.as_slice()),
        ]);
        let middle = stream.len() / 2;
        let writer = rig.link.writer();
        writer.send_in_frames_of(size, &stream[..middle]).await?;
        writer.send_fragmented(size, &stream[middle..]).await?;
        for _ in 0..2 {
            let mut app = apps::accept(&listener).await?;
            apps::expect_bytes(&mut app, &bytes)
                .await
                .with_context(|| format!("cut at {size}"))?;
            apps.push(app);
        }
        rig.link.send(&Message::stream_reset(whole)).await?;
    }
    ensure!(rig.link.fence().await?.is_empty(), "the proxy complained");
    Ok(())
}

/// TLS records cut frames and messages anywhere, each arriving alone.
async fn a_frame_may_come_in_any_pieces(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let service = ScriptedService::start(&scenario).await?;
    let mapping = format!("SSH={}", listener.local_addr()?);
    let _proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?).start()?;
    // A pong would fall into the middle of a frame.
    let silent = Acceptance {
        answers_pings: false,
        ..Acceptance::default()
    };
    let mut link = service.knock().await?.accept_with(&silent).await?;
    link.send(&Message::service_ids(&["SSH"])).await?;
    link.send(&Message::stream_start(FIRST)).await?;
    let mut app = apps::accept(&listener).await?;
    for size in [1, 2, 3, 5, 7, 11, 26, 300] {
        let bytes = seeded_bytes(size as u64, 600);
        let messages = stream_of(&[
            Message::data(FIRST, "hello"),
            Message::data(FIRST, bytes.as_slice()),
            Message::data(FIRST, "world"),
        ]);
        let frames = [
            frames::frame(End::Server, frames::BINARY, &messages[..300]),
            frames::frame(End::Server, frames::PING, b"between"),
            frames::fragmented(End::Server, &messages[300..], 100),
        ];
        link.writer().dribble(size, &frames.concat()).await?;
        let expected = [b"hello", bytes.as_slice(), b"world"].concat();
        let arrived = apps::expect_bytes(&mut app, &expected).await;
        arrived.with_context(|| format!("in pieces of {size}"))?;
    }
    link.fence().await?;
    Ok(())
}

async fn control_frames_may_stand_between_fragments(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let mut rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    let message = [Message::stream_start(FIRST), Message::data(FIRST, "hello")];
    let stream = stream_of(&message);
    let (start, rest) = stream.split_at(5);
    let server = End::Server;
    let bytes = [
        frames::part(server, false, frames::BINARY, start),
        frames::part(server, true, frames::PING, b"between"),
        frames::part(server, true, frames::CONTINUATION, rest),
    ];
    rig.link.writer().send_raw(&bytes.concat()).await?;
    let mut app = apps::accept(&listener).await?;
    apps::expect_bytes(&mut app, b"hello").await?;
    rig.is_alive().await
}

/// The largest that the protocol allows to a receiver: N = 65535 (section 4).
async fn a_message_of_the_largest_size_is_taken(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let rig = Rig::destination(&scenario, &[("SSH", listener.local_addr()?)]).await?;
    rig.link.send(&Message::stream_start(FIRST)).await?;
    let mut app = apps::accept(&listener).await?;
    for size in [64_512, 65_500] {
        let bytes = seeded_bytes(9, size);
        let data = Message::data(FIRST, bytes.as_slice());
        rig.link.send(&data).await?;
        apps::expect_bytes(&mut app, &bytes).await?;
    }
    Ok(())
}

/// The reference sends 4 KiB fragments, each with its own record and system call.
async fn q35_messages_leave_whole_and_large(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut client = rig.open_first("SSH").await?;
    let bytes = seeded_bytes(10, 1024 * 1024);
    let writing = {
        let bytes = bytes.clone();
        tokio::spawn(async move {
            client.write_all(&bytes).await?;
            anyhow::Ok(client)
        })
    };
    rig.link.expect_data(FIRST, &bytes).await?;
    drop(writing.await??);
    let frames = rig.link.reader().frames().seen();
    ensure!(
        frames.iter().all(|frame| frame.is_whole),
        "some messages were fragmented"
    );
    // A record holds 16 KiB; on average a frame of a bulk transfer is at least half full.
    ensure!(frames.len() < 128, "{} frames for 1 MiB", frames.len());
    Ok(())
}

/// Small writes of several connections that are ready together may leave together, but no
/// frame may grow over the limit: the strict reader of the scripted service sees to that.
async fn no_frame_is_larger_than_the_protocol_allows(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let mut clients = vec![rig.open_first("SSH").await?];
    for _ in 0..9 {
        clients.push(rig.open_further("SSH").await?.0);
    }
    let writing = tokio::spawn(async move {
        for round in 0..20 {
            for client in &mut clients {
                client.write_all(&seeded_bytes(round, 30_000)).await?;
            }
        }
        anyhow::Ok(clients)
    });
    let mut received = 0;
    while received < 20 * 10 * 30_000 {
        received += rig.link.message().await?.payload.len();
    }
    drop(writing.await??);
    Ok(())
}

on_each_loop!(
    q03_messages_behind_service_ids_in_the_same_frame_count,
    q03_messages_behind_a_start_or_a_reset_in_the_same_frame_count,
    what_follows_the_answer_in_the_same_write_is_not_lost,
    q04_half_a_message_of_a_lost_session_is_forgotten,
    every_cut_of_the_byte_stream_gives_the_same_bytes,
    a_frame_may_come_in_any_pieces,
    control_frames_may_stand_between_fragments,
    a_message_of_the_largest_size_is_taken,
    q35_messages_leave_whole_and_large,
    no_frame_is_larger_than_the_protocol_allows,
);
