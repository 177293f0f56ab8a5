//! Rows of the threat model that want numbers: against the real program, over real sockets. Each has a small
//! count here and its full one in `tests/release data-plane`.
//!
//! ```text
//! foreign    T-08, bytes of one tunnel in another        claims   T-12, what is claimed and never sent
//! floods     T-13, fragments and pings by the million    churn    T-15, ids that come and go
//! stalled    T-16, readers that do not read              slow     T-17, handshakes that take their time
//! idle       what a tunnel costs that was used and rests
//! ```

mod churn;
mod claims;
mod floods;
mod foreign;
mod idle;
mod slow;
mod stalled;

use adit_tests::api::Tunnel;
use adit_tests::link::Link;
use adit_tests::stack::Serve;
use anyhow::Result;

/// Both sides of a tunnel, joined by hand.
async fn joined(serve: &Serve, tunnel: &Tunnel, services: &[&str]) -> Result<(Link, Link)> {
    let endpoint = serve.tunnel();
    let source = endpoint.join("source", &tunnel.source_token, services);
    let source = source.await?;
    let destination = endpoint.join("destination", &tunnel.destination_token, services);
    Ok((source, destination.await?))
}
