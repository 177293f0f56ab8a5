//! Rows of the threat model that want numbers: against the real program, over real sockets. Each has a small
//! count here and its full one in `tests/release data-plane`.
//!
//! ```text
//! foreign    T-08, bytes of one tunnel in another        claims   T-12, what is claimed and never sent
//! floods     T-13, fragments and pings by the million    churn    T-15, ids that come and go
//! stalled    T-16, readers that do not read              slow     T-17, handshakes that take their time
//! ```

mod churn;
mod claims;
mod floods;
mod foreign;
mod slow;
mod stalled;

use adit_tests::api::Tunnel;
use adit_tests::link::Link;
use adit_tests::stack::Serve;
use anyhow::{Context, Result};

/// Both sides of a tunnel, joined by hand.
async fn joined(serve: &Serve, tunnel: &Tunnel, services: &[&str]) -> Result<(Link, Link)> {
    let endpoint = serve.tunnel();
    let source = endpoint.join("source", &tunnel.source_token, services);
    let source = source.await?;
    let destination = endpoint.join("destination", &tunnel.destination_token, services);
    Ok((source, destination.await?))
}

/// A count from the environment, for a release.
fn count(variable: &str, otherwise: usize) -> Result<usize> {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{variable}={text} is no count")),
        Err(_) => Ok(otherwise),
    }
}

/// Whether what is measured is held to its goal: `tests/release` says so, on a machine that does nothing else.
fn judges() -> bool {
    std::env::var_os("ADIT_JUDGE").is_some()
}

/// The seed of a random test, printed so that `ADIT_SEED` can repeat it.
fn seed() -> Result<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let seed = match std::env::var("ADIT_SEED") {
        Ok(text) => text.parse().with_context(|| format!("ADIT_SEED={text}"))?,
        Err(_) => u64::from(now.subsec_nanos()),
    };
    eprintln!("ADIT_SEED={seed}");
    Ok(seed)
}
