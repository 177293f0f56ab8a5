//! Mixed pairs work without anybody's flag, as far as the protocol allows (sections 6.2
//! and 6.4): what a side is sent is always in its own dialect.

use adit_tests::link::Link;
use adit_tests::on_each_loop;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_proxy::Upgrade;
use adit_tests::stack::Serve;
use adit_tests::wire::{Kind, Message, Route, v1, v2, v3};
use anyhow::{Context, Result, ensure};

/// A dialect as a client of its time speaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V1,
    V2,
    V3,
}

impl Dialect {
    fn subprotocol(self) -> &'static str {
        match self {
            Self::V1 => "aws.iot.securetunneling-1.0",
            Self::V2 => "aws.iot.securetunneling-2.0",
            Self::V3 => "aws.iot.securetunneling-3.0",
        }
    }

    /// How this dialect writes the address of a connection.
    fn route(self, stream: i32, connection: u32) -> Route<'static> {
        match self {
            Self::V1 => v1(stream),
            Self::V2 => v2("SSH", stream),
            Self::V3 => v3("SSH", stream, connection),
        }
    }
}

struct Mixed {
    /// Lives as long as the links.
    _serve: Serve,
    source: Link,
    destination: Link,
}

impl Mixed {
    async fn start(scenario: &Scenario, source: Dialect, destination: Dialect) -> Result<Self> {
        let serve = Serve::start(scenario).await?;
        let tunnel = serve.api()?.open_tunnel(&["SSH"]).await?;
        let destination_token = &tunnel.destination_token;
        Ok(Self {
            source: joined(&serve, "source", &tunnel.source_token, source).await?,
            destination: joined(&serve, "destination", destination_token, destination).await?,
            _serve: serve,
        })
    }
}

/// A side that offers its dialect's subprotocol. A V1 client knows no SERVICE_IDS, so it
/// gets none, or one that it may ignore (section 19).
async fn joined(serve: &Serve, mode: &str, token: &str, dialect: Dialect) -> Result<Link> {
    let upgrade = Upgrade::new(mode, token);
    let upgrade = upgrade.changed("sec-websocket-protocol", dialect.subprotocol());
    let mut link = serve.tunnel().upgrade(&upgrade).await?;
    if dialect == Dialect::V1 {
        for message in link.fence().await? {
            ensure!(message.ignorable, "a V1 client was sent {message}");
        }
    } else {
        link.expect(&Message::service_ids(&["SSH"])).await?;
    }
    Ok(link)
}

const MIXES: [(Dialect, Dialect); 8] = [
    (Dialect::V1, Dialect::V1),
    (Dialect::V1, Dialect::V2),
    (Dialect::V1, Dialect::V3),
    (Dialect::V2, Dialect::V1),
    (Dialect::V2, Dialect::V2),
    (Dialect::V2, Dialect::V3),
    (Dialect::V3, Dialect::V1),
    (Dialect::V3, Dialect::V2),
];

/// How a destination sees what a source of this dialect sends: it is not told a connection
/// ID that nobody gave.
fn seen_from(source: Dialect, destination: Dialect, stream: i32) -> Route<'static> {
    match (source, destination) {
        (Dialect::V1 | Dialect::V2, Dialect::V3) => v2("SSH", stream),
        _ => destination.route(stream, 1),
    }
}

async fn each_mix_carries_a_stream_both_ways_in_each_sides_own_dialect(
    scenario: Scenario,
) -> Result<()> {
    for (source, destination) in MIXES {
        let what = || format!("{source:?} source, {destination:?} destination");
        let mut mixed = Mixed::start(&scenario, source, destination).await?;
        carries(&mut mixed, source, destination)
            .await
            .with_context(what)?;
    }
    Ok(())
}

async fn carries(mixed: &mut Mixed, source: Dialect, destination: Dialect) -> Result<()> {
    let near = source.route(1, 1);
    let far = seen_from(source, destination, 1);
    mixed.source.send(&Message::stream_start(near)).await?;
    mixed.source.send(&Message::data(near, "there")).await?;
    mixed
        .destination
        .expect(&Message::stream_start(far))
        .await?;
    mixed
        .destination
        .expect(&Message::data(far, "there"))
        .await?;
    mixed.destination.send(&Message::data(far, "back")).await?;
    mixed.source.expect(&Message::data(near, "back")).await
}

/// The end of the only connection, from the source, reaches an old destination as the end
/// of its stream; and the next connection is a new stream there, although a V3 source says
/// CONNECTION_START.
async fn a_v3_source_opens_and_ends_connections_of_an_old_destination(
    scenario: Scenario,
) -> Result<()> {
    for old in [Dialect::V1, Dialect::V2] {
        let mut mixed = Mixed::start(&scenario, Dialect::V3, old).await?;
        let mut streams = Vec::new();
        for connection in 1..4 {
            let near = v3("SSH", 1, connection);
            let start = match connection {
                1 => Message::stream_start(near),
                _ => Message::connection_start(near),
            };
            mixed.source.send(&start).await?;
            let started = mixed.destination.message().await?;
            let far = old.route(started.stream_id, 0);
            ensure!(started == Message::stream_start(far), "{old:?}: {started}");
            ensure!(!streams.contains(&started.stream_id), "{started} again");
            streams.push(started.stream_id);

            mixed.source.send(&Message::data(near, "there")).await?;
            mixed
                .destination
                .expect(&Message::data(far, "there"))
                .await?;
            mixed.destination.send(&Message::data(far, "back")).await?;
            mixed.source.expect(&Message::data(near, "back")).await?;
            mixed.source.send(&Message::connection_reset(near)).await?;
            mixed
                .destination
                .expect(&Message::stream_reset(far))
                .await?;
        }
    }
    Ok(())
}

/// A second connection at the same time cannot be told to an old destination: its source
/// is refused it, and the first goes on.
async fn a_second_connection_to_an_old_destination_is_refused(scenario: Scenario) -> Result<()> {
    for old in [Dialect::V1, Dialect::V2] {
        let mut mixed = Mixed::start(&scenario, Dialect::V3, old).await?;
        let (first, second) = (v3("SSH", 1, 1), v3("SSH", 1, 2));
        let far = old.route(1, 0);
        mixed.source.send(&Message::stream_start(first)).await?;
        mixed
            .destination
            .expect(&Message::stream_start(far))
            .await?;
        mixed
            .source
            .send(&Message::connection_start(second))
            .await?;
        mixed
            .source
            .expect(&Message::connection_reset(second))
            .await?;
        mixed
            .source
            .send(&Message::data(second, "too late"))
            .await?;
        mixed.source.send(&Message::data(first, "there")).await?;
        mixed
            .destination
            .expect(&Message::data(far, "there"))
            .await?;
    }
    Ok(())
}

/// The end of an old destination's stream ends the one connection of a V3 source.
async fn an_old_destination_ends_the_connection_of_a_v3_source(scenario: Scenario) -> Result<()> {
    for old in [Dialect::V1, Dialect::V2] {
        let mut mixed = Mixed::start(&scenario, Dialect::V3, old).await?;
        let (near, far) = (v3("SSH", 1, 1), old.route(1, 0));
        mixed.source.send(&Message::stream_start(near)).await?;
        mixed
            .destination
            .expect(&Message::stream_start(far))
            .await?;
        mixed.destination.send(&Message::data(far, "bye")).await?;
        mixed.destination.send(&Message::stream_reset(far)).await?;
        mixed.source.expect(&Message::data(near, "bye")).await?;
        let end = mixed.source.message().await?;
        let is_end = end == Message::connection_reset(near) || end == Message::stream_reset(near);
        ensure!(is_end, "{old:?}: {end}");
    }
    Ok(())
}

/// And the other way round: an old source's stream ends when its one connection does.
async fn an_old_source_and_a_v3_destination_end_each_others_streams(
    scenario: Scenario,
) -> Result<()> {
    for old in [Dialect::V1, Dialect::V2] {
        let mut mixed = Mixed::start(&scenario, old, Dialect::V3).await?;
        for stream in 1..4 {
            let (near, far) = (old.route(stream, 0), v2("SSH", stream));
            mixed.source.send(&Message::stream_start(near)).await?;
            mixed
                .destination
                .expect(&Message::stream_start(far))
                .await?;
            if stream == 2 {
                mixed.source.send(&Message::stream_reset(near)).await?;
                mixed
                    .destination
                    .expect(&Message::stream_reset(far))
                    .await?;
            } else {
                mixed.destination.send(&Message::stream_reset(far)).await?;
                mixed.source.expect(&Message::stream_reset(near)).await?;
            }
        }
    }
    Ok(())
}

/// A client of today that is told `-y V1` offers 3.0 and speaks V1 all the same: the
/// dialect follows from the messages (section 1.5).
async fn the_dialect_follows_from_the_messages_not_from_the_subprotocol(
    scenario: Scenario,
) -> Result<()> {
    let mut mixed = Mixed::start(&scenario, Dialect::V3, Dialect::V3).await?;
    mixed.source.send(&Message::stream_start(v1(1))).await?;
    let far = v2("SSH", 1);
    mixed
        .destination
        .expect(&Message::stream_start(far))
        .await?;
    mixed.destination.send(&Message::data(far, "back")).await?;
    mixed.source.expect(&Message::data(v1(1), "back")).await?;
    mixed.destination.send(&Message::stream_reset(far)).await?;
    let end = mixed.source.message().await?;
    ensure!(
        end.known_kind() == Some(Kind::StreamReset) && end.route() == v1(1),
        "{end}"
    );
    Ok(())
}

/// AWS's SDKs have no name, and keep to the form in which the first stream is started: as the destination of a V1 source
/// the Device Client answers in none but that.
async fn a_destination_without_a_name_sees_the_form_of_the_source(
    scenario: Scenario,
) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let tunnel = serve.api()?.open_tunnel(&["SSH"]).await?;
    let mut source = joined(&serve, "source", &tunnel.source_token, Dialect::V3).await?;
    let upgrade = Upgrade::new("destination", &tunnel.destination_token).without("user-agent");
    let mut destination = serve.tunnel().upgrade(&upgrade).await?;
    destination.expect(&Message::service_ids(&["SSH"])).await?;
    source.send(&Message::stream_start(v1(1))).await?;
    destination.expect(&Message::stream_start(v1(1))).await?;
    destination.send(&Message::data(v1(1), "banner")).await?;
    source.expect(&Message::data(v1(1), "banner")).await
}

on_each_loop!(
    a_destination_without_a_name_sees_the_form_of_the_source,
    each_mix_carries_a_stream_both_ways_in_each_sides_own_dialect,
    a_v3_source_opens_and_ends_connections_of_an_old_destination,
    a_second_connection_to_an_old_destination_is_refused,
    an_old_destination_ends_the_connection_of_a_v3_source,
    an_old_source_and_a_v3_destination_end_each_others_streams,
    the_dialect_follows_from_the_messages_not_from_the_subprotocol,
);
