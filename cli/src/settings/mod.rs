//! What a command will do: checked, nothing left to interpret.

pub mod broker;
pub mod check;
pub mod config_dir;
pub mod json;
pub mod limits;
pub mod quantity;
pub mod records;
pub mod service;
pub mod token;
pub mod web_proxies;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use adit_engine::ring::{DialRetries, IoChoice};
use adit_engine::tls::Pins;
use adit_engine::tunnel::mapping::Mapping;
use adit_proto::{AccessToken, ClientToken, Dialect, Mode, Secret, Subprotocol};
use adit_service::api::Naming;
use adit_service::notify::ExternalSettings;
use adit_service::quotas::Quotas;
use adit_service::store::StoreChoice;

use rustls::pki_types::ServerName;

use crate::personality::Personality;
use limits::Limits;
use records::Records;
use service::ServiceAddress;

/// Everything that `run::proxy` needs.
#[derive(Debug)]
pub struct ProxySettings {
    /// Whose words and exit codes to use.
    pub personality: Personality,
    /// Which side of the tunnel this is.
    pub mode: Mode,
    /// Service to endpoint, to be resolved when the tunnel's services are known.
    pub mapping: Mapping,
    /// Stands in for the host of an endpoint without one. Source: where to listen (`localhost`: all its
    /// addresses). Destination: what to dial (`127.0.0.1`). An IPv6 address has no brackets.
    pub local_host: String,
    /// Where the service is.
    pub service: ServiceAddress,
    /// This side's credential.
    pub access_token: AccessToken,
    /// Given, or made: the same for the same access token on the same machine.
    pub client_token: ClientToken,
    /// Offered in the handshake.
    pub subprotocol: Subprotocol,
    /// The dialect to speak whatever is seen; `None` recognises it.
    pub dialect: Option<Dialect>,
    /// How the service's certificate is checked.
    pub tls: TlsSettings,
    /// The way out, if the environment names one.
    pub web_proxy: Option<WebProxy>,
    /// When to try again.
    pub retries: Retries,
    /// Largest payload of a DATA message that we send, in bytes.
    pub payload_size_max: usize,
    /// Bounds of memory and time.
    pub limits: Limits,
    /// Kernel interface of the data path.
    pub io: IoChoice,
    /// Who seals and opens TLS records.
    pub records: Records,
}

/// How certificates are checked, of the service and of a web proxy spoken to with TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// `false` with `-k`: anything is accepted.
    pub verify: bool,
    /// Trusted besides the system's authorities: a file of PEM certificates, or a directory with such
    /// files.
    pub ca_path: Option<PathBuf>,
    /// Keys one of which the service must have. Not for a web proxy.
    pub pins: Option<Pins>,
}

/// A web proxy as the environment has it, not yet read: the text may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebProxy {
    /// The variable it came from, for messages.
    pub variable: &'static str,
    /// `[http|https]://[user:password@]host[:port]` (wire specification, section 14.4); not empty.
    pub url: Secret,
}

/// When to try again, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Delay before the first retry of the service; it grows from there, with jitter.
    pub service_delay: Duration,
    /// Retries in a row; `None` is for ever (Q-21: a number is a number).
    pub service_max: Option<u32>,
    /// Whether a tunnel that broke after it was established is connected again.
    pub reconnect: bool,
    /// Delay between tries of a local listen.
    pub local_delay: Duration,
    /// Retries of a local listen; `None` is for ever.
    pub local_max: Option<u32>,
    /// Retries of a local dial; `None` is not at all: the connection is reset at once.
    pub dials: Option<DialRetries>,
}

/// Everything that `run::serve` needs.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// Where everything durable is kept.
    pub data_dir: PathBuf,
    /// Where tunnels are kept.
    pub store: StoreChoice,
    /// Where the API listens.
    pub api_listen: SocketAddr,
    /// File of access keys, when it is not the data directory's.
    pub access_keys: Option<PathBuf>,
    /// Whether the API takes requests without a signature.
    pub insecure_no_auth: bool,
    /// Region and account in resource names.
    pub naming: Naming,
    /// What is allowed.
    pub quotas: Quotas,
    /// How long a notification waits for its device.
    pub notify_retention: Duration,
    /// How long a closed tunnel stays readable.
    pub tunnel_retention: Duration,
    /// Where both sides of tunnels connect to.
    pub tunnel_listen: SocketAddr,
    /// Names and addresses for the server's certificate, besides those of this machine itself and of the
    /// listeners.
    pub names: Vec<ServerName<'static>>,
    /// Open tunnels to any thing name.
    pub unregistered_things: bool,
    /// Where devices wait for notifications, besides the API's port.
    pub mqtt_listen: Option<SocketAddr>,
    /// The broker to publish notifications through, in place of the service's own.
    pub mqtt_broker: Option<ExternalSettings>,
    /// Number of loops; `None` is one per core.
    pub loops: Option<NonZeroU16>,
    /// Kernel interface of the data path.
    pub io: IoChoice,
    /// Who seals and opens TLS records.
    pub records: Records,
}

/// Everything that `run::demo` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoSettings {
    /// Check and end, instead of staying for the user to play with.
    pub check: bool,
    /// Kernel interface of the data path.
    pub io: IoChoice,
}

/// The word is none of those that an option allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of the allowed words")]
pub struct UnknownWord;
