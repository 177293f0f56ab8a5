//! An echo behind the code with which adit's relay and proxy speak WebSocket, for a suite that wants
//! to talk to one: the accept loop and the dialler of `engine::link`, the frame reader of `proto`, the
//! frames and the outbox of `engine::tunnel`. It is *not* a tunnel, and no part of any program.
//!
//! ```text
//! suite's client ─► disguise ─► engine::link::serve  ─► echo        adit-conformance server ADDRESS
//! echo ─► engine::link::Dialer ─► disguise ─► suite's server        adit-conformance client ADDRESS CASE…
//! ```
//!
//! The suite knows nothing of tunnels: [`disguise`] adds to its upgrade what ours wants, and takes away
//! what it did not ask for. The suite mostly sends text, which a tunnel does not take (it closes the
//! connection with 1003): unless the first argument is `--as-is`, [`disguise`] makes binary frames of
//! text frames on the way in, and text again of their echoes. No other bit of any frame is changed.

#![forbid(unsafe_code)]

mod disguise;
mod echo;
mod frames;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_engine::link::{
    Admission, Deadlines, Denial, DialSettings, Dialer, Grant, ServeConfig, serve,
};
use adit_proto::handshake::ServerRequest;
use adit_proto::websocket::Role;
use adit_proto::{AccessToken, Mode, Subprotocol};
use anyhow::{Context as _, bail};
use disguise::{Disguise, TOKEN};
use tokio::net::{TcpListener, TcpStream};

fn main() -> anyhow::Result<()> {
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

/// Serves until it is killed.
async fn server(address: &str, is_plain: bool) -> anyhow::Result<()> {
    let outer = TcpListener::bind(address)
        .await
        .context(address.to_owned())?;
    let inner = TcpListener::bind("127.0.0.1:0").await?;
    let relay = inner.local_addr()?;
    tokio::spawn(serve(
        inner,
        ServeConfig {
            failures: None,
            ..ServeConfig::default()
        },
        Arc::new(Everyone),
        |_, link| {
            tokio::spawn(async move {
                if let Err(error) = echo::run(link, Role::Server).await {
                    eprintln!("echo: {error}");
                }
            });
        },
        std::future::pending(),
    ));
    eprintln!("listening on {}", outer.local_addr()?);
    loop {
        let (suite, _) = outer.accept().await?;
        tokio::spawn(async move {
            let ours = TcpStream::connect(relay).await?;
            Disguise::server(is_plain).carry(suite, ours).await
        });
    }
}

/// Opens one connection after the other, each for one path of the suite's server.
async fn client(address: &str, paths: &[String], is_plain: bool) -> anyhow::Result<()> {
    let suite: SocketAddr = address.parse().context(address.to_owned())?;
    for path in paths {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let disguise = Disguise::client(path.clone(), is_plain);
        let carried = tokio::spawn(async move {
            let (ours, _) = listener.accept().await?;
            let suite = TcpStream::connect(suite).await?;
            disguise.carry(suite, ours).await
        });
        let link = dialler(port)?.dial().await.context(path.clone())?;
        let echoed = tokio::time::timeout(CASE_TIMEOUT, echo::run(link, Role::Client)).await;
        match echoed {
            // Many cases end in a connection that is simply gone.
            Ok(Ok(())) | Ok(Err(_)) => {}
            Err(_) => eprintln!("{path}: not over after {CASE_TIMEOUT:?}"),
        }
        carried.abort();
    }
    Ok(())
}

fn dialler(port: u16) -> anyhow::Result<Dialer> {
    Ok(Dialer::new(DialSettings {
        host: "127.0.0.1".to_owned(),
        port,
        mode: Mode::Source,
        access_token: AccessToken::new(TOKEN.to_owned())?,
        client_token: None,
        subprotocol: Subprotocol::V3.name().to_owned(),
        user_agent: String::new(),
        bind: None,
        web_proxy: None,
        tls: None,
        deadlines: Deadlines::default(),
    }))
}

/// Lets everyone in.
struct Everyone;

impl Admission for Everyone {
    async fn admit(
        &self,
        request: &ServerRequest,
        _peer: SocketAddr,
        _channel_id: &str,
    ) -> Result<Grant, Denial> {
        let tunnel = "suite".parse().map_err(|error| Denial {
            status: 500,
            text: format!("{error:?}"),
        })?;
        Ok(Grant {
            tunnel,
            mode: request.mode,
            services: Arc::default(),
            session: 0,
            bytes_per_second: None,
            connections_per_second: None,
        })
    }

    fn connected(&self, _grant: &Grant) {}

    fn disconnected(&self, _grant: &Grant) {}
}

/// The longest case echoes 16 MiB in pieces of 64 bytes.
const CASE_TIMEOUT: Duration = Duration::from_secs(100);

/// What a task of a connection ends with; whose fault it was, the suite says.
type Carried = io::Result<()>;
