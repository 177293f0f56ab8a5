//! Proxies of one side, for many tunnels, kept connected as `adit proxy` keeps its one.

use std::sync::Arc;
use std::time::Duration;

use adit_engine::link::{
    BackoffPolicy, Deadlines, DialSettings, Dialer, Keeper, KeeperSettings, LinkTls, Notice,
};
use adit_engine::ring::{self, Address, LoopHandle, ProxyId, ProxyOptions};
use adit_engine::tls::client_config_from;
use adit_engine::tunnel::limits::Limits;
use adit_engine::tunnel::mapping::Mapping;
use adit_engine::tunnel::proxy::{Proxy, ProxySettings};
use adit_proto::{AccessToken, ClientToken, Mode, Subprotocol};
use anyhow::{Context as _, Result, bail};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::board::Side;
use super::mock::SERVICE;
use super::part::tell;
use super::role::{ProxiesRole, ProxyTunnel, Report};

/// Tunnels that dial for the first time at once, so that starting up is no storm.
const STARTING_MAX: usize = 64;

/// The longest time between two looks whether a proxy has its services.
const PAUSE_MAX: Duration = Duration::from_millis(32);

/// Lost tunnels come back as the product's do; open connections have no time at the end.
const DRAIN_TIMEOUT: Duration = Duration::ZERO;

pub(super) async fn run(role: ProxiesRole) -> Result<()> {
    let (event_loop, _thread) = ring::start("adit-data".to_owned(), role.tuning.io()?)?;
    tell(&Report::Ready {
        address: None,
        backend: event_loop.backend().to_owned(),
    });
    let maker = Maker::new(&role)?;
    let starting = Arc::new(Semaphore::new(STARTING_MAX));
    for tunnel in &role.tunnels {
        let mut permit = Some(Arc::clone(&starting).acquire_owned().await?);
        let index = tunnel.index;
        let id = ProxyId(index as u64);
        let mut reporter = Reporter {
            tunnel: index,
            id,
            event_loop: event_loop.clone(),
            watch: None,
        };
        let notify = move |notice: Notice<'_>| {
            reporter.tell(&notice);
            // Whatever came of the first dial, it is over.
            drop(permit.take());
        };
        let dialer = maker.dialer(tunnel)?;
        let settings = keeper_settings(index);
        let keeper = Keeper::new(dialer, event_loop.clone(), id, settings, notify);
        let proxy = maker.proxy()?;
        tokio::spawn(async move {
            let outcome = keeper.run(proxy, std::future::pending()).await;
            tell(&Report::Over {
                tunnel: index,
                reason: format!("{outcome:?}"),
            });
        });
    }
    event_loop.ended().await;
    bail!("the event loop has ended")
}

/// Tells the parent what happens to one proxy.
struct Reporter {
    tunnel: usize,
    id: ProxyId,
    event_loop: LoopHandle,
    /// Looks out for the services of the present link.
    watch: Option<JoinHandle<()>>,
}

impl Reporter {
    fn tell(&mut self, notice: &Notice<'_>) {
        let tunnel = self.tunnel;
        match notice {
            Notice::Connected { .. } => {
                tell(&Report::Connected { tunnel });
                let (event_loop, id) = (self.event_loop.clone(), self.id);
                self.watch = Some(tokio::spawn(async move {
                    if runs(&event_loop, id).await {
                        tell(&Report::Running { tunnel });
                    }
                }));
            }
            Notice::Listening {
                address: Address::Ip(address),
                ..
            } => tell(&Report::Listening {
                tunnel,
                address: *address,
            }),
            Notice::Listening { .. } => {}
            Notice::Retrying { reason, .. } => {
                if let Some(watch) = self.watch.take() {
                    watch.abort();
                }
                tell(&Report::Retrying {
                    tunnel,
                    reason: reason.to_string(),
                });
            }
        }
    }
}

/// Waits until a proxy has its services. It is asked seldom when many wait for them: the loop has
/// better things to do.
async fn runs(event_loop: &LoopHandle, id: ProxyId) -> bool {
    let mut pause = Duration::from_millis(1);
    loop {
        match event_loop.status(id).await {
            None => return false,
            Some(status) if status.is_running => return true,
            Some(_) => tokio::time::sleep(pause).await,
        }
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

/// Makes the proxies of a side, which differ in their tokens alone.
struct Maker<'a> {
    role: &'a ProxiesRole,
    mode: Mode,
    mapping: Mapping,
    tls: LinkTls,
}

impl<'a> Maker<'a> {
    fn new(role: &'a ProxiesRole) -> Result<Self> {
        let authority = CertificateDer::from_pem_slice(role.authority.as_bytes())?;
        let mode = match role.side {
            Side::Source => Mode::Source,
            Side::Destination => Mode::Destination,
        };
        let mapping = match (role.side, role.target) {
            // Each listens on a port that the system picks.
            (Side::Source, _) => Mapping::default(),
            (Side::Destination, Some(target)) => {
                Mapping::parse(&format!("{SERVICE}={target}"), mode)?
            }
            (Side::Destination, None) => bail!("a destination has nothing to dial"),
        };
        Ok(Self {
            role,
            mode,
            mapping,
            tls: LinkTls::new(client_config_from([authority])?, role.tuning.records()),
        })
    }

    fn dialer(&self, tunnel: &ProxyTunnel) -> Result<Dialer> {
        Ok(Dialer::new(DialSettings {
            host: self.role.service.ip().to_string(),
            port: self.role.service.port(),
            mode: self.mode,
            access_token: AccessToken::new(tunnel.access_token.clone())?,
            client_token: Some(ClientToken::strict(tunnel.client_token.clone())?),
            subprotocol: Subprotocol::V3.name().to_owned(),
            user_agent: concat!("adit-loadgen/", env!("CARGO_PKG_VERSION")).to_owned(),
            bind: None,
            web_proxy: None,
            tls: Some(self.tls.clone()),
            deadlines: Deadlines::default(),
        }))
    }

    fn proxy(&self) -> Result<Proxy> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("the system gives no randomness")?;
        let settings = ProxySettings {
            mode: self.mode,
            mapping: self.mapping.clone(),
            dialect: None,
            limits: Limits::default(),
        };
        Ok(Proxy::new(settings, seed))
    }
}

/// Sources that listen on one address. The ports that the system picks for them are those that it picks for links, too:
/// 28,232, unless it was told otherwise, of which 9,500 tunnels need 19,000 for their links.
const LISTENERS_OF_ADDRESS: usize = 1_000;

/// Where the source of a tunnel listens: on 127.0.0.1, then 127.0.1.1 and so on, so that listeners share ports.
fn bind_host(tunnel: usize) -> String {
    // At most 9, see `TUNNELS_MAX`.
    format!("127.0.{}.1", tunnel / LISTENERS_OF_ADDRESS)
}

fn keeper_settings(tunnel: usize) -> KeeperSettings {
    KeeperSettings {
        backoff: BackoffPolicy::default(),
        reconnect: true,
        bind_host: bind_host(tunnel),
        listen_retries: Some(5),
        listen_delay: Duration::from_millis(200),
        drain_timeout: DRAIN_TIMEOUT,
        options: ProxyOptions::default(),
    }
}
