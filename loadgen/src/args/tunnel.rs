//! Arguments about a tunnel that is driven by its tokens.

use std::path::PathBuf;

use adit_proto::AccessToken;

use crate::direct::Endpoint;

/// A tunnel of somebody else's, and which of its ends are played.
#[derive(Debug, clap::Args)]
pub struct Tunnel {
    /// Service of a tunnel that is driven by its tokens: wss://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<Endpoint>,
    /// The same by AWS region
    #[arg(short, long, value_name = "REGION", conflicts_with = "endpoint")]
    pub region: Option<String>,
    /// Authorities to trust besides the system's: a PEM file, or a directory of them
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Play the source, with this token. The command line can be seen by others: prefer the variable
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    #[arg(env = "ADIT_LOADGEN_SOURCE_TOKEN", hide_env_values = true)]
    pub source_token: Option<AccessToken>,
    /// Play the destination, with this token: a verifying server stands behind every connection
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    #[arg(env = "ADIT_LOADGEN_DESTINATION_TOKEN", hide_env_values = true)]
    pub destination_token: Option<AccessToken>,
}

/// The text itself is in no message.
fn token(text: &str) -> Result<AccessToken, String> {
    AccessToken::new(text.to_owned()).map_err(|error| error.to_string())
}
