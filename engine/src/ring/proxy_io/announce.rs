//! What is logged of single connections.

use super::ProxyIo;
use crate::ring::socket::Address;
use crate::tunnel::endpoint::Endpoint;

impl ProxyIo {
    /// Logs what names a single connection: in the reference's words, which scripts wait for
    /// (specification 13.2), and only to those who asked for it, since addresses are private.
    pub(super) fn announce(&self, text: std::fmt::Arguments<'_>) {
        if self.options.announces_connections {
            tracing::info!("{text}");
        } else {
            tracing::debug!("{text}");
        }
    }

    /// Whether anybody sees what is announced: to ask the system for the addresses in it costs calls.
    pub(super) fn announces(&self) -> bool {
        self.options.announces_connections || tracing::enabled!(tracing::Level::DEBUG)
    }

    /// The name of a service, for the log; empty in a tunnel without services.
    pub(super) fn service_text(&self, service: u32) -> &str {
        self.proxy.service_id(service).map_or("", |id| id.as_str())
    }

    /// Where a service listens or is dialled, for the log; a port alone gets the host that stands
    /// for it.
    pub(super) fn endpoint_text(&self, service: u32) -> String {
        match self.proxy.endpoint(service) {
            Some(Endpoint::Tcp { host: None, port }) => Endpoint::Tcp {
                host: Some(self.options.default_host.clone()),
                port: *port,
            }
            .to_string(),
            Some(endpoint) => endpoint.to_string(),
            None => String::new(),
        }
    }
}

pub(super) fn port_text(address: &Address) -> String {
    match address {
        Address::Ip(address) => address.port().to_string(),
        Address::Unix(path) => path.display().to_string(),
    }
}

pub(super) fn peer_text(address: &Address) -> String {
    match address {
        Address::Ip(address) => format!("{}, port: {}", address.ip(), address.port()),
        Address::Unix(path) => path.display().to_string(),
    }
}
