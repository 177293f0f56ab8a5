//! Settings of the service: checked when made, nothing left to interpret.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::api::Naming;
use crate::clock::Clock;
use crate::mqtt::BrokerLimits;
use crate::notify::MailboxLimits;
use crate::registry::RegistryLimits;
use crate::tunnels::Limits;

/// All that the service needs to start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The API's listener.
    pub api: ApiSettings,
    /// Where the data plane listens; port 0 takes any.
    pub tunnel_listen: SocketAddr,
    /// Where tunnels, keys, certificates and `endpoints.json` are kept; without it, everything ends with
    /// the process.
    pub data_dir: Option<PathBuf>,
    /// Names and addresses for the server's certificate, besides localhost, its addresses, and the
    /// addresses that the listeners are bound to.
    pub names: Vec<ServerName<'static>>,
    /// Region and account, as ARNs show them.
    pub naming: Naming,
    /// Bounds of the tunnel table.
    pub limits: Limits,
    /// Where devices wait for notifications.
    pub mqtt: MqttSettings,
    /// Bounds of the registry.
    pub registry: RegistryLimits,
    /// Where the time is read.
    pub clock: Clock,
}

impl Settings {
    /// Everything else at its default.
    pub fn new(api: ApiSettings, tunnel_listen: SocketAddr) -> Self {
        Self {
            api,
            tunnel_listen,
            data_dir: None,
            names: Vec::new(),
            naming: Naming::default(),
            limits: Limits::default(),
            mqtt: MqttSettings::default(),
            registry: RegistryLimits::default(),
            clock: Clock::default(),
        }
    }
}

/// The embedded notifier.
#[derive(Clone, Debug, Default)]
pub struct MqttSettings {
    /// A port of its own for devices; port 0 takes any. With or without it, they reach the broker on the
    /// API's port by the ALPN name `x-amzn-mqtt-ca`.
    pub listen: Option<SocketAddr>,
    /// Bounds of its connections.
    pub limits: BrokerLimits,
    /// Bounds of what it keeps.
    pub mailbox: MailboxLimits,
}

/// The API's listener: an address that only this machine reaches.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    listen: SocketAddr,
    /// Bounds of its connections.
    pub connections: ConnectionLimits,
}

impl ApiSettings {
    /// Takes loopback addresses only; port 0 takes any port.
    pub fn new(listen: SocketAddr) -> Result<Self, NotLoopback> {
        if !listen.ip().is_loopback() {
            return Err(NotLoopback(listen));
        }
        Ok(Self {
            listen,
            connections: ConnectionLimits::default(),
        })
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }
}

/// An address that others could reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the API cannot listen on {0}: its requests are not signed, so whoever reaches it can open and close \
     tunnels; listen on 127.0.0.1 or [::1], and reach it from elsewhere through ssh -L"
)]
pub struct NotLoopback(pub SocketAddr);

/// Bounds on what one connection, and all of them, may hold up.
///
/// A client that does nothing right keeps a connection for at most `lifetime` plus `drain_timeout`.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Connections at one time; more wait in the kernel's queue. About 50 KiB each while busy.
    pub connections_max: usize,
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
            ApiSettings::new(good.parse().unwrap()).unwrap();
        }
        for bad in [
            "0.0.0.0:8443",
            "[::]:8443",
            "192.0.2.1:1",
            "[2001:db8::1]:1",
            "[::ffff:192.0.2.1]:1",
        ] {
            let error = ApiSettings::new(bad.parse().unwrap()).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(bad), "{text}");
            assert!(
                text.contains("not signed") && text.contains("127.0.0.1"),
                "{text}"
            );
        }
    }
}
