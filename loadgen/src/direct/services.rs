//! What a service says before load can be offered: which services the tunnel has.

use adit_proto::message::Kind;
use anyhow::{Result, bail};
use tokio::io::{AsyncRead, AsyncWrite};

use super::compose::Route;
use super::incoming::{Arrival, Incoming};
use super::link::LinkWriter;

/// Reads until the service has told its services, and answers its pings meanwhile. The first of them is driven.
/// Dropped half-way, it leaves a link that is good for nothing.
///
/// # Errors
/// The link ends, or its peer breaks the protocol.
pub(super) async fn await_route<S: AsyncRead + AsyncWrite + Unpin>(
    reader: &mut Incoming<S>,
    writer: &mut LinkWriter,
) -> Result<Route> {
    let mut route = None;
    loop {
        let arrival = reader.next(|message| match message.kind {
            Kind::ServiceIds => {
                let service = message.available_service_ids().next().unwrap_or_default();
                route.get_or_insert_with(|| Route {
                    service: service.to_owned(),
                    stream: 1,
                });
                Ok(())
            }
            Kind::SessionReset => bail!("the service has reset the session"),
            Kind::StreamStart | Kind::ConnectionStart => {
                bail!("{} for a source", message.kind.name())
            }
            // Of whoever was the source before.
            Kind::Data | Kind::StreamReset | Kind::ConnectionReset => Ok(()),
            Kind::Credit | Kind::Unknown(_) if message.ignorable => Ok(()),
            kind @ (Kind::Credit | Kind::Unknown(_)) => {
                bail!("a message of the unknown type {}", kind.raw())
            }
        });
        match arrival.await? {
            Arrival::Messages | Arrival::Pong => {}
            Arrival::Ping(payload) => writer.pong(payload).await?,
            Arrival::Ended(how) => {
                bail!("the tunnel ended before the service told its services: {how}")
            }
        }
        if let Some(route) = route.take() {
            return Ok(route);
        }
    }
}
