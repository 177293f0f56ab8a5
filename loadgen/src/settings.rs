//! What was typed, checked: nothing is left to interpret.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::args::{self, Args, Command, Common, Direction, IoChoice, Serve};
use crate::compare;
use crate::drive::check_congestion;
use crate::exit::Error;
use crate::report::{self, Show};
use crate::server::ServeSettings;
use crate::system::KeepUp;
use crate::threshold::{Ramp, Threshold};
use crate::tunnels::{ManySettings, StormSettings};

/// The one thing to do.
#[derive(Debug)]
pub enum Settings {
    /// Offer load.
    Drive(Box<Drive>),
    /// Be the far end.
    Serve(ServeSettings),
    /// Cut all tunnels of a system.
    Storm(Box<StormSettings>),
    /// Drive a few of many tunnels.
    Many(Box<ManySettings>),
    /// Keep a whole system up.
    System(Box<KeepUp>),
    /// Be a part of a system.
    Part,
    /// Print a run that was saved.
    Report(report::Args),
    /// Judge runs that were saved.
    Compare(compare::Args),
}

/// Everything a run needs to know.
#[derive(Debug)]
pub struct Drive {
    /// What is offered.
    pub profile: Profile,
    /// Where.
    pub place: Place,
    /// By which clock.
    pub model: Model,
    /// How long.
    pub duration: Duration,
    /// How long answers are waited for once the time is up.
    pub grace: Duration,
    /// Connections held open, over all threads; 1..=[`CONNECTIONS_MAX`].
    pub connections: usize,
    /// Worker threads; 1..=[`THREADS_MAX`], never more than connections.
    pub threads: usize,
    /// All payloads and sizes follow from it.
    pub seed: u64,
    /// Congestion control of the generator's sockets; the system's default otherwise.
    pub congestion: Option<String>,
    /// Kernel interface.
    pub io: IoChoice,
    /// What becomes of the figures.
    pub output: Output,
}

/// What is offered, with what only this profile knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Profile {
    /// Round trips of small messages.
    Latency {
        /// Bytes of a request.
        size: usize,
        /// Bytes of its answer.
        reply_size: usize,
    },
    /// As much as goes through.
    Bulk(Direction),
}

/// What is under test.
#[derive(Debug)]
pub enum Place {
    /// A TCP address that leads to the verifying server.
    Target(SocketAddr),
}

/// When the next request begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Model {
    /// On schedule, this many a second over all connections, whatever the answers do.
    Open {
        /// Requests a second.
        rate: f64,
    },
    /// Once the last one is answered.
    Closed,
}

/// What becomes of the figures.
#[derive(Debug)]
pub struct Output {
    /// Directory for the files, made if need be.
    pub directory: Option<PathBuf>,
    /// What is shown meanwhile.
    pub show: Show,
    /// When the run has failed.
    pub thresholds: Vec<Threshold>,
    /// What ends the search for the highest rate, if there is to be one.
    pub ramp: Option<Threshold>,
}

impl Settings {
    /// Checks what was typed.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn of(args: Args) -> Result<Self, Error> {
        let (common, profile) = match args.command {
            Command::Serve(serve) => {
                return Ok(Self::Serve(far_end(serve)?));
            }
            Command::System(args) => return Ok(Self::System(Box::new(KeepUp::of(args)?))),
            Command::Storm(args) => return Ok(Self::Storm(Box::new(StormSettings::of(args)?))),
            Command::ManyTunnels(args) => {
                return Ok(Self::Many(Box::new(ManySettings::of(args)?)));
            }
            Command::Part => return Ok(Self::Part),
            Command::Report(report) => return Ok(Self::Report(report)),
            Command::Compare(compare) => return Ok(Self::Compare(compare)),
            Command::Latency {
                common,
                size,
                reply_size,
            } => (common, Profile::Latency { size, reply_size }),
            Command::Bulk { common, direction } => (common, Profile::Bulk(direction)),
        };
        Ok(Self::Drive(Box::new(Drive::of(common, profile)?)))
    }
}

impl Drive {
    fn of(common: Common, profile: Profile) -> Result<Self, Error> {
        let connections = common.connections.unwrap_or(1);
        within("--connections", connections, CONNECTIONS_MAX)?;
        within("--threads", common.threads, THREADS_MAX)?;
        let Some(target) = common.place.target else {
            return Err(Error::usage(
                "there is nothing to drive",
                "give --target ADDR, where ADDR leads to `adit-loadgen serve`",
            ));
        };
        Ok(Self {
            profile,
            place: Place::Target(target),
            model: match common.rate {
                Some(rate) => Model::Open { rate },
                None => Model::Closed,
            },
            duration: common.duration,
            grace: common.grace,
            connections,
            threads: common.threads.min(connections),
            seed: common.seed,
            congestion: congestion(common.congestion)?,
            io: common.io,
            output: Output::of(common.output)?,
        })
    }
}

impl Output {
    pub(crate) fn of(typed: args::Output) -> Result<Self, Error> {
        let ramp = typed.ramp.as_deref().map(Ramp::parse).transpose();
        let ramp =
            ramp.map_err(|error| Error::usage(error, "write it as --ramp until 'p99>5ms'"))?;
        let show = match (typed.lines, typed.quiet) {
            (_, true) => Show::Nothing,
            (true, false) => Show::Lines,
            (false, false) => Show::Auto,
        };
        Ok(Self {
            directory: typed.out,
            show,
            thresholds: typed.fail_if,
            ramp,
        })
    }
}

fn far_end(args: Serve) -> Result<ServeSettings, Error> {
    within("--threads", args.threads, THREADS_MAX)?;
    Ok(ServeSettings {
        listen: args.listen,
        threads: args.threads,
        congestion: congestion(args.congestion)?,
        io: args.io,
    })
}

fn congestion(name: Option<String>) -> Result<Option<String>, Error> {
    if let Some(name) = &name {
        check_congestion(name).map_err(|error| {
            Error::usage(
                format!("--congestion {name} cannot be used: {error}"),
                "net.ipv4.tcp_available_congestion_control lists what there is, \
                 net.ipv4.tcp_allowed_congestion_control what needs no privilege",
            )
        })?;
    }
    Ok(name)
}

pub(crate) fn within(option: &str, value: usize, max: usize) -> Result<(), Error> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::usage(
        format!("{option} {value} is out of bounds"),
        format!("it takes 1 to {max}"),
    ))
}

/// The most connections of one process, whatever its limit of descriptors.
pub const CONNECTIONS_MAX: usize = 1_000_000;

/// The most threads that offer or take load.
pub const THREADS_MAX: usize = 64;
