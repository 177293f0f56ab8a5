//! Starts and stops everything, in the order that keeps promises.
//!
//! The data plane comes in as a function: the service binds its listener and gives it away together
//! with the server's identity and the [`Gate`], and gets back what can cut links.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use adit_engine::link::RelayControl;
use rustls_pki_types::ServerName;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::api::{Api, Tunnelling};
use crate::certificates::{CertificateError, Certificates, Identity};
use crate::control::ControlPlane;
use crate::data_dir::{DataDir, DataDirError};
use crate::endpoints::Endpoints;
use crate::gate::Gate;
use crate::iot::Iot;
use crate::listen::{DeviceDoor, HttpsListener, device_config};
use crate::mqtt::Broker;
use crate::notify::{MemoryMailbox, SealError, Sealer};
use crate::registry::{MemoryRegistry, Registry};
use crate::settings::Settings;
use crate::store::MemoryStore;
use crate::sts::Sts;

/// The gate of a service with its tunnels in memory, and in its data directory if it has one.
pub type ServiceGate = Gate<MemoryStore>;

/// The service, not running.
pub struct Service;

impl Service {
    /// Starts the data plane through `start_relay`, then the API; returns when all listeners are ready
    /// and `endpoints.json` says so.
    ///
    /// # Errors
    /// See [`StartError`]. Whatever was started is stopped again, except what `start_relay` itself did.
    pub async fn start<R, F, Started>(
        settings: Settings,
        start_relay: F,
    ) -> Result<Running<R>, StartError>
    where
        R: RelayControl,
        F: FnOnce(TcpListener, Identity, Arc<ServiceGate>) -> Started,
        Started: Future<Output = anyhow::Result<R>>,
    {
        let data_dir = settings
            .data_dir
            .as_deref()
            .map(|path| DataDir::open(path).map(Arc::new))
            .transpose()?;
        if let Some(dir) = &data_dir {
            Endpoints::remove(dir)?;
        }
        let api_listener = bind(settings.api.listen()).await?;
        let tunnel_listener = bind(settings.tunnel_listen).await?;
        let api_address = local_address(&api_listener, settings.api.listen())?;
        let tunnel_address = local_address(&tunnel_listener, settings.tunnel_listen)?;
        let mqtt_listener = match settings.mqtt.listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let mqtt_address = (mqtt_listener.as_ref().zip(settings.mqtt.listen))
            .map(|(listener, address)| local_address(listener, address))
            .transpose()?;
        let certificates = certificates(&settings, data_dir.as_deref())?;

        let store = Arc::new(store(&settings, data_dir.as_ref())?);
        let (gate, events) = Gate::new(Arc::clone(&store), settings.clock.clone());
        let relay = start_relay(tunnel_listener, certificates.identity(), Arc::new(gate));
        let relay = Arc::new(relay.await.map_err(StartError::Relay)?);

        let control_relay: Arc<dyn RelayControl> = relay.clone();
        let registry = Arc::new(MemoryRegistry::new(settings.registry.clone()));
        let broker = Arc::new(broker(&settings, data_dir.as_deref(), &registry)?);
        let device_changes = registry.changes();
        let door = DeviceDoor {
            tls: Arc::new(device_config(certificates.identity()).map_err(StartError::DeviceTls)?),
            broker: broker.clone(),
        };
        let control = ControlPlane::new(Arc::clone(&store), control_relay, settings.clock.clone())
            .with_notifier(broker.clone(), settings.naming.region().into());
        let control = Arc::new(control);
        let (stop, stopping) = watch::channel(false);
        let limits = settings.api.connections;
        let naming = settings.naming;
        let iot = Iot {
            registry,
            issuer: certificates.device_issuer(),
            naming: naming.clone(),
            clock: settings.clock,
            endpoint: None,
        };
        let api = Api {
            tunnelling: Box::new(Tunnelling::new(Arc::clone(&control), naming.clone())),
            registry: Box::new(iot),
            sts: Box::new(Sts { naming }),
            body_timeout: limits.body_timeout,
        };
        let https = HttpsListener {
            listener: api_listener,
            tls: Arc::new(certificates.server_config()),
            limits,
            devices: Some(door.clone()),
        };
        let mut api_tasks = JoinSet::new();
        if let Some(listener) = mqtt_listener {
            api_tasks.spawn(door.serve_port(listener, stopping.clone()));
        }
        api_tasks.spawn(https.serve(api.router(), stopping));
        let mut background = JoinSet::new();
        let links = Arc::clone(&control);
        background.spawn(async move { links.follow_links(events).await });
        background.spawn(async move { control.follow_time().await });
        background.spawn(async move { broker.follow(device_changes).await });

        let endpoints = Endpoints::new(api_address, tunnel_address, mqtt_address);
        if let Some(dir) = &data_dir {
            endpoints.write(dir)?;
        }
        info!(api = endpoints.api, tunnel = endpoints.tunnel, "ready");
        Ok(Running {
            api_address,
            tunnel_address,
            mqtt_address,
            endpoints,
            ca_pem: certificates.ca_pem().to_owned(),
            relay,
            store,
            data_dir,
            stop,
            api: api_tasks,
            background,
        })
    }
}

/// The service, running. Dropping it stops it at once; [`stop`](Self::stop) does it in order.
pub struct Running<R> {
    /// Where the API listens.
    pub api_address: SocketAddr,
    /// Where the data plane listens.
    pub tunnel_address: SocketAddr,
    /// Where devices have a port of their own.
    pub mqtt_address: Option<SocketAddr>,
    /// The same for clients on this machine.
    pub endpoints: Endpoints,
    /// What clients have to trust.
    pub ca_pem: String,
    /// What `start_relay` gave.
    pub relay: Arc<R>,
    store: Arc<MemoryStore>,
    data_dir: Option<Arc<DataDir>>,
    stop: watch::Sender<bool>,
    api: JoinSet<()>,
    background: JoinSet<()>,
}

impl<R: RelayControl> Running<R> {
    /// Waits for a part of the service to end by itself, which none does unless it is broken.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            Some(ended) = self.api.join_next() => ended,
            Some(ended) = self.background.join_next() => ended,
            else => return anyhow::anyhow!("no part of the service is running"),
        };
        match ended {
            Ok(()) => anyhow::anyhow!("a part of the service ended by itself"),
            Err(error) => anyhow::anyhow!(error).context("a part of the service failed"),
        }
    }

    /// Takes back `endpoints.json`, finishes the API's requests under way, stops the timers, lets go of
    /// the data directory, and returns the relay, whose links are still up and whose end is the
    /// caller's. Handshakes are answered 503 from then on.
    pub async fn stop(mut self) -> Result<Arc<R>, DataDirError> {
        let removed = self.data_dir.as_deref().map_or(Ok(()), Endpoints::remove);
        self.stop.send_replace(true);
        while self.api.join_next().await.is_some() {}
        self.background.shutdown().await;
        self.store.shut_down().await;
        removed.map(|()| self.relay)
    }
}

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The data directory or a file in it.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Keys and certificates.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// The key that seals what waits for devices.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The TLS library refuses to serve devices.
    #[error("cannot serve devices: {0}")]
    DeviceTls(rustls::Error),
    /// The data plane.
    #[error("the relay did not start: {0:#}")]
    Relay(anyhow::Error),
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })
}

fn local_address(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    listener
        .local_addr()
        .map_err(|source| StartError::Listen { address, source })
}

fn store(settings: &Settings, dir: Option<&Arc<DataDir>>) -> Result<MemoryStore, DataDirError> {
    let limits = settings.limits.clone();
    match dir {
        Some(dir) => MemoryStore::in_dir(Arc::clone(dir), limits, settings.clock.now()),
        None => Ok(MemoryStore::new(limits)),
    }
}

fn broker(
    settings: &Settings,
    dir: Option<&DataDir>,
    registry: &Arc<MemoryRegistry>,
) -> Result<Broker<MemoryMailbox, MemoryRegistry>, SealError> {
    let sealer = match dir {
        Some(dir) => Sealer::in_dir(dir)?,
        None => Sealer::in_memory()?,
    };
    let mailbox = Arc::new(MemoryMailbox::new(settings.mqtt.mailbox));
    let names = (settings.naming.region(), settings.naming.account());
    let (clock, limits) = (settings.clock.clone(), settings.mqtt.limits.clone());
    Ok(Broker::new(
        mailbox,
        Arc::clone(registry),
        sealer,
        clock,
        limits,
        names,
    ))
}

fn certificates(
    settings: &Settings,
    dir: Option<&DataDir>,
) -> Result<Certificates, CertificateError> {
    let names = certificate_names(settings);
    let now = settings.clock.now().wall.to_date_time();
    match dir {
        Some(dir) => Certificates::in_dir(dir, &names, now),
        None => Certificates::in_memory(&names, now),
    }
}

fn certificate_names(settings: &Settings) -> Vec<ServerName<'static>> {
    let localhost = ServerName::try_from("localhost").expect("a DNS name");
    let mut names = vec![
        localhost,
        ServerName::from(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ServerName::from(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ];
    let bound = [settings.api.listen().ip(), settings.tunnel_listen.ip()];
    let mqtt = settings.mqtt.listen.map(|address| address.ip());
    let bound = bound
        .into_iter()
        .chain(mqtt)
        .filter(|ip| !ip.is_unspecified());
    for name in bound.map(ServerName::from).chain(settings.names.clone()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests;
