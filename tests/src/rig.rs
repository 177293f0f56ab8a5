//! A real proxy between real local sockets and a scripted service.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;

use crate::apps;
use crate::link::Link;
use crate::ports;
use crate::process::Process;
use crate::proxy::Proxy;
use crate::scenario::Scenario;
use crate::scripted_service::ScriptedService;
use crate::wire::{Kind, Message, v3};

/// One proxy under test, admitted by the service that the test plays.
pub struct Rig {
    /// The service, for further connections of the proxy.
    pub service: ScriptedService,
    /// The proxy.
    pub proxy: Process,
    /// The proxy's WebSocket, seen from the service; SERVICE_IDS has been sent on it.
    pub link: Link,
    /// Where a source listens.
    ports: BTreeMap<String, u16>,
}

impl Rig {
    /// A source with one port for each of these services, listening on all of them.
    ///
    /// # Errors
    /// The proxy does not come up.
    pub async fn source(scenario: &Scenario, services: &[&str]) -> Result<Self> {
        Self::source_with(scenario, services, Ok).await
    }

    /// As [`Self::source`], with changes to the command line.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub async fn source_with(
        scenario: &Scenario,
        services: &[&str],
        change: impl FnOnce(Proxy) -> Result<Proxy>,
    ) -> Result<Self> {
        let mut ports = BTreeMap::new();
        for service in services {
            ports.insert((*service).to_owned(), ports::free()?);
        }
        let mapping = mapping_of(ports.iter());
        let service = ScriptedService::start(scenario).await?;
        let proxy = Proxy::source(scenario, &mapping, &service.endpoint()?);
        let rig = Self {
            proxy: change(proxy)?.start()?,
            link: service.admit(services).await?,
            service,
            ports,
        };
        for port in rig.ports.values() {
            ports::listened_on(*port).await?;
        }
        Ok(rig)
    }

    /// A destination with an application behind each of these services.
    ///
    /// # Errors
    /// The proxy does not come up.
    pub async fn destination(scenario: &Scenario, apps: &[(&str, SocketAddr)]) -> Result<Self> {
        Self::destination_with(scenario, apps, Ok).await
    }

    /// As [`Self::destination`], with changes to the command line.
    ///
    /// # Errors
    /// As [`Self::destination`].
    pub async fn destination_with(
        scenario: &Scenario,
        apps: &[(&str, SocketAddr)],
        change: impl FnOnce(Proxy) -> Result<Proxy>,
    ) -> Result<Self> {
        let mapping = mapping_of(apps.iter().map(|(service, address)| (service, address)));
        let services: Vec<&str> = apps.iter().map(|(service, _)| *service).collect();
        let service = ScriptedService::start(scenario).await?;
        let proxy = Proxy::destination(scenario, &mapping, &service.endpoint()?);
        Ok(Self {
            proxy: change(proxy)?.start()?,
            link: service.admit(&services).await?,
            service,
            ports: BTreeMap::new(),
        })
    }

    /// The port on which a source listens for this service.
    ///
    /// # Errors
    /// The rig has no such service.
    pub fn port(&self, service: &str) -> Result<u16> {
        self.ports
            .get(service)
            .copied()
            .with_context(|| format!("the rig has no port for {service}"))
    }

    /// Connects to a source as a local application does.
    ///
    /// # Errors
    /// It does not listen.
    pub async fn connect(&self, service: &str) -> Result<TcpStream> {
        apps::connect(self.port(service)?).await
    }

    /// Opens the first connection of a service through a source, and takes its
    /// STREAM_START, which must be V3 with stream 1 and connection 1.
    ///
    /// # Errors
    /// The proxy announces something else.
    pub async fn open_first(&mut self, service: &str) -> Result<TcpStream> {
        self.open_anew(service, 1).await
    }

    /// The same on the `nth` link of a source that had one connection on each before: it goes on counting both.
    ///
    /// # Errors
    /// The proxy announces something else.
    pub async fn open_anew(&mut self, service: &str, nth: u8) -> Result<TcpStream> {
        let local = self.connect(service).await?;
        let expected = Message::stream_start(v3(service, nth.into(), nth.into()));
        self.link.expect(&expected).await?;
        Ok(local)
    }

    /// Opens a further connection of a service through a source, and takes its
    /// CONNECTION_START. Returns its connection ID.
    ///
    /// # Errors
    /// The proxy announces something else.
    pub async fn open_further(&mut self, service: &str) -> Result<(TcpStream, u32)> {
        let local = self.connect(service).await?;
        let message = self.link.message().await?;
        if message.known_kind() != Some(Kind::ConnectionStart) || message.service_id != service {
            bail!("expected CONNECTION_START {service}, received {message}");
        }
        Ok((local, message.connection_id))
    }

    /// Makes sure that the proxy is alive and reads: a ping is answered.
    ///
    /// # Errors
    /// It is not.
    pub async fn is_alive(&mut self) -> Result<()> {
        self.proxy.still_runs()?;
        self.link.fence().await.context("the proxy does not read")?;
        Ok(())
    }
}

/// A change for [`Rig::source_with`] and [`Rig::destination_with`]: a local connection whose
/// application has stopped sending is given up soon. What comes for it meanwhile is
/// delivered; by default there is far more time for that.
///
/// # Errors
/// Never; the type is that of a change.
pub fn closing_soon(proxy: Proxy) -> Result<Proxy> {
    Ok(proxy.args(["--half-close-grace", "200ms"]))
}

/// `A=1,B=2`.
fn mapping_of<K: ToString, V: ToString>(pairs: impl Iterator<Item = (K, V)>) -> String {
    let items =
        pairs.map(|(service, place)| format!("{}={}", service.to_string(), place.to_string()));
    items.collect::<Vec<_>>().join(",")
}
