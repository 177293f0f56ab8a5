//! Arguments of the profiles about many tunnels.

use std::time::Duration;

use super::quantity::duration;
use super::{Output, Parts, message_size};
use crate::tunnels::Cut;

/// Arguments of `storm`.
#[derive(Debug, clap::Args)]
pub struct Storm {
    /// How the system's parts are run.
    #[command(flatten)]
    pub parts: Parts,
    /// What becomes of the figures.
    #[command(flatten)]
    pub output: Output,
    /// How the tunnels are cut
    #[arg(long, value_enum, default_value = "restart")]
    pub cut: Cut,
    /// How long the service is away, with --cut restart
    #[arg(long, default_value = "100ms", value_parser = duration, value_name = "TIME")]
    pub outage: Duration,
    /// How long tunnels may take to come back
    #[arg(long, default_value = "120s", value_parser = duration, value_name = "TIME")]
    pub patience: Duration,
    /// All payloads follow from it
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Arguments of `many-tunnels`.
#[derive(Debug, clap::Args)]
pub struct ManyTunnels {
    /// How the system's parts are run.
    #[command(flatten)]
    pub parts: Parts,
    /// What becomes of the figures.
    #[command(flatten)]
    pub output: Output,
    /// Tunnels, of all, that are active
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub active: usize,
    /// Rounds: in each the active tunnels are driven by themselves, and beside the idle ones
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub rounds: usize,
    /// Time of all rounds together
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub duration: Duration,
    /// Bytes of a request, headers included
    #[arg(long, default_value = "64", value_parser = message_size, value_name = "BYTES")]
    pub size: usize,
    /// Bytes of its answer
    #[arg(long, default_value = "64", value_parser = message_size, value_name = "BYTES")]
    pub reply_size: usize,
    /// All payloads follow from it
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}
