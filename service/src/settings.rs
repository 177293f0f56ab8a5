//! Settings of the service: checked when made, nothing left to interpret.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::access::sigv4::SKEW_MAX;
use crate::api::Naming;
use crate::clock::Clock;
use crate::gate::TunnelQuotas;
use crate::mqtt::BrokerLimits;
use crate::notify::{ExternalSettings, MailboxLimits};
use crate::quotas::{Quota, Quotas};
use crate::registry::RegistryLimits;
use crate::store::StoreChoice;
use crate::tunnels::Limits;

/// All that the service needs to start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The API's listener.
    pub api: ApiSettings,
    /// Where the data plane listens; port 0 takes any.
    pub tunnel_listen: SocketAddr,
    /// Where keys, certificates and `endpoints.json` are kept, and the tunnels unless `store` says
    /// otherwise; without it, they end with the process.
    pub data_dir: Option<PathBuf>,
    /// Where tunnels are kept; by default in the data directory, and in memory when there is none.
    pub store: Option<StoreChoice>,
    /// Names and addresses for the server's certificate, besides localhost, its addresses, and the
    /// addresses that the listeners are bound to.
    pub names: Vec<ServerName<'static>>,
    /// Region and account, as ARNs show them.
    pub naming: Naming,
    /// Bounds of what is stored.
    pub limits: Limits,
    /// Where devices wait for notifications.
    pub mqtt: MqttSettings,
    /// Bounds of the registry.
    pub registry: RegistryLimits,
    /// Whether tunnels may be opened to names that are no things of the registry: for an installation
    /// that keeps its devices elsewhere.
    pub unregistered_things: bool,
    /// Calls in a second with one access key; `None` is no limit.
    pub calls_per_second: Option<u32>,
    /// What one tunnel may use of the data plane.
    pub tunnel_quotas: TunnelQuotas,
    /// Where the time is read, in place of the system's clocks and the file `clock` of the data directory.
    pub clock: Option<Clock>,
}

impl Settings {
    /// Everything else at its default.
    pub fn new(api: ApiSettings, tunnel_listen: SocketAddr) -> Self {
        Self {
            api,
            tunnel_listen,
            data_dir: None,
            store: None,
            names: Vec::new(),
            naming: Naming::default(),
            limits: Limits::default(),
            mqtt: MqttSettings::default(),
            registry: RegistryLimits::default(),
            unregistered_things: false,
            calls_per_second: None,
            tunnel_quotas: TunnelQuotas::default(),
            clock: None,
        }
        .with_quotas(&Quotas::default())
    }

    /// With these quotas in place of those before.
    #[must_use]
    pub fn with_quotas(mut self, quotas: &Quotas) -> Self {
        quotas.apply_to(&mut self.limits);
        let calls = quotas.get(Quota::ApiCallsPerSecond);
        self.calls_per_second = calls.map(|calls| u32::try_from(calls).unwrap_or(u32::MAX));
        let connections = quotas.get(Quota::ConnectionsPerSecond);
        self.tunnel_quotas = TunnelQuotas {
            bytes_per_second: quotas.get(Quota::BytesPerSecond).and_then(NonZeroU64::new),
            connections_per_second: connections
                .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
                .and_then(NonZeroU32::new),
        };
        self
    }
}

/// How devices hear of their tunnels: through the embedded notifier, or a broker of somebody else's.
#[derive(Clone, Debug, Default)]
pub struct MqttSettings {
    /// The broker to publish through. With it nobody can connect to the embedded one, and `listen` is to
    /// be `None`.
    pub external: Option<ExternalSettings>,
    /// A port of its own for devices; port 0 takes any. With or without it, they reach the broker on the
    /// API's port by the ALPN name `x-amzn-mqtt-ca`.
    pub listen: Option<SocketAddr>,
    /// Bounds of its connections.
    pub limits: BrokerLimits,
    /// Bounds of what it keeps.
    pub mailbox: MailboxLimits,
}

impl MqttSettings {
    /// With notifications that wait so long for their device. Its session, in which they wait, may last as
    /// long without a connection, and an hour at least.
    #[must_use]
    pub fn with_retention(mut self, retention: Duration) -> Self {
        let session = BrokerLimits::default().session_expiry_max.max(retention);
        self.limits.retention = retention;
        self.limits.session_expiry_max = session;
        self
    }
}

/// The API's listener, and who may use it.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    listen: SocketAddr,
    access: ApiAccess,
    /// Bounds of its connections.
    pub connections: ConnectionLimits,
    /// How far the clock of a client that signs may be off, either way.
    pub skew_max: Duration,
}

/// Whose requests are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApiAccess {
    /// Anybody's who reaches it.
    Unsigned,
    /// Only those signed with an access key of this file, or of the data directory.
    Signed(Option<PathBuf>),
}

impl ApiSettings {
    /// Every request has to be signed; port 0 takes any port.
    ///
    /// The access keys are those of the file, or else of the data directory, where a first one is made;
    /// without a data directory one is made that ends with the process.
    pub fn signed(listen: SocketAddr, access_keys: Option<PathBuf>) -> Self {
        Self {
            listen,
            access: ApiAccess::Signed(access_keys),
            connections: ConnectionLimits::default(),
            skew_max: SKEW_MAX,
        }
    }

    /// Requests need no signature, and may do everything. Takes loopback addresses only; port 0 takes
    /// any port.
    pub fn unsigned(listen: SocketAddr) -> Result<Self, NotLoopback> {
        if !listen.ip().is_loopback() {
            return Err(NotLoopback(listen));
        }
        Ok(Self {
            access: ApiAccess::Unsigned,
            ..Self::signed(listen, None)
        })
    }

    pub(crate) fn access(&self) -> &ApiAccess {
        &self.access
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }
}

/// An address that others could reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the API cannot listen on {0} while its requests are not signed: whoever reaches it could open and \
     close tunnels; have them signed, or listen on 127.0.0.1 or [::1]"
)]
pub struct NotLoopback(pub SocketAddr);

/// Bounds on what one connection, and all of them, may hold up.
///
/// A client that does nothing right keeps a connection for at most `lifetime` plus `drain_timeout`.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Connections at one time. One more, and one of those that have had no successful answer yet has to
    /// go; where all have, it waits.
    pub connections_max: usize,
    /// For a client from the address with the most of them to get a successful answer; only then may it have
    /// to go for another one of that address.
    pub patience: Duration,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// For the head of a request; also how long a connection may be idle between two.
    pub head_timeout: Duration,
    /// For the body of a request.
    pub body_timeout: Duration,
    /// For a connection altogether; a request under way is finished within `drain_timeout`.
    pub lifetime: Duration,
    /// For what is under way when the connection or the service is to end.
    pub drain_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            patience: Duration::from_secs(3),
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(10),
            lifetime: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_that_others_can_reach_is_refused_with_the_reason() {
        for good in ["127.0.0.1:0", "127.3.2.1:443", "[::1]:8443"] {
            ApiSettings::unsigned(good.parse().unwrap()).unwrap();
        }
        for bad in [
            "0.0.0.0:8443",
            "[::]:8443",
            "192.0.2.1:1",
            "[2001:db8::1]:1",
            "[::ffff:192.0.2.1]:1",
        ] {
            let error = ApiSettings::unsigned(bad.parse().unwrap()).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(bad), "{text}");
            assert!(
                text.contains("not signed") && text.contains("127.0.0.1"),
                "{text}"
            );
        }
    }
}
