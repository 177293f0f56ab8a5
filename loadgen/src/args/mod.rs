//! What was typed, before anyone asks whether it makes sense.

pub mod common;
pub mod quantity;
pub mod system;
pub mod tunnel;
pub mod tunnels;

use adit_verify::{MESSAGE_SIZE_MAX, MESSAGE_SIZE_MIN};
use clap::{Parser, Subcommand};

pub use common::{Common, IoChoice, Output, Place};
use quantity::size;

pub use system::{Parts, System};
pub use tunnel::Tunnel;
pub use tunnels::{ManyTunnels, Storm};

/// Offers load to a TCP forwarder or a tunnel, verifies every byte, and measures.
///
/// Exit codes: 0 all went well; 1 a byte was wrong or the run failed; 2 the command line cannot be used; 3 a
/// threshold was crossed; 5 the target cannot be reached.
#[derive(Debug, Parser)]
#[command(name = "adit-loadgen", version, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// What the command takes about a tunnel by its tokens, if it takes any.
    pub(crate) fn tunnel(&self) -> Option<&Tunnel> {
        match &self.command {
            Command::Latency { common, .. }
            | Command::Bulk { common, .. }
            | Command::Mixed { common, .. }
            | Command::Churn { common, .. }
            | Command::Idle { common }
            | Command::Stall { common }
            | Command::SshTyping { common }
            | Command::HttpMix { common } => Some(&common.place.tunnel),
            Command::Serve(serve) => Some(&serve.tunnel),
            Command::Storm(_)
            | Command::ManyTunnels(_)
            | Command::System(_)
            | Command::Part
            | Command::Report(_)
            | Command::Compare(_) => None,
        }
    }
}

/// The profiles, and what goes with them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Round trips of small messages
    Latency {
        /// How it is offered, where, and what is reported.
        #[command(flatten)]
        common: Common,
        /// What is asked.
        #[command(flatten)]
        sizes: Sizes,
    },
    /// As much as goes through, up, down or both; how evenly it is shared among the connections
    Bulk {
        /// How it is offered, where, and what is reported.
        #[command(flatten)]
        common: Common,
        /// Which way the bytes go, seen from the generator
        #[arg(long, value_enum, default_value = "up")]
        direction: Direction,
    },
    /// Round trips on some connections, while bulk fills the others
    Mixed {
        /// How it is offered, where, and what is reported.
        #[command(flatten)]
        common: Common,
        /// What is asked on the interactive connections.
        #[command(flatten)]
        sizes: Sizes,
        /// Which way the bulk goes, seen from the generator
        #[arg(long, value_enum, default_value = "up")]
        direction: Direction,
        /// Connections, of all, that are interactive. Each asks one at a time: where an answer takes 4 ms beside bulk, one
        /// of them makes 250 round trips a second and no more, whatever --rate says
        #[arg(long, default_value_t = 1, value_name = "N")]
        interactive: usize,
    },
    /// Connections that live for one round trip; --connections is how many there may be at once
    Churn {
        /// How it is offered, where, and what is reported.
        #[command(flatten)]
        common: Common,
        /// What is asked on each.
        #[command(flatten)]
        sizes: Sizes,
    },
    /// Connections that are held open; each has to carry a verified round trip at the end
    Idle {
        /// How it is offered, where, and what is reported.
        #[command(flatten)]
        common: Common,
    },
    /// One of many readers of bulk stops reading: the rates of the others before and after
    Stall {
        /// How it is offered, where, and what is reported.
        #[command(flatten)]
        common: Common,
    },
    /// People who type into shells: small packets at times of their own
    SshTyping {
        /// How it is offered, where, and what is reported.
        #[command(flatten)]
        common: Common,
    },
    /// Requests and answers of the web's sizes, on connections that end after up to a hundred of them
    HttpMix {
        /// How it is offered, where, and what is reported.
        #[command(flatten)]
        common: Common,
    },
    /// The verifying server that all profiles talk to at the far end
    Serve(Serve),
    /// All tunnels of a system are cut at once: how long until each carries verified bytes again
    Storm(Storm),
    /// Many tunnels on one relay, some of them active: what the idle ones cost
    ManyTunnels(ManyTunnels),
    /// A whole system on loopback, kept up until Ctrl-C: says where it listens, its processes and its tokens
    System(System),
    /// A part of a system, told on standard input what to be
    #[command(hide = true)]
    Part,
    /// Print a run that was saved with --out
    Report(crate::report::Args),
    /// Judge runs that were saved with --out against each other
    ///
    /// Exit codes: 0 nothing got worse; 1 a byte was wrong in a run; 2 the runs cannot be compared; 3 something got
    /// worse; 4 there are too few runs to tell.
    Compare(crate::compare::Args),
}

/// Sizes of a round trip.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Sizes {
    /// Bytes of a request, headers included
    #[arg(long, default_value = "64", value_parser = message_size, value_name = "BYTES")]
    pub size: usize,
    /// Bytes of its answer
    #[arg(long, default_value = "64", value_parser = message_size, value_name = "BYTES")]
    pub reply_size: usize,
}

fn message_size(text: &str) -> Result<usize, String> {
    match size(text)? {
        fits @ MESSAGE_SIZE_MIN..=MESSAGE_SIZE_MAX => Ok(fits),
        _ => Err(format!(
            "a message has {MESSAGE_SIZE_MIN} bytes (its header and hash) to {MESSAGE_SIZE_MAX}"
        )),
    }
}

/// Where the bulk of the bytes goes, seen from the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// From the generator to the server.
    Up,
    /// From the server to the generator.
    Down,
    /// Both at once, on each connection.
    Both,
}

impl Direction {
    /// As it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Both => "both",
        }
    }
}

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Where to listen; port 0 picks a free one, which is printed
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub listen: std::net::SocketAddr,
    /// Threads, each with a listener of its own on the port
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,
    /// Congestion control of its sockets, such as reno; the system's default otherwise
    #[arg(long, value_name = "NAME")]
    pub congestion: Option<String>,
    /// Kernel interface
    #[arg(long, value_enum, default_value = "auto")]
    pub io: IoChoice,
    /// Behind a tunnel instead of at an address: plays its destination.
    #[command(flatten)]
    pub tunnel: Tunnel,
}
