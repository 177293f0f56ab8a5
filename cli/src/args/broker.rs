//! The options of `adit serve` about a broker that is there already.

use std::fmt;
use std::path::PathBuf;

use clap::Args;

/// `--mqtt-broker` and what belongs to it.
#[derive(Args)]
pub struct BrokerArgs {
    /// Publish notifications through this broker, in place of the service's own; mqtt:// on localhost only
    #[arg(
        long = "mqtt-broker",
        value_name = "mqtts://HOST:PORT",
        conflicts_with = "mqtt_listen",
        help_heading = "MQTT broker"
    )]
    pub url: Option<String>,
    /// Authorities that the broker must be certified by, PEM [default: the system's]
    #[arg(
        long = "mqtt-broker-ca",
        value_name = "FILE",
        help_heading = "MQTT broker"
    )]
    pub ca: Option<PathBuf>,
    /// The service's certificate for the broker, PEM
    #[arg(
        long = "mqtt-broker-cert",
        value_name = "FILE",
        help_heading = "MQTT broker"
    )]
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM, for nobody else to read
    #[arg(
        long = "mqtt-broker-key",
        value_name = "FILE",
        help_heading = "MQTT broker"
    )]
    pub key: Option<PathBuf>,
    /// File with user:password for the broker, for nobody else to read
    #[arg(
        long = "mqtt-broker-credentials",
        value_name = "FILE",
        help_heading = "MQTT broker"
    )]
    pub credentials: Option<PathBuf>,
}

impl fmt::Debug for BrokerArgs {
    /// Not the URL: a slip may have put a password into it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerArgs")
            .field("ca", &self.ca)
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}
