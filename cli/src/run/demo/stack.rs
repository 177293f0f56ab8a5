//! Everything that a tunnel takes, started in order and ended in order.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_engine::link::{Outcome, Relay, ServeConfig};
use adit_engine::ring::IoChoice;
use adit_engine::tls::{client_config_from, server_config_from};
use adit_proto::Mode;
use adit_service::{ApiSettings, Running, Service, Settings};
use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::api::Api;
use super::device::{Device, EchoEnd};
use super::meter::Sample;
use super::page::{Page, Ports};
use super::side::{Listening, Side, Ticket};

/// The services of the tunnel.
pub(super) const PAGE: &str = "WEB";
/// The other one.
pub(super) const ECHO: &str = "ECHO";

/// For both sides to be connected. It takes milliseconds.
const CONNECT_DEADLINE: Duration = Duration::from_secs(15);

/// Between two looks at whether they are.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Service, device, tunnel, and both proxies, running.
pub(super) struct Stack {
    pub(super) ports: Ports,
    pub(super) tunnel: String,
    pub(super) device: Device,
    pub(super) up_in: Duration,
    source: Side,
    destination: Side,
    service: Running<Relay>,
}

impl Stack {
    /// Starts everything; returns when bytes can flow. Each error says which step failed.
    pub(super) async fn start(io: IoChoice, echo_end: EchoEnd) -> Result<Self> {
        let started = Instant::now();
        let device = Device::start(echo_end)
            .await
            .context("start the pretend device")?;
        let service = start_service(io).await.context("start the service")?;
        let authority = CertificateDer::from_pem_slice(service.ca_pem.as_bytes())
            .context("read the service's own certificate authority")?;
        let tls = client_config_from([authority]).context("trust the service")?;
        let api = Api {
            address: service.api_address,
            tls: Arc::clone(&tls),
        };
        let tunnel = api.open_tunnel(&[PAGE, ECHO]).await;
        let tunnel = tunnel.context("open a tunnel")?;
        let ticket = |token| Ticket {
            service: service.tunnel_address,
            tls: Arc::clone(&tls),
            token,
        };
        let (listening, mut listens) = mpsc::unbounded_channel();
        let dials = format!(
            "{PAGE}=127.0.0.1:{},{ECHO}=127.0.0.1:{}",
            device.page_port, device.echo_port
        );
        let (here, there) = (Mode::Source, Mode::Destination);
        let at_device = ticket(tunnel.destination_token);
        let destination = Side::start(there, &dials, at_device, io, listening.clone())
            .context("start the destination proxy")?;
        let at_home = ticket(tunnel.source_token);
        let source =
            Side::start(here, "", at_home, io, listening).context("start the source proxy")?;
        let mut stack = Self {
            ports: Ports {
                relay: service.tunnel_address.port(),
                api: service.api_address.port(),
                device_page: device.page_port,
                device_echo: device.echo_port,
                ..Ports::default()
            },
            tunnel: tunnel.id,
            device,
            up_in: Duration::ZERO,
            source,
            destination,
            service,
        };
        timeout(CONNECT_DEADLINE, stack.connect(&mut listens, &api))
            .await
            .with_context(|| format!("not connected within {CONNECT_DEADLINE:?}"))
            .flatten()
            .context("connect both sides")?;
        stack.device.publish(Page::new(stack.ports));
        stack.up_in = started.elapsed();
        Ok(stack)
    }

    /// Both proxies as they stand.
    pub(super) async fn sample(&self) -> Sample {
        let (source, destination) = tokio::join!(self.source.status(), self.destination.status());
        Sample {
            at: Instant::now(),
            source,
            destination,
        }
    }

    /// The kernel interface that moves the bytes.
    pub(super) fn backend(&self) -> &'static str {
        self.source.backend()
    }

    /// Completes when a part ends by itself, and says which.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        let (side, outcome) = tokio::select! {
            outcome = self.source.ended() => ("source", outcome),
            outcome = self.destination.ended() => ("destination", outcome),
            error = self.service.failed() => return error.context("the service"),
        };
        match outcome {
            Ok(outcome) => ended_early(side, &outcome),
            Err(error) => error.context(format!("the {side} proxy")),
        }
    }

    /// Ends everything: both proxies in an orderly way, then the service, then the device.
    pub(super) async fn stop(self) -> Result<()> {
        // The source first: what its users have sent gets its time to arrive.
        for (name, side) in [("source", self.source), ("destination", self.destination)] {
            match side.stop().await {
                Ok(Outcome::Drained) => {}
                Ok(outcome) => return Err(ended_early(name, &outcome)),
                Err(error) => return Err(error.context(format!("the {name} proxy"))),
            }
        }
        let relay = self.service.stop().await.context("stop the service")?;
        match Arc::into_inner(relay) {
            Some(relay) => relay.stop().await,
            None => bail!("the relay is still in use"),
        }
        self.device.stop().await;
        Ok(())
    }

    async fn connect(
        &mut self,
        listens: &mut mpsc::UnboundedReceiver<Listening>,
        api: &Api,
    ) -> Result<()> {
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
        loop {
            let sample = self.sample().await;
            if sample.source.is_running && sample.destination.is_running {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                error = self.failed() => return Err(error),
            }
        }
        // The service learns it from its relay at the same time as the proxies, a moment later at most.
        while !api.is_connected(&self.tunnel).await? {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }
}

async fn start_service(io: IoChoice) -> Result<Running<Relay>> {
    let api = ApiSettings::unsigned(LOOPBACK)?;
    let settings = Settings::new(api, LOOPBACK);
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

fn ended_early(side: &str, outcome: &Outcome) -> anyhow::Error {
    let why = match outcome {
        Outcome::Closed(_) => "the service closed the tunnel".to_owned(),
        Outcome::Drained => "it was drained".to_owned(),
        Outcome::Refused(error) | Outcome::Unreachable(error) => error.to_string(),
        Outcome::Broken(reason) => reason.clone(),
        Outcome::Mismatch(mismatch) => mismatch.to_string(),
        Outcome::CannotListen { endpoint, source } => {
            format!("cannot listen on {endpoint}: {source}")
        }
    };
    anyhow::anyhow!("the {side} proxy ended: {why}")
}
