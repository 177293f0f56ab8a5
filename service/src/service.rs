//! Starts and stops everything, in the order that keeps promises.
//!
//! The data plane comes in as a function: the service binds its listener and gives it away together
//! with the server's identity and the [`Gate`], and gets back what can cut links.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use adit_engine::link::RelayControl;
use adit_engine::ring::{Address, listen};
use rustls_pki_types::ServerName;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::access::keys::{AccessKeys, KeysError};
use crate::access::rate::CallRate;
use crate::access::sigv4::Credentials;
use crate::api::{Access, Api, RECORDS_OF_REFUSED_MAX, Tunnelling};
use crate::audit::{Audit, AuditFile, AuditRows, RowsWriter};
use crate::certificates::{CertificateError, Certificates, Identity};
use crate::clock::Clock;
use crate::control::{ControlPlane, news};
use crate::data_dir::{DataDir, DataDirError};
use crate::endpoints::Endpoints;
use crate::gate::Gate;
use crate::iot::{DataEndpoint, Iot};
use crate::links::Links;
use crate::listen::{DeviceDoor, HttpsListener, device_config};
use crate::mqtt::Broker;
use crate::notify::{
    ExternalBroker, ExternalSettings, NOTIFY_KEY, Notifier, QueueLimits, SealError, Sealer, Stored,
};
use crate::registry::{KnownThings, Registry};
use crate::settings::{ApiAccess, Settings};
use crate::store::{AnyStore, Change, Changes, Store, StoreError, StoreLimits};
use crate::sts::Sts;

/// The gate of a service with the store that its settings ask for.
pub type ServiceGate = Gate<AnyStore>;

type ServiceBroker = Broker<AnyStore, AnyStore>;

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
        let clock = settings.clock.clone().unwrap_or_else(|| {
            let dir = data_dir.as_deref();
            dir.map_or_else(Clock::system, Clock::kept_in)
        });
        let (access, keys, made) = access(&settings, data_dir.as_deref())?;
        let api_listener = bind(settings.api.listen())?;
        let tunnel_listener = bind(settings.tunnel_listen)?;
        let api_address = local_address(&api_listener, settings.api.listen())?;
        let tunnel_address = local_address(&tunnel_listener, settings.tunnel_listen)?;
        let mqtt_listener = match settings.mqtt.listen {
            Some(address) => Some(bind(address)?),
            None => None,
        };
        let mqtt_address = (mqtt_listener.as_ref().zip(settings.mqtt.listen))
            .map(|(listener, address)| local_address(listener, address))
            .transpose()?;
        let names = certificate_names(&settings);
        let certificates = Arc::new(certificates(&clock, &names, data_dir.as_deref())?);

        let choice = settings.store.as_ref();
        let limits = StoreLimits {
            tunnels: settings.limits.clone(),
            registry: settings.registry.clone(),
            mailbox: settings.mqtt.mailbox,
        };
        let sealer = sealer(data_dir.as_deref())?;
        // With an external broker, nothing waits in the store.
        let key = settings.mqtt.external.is_none().then(|| sealer.check());
        let store = AnyStore::open(choice, data_dir.as_ref(), limits, key, &clock).await;
        let store = store.map_err(|error| refusal(error, data_dir.as_deref()))?;
        let (store, links) = (Arc::new(store), Arc::new(Links::default()));
        let (audit, rows, rows_writer) = audit(data_dir.as_deref())?;
        let (told, heard) = news();
        let gate = Gate::new(
            Arc::clone(&store),
            Arc::clone(&links),
            told.clone(),
            clock.clone(),
        );
        let gate = gate
            .with_audit(audit.clone())
            .with_quotas(settings.tunnel_quotas);
        // From before there is anything that other nodes could take from this one.
        let (of_links, of_devices) = (Store::changes(&*store), Store::changes(&*store));
        let relay = start_relay(tunnel_listener, certificates.identity(), Arc::new(gate));
        let relay = Arc::new(relay.await.map_err(StartError::Relay)?);

        let control_relay: Arc<dyn RelayControl> = relay.clone();
        let broker = Arc::new(broker(&settings, &clock, sealer, &store));
        let device_changes = Registry::changes(&*store);
        let door = DeviceDoor {
            tls: Arc::new(
                device_config(certificates.identity(), Broker::look_up(&broker))
                    .map_err(StartError::DeviceTls)?,
            ),
            broker: broker.clone(),
        };
        let known = Arc::clone(&store) as Arc<dyn KnownThings>;
        let things = (!settings.unregistered_things).then_some(known);
        let control = ControlPlane::new(
            Arc::clone(&store),
            control_relay,
            things,
            links,
            told,
            clock.clone(),
        );
        let external = external(&settings, &store, &clock);
        let notifier: Arc<dyn Notifier> = match &external {
            Some(external) => external.clone(),
            None => broker.clone(),
        };
        let control = control
            .with_audit(audit.clone())
            .with_notifier(notifier, settings.naming.region().into());
        let control = Arc::new(control);
        let (stop, stopping) = watch::channel(false);
        let limits = settings.api.connections;
        let naming = settings.naming;
        let iot = Iot {
            registry: Arc::clone(&store),
            issuer: certificates.device_issuer(),
            naming: naming.clone(),
            clock: clock.clone(),
            endpoint: match &settings.mqtt.external {
                Some(external) => Some(DataEndpoint::of(&external.address)),
                None => mqtt_address.map(|address| data_endpoint(&settings.names, address)),
            },
        };
        let api = Api {
            tunnelling: Box::new(Tunnelling::new(Arc::clone(&control), naming.clone())),
            registry: Box::new(iot),
            sts: Box::new(Sts { naming }),
            access,
            audit,
            refused: CallRate::new(Some(RECORDS_OF_REFUSED_MAX)),
            unrecorded: AtomicU64::new(0),
            rate: CallRate::new(settings.calls_per_second),
            clock: clock.clone(),
            body_timeout: limits.body_timeout,
        };
        let https = HttpsListener {
            listener: api_listener,
            tls: Arc::new(certificates.server_config()),
            limits,
            devices: external.is_none().then(|| door.clone()),
        };
        let mut api_tasks = JoinSet::new();
        if let Some(listener) = mqtt_listener {
            api_tasks.spawn(door.serve_port(listener, stopping.clone()));
        }
        if let Some(external) = external {
            api_tasks.spawn(external.run(stopping.clone()));
        }
        api_tasks.spawn(https.serve(api.router(), stopping));
        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&control).follow_news(heard));
        let changes = Arc::clone(&control);
        background.spawn(async move { changes.follow_changes(of_links).await });
        let ends = Arc::clone(&control);
        background.spawn(async move { ends.follow_ends().await });
        let time = Arc::clone(&control);
        background.spawn(async move { time.follow_time().await });
        if let Some(dir) = data_dir.clone() {
            let shown = Arc::clone(&certificates);
            background.spawn(keep_certificate(shown, dir, names, clock));
        }
        background.spawn(rows_writer.run(Arc::clone(&store)));
        background.spawn(wake_devices(of_devices, broker.clone()));
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
            first_key: made,
            keys,
            control,
            store,
            rows,
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
    /// The access key that this start has made, if it was the first one.
    pub first_key: Option<Credentials>,
    keys: Option<Arc<AccessKeys>>,
    control: Arc<ControlPlane<AnyStore>>,
    store: Arc<AnyStore>,
    rows: Arc<AuditRows>,
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
            part = self.relay.failed() => {
                return anyhow::anyhow!("{part} of the relay ended by itself");
            }
            else => return anyhow::anyhow!("no part of the service is running"),
        };
        match ended {
            Ok(()) => anyhow::anyhow!("a part of the service ended by itself"),
            Err(error) => anyhow::anyhow!(error).context("a part of the service failed"),
        }
    }

    /// Reads the access keys again; returns how many are in force, `None` when requests are not signed.
    ///
    /// # Errors
    /// The keys stay as they were.
    pub fn reload(&self) -> Result<Option<usize>, KeysError> {
        self.keys.as_deref().map(AccessKeys::reload).transpose()
    }

    /// Takes back `endpoints.json`, finishes the API's requests under way, stops the timers, lets go of
    /// the data directory, and returns the relay, whose links are still up and whose end is the
    /// caller's. Handshakes are answered 503 from then on.
    pub async fn stop(mut self) -> Result<Arc<R>, DataDirError> {
        let removed = self.data_dir.as_deref().map_or(Ok(()), Endpoints::remove);
        self.stop.send_replace(true);
        while self.api.join_next().await.is_some() {}
        self.control.end_all_links().await;
        // In the audit's file they are already.
        let _ = tokio::time::timeout(FLUSH_MAX, self.rows.flush()).await;
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
    /// Access keys.
    #[error(transparent)]
    AccessKeys(#[from] KeysError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
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

/// The audit, in the file of the directory and on the way to the store.
fn audit(dir: Option<&DataDir>) -> Result<(Audit, Arc<AuditRows>, RowsWriter), DataDirError> {
    let audit = match dir {
        Some(dir) => Audit::none().with(Arc::new(AuditFile::in_dir(dir)?)),
        None => Audit::none(),
    };
    let (rows, writer) = AuditRows::new();
    let rows = Arc::new(rows);
    Ok((audit.with(Arc::clone(&rows)), rows, writer))
}

/// Rings at the devices of this node for what other nodes have queued, for ever.
async fn wake_devices(mut changes: Changes, broker: Arc<ServiceBroker>) {
    loop {
        let change = changes.next().await;
        if change == Change::Everything {
            broker.wake_all();
        } else if let Some(thing) = change.queued_for() {
            broker.wake(&thing);
        }
    }
}

/// Who may call, the keys to read again, and the one that was made.
type AccessParts = (Access, Option<Arc<AccessKeys>>, Option<Credentials>);

fn access(settings: &Settings, dir: Option<&DataDir>) -> Result<AccessParts, KeysError> {
    let (keys, made) = match (settings.api.access(), dir) {
        (ApiAccess::Unsigned, _) => return Ok((Access::Unsigned, None, None)),
        (ApiAccess::Signed(Some(file)), _) => (AccessKeys::open(file)?, None),
        (ApiAccess::Signed(None), Some(dir)) => AccessKeys::in_dir(dir)?,
        (ApiAccess::Signed(None), None) => {
            let (keys, made) = AccessKeys::in_memory()?;
            (keys, Some(made))
        }
    };
    let keys = Arc::new(keys);
    let access = Access::Signed {
        keys: Arc::clone(&keys),
        skew_max: settings.api.skew_max,
    };
    Ok((access, Some(keys), made))
}

/// Not by tokio, whose queue of 1,024 is over in an instant under a flood.
fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    listen(&Address::Ip(address))
        .and_then(|socket| TcpListener::from_std(std::net::TcpListener::from(socket)))
        .map_err(|source| StartError::Listen { address, source })
}

fn local_address(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    listener
        .local_addr()
        .map_err(|source| StartError::Listen { address, source })
}

fn certificates(
    clock: &Clock,
    names: &[ServerName<'static>],
    dir: Option<&DataDir>,
) -> Result<Certificates, CertificateError> {
    let now = clock.now().wall.to_date_time();
    match dir {
        Some(dir) => Certificates::in_dir(dir, names, now),
        None => Certificates::in_memory(names, now),
    }
}

/// Renews the server's certificate while the service runs, well before it ends.
async fn keep_certificate(
    certificates: Arc<Certificates>,
    dir: Arc<DataDir>,
    names: Vec<ServerName<'static>>,
    clock: Clock,
) {
    loop {
        tokio::time::sleep(CERTIFICATE_LOOK_INTERVAL).await;
        let (certificates, dir) = (Arc::clone(&certificates), Arc::clone(&dir));
        let (names, now) = (names.clone(), clock.now().wall.to_date_time());
        let renew = move || certificates.renew(&dir, &names, now);
        // Reading and making certificates takes milliseconds in which no task should wait.
        match tokio::task::spawn_blocking(renew).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the server's certificate cannot be renewed"),
            Err(error) => warn!(%error, "the renewal of the server's certificate failed"),
        }
    }
}

fn sealer(dir: Option<&DataDir>) -> Result<Sealer, SealError> {
    match dir {
        Some(dir) => Sealer::in_dir(dir),
        None => Sealer::in_memory(),
    }
}

/// Names the file of a key that the other nodes on the store do not have.
fn refusal(error: StoreError, dir: Option<&DataDir>) -> StartError {
    match error {
        StoreError::OtherKey => {
            let path = dir.map_or_else(|| NOTIFY_KEY.into(), |dir| dir.file(NOTIFY_KEY));
            SealError::OtherKey(path).into()
        }
        other => other.into(),
    }
}

fn broker(
    settings: &Settings,
    clock: &Clock,
    sealer: Sealer,
    store: &Arc<AnyStore>,
) -> ServiceBroker {
    let names = (settings.naming.region(), settings.naming.account());
    let limits = settings.mqtt.limits.clone();
    Broker::new(
        Arc::clone(store),
        Arc::clone(store),
        sealer,
        clock.clone(),
        limits,
        names,
    )
}

fn external(
    settings: &Settings,
    store: &Arc<AnyStore>,
    clock: &Clock,
) -> Option<Arc<ExternalBroker>> {
    let mqtt = &settings.mqtt;
    let limits = QueueLimits {
        queued_per_thing_max: mqtt.mailbox.queued_max,
        ..QueueLimits::default()
    };
    let retention = mqtt.limits.retention;
    let broker = |external: &_| {
        let settings = ExternalSettings::clone(external);
        let current = Arc::new(Stored {
            store: Arc::clone(store),
            clock: clock.clone(),
        });
        ExternalBroker::new(settings, limits, retention, clock.clone(), current)
    };
    mqtt.external.as_ref().map(broker).map(Arc::new)
}

/// Devices are told the name that whoever runs the service has given it; without one, how this machine
/// itself reaches the listener.
fn data_endpoint(names: &[ServerName<'static>], address: SocketAddr) -> DataEndpoint {
    let host = match names.first() {
        Some(ServerName::IpAddress(ip)) => IpAddr::from(*ip),
        Some(name) => return DataEndpoint::new(&name.to_str(), address.port()),
        None if address.ip().is_unspecified() || address.ip().is_loopback() => {
            return DataEndpoint::new("localhost", address.port());
        }
        None => address.ip(),
    };
    let host = match host {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    DataEndpoint::new(&host, address.port())
}

fn certificate_names(settings: &Settings) -> Vec<ServerName<'static>> {
    let localhost = ServerName::try_from("localhost").expect("a DNS name");
    let mut names = vec![
        localhost,
        ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ServerName::from(IpAddr::V6(Ipv6Addr::LOCALHOST)),
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

/// Between two looks at the certificate. It is renewed 30 days before it ends, so that about sixty looks
/// may fail.
const CERTIFICATE_LOOK_INTERVAL: Duration = Duration::from_secs(12 * 3_600);

/// For the last records of the audit to get into the store.
const FLUSH_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
