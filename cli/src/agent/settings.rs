//! What an agent will do: checked, nothing left to interpret.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use adit_proto::notification::Region;

use super::identity::Identity;
use super::services::ServiceMap;
use crate::settings::WebProxy;
use crate::settings::limits::Limits;
use crate::settings::service::ServiceAddress;
use adit_engine::ring::IoChoice;

/// Everything that an agent needs.
#[derive(Debug)]
pub struct AgentSettings {
    /// Who this device is; its MQTT client id.
    pub thing: Thing,
    /// Where notifications come from.
    pub endpoint: ServiceAddress,
    /// TLS towards both endpoints.
    pub identity: Identity,
    /// The only region whose tunnels are taken; `None`: any.
    pub region: Option<Region>,
    /// Where tunnels are carried; `None`: AWS's endpoint of the notification's region.
    pub tunnel_endpoint: Option<ServiceAddress>,
    /// Which services there are.
    pub services: ServiceMap,
    /// Bounds.
    pub limits: AgentLimits,
    /// Where tunnels are remembered over a restart.
    pub state_dir: PathBuf,
    /// The operator's program for each tunnel.
    pub on_tunnel: Option<PathBuf>,
    /// Kernel interface of the data path.
    pub io: IoChoice,
    /// The way out for tunnels, if the environment names one.
    pub web_proxy: Option<WebProxy>,
    /// The file, to be read again on SIGHUP.
    pub config: PathBuf,
}

/// Where tunnels of a region are carried, unless the operator says otherwise (control-plane
/// specification, section 13.3).
pub fn tunnel_endpoint_of(region: &Region) -> ServiceAddress {
    let suffix = if region.as_str().starts_with("cn-") {
        ".cn"
    } else {
        ""
    };
    ServiceAddress {
        host: format!("data.tunneling.iot.{region}.amazonaws.com{suffix}"),
        port: 443,
    }
}

/// Name of a thing: 1 to 128 of `[a-zA-Z0-9:_-]`, as AWS has it. None of these means anything in a
/// topic, so that a name cannot widen what is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing(String);

impl Thing {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Thing {
    type Err = InvalidThing;

    fn from_str(text: &str) -> Result<Self, InvalidThing> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":_-".contains(&byte);
        if !(1..=128).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(InvalidThing);
        }
        Ok(Self(text.to_owned()))
    }
}

/// The text is no name of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no name of a thing: it has 1 to 128 letters, digits, `:`, `_` and `-`")]
pub struct InvalidThing;

/// Bounds of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentLimits {
    /// Tunnels at a time. One more waits for an end, a while, and is refused then; nothing else suffers.
    pub tunnels: u32,
    /// Local connections of one tunnel at a time.
    pub connections: u32,
    /// Between two pings of a tunnel.
    pub ping_interval: Duration,
    /// Open connections may go on for so long when the agent ends.
    pub drain_timeout: Duration,
}

impl AgentLimits {
    /// Each tunnel may hold [`Limits::tunnel_buffer_size`]: 1,000 × 8 MiB = 8 GiB at the very worst.
    pub const TUNNELS: RangeInclusive<u32> = 1..=1_000;
}

impl Default for AgentLimits {
    /// As many tunnels as AWS's own agents carry (control-plane specification, section 13.1).
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            tunnels: 20,
            connections: limits.connections_max,
            ping_interval: limits.ping_interval,
            drain_timeout: limits.drain_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_regions_are_those_of_aws() {
        for (region, host) in [
            ("eu-west-1", "data.tunneling.iot.eu-west-1.amazonaws.com"),
            (
                "cn-north-1",
                "data.tunneling.iot.cn-north-1.amazonaws.com.cn",
            ),
        ] {
            let address = tunnel_endpoint_of(&region.parse().unwrap());
            assert_eq!(address.to_string(), format!("{host}:443"));
        }
    }

    #[test]
    fn a_thing_cannot_widen_its_topic() {
        for text in ["lamp-17", "a:b_c", &"t".repeat(128)] {
            assert_eq!(text.parse::<Thing>().unwrap().as_str(), text);
        }
        for text in ["", "+", "#", "a/b", "lamp 17", "lämp", &"t".repeat(129)] {
            assert_eq!(text.parse::<Thing>(), Err(InvalidThing), "{text}");
        }
    }
}
