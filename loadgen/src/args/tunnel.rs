//! Arguments about a tunnel that is driven by its tokens.

use std::io;
use std::path::PathBuf;

use adit_process::{Remnants, core_files};
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
    #[arg(env = SOURCE_VARIABLE, hide_env_values = true)]
    pub source_token: Option<AccessToken>,
    /// Play the destination, with this token: a verifying server stands behind every connection
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    #[arg(env = DESTINATION_VARIABLE, hide_env_values = true)]
    pub destination_token: Option<AccessToken>,
}

impl Tunnel {
    /// Whether a token was given.
    fn has_token(&self) -> bool {
        self.source_token.is_some() || self.destination_token.is_some()
    }

    /// Takes the tokens out of the command line and the environment that the kernel shows, and leaves no core file
    /// with them. The process must have one thread only.
    ///
    /// # Errors
    /// The system does not let it.
    fn hide(&self) -> io::Result<()> {
        core_files::write_none();
        let remnants = Remnants::of_process()?;
        let tokens = [&self.source_token, &self.destination_token];
        for token in tokens.into_iter().flatten() {
            remnants.hide_argument(token.expose())?;
        }
        for variable in [SOURCE_VARIABLE, DESTINATION_VARIABLE] {
            remnants.remove_variable(variable)?;
        }
        Ok(())
    }

    /// As [`Self::hide`], if there is anything to hide; says on standard error when it cannot be done.
    pub(crate) fn hide_tokens(&self) {
        if self.has_token()
            && let Err(error) = self.hide()
        {
            eprintln!(
                "warning: tokens stay readable in the command line or the environment of this process, whose memory \
                 cannot be overwritten: {error}"
            );
        }
    }
}

const SOURCE_VARIABLE: &str = "ADIT_LOADGEN_SOURCE_TOKEN";
const DESTINATION_VARIABLE: &str = "ADIT_LOADGEN_DESTINATION_TOKEN";

/// The text itself is in no message.
fn token(text: &str) -> Result<AccessToken, String> {
    AccessToken::new(text.to_owned()).map_err(|error| error.to_string())
}
