//! `endpoints.json`: where a running service is found, for scripts that started it with port 0.

use std::net::SocketAddr;

use serde::Serialize;

use crate::data_dir::{DataDir, DataDirError};

/// Where clients reach the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// URL for AWS clients, like `https://localhost:8443`.
    pub api: String,
    /// Endpoint for proxies, like `localhost:8444`.
    pub tunnel: String,
    /// Host and port for devices, like `localhost:8883`, when there is a port for them alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<String>,
}

impl Endpoints {
    pub(crate) fn new(api: SocketAddr, tunnel: SocketAddr, mqtt: Option<SocketAddr>) -> Self {
        Self {
            api: format!("https://{}", endpoint(api)),
            tunnel: endpoint(tunnel),
            mqtt: mqtt.map(endpoint),
        }
    }

    /// Tells whoever waits for the file that all listeners are ready.
    pub(crate) fn write(&self, dir: &DataDir) -> Result<(), DataDirError> {
        let mut text = serde_json::to_string_pretty(self).expect("texts become JSON");
        text.push('\n');
        dir.write(ENDPOINTS_JSON, text.as_bytes(), 0o644)
    }

    /// Removes the file: at a clean stop, and at a start, where one was left behind by a crash.
    pub(crate) fn remove(dir: &DataDir) -> Result<(), DataDirError> {
        dir.remove(ENDPOINTS_JSON)
    }
}

/// A name that leads to the listener from this machine and stands in the certificate.
fn endpoint(address: SocketAddr) -> String {
    let ip = address.ip();
    let is_localhost = ip == std::net::Ipv4Addr::LOCALHOST || ip == std::net::Ipv6Addr::LOCALHOST;
    if is_localhost || ip.is_unspecified() {
        return format!("localhost:{}", address.port());
    }
    address.to_string()
}

const ENDPOINTS_JSON: &str = "endpoints.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_names_that_lead_there() {
        for (address, expected) in [
            ("127.0.0.1:8443", "localhost:8443"),
            ("[::1]:1", "localhost:1"),
            ("0.0.0.0:443", "localhost:443"),
            ("[::]:443", "localhost:443"),
            ("192.0.2.7:443", "192.0.2.7:443"),
            ("127.0.0.2:443", "127.0.0.2:443"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ] {
            assert_eq!(endpoint(address.parse().unwrap()), expected);
        }
    }
}
