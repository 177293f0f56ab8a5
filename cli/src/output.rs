//! The words that scripts wait for.
//!
//! Whoever runs the tunnel turns its events into [`Notice`]s; each personality says them in its own way.
//! As `localproxy` the text is exactly that of the reference (wire specification, section 13.2), at the
//! level at which it says it. As `adit` the same events are short sentences with fields, and addresses
//! stay at debug. What names a single local connection is logged where it happens, in the engine.

use std::fmt;

use adit_engine::tunnel::mapping::MappingMismatch;
use tracing::{debug, error, info};

use crate::personality::Personality;
use crate::settings::service::ServiceAddress;

/// One thing that happened and that somebody outside may wait for.
#[derive(Clone, Debug)]
pub enum Notice<'a> {
    /// The tunnel is connected.
    Connected {
        /// The service's end.
        service: &'a ServiceAddress,
    },
    /// The service's name for this connection.
    Session {
        /// From its response header.
        channel_id: &'a str,
    },
    /// A source listens; the readiness that scripts wait for.
    Listening {
        /// The port, or the path of a Unix socket.
        place: &'a str,
        /// `None` in a tunnel without services.
        service_id: Option<&'a str>,
    },
    /// A service got its endpoint when the tunnel's services became known: a free port was picked, or the
    /// V1 form was given a name.
    Assigned {
        /// The service.
        service_id: &'a str,
        /// The port, or the endpoint as typed.
        place: &'a str,
    },
}

impl fmt::Display for Notice<'_> {
    /// The reference's line, without time, thread and level.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { service } => write!(
                f,
                "Successfully established websocket connection with proxy server: wss://{service}"
            ),
            Self::Session { channel_id } => write!(f, "Web socket session ID: {channel_id}"),
            Self::Listening { place, .. } => {
                write!(f, "Listening for new connection on port {place}")
            }
            Self::Assigned { service_id, place } => write!(f, "{service_id} = {place}"),
        }
    }
}

impl Notice<'_> {
    /// Puts it into the log.
    pub fn tell(&self, personality: Personality) {
        if personality == Personality::Localproxy {
            info!("{self}");
            return;
        }
        match self {
            Self::Connected { service } => info!(%service, "tunnel connected"),
            Self::Session { channel_id } => debug!(channel_id, "session opened"),
            Self::Listening {
                place,
                service_id: Some(service),
            } => info!(place, service, "listening"),
            Self::Listening {
                place,
                service_id: None,
            } => info!(place, "listening"),
            Self::Assigned { service_id, place } => {
                info!(service = service_id, place, "endpoint assigned");
            }
        }
    }
}

/// Says that the mapping does not fit the services of the tunnel; the process ends after it.
pub fn tell_mismatch(mismatch: &MappingMismatch, personality: Personality) {
    match personality {
        Personality::Adit => error!("{mismatch}"),
        Personality::Localproxy => error!("{} ({mismatch})", mismatch_text(mismatch)),
    }
}

/// The reference's sentence for it (section 11.3). It has none for the V1 form on a tunnel with several
/// services, where it stays up and does nothing.
pub fn mismatch_text(mismatch: &MappingMismatch) -> &'static str {
    match mismatch {
        MappingMismatch::NotInTable { .. } => "Not enough the service ids are found",
        MappingMismatch::NothingMapped { .. } => "No port mapping exists",
        _ => "Wrong configurations detected in local proxy",
    }
}

/// What the reference prints first on standard output, on every run. Scripts compare its version.
pub const BANNER: &str = "Running AWS IoT Secure Tunneling Local Proxy version: v3.3.1";

/// What we really are; logged at info behind the banner.
pub const SELF: &str = concat!(
    "this is adit ",
    env!("CARGO_PKG_VERSION"),
    " in place of localproxy v3.3.1"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_reference() {
        let service = ServiceAddress {
            host: "example.org".into(),
            port: 443,
        };
        for (notice, line) in [
            (
                Notice::Connected { service: &service },
                "Successfully established websocket connection with proxy server: wss://example.org:443",
            ),
            (
                Notice::Session {
                    channel_id: "0a-1b",
                },
                "Web socket session ID: 0a-1b",
            ),
            (
                Notice::Listening {
                    place: "5555",
                    service_id: Some("SSH"),
                },
                "Listening for new connection on port 5555",
            ),
            (
                Notice::Assigned {
                    service_id: "SSH",
                    place: "37635",
                },
                "SSH = 37635",
            ),
        ] {
            assert_eq!(notice.to_string(), line);
        }
    }
}
