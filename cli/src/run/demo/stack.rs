//! Everything that a tunnel to a device takes, started in order and ended in order.
//!
//! ```text
//! operator ── signed API ──► service ─── MQTT ───► agent ──► page, echo
//! source ═════════ TLS ════► relay ◄═════ TLS ════ ╯
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_engine::link::{Outcome, Relay, ServeConfig};
use adit_engine::ring::IoChoice;
use adit_engine::tls::{client_config_from, server_config_from};
use adit_proto::AccessToken;
use adit_service::{ApiSettings, Running, Service, Settings};
use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::agent::DemoAgent;
use super::device::{Device, EchoEnd};
use super::home::Home;
use super::meter::Sample;
use super::operator::{Operator, Places};
use super::page::{Page, Ports};
use super::quantity::short_time;
use super::source::{Listening, Source, Ticket};
use crate::run::serve::exports;

/// The device.
pub(super) const THING: &str = "demo-device";

/// The services of the tunnel.
pub(super) const PAGE: &str = "WEB";
/// The other one.
pub(super) const ECHO: &str = "ECHO";

/// For each step that waits for another part. It takes milliseconds.
const STEP_DEADLINE: Duration = Duration::from_secs(15);

/// Between two looks at whether both sides are connected.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Service, device with its agent, tunnel, and source proxy, running.
pub(super) struct Stack {
    pub(super) ports: Ports,
    pub(super) device: Device,
    /// What leads the AWS CLI here, for a shell.
    pub(super) exports: [String; 2],
    tunnel: String,
    source: Source,
    agent: DemoAgent,
    operator: Operator,
    service: Running<Relay>,
    /// The last to be dropped: the others have files in it.
    home: Home,
}

impl Stack {
    /// Starts everything; returns when bytes can flow. `tell` hears of each step when it is done: one
    /// word, and what has happened. Each error says which step failed.
    pub(super) async fn start(
        home: Home,
        io: IoChoice,
        echo_end: EchoEnd,
        mut tell: impl FnMut(&'static str, String),
    ) -> Result<Self> {
        let started = Instant::now();
        let device = Device::start(echo_end);
        let device = device.await.context("start the pretend device")?;
        let service = start_service(home.service(), io).await;
        let service = service.context("start the service")?;
        let places = places(&service, home.service())?;
        let ports = ports(&places, &device);
        tell("service", listeners(ports));

        let operator = Operator::new(&places).context("find the service")?;
        let behind = [device.page_port, device.echo_port];
        let registered = operator.register(&places, home.device(), behind).await;
        registered.context("register the device")?;
        let what = "with a certificate, by the signed API";
        tell("device", format!("registered {THING} {what}"));

        let mut agent = DemoAgent::start(&home.device(), io).context("start the agent")?;
        within(agent.stands(|standing| standing.is_waiting))
            .await
            .context("have the device wait for tunnels")?;
        tell("mqtt", format!("{THING} waits for tunnels over MQTT"));

        let tunnel = operator.open().await.context("open a tunnel")?;
        let (id, token) = (tunnel.id, tunnel.source_token);
        tell("tunnel", format!("opened {id} with {PAGE} and {ECHO}"));
        within(agent.stands(|standing| standing.connected > 0))
            .await
            .context("have the device connect")?;
        let what = "was told over MQTT and connected as destination";
        tell("agent", format!("{THING} {what}"));

        let (source, listens) = start_source(&service, token, io)?;
        let endpoints = &service.endpoints;
        let mut stack = Self {
            ports,
            device,
            exports: exports(endpoints, &places.data_dir, operator.region()),
            tunnel: id,
            source,
            agent,
            operator,
            service,
            home,
        };
        within(stack.connect(listens)).await.context("connect")?;
        stack.device.publish(Page::new(stack.ports));
        let (backend, up_in) = (stack.source.backend(), short_time(started.elapsed()));
        let what = format!("connected with its token; all is up on {backend} within {up_in}");
        tell("source", what);
        Ok(stack)
    }

    /// Both proxies as they stand.
    pub(super) async fn sample(&self) -> Sample {
        let (source, destination) = tokio::join!(self.source.status(), self.agent.status());
        Sample {
            at: Instant::now(),
            source,
            destination,
        }
    }

    /// How many tokens the device has connected with.
    pub(super) fn tokens_used(&self) -> u64 {
        self.agent.standing().connected
    }

    /// Rotates the token of the device through the API; returns when it was told the new one and has
    /// connected with it, and how long that took.
    pub(super) async fn rotate(&mut self) -> Result<Duration> {
        let (started, before) = (Instant::now(), self.tokens_used());
        self.operator.rotate(&self.tunnel).await?;
        within(self.agent.stands(|standing| standing.begun > before))
            .await
            .context("the device was not told")?;
        within(self.agent.stands(|standing| standing.connected > before))
            .await
            .context("the device has not connected again")?;
        within(self.are_both_connected()).await?;
        Ok(started.elapsed())
    }

    /// Completes when a part ends by itself, and says which.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            outcome = self.source.ended() => match outcome {
                Ok(outcome) => ended_early(&outcome),
                Err(error) => error.context("the source proxy"),
            },
            error = self.agent.ended() => error.context("the agent"),
            error = self.service.failed() => error.context("the service"),
        }
    }

    /// Ends everything: both sides in an orderly way, then the service, then the device.
    pub(super) async fn stop(self) -> Result<()> {
        // The source first: what its users have sent gets its time to arrive.
        match self.source.stop().await {
            Ok(Outcome::Drained) => {}
            Ok(outcome) => return Err(ended_early(&outcome)),
            Err(error) => return Err(error.context("the source proxy")),
        }
        self.agent.stop().await.context("the agent")?;
        let relay = self.service.stop().await.context("stop the service")?;
        match Arc::into_inner(relay) {
            Some(relay) => relay.stop().await,
            None => bail!("the relay is still in use"),
        }
        self.device.stop().await;
        self.home.leave()
    }

    /// Ends what is left after [`failed`](Self::failed): the agent before its service, so that it has
    /// nothing to complain of.
    pub(super) async fn abandon(self) {
        if !self.agent.has_ended() {
            let _ = self.agent.stop().await;
        }
        let _ = self.service.stop().await;
        drop(self.home);
    }

    async fn connect(&mut self, mut listens: mpsc::UnboundedReceiver<Listening>) -> Result<()> {
        while self.ports.page == 0 || self.ports.echo == 0 {
            let listening = tokio::select! {
                listening = listens.recv() => listening,
                error = self.failed() => return Err(error),
            };
            match listening {
                Some(Listening { service, port }) if service == PAGE => self.ports.page = port,
                Some(Listening { service, port }) if service == ECHO => self.ports.echo = port,
                Some(Listening { service, .. }) => bail!("`{service}` is no service of the demo"),
                None => bail!("the source proxy listens no more"),
            }
        }
        self.are_both_connected().await
    }

    /// Waits until the proxies and the service say so.
    async fn are_both_connected(&mut self) -> Result<()> {
        loop {
            let sample = self.sample().await;
            if sample.source.is_running
                && sample.destination.is_running
                && self.operator.is_connected(&self.tunnel).await?
            {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                error = self.failed() => return Err(error),
            }
        }
    }
}

/// Gives up where a part has died without a word.
async fn within<T>(step: impl Future<Output = Result<T>>) -> Result<T> {
    let done = timeout(STEP_DEADLINE, step).await;
    done.with_context(|| format!("not done within {STEP_DEADLINE:?}"))
        .flatten()
}

async fn start_service(data_dir: PathBuf, io: IoChoice) -> Result<Running<Relay>> {
    let mut settings = Settings::new(ApiSettings::signed(LOOPBACK, None), LOOPBACK);
    settings.data_dir = Some(data_dir);
    settings.mqtt.listen = Some(LOOPBACK);
    let running = Service::start(settings, move |listener, identity, gate| async move {
        let config = ServeConfig {
            tls: Some(server_config_from(identity.chain, identity.key)?),
            ..ServeConfig::default()
        };
        // One tunnel lives on one loop.
        let loops = Some(NonZeroUsize::MIN);
        Ok(Relay::start(listener, config, gate, io, loops)?)
    });
    let running = running.await?;
    ensure!(running.tunnel_address.ip().is_loopback(), "not on loopback");
    Ok(running)
}

fn places(service: &Running<Relay>, data_dir: PathBuf) -> Result<Places> {
    Ok(Places {
        data_dir,
        api: service.api_address,
        relay: service.tunnel_address,
        mqtt: service.mqtt_address.context("there is no MQTT listener")?,
    })
}

fn listeners(ports: Ports) -> String {
    let Ports {
        api, relay, mqtt, ..
    } = ports;
    format!("API :{api}, relay :{relay}, MQTT :{mqtt}, on 127.0.0.1 and all with TLS")
}

/// All that are known before the source has connected.
fn ports(places: &Places, device: &Device) -> Ports {
    Ports {
        relay: places.relay.port(),
        api: places.api.port(),
        mqtt: places.mqtt.port(),
        device_page: device.page_port,
        device_echo: device.echo_port,
        ..Ports::default()
    }
}

fn start_source(
    service: &Running<Relay>,
    token: AccessToken,
    io: IoChoice,
) -> Result<(Source, mpsc::UnboundedReceiver<Listening>)> {
    let authority = CertificateDer::from_pem_slice(service.ca_pem.as_bytes())
        .context("read the service's own certificate authority")?;
    let ticket = Ticket {
        service: service.tunnel_address,
        tls: client_config_from([authority]).context("trust the service")?,
        token,
    };
    // Two messages, one for each service.
    let (listening, listens) = mpsc::unbounded_channel();
    let source = Source::start(ticket, io, listening).context("start the source proxy")?;
    Ok((source, listens))
}

fn ended_early(outcome: &Outcome) -> anyhow::Error {
    let why = match outcome {
        Outcome::Closed(_) => "the service closed the tunnel".to_owned(),
        Outcome::Drained => "it was drained".to_owned(),
        Outcome::Refused(error) | Outcome::Unreachable(error) => error.to_string(),
        Outcome::Broken(reason) | Outcome::Failed(reason) => reason.clone(),
        Outcome::Mismatch(mismatch) => mismatch.to_string(),
        Outcome::CannotListen { endpoint, source } => {
            format!("cannot listen on {endpoint}: {source}")
        }
    };
    anyhow::anyhow!("the source proxy ended: {why}")
}
