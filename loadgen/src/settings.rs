//! What was typed, checked: nothing is left to interpret.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use adit_proto::Mode;

use crate::account::SubjectSpec;
use crate::args::{self, Args, Command, Common, Direction, IoChoice, Serve, Sizes};
use crate::compare;
use crate::direct::LinkSettings;
use crate::drive::check_congestion;
use crate::exit::Error;
use crate::place::{self, Place};
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
    /// Be the far end of a tunnel.
    Answer(Box<LinkSettings>),
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
#[derive(Clone, Debug)]
pub struct Drive {
    /// What is offered.
    pub profile: Profile,
    /// Where.
    pub place: Place,
    /// Whose CPU and memory are reported.
    pub subjects: Vec<SubjectSpec>,
    /// By which clock.
    pub model: Model,
    /// How long.
    pub duration: Duration,
    /// How long answers are waited for once the time is up.
    pub grace: Duration,
    /// Connections held open, over all threads; 1..=[`CONNECTIONS_MAX`].
    pub connections: usize,
    /// Worker threads; 1..=[`THREADS_MAX`], never more than connections. Of `mixed`, those that carry bulk, and one more
    /// for all that is interactive.
    pub threads: usize,
    /// All payloads and sizes follow from it.
    pub seed: u64,
    /// Congestion control of the generator's sockets; the system's default otherwise.
    pub congestion: Option<String>,
    /// Kernel interface.
    pub io: IoChoice,
    /// What becomes of the figures.
    pub output: Output,
    /// What ends the search for the highest rate, if there is to be one.
    pub ramp: Option<Threshold>,
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
    /// Round trips while bulk goes through.
    Mixed {
        /// Which way the bulk goes.
        direction: Direction,
        /// The first so many connections are interactive; 1..connections.
        interactive: usize,
        /// Bytes of a request.
        size: usize,
        /// Bytes of its answer.
        reply_size: usize,
    },
    /// Connections that live for one round trip.
    Churn {
        /// Bytes of a request.
        size: usize,
        /// Bytes of its answer.
        reply_size: usize,
    },
    /// Connections that are held.
    Idle,
    /// One of many readers stops.
    Stall,
    /// People who type.
    SshTyping,
    /// Requests of the web.
    HttpMix,
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
#[derive(Clone, Debug)]
pub struct Output {
    /// Directory for the files, made if need be.
    pub directory: Option<PathBuf>,
    /// What is shown meanwhile.
    pub show: Show,
    /// When the run has failed.
    pub thresholds: Vec<Threshold>,
}

impl Settings {
    /// Checks what was typed.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn of(args: Args) -> Result<Self, Error> {
        let (common, profile) = match args.command {
            Command::Serve(serve) => {
                return far_end(serve);
            }
            Command::System(args) => return Ok(Self::System(Box::new(KeepUp::of(args)?))),
            Command::Storm(args) => return Ok(Self::Storm(Box::new(StormSettings::of(args)?))),
            Command::ManyTunnels(args) => {
                return Ok(Self::Many(Box::new(ManySettings::of(args)?)));
            }
            Command::Part => return Ok(Self::Part),
            Command::Report(report) => return Ok(Self::Report(report)),
            Command::Compare(compare) => return Ok(Self::Compare(compare)),
            Command::Latency { common, sizes } => (common, Profile::latency(sizes)),
            Command::Bulk { common, direction } => (common, Profile::Bulk(direction)),
            Command::Mixed {
                common,
                sizes,
                direction,
                interactive,
            } => {
                let profile = Profile::Mixed {
                    direction,
                    interactive,
                    size: sizes.size,
                    reply_size: sizes.reply_size,
                };
                (common, profile)
            }
            Command::Churn { common, sizes } => (common, Profile::churn(sizes)),
            Command::Idle { common } => (common, Profile::Idle),
            Command::Stall { common } => (common, Profile::Stall),
            Command::SshTyping { common } => (common, Profile::SshTyping),
            Command::HttpMix { common } => (common, Profile::HttpMix),
        };
        Ok(Self::Drive(Box::new(Drive::of(common, profile)?)))
    }
}

impl Drive {
    fn of(common: Common, profile: Profile) -> Result<Self, Error> {
        let connections = common.connections.unwrap_or(profile.connections());
        within("--connections", connections, CONNECTIONS_MAX)?;
        profile.check(connections)?;
        within("--threads", common.threads, THREADS_MAX)?;
        let congestion = congestion(common.congestion)?;
        let place = Place::of(&common.place, connections, congestion.as_deref())?;
        if matches!(place, Place::Tunnel(_) | Place::System(_, Some(_))) {
            check_played(common.threads, common.io)?;
        }
        Ok(Self {
            profile,
            place,
            subjects: common
                .place
                .pid
                .into_iter()
                .chain(common.place.cgroup.into_iter().map(SubjectSpec::Cgroup))
                .collect(),
            model: profile.model(common.rate, common.closed, connections)?,
            duration: common.duration,
            grace: common.grace,
            connections,
            threads: profile.threads(common.threads, connections),
            seed: common.seed,
            congestion,
            io: common.io,
            output: Output::of(common.output)?,
            ramp: ramp(common.ramp)?,
        })
    }
}

impl Profile {
    fn latency(sizes: Sizes) -> Self {
        let Sizes { size, reply_size } = sizes;
        Self::Latency { size, reply_size }
    }

    fn churn(sizes: Sizes) -> Self {
        let Sizes { size, reply_size } = sizes;
        Self::Churn { size, reply_size }
    }

    /// As it is called on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Bulk(_) => "bulk",
            Self::Mixed { .. } => "mixed",
            Self::Churn { .. } => "churn",
            Self::Idle => "idle",
            Self::Stall => "stall",
            Self::SshTyping => "ssh-typing",
            Self::HttpMix => "http-mix",
        }
    }

    /// What else it was told, by the names of the options.
    #[must_use]
    pub fn parameters(self) -> BTreeMap<String, String> {
        let of_sizes = |size: usize, reply: usize| {
            vec![
                ("size", size.to_string()),
                ("reply-size", reply.to_string()),
            ]
        };
        let parameters = match self {
            Self::Latency { size, reply_size } | Self::Churn { size, reply_size } => {
                of_sizes(size, reply_size)
            }
            Self::Bulk(direction) => vec![("direction", direction.name().to_owned())],
            Self::Mixed {
                direction,
                interactive,
                size,
                reply_size,
            } => {
                let mut parameters = of_sizes(size, reply_size);
                parameters.push(("direction", direction.name().to_owned()));
                parameters.push(("interactive", interactive.to_string()));
                parameters
            }
            Self::Idle | Self::Stall | Self::SshTyping | Self::HttpMix => Vec::new(),
        };
        let owned = |(name, value): (&str, String)| (name.to_owned(), value);
        parameters.into_iter().map(owned).collect()
    }

    /// Whether workers hand out even starts. The others have none, or each connection has its own.
    #[must_use]
    pub fn has_even_starts(self) -> bool {
        match self {
            Self::Latency { .. } | Self::Mixed { .. } | Self::Churn { .. } | Self::HttpMix => true,
            Self::Bulk(_) | Self::Idle | Self::Stall | Self::SshTyping => false,
        }
    }

    fn threads(self, wanted: usize, connections: usize) -> usize {
        match self {
            Self::Mixed { interactive, .. } => wanted.min(connections - interactive) + 1,
            _ => wanted.min(connections),
        }
    }

    fn connections(self) -> usize {
        match self {
            Self::Latency { .. } | Self::Bulk(_) => 1,
            Self::Mixed { .. } => 2,
            Self::Churn { .. } => 64,
            Self::Idle => 1000,
            Self::Stall => 50,
            Self::SshTyping | Self::HttpMix => 20,
        }
    }

    fn check(self, connections: usize) -> Result<(), Error> {
        match self {
            Self::Mixed { interactive, .. } if !(1..connections).contains(&interactive) => {
                Err(Error::usage(
                    format!(
                        "--interactive {interactive} of {connections} connections leaves no mixture"
                    ),
                    "it takes 1 to one less than --connections",
                ))
            }
            Self::Stall if connections < 2 => Err(Error::usage(
                "one connection has no others that could notice its stall",
                "give --connections 2 or more",
            )),
            _ => Ok(()),
        }
    }

    /// Open by default; what carries as much as goes through has no starts to schedule.
    fn model(self, rate: Option<f64>, closed: bool, connections: usize) -> Result<Model, Error> {
        let usual = match self {
            Self::Latency { .. } => 1000.0,
            Self::Mixed { .. } | Self::Churn { .. } | Self::HttpMix => 100.0,
            Self::SshTyping => 3.0 * connections as f64,
            Self::Bulk(_) | Self::Idle | Self::Stall => match rate {
                None => return Ok(Model::Closed),
                Some(_) => {
                    return Err(Error::usage(
                        format!("--rate has no meaning for {}", self.name()),
                        "leave it away: nothing is begun on a schedule there",
                    ));
                }
            },
        };
        Ok(match closed {
            true => Model::Closed,
            false => Model::Open {
                rate: rate.unwrap_or(usual),
            },
        })
    }
}

impl Output {
    pub(crate) fn of(typed: args::Output) -> Result<Self, Error> {
        let show = match (typed.lines, typed.quiet) {
            (_, true) => Show::Nothing,
            (true, false) => Show::Lines,
            (false, false) => Show::Auto,
        };
        Ok(Self {
            directory: typed.out,
            show,
            thresholds: typed.fail_if,
        })
    }
}

fn far_end(args: Serve) -> Result<Settings, Error> {
    let tunnel = &args.tunnel;
    if tunnel.source_token.is_some() {
        return Err(Error::usage(
            "a server is no source",
            "give --destination-token, or offer load with a profile",
        ));
    }
    if let Some(token) = &tunnel.destination_token {
        check_played(args.threads, args.io)?;
        let congestion = congestion(args.congestion)?;
        let link = place::link(tunnel, token, Mode::Destination, congestion.as_deref())?;
        return Ok(Settings::Answer(Box::new(link)));
    }
    within("--threads", args.threads, THREADS_MAX)?;
    Ok(Settings::Serve(ServeSettings {
        listen: args.listen,
        threads: args.threads,
        congestion: congestion(args.congestion)?,
        io: args.io,
    }))
}

/// Refuses what an end that is played cannot do.
fn check_played(threads: usize, io: IoChoice) -> Result<(), Error> {
    let refused = match (threads, io) {
        (1, IoChoice::Auto) => return Ok(()),
        (1, _) => "--io",
        _ => "--threads",
    };
    Err(Error::usage(
        format!("{refused} has no meaning for ends of a tunnel that are played"),
        "leave it out: one thread plays them, by epoll",
    ))
}

fn ramp(typed: Option<Vec<String>>) -> Result<Option<Threshold>, Error> {
    let ramp = typed.as_deref().map(Ramp::parse).transpose();
    ramp.map_err(|error| Error::usage(error, "write it as --ramp until 'p99>5ms'"))
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// What is said of a command line that cannot be used.
    fn refusal(line: &str) -> String {
        let words = ["adit-loadgen"].into_iter().chain(line.split(' '));
        match Args::try_parse_from(words) {
            Err(error) => error.to_string(),
            Ok(args) => Settings::of(args).expect_err(line).to_string(),
        }
    }

    #[test]
    fn a_number_out_of_bounds_is_refused_by_the_name_of_its_option() {
        const TIMES: &str = "0s 1e-20s 0.1us -1s 1e300s infs NaNs 31000h";
        const COUNTS: &str = "0 -1 1e3 2.5 NaN 18446744073709551615 18446744073709551616";
        const SIZES: &str = "0 -1 1e3 1e300 inf 2MiB 18446744073709551615 18446744073709551615GiB";
        let one = "latency --target 127.0.0.1:1";
        for (command, option, values) in [
            (one, "--rate", "0 -1 1e-20 1e-4 1e300 1e308k inf NaN"),
            (one, "--duration", TIMES),
            (one, "--grace", TIMES),
            (one, "--size", SIZES),
            (one, "--reply-size", SIZES),
            (one, "--connections", COUNTS),
            (one, "--threads", COUNTS),
            (one, "--seed", "-1 1e3 18446744073709551616"),
            (
                one,
                "--fail-if",
                "p99>1e3ms p99>infms p101>1ms p99>9999999999999999999ms",
            ),
            ("mixed --target 127.0.0.1:1", "--interactive", COUNTS),
            ("latency --self", "--tunnels", COUNTS),
            ("latency --self", "--relay-loops", COUNTS),
            ("storm", "--outage", TIMES),
            ("storm", "--patience", TIMES),
            ("many-tunnels", "--active", COUNTS),
            ("many-tunnels", "--rounds", COUNTS),
            ("many-tunnels", "--duration", "1us 99ms 1e300s"),
            ("system", "--connections", COUNTS),
            ("serve", "--threads", COUNTS),
        ] {
            for value in values.split(' ') {
                let line = format!("{command} {option}={value}");
                let told = refusal(&line);
                assert!(told.contains(option), "{line}: {told}");
            }
        }
    }
}
