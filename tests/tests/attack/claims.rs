//! Threat T-12: memory follows what has come, never what was claimed.
//!
//! `ADIT_CLAIMS` links, each of which claims something large, sends as much of it as is legal, and waits.

use adit_tests::deadline::{STALL, pause};
use adit_tests::frames::{self, BINARY, End};
use adit_tests::kernel::resident_memory;
use adit_tests::link::{Event, Link};
use adit_tests::on_each_loop;
use adit_tests::scenario::{Scenario, count};
use adit_tests::stack::Serve;
use adit_tests::wire::{FRAME_PAYLOAD_MAX, Message, PAYLOAD_MAX, Route, v3};
use anyhow::{Result, ensure};

use super::joined;

/// For each link that claims.
const GROWTH_MAX: usize = 256 * 1024;
const ROUTE: Route<'_> = v3("SSH", 1, 1);

/// What a link says before it stops, all of it legal so far.
fn claims() -> [Vec<u8>; 4] {
    let message = Message::data(ROUTE, vec![1; PAYLOAD_MAX]).prefixed();
    let most_of_it = &message[..message.len() - 1];
    let start = Message::stream_start(ROUTE).prefixed();
    [
        // A frame of the largest size, and nothing of it.
        frames::header(End::Client, true, BINARY, FRAME_PAYLOAD_MAX as u64),
        // The largest prefix of a message, and nothing of it.
        frames::frame(End::Client, BINARY, &[0xff, 0xff]),
        // The largest message but for its last byte, in one frame, and in many.
        [start.as_slice(), most_of_it]
            .concat()
            .chunks(FRAME_PAYLOAD_MAX)
            .flat_map(frame)
            .collect(),
        [start.as_slice(), most_of_it]
            .concat()
            .chunks(100)
            .flat_map(frame)
            .collect(),
    ]
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    frames::frame(End::Client, BINARY, bytes)
}

async fn what_is_claimed_and_never_comes_takes_no_memory(scenario: Scenario) -> Result<()> {
    let links = count("ADIT_CLAIMS", 200)?;
    let serve = Serve::start(&scenario).await?;
    let api = serve.api()?;
    let mut pairs = Vec::new();
    for _ in 0..links.div_ceil(2) {
        pairs.push(joined(&serve, &api.open_tunnel(&["SSH"]).await?, &["SSH"]).await?);
    }
    let before = resident_memory(serve.process.id())?;
    let claims = claims();
    for (number, (source, destination)) in pairs.iter_mut().enumerate() {
        let claim = &claims[number % claims.len()];
        source.writer().send_raw(claim).await?;
        // A destination starts nothing: what it claims is a frame or a prefix.
        destination.writer().send_raw(&claims[number % 2]).await?;
    }
    // Nothing tells from outside that the relay has read it all; it grows no more then.
    let mut after = resident_memory(serve.process.id())?;
    loop {
        pause(STALL).await;
        let now = resident_memory(serve.process.id())?;
        if now <= after {
            break;
        }
        after = now;
    }
    let each = after.saturating_sub(before) / links;
    eprintln!(
        "T-12: {links} claims, {} to {} KiB resident: {each} bytes each",
        before >> 10,
        after >> 10
    );
    ensure!(each < GROWTH_MAX, "each claim takes {each} bytes");

    // All of them are there still: what they claimed is legal until it is not sent.
    let fresh = api.open_tunnel(&["SSH"]).await?;
    let (source, mut destination) = joined(&serve, &fresh, &["SSH"]).await?;
    source.send(&Message::stream_start(ROUTE)).await?;
    destination.expect(&Message::stream_start(ROUTE)).await
}

/// Claims beyond the limits end the link at their header, at once.
async fn a_claim_over_the_limit_ends_its_link_at_the_header(scenario: Scenario) -> Result<()> {
    let links = count("ADIT_CLAIMS", 200)? / 10;
    let serve = Serve::start(&scenario).await?;
    let api = serve.api()?;
    let before = resident_memory(serve.process.id())?;
    let sizes = [
        131_077,
        1 << 20,
        1 << 31,
        1 << 32,
        (1 << 62) + 1,
        u64::MAX >> 1,
    ];
    for number in 0..links {
        let tunnel = api.open_tunnel(&["SSH"]).await?;
        let (mut source, _destination) = joined(&serve, &tunnel, &["SSH"]).await?;
        let size: u64 = sizes[number % sizes.len()];
        let header = frames::header(End::Client, true, BINARY, size);
        source.writer().send_raw(&header).await?;
        is_too_big(&mut source, size).await?;
    }
    let grown = resident_memory(serve.process.id())?.saturating_sub(before);
    eprintln!(
        "T-12: {links} claims of up to 2^63 - 1 bytes: {} KiB more resident",
        grown >> 10
    );
    ensure!(grown < 16 << 20, "{grown} bytes");
    Ok(())
}

async fn is_too_big(link: &mut Link, size: u64) -> Result<()> {
    match link.reader().end().await? {
        Event::Close {
            code: Some(1009), ..
        } => Ok(()),
        other => anyhow::bail!("{size}: {other:?}"),
    }
}

on_each_loop!(
    what_is_claimed_and_never_comes_takes_no_memory,
    a_claim_over_the_limit_ends_its_link_at_the_header,
);
