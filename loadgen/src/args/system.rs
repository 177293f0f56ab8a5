//! Arguments about a whole system on loopback.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// How the parts of a system are run, with `system` and with `--self`.
#[derive(Debug, clap::Args)]
pub struct Parts {
    /// Tunnels of the system. By default 1, with storm 100, with many-tunnels 1000
    #[arg(long, value_name = "N")]
    pub tunnels: Option<usize>,
    /// Kernel interface of relay and proxies: auto, uring or epoll
    #[arg(long, default_value = "auto", value_name = "INTERFACE")]
    pub system_io: adit_engine::ring::IoChoice,
    /// Who seals and opens the TLS records of relay and proxies
    #[arg(long, value_enum, default_value = "in-place")]
    pub tls_records: TlsRecords,
    /// Loops of the relay; one a core otherwise
    #[arg(long, value_name = "N")]
    pub relay_loops: Option<NonZeroUsize>,
}

/// Who seals and opens TLS records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TlsRecords {
    /// The TLS library.
    Library,
    /// The engine's own record layer, in the caller's buffer.
    #[default]
    InPlace,
}

/// A part that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The source proxies.
    Source,
    /// The destination proxies.
    Destination,
}

/// Arguments of `system`.
#[derive(Debug, clap::Args)]
pub struct System {
    /// How its parts are run.
    #[command(flatten)]
    pub parts: Parts,
    /// Leave these proxies out, for somebody else to come with their tokens
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS")]
    pub without: Vec<Part>,
    /// What destinations dial, instead of a verifying server of the system
    #[arg(long, value_name = "ADDR")]
    pub target: Option<SocketAddr>,
    /// Connections that will be open at once: decides into how many processes the proxies are split
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub connections: usize,
    /// File to write the service's authority to, for --ca
    #[arg(long, default_value = "adit-loadgen-ca.pem", value_name = "FILE")]
    pub ca_out: PathBuf,
    /// One line of JSON instead of a table
    #[arg(long)]
    pub json: bool,
}
