//! A bridge between a WebSocket suite of others, which wants to talk to an echo, and the real programs, which speak
//! tunnels: `adit serve` where the suite is the client, `adit proxy` where it is the server. It is *not* a part of any
//! program.
//!
//! ```text
//! main ─► relay │ proxy   start the program, and change the heads of the upgrade (heads)
//!         bridge          carries one connection of the suite
//!         inward          suite to program      homeward   program to suite
//!         frames          where frames begin    awaited    what the suite waits for
//! ```
//!
//! Every frame of the suite reaches the program with the header that it came with, fragments and mistakes included, and
//! in the pieces that it came in. What changes is the payload of data, and so its size: it becomes whole DATA messages of
//! a stream that was started before. The application behind the tunnel echoes, and the bridge gives the suite each message
//! back in one frame, once all of it has come. Of an empty frame at the end of a message nothing comes back: a ping of ours
//! follows it, and its pong shows that it was read. Control frames pass as they are, except those pongs, and the pings
//! of a proxy, which the suite does not expect.
//!
//! The suite mostly sends text, which a tunnel does not take: unless the first argument is `--as-is`, frames of text
//! reach the program as binary ones, and the suite sees text again.

#![forbid(unsafe_code)]

mod awaited;
mod bridge;
mod frames;
mod heads;
mod homeward;
mod inward;
mod proxy;
mod relay;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use adit_tests::scenario::{Io, Scenario};
use anyhow::{Context as _, Result, bail};
use proxy::Proxies;
use relay::Relay;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_plain = arguments.first().is_some_and(|first| first == "--as-is");
    if is_plain {
        arguments.remove(0);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match &arguments[..] {
        [mode, address] if mode == "server" => runtime.block_on(server(address, is_plain)),
        [mode, address, paths @ ..] if mode == "client" => {
            runtime.block_on(client(address, paths, is_plain))
        }
        _ => bail!("usage: adit-conformance [--as-is] server ADDRESS | client ADDRESS PATH..."),
    }
}

/// Serves until it is told to end.
async fn server(address: &str, is_plain: bool) -> Result<()> {
    let mut end = signal(SignalKind::terminate())?;
    let scenario = Scenario::new("server", Io::Auto)?;
    let relay = Arc::new(Relay::start(&scenario, is_plain).await?);
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| address.to_owned())?;
    writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
    tokio::select! {
        served = relay.serve(listener) => served,
        _ = end.recv() => Ok(()),
    }
}

/// Has the suite's server asked for each path, a few at a time.
async fn client(address: &str, paths: &[String], is_plain: bool) -> Result<()> {
    let suite = address.parse().with_context(|| address.to_owned())?;
    let scenario = Scenario::new("client", Io::Auto)?;
    let proxies = Arc::new(Proxies::new(&scenario, suite, is_plain).await?);
    let mut asking = JoinSet::new();
    for path in paths {
        if asking.len() == AT_ONCE {
            asking
                .join_next()
                .await
                .context("one is being asked for")??;
        }
        let (proxies, path) = (Arc::clone(&proxies), path.clone());
        asking.spawn(async move {
            if let Err(error) = proxies.ask_for(&path).await {
                eprintln!("{path}: {error:#}");
            }
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked?;
    }
    Ok(())
}

/// Cases that are played at the same time, as many as against a server.
const AT_ONCE: usize = 2;

/// The longest case echoes 16 MiB in pieces of 64 bytes.
const CASE_TIMEOUT: Duration = Duration::from_secs(100);
