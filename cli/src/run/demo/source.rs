//! The source proxy, just as `adit proxy` would run it: its own loop, its own connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use adit_engine::link::{
    BackoffPolicy, Deadlines, DialSettings, Dialer, Keeper, KeeperSettings, LinkTls, Notice,
    Outcome,
};
use adit_engine::ring::{self, Address, IoChoice, LoopHandle, ProxyId, ProxyOptions, ProxyStatus};
use adit_engine::tls::RecordsChoice;
use adit_engine::tunnel::limits::Limits;
use adit_engine::tunnel::mapping::Mapping;
use adit_engine::tunnel::proxy::{Proxy, ProxySettings};
use adit_proto::{AccessToken, ClientToken, Mode, Subprotocol};
use anyhow::{Context as _, Result};
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot};
use tokio::task;
use tracing::warn;

use super::super::runtime;

/// Open connections may go on for so long once the end is asked for: a terminal that still has one
/// open should not hold up the prompt.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// More often than a real proxy, so that the round trip on the screen is fresh.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(1);

const ID: ProxyId = ProxyId(0);

/// What it needs to connect.
pub(super) struct Ticket {
    pub(super) service: SocketAddr,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) token: AccessToken,
}

/// A port that it listens on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) service: String,
    pub(super) port: u16,
}

/// A source proxy, running.
pub(super) struct Source {
    event_loop: LoopHandle,
    thread: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    task: task::JoinHandle<Outcome>,
}

impl Source {
    /// Starts it. `listening` hears of each port once it can be connected to.
    pub(super) fn start(
        ticket: Ticket,
        io: IoChoice,
        listening: mpsc::UnboundedSender<Listening>,
    ) -> Result<Self> {
        let seed = runtime::seed().context("the system gives no randomness")?;
        let limits = Limits {
            ping_interval: PING_INTERVAL,
            ..Limits::default()
        };
        let settings = ProxySettings {
            mode: Mode::Source,
            // Each service of the tunnel on a port of its own.
            mapping: Mapping::default(),
            dialect: None,
            limits,
        };
        let proxy = Proxy::new(settings, seed);
        let (event_loop, thread) = ring::start("adit-source".into(), io)?;
        let notify = move |notice: Notice<'_>| match notice {
            Notice::Listening {
                service: Some(service),
                address: Address::Ip(address),
                ..
            } => {
                let service = service.as_str().to_owned();
                let port = address.port();
                // Whoever does not listen any more knows enough.
                let _ = listening.send(Listening { service, port });
            }
            Notice::Retrying { reason, delay, .. } => warn!(
                "the source proxy: {reason}; connecting again in {:.1} s",
                delay.as_secs_f32()
            ),
            Notice::Connected { .. } | Notice::Listening { .. } => {}
        };
        let keeper = Keeper::new(
            Dialer::new(dial_settings(ticket, client_token()?)),
            event_loop.clone(),
            ID,
            keeper_settings(),
            notify,
        );
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(keeper.run(proxy, async {
            // Also completes when the source is dropped.
            let _ = stopped.await;
        }));
        Ok(Self {
            event_loop,
            thread,
            stop,
            task,
        })
    }

    /// How it stands; all zero once it is over.
    pub(super) async fn status(&self) -> ProxyStatus {
        self.event_loop.status(ID).await.unwrap_or_default()
    }

    /// The kernel interface in use.
    pub(super) fn backend(&self) -> &'static str {
        self.event_loop.backend()
    }

    /// Completes when it ends by itself, which it should not. To be called until it has, and
    /// not again.
    pub(super) async fn ended(&mut self) -> Result<Outcome> {
        (&mut self.task).await.context("it failed")
    }

    /// Asks it to end, waits for its connections within bounds, and ends its loop.
    pub(super) async fn stop(self) -> Result<Outcome> {
        let Self {
            event_loop,
            thread,
            stop,
            task,
        } = self;
        let _ = stop.send(());
        let outcome = task.await.context("it failed");
        event_loop.stop();
        // Ends within one turn, a few milliseconds.
        let _ = thread.join();
        outcome
    }
}

fn dial_settings(ticket: Ticket, client_token: ClientToken) -> DialSettings {
    DialSettings {
        host: ticket.service.ip().to_string(),
        port: ticket.service.port(),
        mode: Mode::Source,
        access_token: ticket.token,
        client_token: Some(client_token),
        subprotocol: Subprotocol::V3.name().to_owned(),
        user_agent: runtime::USER_AGENT.to_owned(),
        bind: None,
        web_proxy: None,
        tls: Some(LinkTls::new(ticket.tls, RecordsChoice::default())),
        deadlines: Deadlines::default(),
    }
}

fn keeper_settings() -> KeeperSettings {
    KeeperSettings {
        backoff: BackoffPolicy::default(),
        reconnect: true,
        bind_host: "127.0.0.1".to_owned(),
        listen_retries: Some(0),
        listen_delay: Duration::ZERO,
        drain_timeout: DRAIN_TIMEOUT,
        options: ProxyOptions::default(),
    }
}

/// Makes the access token good for a second connection, should the first be lost.
fn client_token() -> Result<ClientToken> {
    let token = uuid::Uuid::new_v4().hyphenated().to_string();
    ClientToken::strict(token).context("a client token cannot be made")
}
