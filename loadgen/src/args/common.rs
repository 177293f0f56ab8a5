//! Arguments that all profiles share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::quantity::{address, duration, rate};
use crate::account::SubjectSpec;
use crate::threshold::Threshold;

/// How load is offered, where, and what is reported.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// What is under test.
    #[command(flatten)]
    pub place: Place,
    /// What becomes of the figures.
    #[command(flatten)]
    pub output: Output,
    /// How long load is offered: 30s, 500ms, 2m
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub duration: Duration,
    /// Operations a second over all connections, begun on schedule whatever the answers do (open model). By default
    /// latency 1000, mixed 100, churn 100, http-mix 100; ssh-typing 3 for each connection
    #[arg(long, value_parser = rate, value_name = "PER_SECOND", conflicts_with = "closed")]
    pub rate: Option<f64>,
    /// Each connection begins its next operation once the last one is answered (closed model)
    #[arg(long)]
    pub closed: bool,
    /// Connections held open. By default latency 1, bulk 1, mixed 2, churn 64, idle 1000, stall 50, ssh-typing 20,
    /// http-mix 20
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Threads that offer load; of mixed, those that carry bulk: what is interactive has one of its own
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,
    /// Search for the highest rate until this holds: --ramp until 'p99>5ms'. Begins at --rate; each rate runs for
    /// --duration. Bytes that are lost or wrong at any rate end it, with exit code 1
    #[arg(long, num_args = 1..=2, value_names = ["until", "CONDITION"])]
    pub ramp: Option<Vec<String>>,
    /// All payloads and sizes follow from it
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Congestion control of the generator's sockets, its server of --self included, such as reno; the system's default
    /// otherwise
    #[arg(long, value_name = "NAME")]
    pub congestion: Option<String>,
    /// Kernel interface
    #[arg(long, value_enum, default_value = "auto")]
    pub io: IoChoice,
    /// How long answers are waited for once the time is up
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub grace: Duration,
}

/// What is under test, and which of its processes are accounted for.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// A TCP forwarder that leads to `adit-loadgen serve`, or that server itself: HOST:PORT, the first address of a name
    #[arg(long, value_parser = address, value_name = "ADDR")]
    pub target: Option<SocketAddr>,
    /// A whole system on loopback, started for the run; its parts are accounted for by name
    #[arg(long = "self")]
    pub own: bool,
    /// With --self: speak the tunnel's protocol in the place of its source, or of both its ends
    #[arg(long, value_enum, value_name = "ENDS", requires = "own")]
    pub play: Option<Play>,
    /// How the parts of --self are run.
    #[command(flatten)]
    pub parts: super::Parts,
    /// A tunnel, by its tokens.
    #[command(flatten)]
    pub tunnel: super::Tunnel,
    /// A process under test, whose CPU and memory are reported; may be repeated
    #[arg(long, value_name = "PID[=NAME]")]
    pub pid: Vec<SubjectSpec>,
    /// The same for all processes of a control group; may be repeated
    #[arg(long, value_name = "DIR")]
    pub cgroup: Vec<PathBuf>,
}

/// Ends of a tunnel that are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Play {
    /// The source; the device's side is real.
    Source,
    /// Both: the relay is driven alone.
    Both,
}

/// What becomes of the figures.
#[derive(Debug, clap::Args)]
pub struct Output {
    /// Directory for summary.json, the interval log, the series and the plots
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// End with exit code 3 if this holds, such as 'p99>5ms', 'rate<10k/s', 'errors>0'; may be repeated
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<Threshold>,
    /// A line each second, also on a terminal
    #[arg(long, conflicts_with = "quiet")]
    pub lines: bool,
    /// Nothing until the end
    #[arg(long)]
    pub quiet: bool,
}

/// Kernel interface of the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum IoChoice {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// epoll.
    Epoll,
}
