//! Rules 5, 6 and 14: what no client may send, and what it costs: the sender's own tunnel.

use adit_tests::frames::{self, BINARY, End};
use adit_tests::kernel::resident_memory;
use adit_tests::link::{Event, Link};
use adit_tests::on_each_loop;
use adit_tests::output::Channel;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use adit_tests::wire::{Kind, Message, PAYLOAD_MAX, v1, v3};
use anyhow::{Context, Result, ensure};

use crate::pair::{Pair, joined};

/// Close codes are a recommendation of section 12: 1002 for what is malformed, 1008 for
/// what is against the rules. Where one could argue, both will do.
const MALFORMED: &[u16] = &[1002];
const AGAINST_THE_RULES: &[u16] = &[1002, 1008];
const TEXT: &[u16] = &[1003];
const TOO_BIG: &[u16] = &[1009];

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frames::frame(End::Client, opcode, payload)
}

fn messages(messages: &[Message]) -> Vec<u8> {
    frame(BINARY, &adit_tests::wire::stream_of(messages))
}

/// The link ends with one of these codes, or without a word.
async fn is_punished(link: &mut Link, codes: &[u16]) -> Result<()> {
    match link.reader().end().await? {
        Event::Close { code, reason } => ensure!(
            code.is_some_and(|code| codes.contains(&code)),
            "closed with {code:?} {reason:?}, not with one of {codes:?}"
        ),
        Event::Lost(_) => {}
        other => anyhow::bail!("{other:?}"),
    }
    Ok(())
}

/// Plays each case on a tunnel of its own; the first tunnel must not notice any of it.
async fn each_is_punished(
    scenario: &Scenario,
    side: &str,
    cases: &[(&'static str, Vec<u8>, &[u16])],
) -> Result<()> {
    let services = ["SSH", "HTTP"];
    let mut untouched = Pair::start(scenario, &services).await?;
    let route = v3("SSH", 1, 1);
    untouched.open(&Message::stream_start(route)).await?;
    for (what, bytes, codes) in cases {
        let tunnel = untouched.serve.api()?.open_tunnel(&services).await?;
        let (source, destination) = joined(&untouched.serve, &tunnel, &services).await?;
        let (mut offender, _other) = match side {
            "source" => (source, destination),
            _ => (destination, source),
        };
        offender.writer().send_raw(bytes).await.context(*what)?;
        is_punished(&mut offender, codes).await.context(*what)?;
        untouched.talk(route).await.context(*what)?;
    }
    // Who has a token may do it again and again.
    let said = untouched.serve.process.output().text(Channel::Stderr);
    let mut lines = said.lines();
    let line = lines.find(|line| line.contains("the peer sent") || line.contains("the peer named"));
    ensure!(line.is_none(), "an offence fills the log: {line:?}");
    Ok(())
}

async fn rule5_a_source_that_breaks_a_rule_is_disconnected(scenario: Scenario) -> Result<()> {
    let route = v3("SSH", 1, 1);
    let start = Message::stream_start(route);
    let unknown_field = [0, 6, 0x08, 2, 0x10, 1, 0x40, 1];
    let huge = Message::data(route, vec![0; PAYLOAD_MAX + 1]);
    let nothing = Message::new(Kind::Unknown, route);
    let unknown = Message::unknown(99, false, route);
    let cases: [(&'static str, Vec<u8>, &[u16]); 15] = [
        ("unreadable", frame(BINARY, &[0, 1, 0xff]), MALFORMED),
        (
            "an empty message",
            frame(BINARY, &[0, 0]),
            AGAINST_THE_RULES,
        ),
        ("type 0", messages(&[nothing]), AGAINST_THE_RULES),
        ("an unknown type", messages(&[unknown]), AGAINST_THE_RULES),
        (
            "an unknown field",
            frame(BINARY, &unknown_field),
            AGAINST_THE_RULES,
        ),
        (
            "SESSION_RESET",
            messages(&[Message::session_reset()]),
            AGAINST_THE_RULES,
        ),
        (
            "SERVICE_IDS",
            messages(&[Message::service_ids(&["SSH"])]),
            AGAINST_THE_RULES,
        ),
        (
            "stream 0",
            messages(&[Message::stream_start(v3("SSH", 0, 1))]),
            AGAINST_THE_RULES,
        ),
        (
            "stream -1",
            messages(&[Message::stream_start(v3("SSH", -1, 1))]),
            AGAINST_THE_RULES,
        ),
        (
            "an unknown service",
            messages(&[Message::stream_start(v3("NOPE", 1, 1))]),
            AGAINST_THE_RULES,
        ),
        (
            "DATA without a stream",
            messages(&[Message::data(route, "x")]),
            AGAINST_THE_RULES,
        ),
        (
            "a large payload",
            messages(&[start.clone(), huge]),
            &[1002, 1008, 1009],
        ),
        (
            "a change of dialect",
            messages(&[start.clone(), Message::data(v1(1), "x")]),
            AGAINST_THE_RULES,
        ),
        (
            "no service where there are two",
            messages(&[Message::stream_start(v1(1))]),
            AGAINST_THE_RULES,
        ),
        (
            "a service that is not UTF-8",
            frame(BINARY, &[0, 7, 0x08, 2, 0x10, 1, 0x2a, 1, 0xff]),
            MALFORMED,
        ),
    ];
    each_is_punished(&scenario, "source", &cases).await
}

async fn rule5_a_destination_never_starts_anything(scenario: Scenario) -> Result<()> {
    let route = v3("SSH", 1, 1);
    let cases: [(&'static str, Vec<u8>, &[u16]); 3] = [
        (
            "STREAM_START",
            messages(&[Message::stream_start(route)]),
            AGAINST_THE_RULES,
        ),
        (
            "CONNECTION_START",
            messages(&[Message::connection_start(route)]),
            AGAINST_THE_RULES,
        ),
        (
            "DATA without a stream",
            messages(&[Message::data(route, "x")]),
            AGAINST_THE_RULES,
        ),
    ];
    each_is_punished(&scenario, "destination", &cases).await
}

async fn rule6_illegal_frames_are_refused_with_their_code(scenario: Scenario) -> Result<()> {
    let reserved_bit = {
        let mut bytes = frame(BINARY, &[]);
        bytes[0] |= 0x40;
        bytes
    };
    let client = End::Client;
    let cases: [(&'static str, Vec<u8>, &[u16]); 9] = [
        ("a text frame", frame(frames::TEXT, b"hello"), TEXT),
        (
            "a large frame",
            frames::header(client, true, BINARY, 131_077),
            TOO_BIG,
        ),
        (
            "a huge frame",
            frames::header(client, true, BINARY, u64::MAX >> 1),
            TOO_BIG,
        ),
        (
            "an unmasked frame",
            frames::frame(End::Server, BINARY, &[0, 2, 8, 3]),
            MALFORMED,
        ),
        ("a reserved bit", reserved_bit, MALFORMED),
        ("a reserved opcode", frame(0x3, b"x"), MALFORMED),
        (
            "a stray continuation",
            frame(frames::CONTINUATION, b"x"),
            MALFORMED,
        ),
        (
            "a fragmented ping",
            frames::part(client, false, frames::PING, b"x"),
            MALFORMED,
        ),
        ("a long ping", frame(frames::PING, &[0; 126]), MALFORMED),
    ];
    each_is_punished(&scenario, "source", &cases).await
}

/// The largest of everything is legal.
async fn rule6_the_largest_legal_frame_is_taken(scenario: Scenario) -> Result<()> {
    let mut pair = Pair::start(&scenario, &["SSH"]).await?;
    let route = v3("SSH", 1, 1);
    pair.open(&Message::stream_start(route)).await?;
    let data = Message::data(route, vec![7; PAYLOAD_MAX]);
    let stream = adit_tests::wire::stream_of(&[data.clone(), data.clone(), data.clone()]);
    pair.source
        .writer()
        .send_in_frames_of(131_076, &stream)
        .await?;
    for _ in 0..3 {
        pair.destination.expect(&data).await?;
    }
    Ok(())
}

/// A type that may be ignored costs nothing, whether it is dropped or passed on.
async fn an_ignorable_message_of_an_unknown_type_is_no_offence(scenario: Scenario) -> Result<()> {
    let mut pair = Pair::start(&scenario, &["SSH"]).await?;
    let route = v3("SSH", 1, 1);
    pair.open(&Message::stream_start(route)).await?;
    pair.source.send(&Message::unknown(99, true, route)).await?;
    pair.source.send(&Message::data(route, "hello")).await?;
    let data = pair
        .destination
        .reader()
        .until(|message| !message.ignorable);
    ensure!(data.await? == Message::data(route, "hello"));
    pair.source.fence().await?;
    Ok(())
}

/// Claims cost nothing: at most one partial message per side is kept.
async fn rule14_partial_messages_take_bounded_memory(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let api = serve.api()?;
    let mut warm = api.open_tunnel(&["SSH"]).await?;
    let mut links = Vec::new();
    let mut before = 0;
    for round in 0..40 {
        let (source, destination) = joined(&serve, &warm, &["SSH"]).await?;
        // A message that claims 65,535 bytes, of which one is missing for ever.
        let mut partial = vec![0xff, 0xff];
        partial.resize(65_536, 0x22);
        let send = source.writer().send_in_frames_of(16_384, &partial);
        send.await?;
        links.push((source, destination));
        if round == 9 {
            before = resident_memory(serve.process.id())?;
        }
        warm = api.open_tunnel(&["SSH"]).await?;
    }
    for (source, _) in &mut links {
        source.fence().await?;
    }
    let grown = resident_memory(serve.process.id())?.saturating_sub(before);
    // 30 tunnels: 64 KiB of partial message, and as much again for everything else.
    ensure!(grown < 30 * 512 * 1024, "30 tunnels took {grown} bytes");
    Ok(())
}

on_each_loop!(
    rule5_a_source_that_breaks_a_rule_is_disconnected,
    rule5_a_destination_never_starts_anything,
    rule6_illegal_frames_are_refused_with_their_code,
    rule6_the_largest_legal_frame_is_taken,
    an_ignorable_message_of_an_unknown_type_is_no_offence,
    rule14_partial_messages_take_bounded_memory,
);
