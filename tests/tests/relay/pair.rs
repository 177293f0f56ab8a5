//! Two scripted proxies on the two sides of one tunnel.

use adit_tests::api::Tunnel;
use adit_tests::link::Link;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use adit_tests::wire::{Message, Route};
use anyhow::Result;

/// A real service with one tunnel, both of whose ends are in the test's hands.
pub(crate) struct Pair {
    pub(crate) serve: Serve,
    pub(crate) tunnel: Tunnel,
    pub(crate) source: Link,
    pub(crate) destination: Link,
}

impl Pair {
    /// A tunnel with these services; both sides have joined and taken SERVICE_IDS.
    pub(crate) async fn start(scenario: &Scenario, services: &[&str]) -> Result<Self> {
        let serve = Serve::start(scenario).await?;
        let tunnel = serve.api()?.open_tunnel(services).await?;
        let (source, destination) = joined(&serve, &tunnel, services).await?;
        Ok(Self {
            serve,
            tunnel,
            source,
            destination,
        })
    }

    /// Starts a stream, or a further connection, and takes the start on the other side.
    pub(crate) async fn open(&mut self, start: &Message) -> Result<()> {
        self.source.send(start).await?;
        self.destination.expect(start).await
    }

    /// Sends bytes both ways and takes them on the other sides.
    pub(crate) async fn talk(&mut self, route: Route<'_>) -> Result<()> {
        let (there, back) = (Message::data(route, "there"), Message::data(route, "back"));
        self.source.send(&there).await?;
        self.destination.expect(&there).await?;
        self.destination.send(&back).await?;
        self.source.expect(&back).await
    }
}

/// Both sides of a tunnel.
pub(crate) async fn joined(
    serve: &Serve,
    tunnel: &Tunnel,
    services: &[&str],
) -> Result<(Link, Link)> {
    let endpoint = serve.tunnel();
    let source = endpoint.join("source", &tunnel.source_token, services);
    let source = source.await?;
    let destination = endpoint.join("destination", &tunnel.destination_token, services);
    Ok((source, destination.await?))
}
