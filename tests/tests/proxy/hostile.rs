//! A service that breaks the protocol: it costs its own session and nothing else.

use adit_tests::apps;
use adit_tests::frames::{self, BINARY, End};
use adit_tests::kernel::resident_memory;
use adit_tests::link::Event;
use adit_tests::on_each_loop;
use adit_tests::output::Channel;
use adit_tests::ports;
use adit_tests::rig::Rig;
use adit_tests::scenario::Scenario;
use adit_tests::wire::{Kind, Message, Route, v1, v3};
use anyhow::{Context, Result, ensure};

const FIRST: Route<'_> = v3("SSH", 1, 1);

/// A frame of the service around these bytes.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frames::frame(End::Server, opcode, payload)
}

/// Sends bytes that no service may send. The proxy must say goodbye with this code, or
/// hang up, dial again, and work.
async fn is_survived(rig: &mut Rig, nth: u8, what: &str, bytes: &[u8], code: u16) -> Result<()> {
    rig.link.writer().send_raw(bytes).await?;
    match rig
        .link
        .reader()
        .end()
        .await
        .with_context(|| what.to_owned())?
    {
        Event::Close { code: said, reason } => {
            ensure!(
                said == Some(code),
                "{what}: closed with {said:?} {reason:?}"
            );
        }
        Event::Lost(_) => {}
        other => anyhow::bail!("{what}: {other:?}"),
    }
    rig.link = rig.service.admit(&["SSH"]).await.context(what.to_owned())?;
    ports::listened_on(rig.port("SSH")?).await?;
    rig.open_anew("SSH", nth)
        .await
        .with_context(|| what.to_owned())?;
    rig.proxy.still_runs()
}

/// Section 7.8 recommends 1002 for what cannot be read; [design] of section 12 has 1003
/// for text and 1009 for size.
async fn what_no_service_may_send_costs_the_session_only(scenario: Scenario) -> Result<()> {
    let quick = |proxy: adit_tests::proxy::Proxy| {
        proxy.settings(&serde_json::json!({ "websocket": { "retry_delay_ms": 10 } }))
    };
    let mut rig = Rig::source_with(&scenario, &["SSH"], quick).await?;
    let unreadable = [0, 1, 0xff];
    let truncated = [0, 4, 0x22, 0x20, 1, 2];
    let unknown = Message::unknown(99, false, FIRST).prefixed();
    let nothing = Message::new(Kind::Unknown, FIRST).prefixed();
    let reserved_bit = {
        let mut bytes = frame(BINARY, &[]);
        bytes[0] |= 0x40;
        bytes
    };
    let cases: [(&str, Vec<u8>, u16); 11] = [
        ("an unreadable message", frame(BINARY, &unreadable), 1002),
        ("a truncated field", frame(BINARY, &truncated), 1002),
        ("an empty message", frame(BINARY, &[0, 0]), 1002),
        ("an unknown type", frame(BINARY, &unknown), 1002),
        ("type 0", frame(BINARY, &nothing), 1002),
        ("a text frame", frame(frames::TEXT, b"hello"), 1003),
        (
            "a large frame",
            frames::header(End::Server, true, BINARY, 131_077),
            1009,
        ),
        (
            "a huge frame",
            frames::header(End::Server, true, BINARY, u64::MAX >> 1),
            1009,
        ),
        (
            "a masked frame",
            frames::frame(End::Client, BINARY, &[0, 2, 8, 4]),
            1002,
        ),
        ("a reserved bit", reserved_bit, 1002),
        (
            "a stray continuation",
            frame(frames::CONTINUATION, b"x"),
            1002,
        ),
    ];
    for (nth, (what, bytes, code)) in (1..).zip(&cases) {
        is_survived(&mut rig, nth, what, bytes, *code).await?;
    }
    // What is only claimed takes no memory.
    let memory = resident_memory(rig.proxy.id())?;
    ensure!(memory < 128 * 1024 * 1024, "{memory} bytes resident");
    Ok(())
}

/// Threat T-13: what carries nothing is answered within a budget.
async fn pings_without_end_cost_the_session_only(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let pings = frame(frames::PING, b"").repeat(200_000);
    is_survived(&mut rig, 1, "pings without end", &pings, 1008).await
}

/// A source must never be sent a start; the guide asks it to close the stream, and neither
/// may it dial or end.
async fn a_start_sent_to_a_source_does_not_end_it(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    let _client = rig.open_first("SSH").await?;
    rig.link
        .send(&Message::connection_start(v3("SSH", 1, 9)))
        .await?;
    rig.link
        .send(&Message::stream_start(v3("SSH", 9, 1)))
        .await?;
    // Answered by a pong or by a new session, but answered.
    if rig.link.fence().await.is_err() {
        rig.link = rig.service.admit(&["SSH"]).await?;
        rig.link.fence().await?;
    }
    rig.proxy.still_runs()
}

/// STREAM_START for a service that the tunnel does not have, or with stream 0, or before
/// SERVICE_IDS: the reference reconnected, or stopped to read. Whatever a proxy does, it
/// dials nothing and lives on.
async fn a_start_that_fits_nothing_does_not_end_a_destination(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let services = [
        ("SSH", listener.local_addr()?),
        ("HTTP", listener.local_addr()?),
    ];
    for start in [
        Message::stream_start(v3("STRANGER", 1, 1)),
        Message::stream_start(v3("SSH", 0, 1)),
        Message::stream_start(v3("SSH", -1, 1)),
        // With two services the one that is meant cannot be known.
        Message::stream_start(v1(1)),
    ] {
        let mut rig = Rig::destination(&scenario, &services).await?;
        rig.link.send(&start).await?;
        if rig.link.fence().await.is_err() {
            rig.link = rig.service.admit(&["SSH", "HTTP"]).await?;
        }
        rig.link.send(&Message::stream_start(FIRST)).await?;
        rig.link.send(&Message::data(FIRST, "hello")).await?;
        // The first connection that the application sees is the legal one.
        let mut app = apps::accept(&listener).await?;
        apps::expect_bytes(&mut app, b"hello").await?;
        rig.proxy.still_runs().with_context(|| start.to_string())?;
    }
    Ok(())
}

/// Services are named by the peer: whatever a name is, no log at any level shows a control character
/// of it (threat T-22).
async fn a_service_id_cannot_write_to_the_terminal(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let address = listener.local_addr()?;
    let services = [("SSH", address), ("HTTP", address)];
    let sequences = [
        "\u{1b}[2Jx",
        "\u{1b}]0;x\u{7}",
        "\rx",
        "\nx",
        "\u{9b}31mx",
        "\u{7f}x",
    ];
    for format in ["text", "json"] {
        let told = |proxy: adit_tests::proxy::Proxy| {
            let settings = serde_json::json!({ "websocket": { "retry_delay_ms": 10 } });
            let proxy = proxy.settings(&settings)?;
            Ok(proxy.args(["--verbose", "6", "--log-format", format]))
        };
        let mut rig = Rig::destination_with(&scenario, &services, told).await?;
        for evil in sequences {
            let name = format!("evil{evil}");
            for message in [
                Message::stream_start(v3(&name, 1, 1)),
                Message::service_ids(&["SSH", "HTTP", &name]),
            ] {
                rig.link.send(&message).await?;
                if rig.link.fence().await.is_err() {
                    rig.link = rig.service.admit(&["SSH", "HTTP"]).await?;
                }
            }
        }
        for channel in [Channel::Stdout, Channel::Stderr] {
            let said = rig.proxy.output().text(channel);
            let is_raw = |c: char| c.is_control() && c != '\n';
            ensure!(!said.contains(is_raw), "{format}: {said:?}");
            let forged = said.lines().any(|line| line.trim() == "x");
            ensure!(!forged, "{format}: {said:?}");
        }
        let said = rig.proxy.output().text(Channel::Stderr);
        let refused = "a list of services that cannot be used";
        ensure!(said.contains(refused), "{format}: {said:?}");
    }
    Ok(())
}

/// A large service list is no reason to take much memory (threat T-14).
async fn a_list_of_very_many_services_is_refused_cheaply(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["SSH"]).await?;
    // 32,000 empty strings fill a message.
    let mut bytes = vec![0x08, 5];
    bytes.extend([0x32, 0].repeat(32_000));
    let size = u16::try_from(bytes.len())?.to_be_bytes();
    let message = [&size, bytes.as_slice()].concat();
    for _ in 0..50 {
        if rig.link.writer().send_payload(&message).await.is_err() {
            break;
        }
    }
    // Dropped or punished, but not believed.
    let _ = rig.link.fence().await;
    rig.proxy.still_runs()?;
    let memory = resident_memory(rig.proxy.id())?;
    ensure!(memory < 128 * 1024 * 1024, "{memory} bytes resident");
    Ok(())
}

on_each_loop!(
    pings_without_end_cost_the_session_only,
    what_no_service_may_send_costs_the_session_only,
    a_start_sent_to_a_source_does_not_end_it,
    a_start_that_fits_nothing_does_not_end_a_destination,
    a_service_id_cannot_write_to_the_terminal,
    a_list_of_very_many_services_is_refused_cheaply,
);
