//! `mqtts://HOST:PORT`: where the broker is.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Where the broker is, and whether TLS is spoken with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    is_secure: bool,
    host: String,
    port: u16,
}

impl BrokerAddress {
    /// `mqtts`, not `mqtt`.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// A name or an address, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host as it stands before a colon and a port.
    pub(crate) fn bracketed_host(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        }
    }
}

impl FromStr for BrokerAddress {
    type Err = BrokerAddressError;

    /// Without a port: 8883 for `mqtts`, 1883 for `mqtt`.
    fn from_str(text: &str) -> Result<Self, BrokerAddressError> {
        let (is_secure, rest) = match text.split_once("://") {
            Some(("mqtts", rest)) => (true, rest),
            Some(("mqtt", rest)) => (false, rest),
            _ => return Err(BrokerAddressError::Scheme),
        };
        if rest.contains('@') {
            return Err(BrokerAddressError::Login);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split(rest).ok_or(BrokerAddressError::Host)?;
        let port = match port {
            None if is_secure => 8883,
            None => 1883,
            Some(port) => parse_port(port).ok_or(BrokerAddressError::Port)?,
        };
        let address = Self {
            is_secure,
            host: host.to_ascii_lowercase(),
            port,
        };
        if !is_secure && !is_loopback(&address.host) {
            return Err(BrokerAddressError::Plain);
        }
        Ok(address)
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "mqtts" } else { "mqtt" };
        write!(f, "{scheme}://{}:{}", self.bracketed_host(), self.port)
    }
}

/// Why a text is no address of a broker. It is not shown: a slip may have put a password into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerAddressError {
    /// Something else than `mqtts://` or `mqtt://`.
    #[error("it does not start with mqtts:// or mqtt://")]
    Scheme,
    /// Name and password in the URL, where every user of the machine could read them.
    #[error("name and password go into the file of --mqtt-broker-credentials, not into the URL")]
    Login,
    /// No name and no address.
    #[error("behind the slashes stands no host: a name, an IPv4 address or an [IPv6] address")]
    Host,
    /// No port that can be connected to.
    #[error("the port is no number from 1 to 65535")]
    Port,
    /// Tokens would go over a network for everybody to read.
    #[error("mqtt:// sends tokens unprotected and is for a broker on localhost only; use mqtts://")]
    Plain,
}

/// Host without brackets, and port.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_host = !host.is_empty() && host.len() <= HOST_SIZE_MAX;
    (is_host && host.bytes().all(is_host_byte)).then_some((host, port))
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The longest name that DNS has, in bytes.
const HOST_SIZE_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read_and_shown() {
        for (text, shown) in [
            ("mqtts://Broker.example", "mqtts://broker.example:8883"),
            ("mqtts://broker.example:443/", "mqtts://broker.example:443"),
            ("mqtts://[2001:db8::1]:1", "mqtts://[2001:db8::1]:1"),
            ("mqtts://192.0.2.1", "mqtts://192.0.2.1:8883"),
            ("mqtt://localhost", "mqtt://localhost:1883"),
            ("mqtt://127.0.0.9:7", "mqtt://127.0.0.9:7"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
        ] {
            let address: BrokerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
        }
    }

    #[test]
    fn everything_else_is_refused_by_its_reason() {
        use BrokerAddressError::*;
        for (text, error) in [
            ("", Scheme),
            ("broker.example:8883", Scheme),
            ("tcp://broker.example", Scheme),
            ("mqtts://u:tweet@broker.example", Login),
            ("mqtts://", Host),
            ("mqtts://:8883", Host),
            ("mqtts://2001:db8::1", Port),
            ("mqtts://[2001:db8::1", Host),
            ("mqtts://[broker]", Host),
            ("mqtts://[::1]8883", Host),
            ("mqtts://b/topic", Host),
            ("mqtts://b:0", Port),
            ("mqtts://b:65536", Port),
            ("mqtts://b:+1", Port),
            ("mqtts://b:", Port),
            ("mqtt://broker.example", Plain),
            ("mqtt://192.0.2.1:1883", Plain),
            ("mqtt://[2001:db8::1]", Plain),
        ] {
            assert_eq!(text.parse::<BrokerAddress>(), Err(error), "{text}");
        }
    }
}
