//! What is under test: as typed, checked; and as it stands once it was started.

use std::net::SocketAddr;

use adit_proto::{AccessToken, Mode};

use crate::account::SubjectSpec;
use crate::args;
use crate::args::common::Play;
use crate::direct::{Endpoint, LinkSettings, Trust};
use crate::exit::Error;
use crate::system::{System, SystemSettings};

/// What is under test.
#[derive(Clone, Debug)]
pub enum Place {
    /// A TCP address that leads to the verifying server.
    Target(SocketAddr),
    /// A system that is started for the run, and which of its ends are played.
    System(Box<SystemSettings>, Option<Play>),
    /// A tunnel, by its tokens.
    Tunnel(Box<Ends>),
}

/// The ends of a tunnel that are played: the source always, the destination or not.
#[derive(Clone, Debug)]
pub struct Ends {
    /// The end that offers load.
    pub source: LinkSettings,
    /// The end that answers; `None`: a real one.
    pub destination: Option<LinkSettings>,
}

impl Place {
    /// Checks what was typed; `connections` is how many there will be, `congestion` the congestion control of all
    /// sockets that are the generator's.
    ///
    /// # Errors
    /// There is nothing to drive, or too much.
    pub(crate) fn of(
        args: &args::Place,
        connections: usize,
        congestion: Option<&str>,
    ) -> Result<Self, Error> {
        let tunnel = &args.tunnel;
        let ways = [
            ("--target", args.target.is_some()),
            ("--self", args.own),
            ("--source-token", tunnel.source_token.is_some()),
        ];
        let given: Vec<&str> = ways.iter().filter(|it| it.1).map(|it| it.0).collect();
        match (&given[..], args.target, &tunnel.source_token) {
            (["--target"], Some(target), _) => Ok(Self::Target(target)),
            (["--self"], ..) => {
                let system = SystemSettings {
                    connections,
                    congestion: congestion.map(str::to_owned),
                    ..SystemSettings::of(&args.parts, 1)?
                };
                if args.play.is_some() && system.tunnels > 1 {
                    return Err(Error::usage(
                        format!("--play drives one tunnel, not {}", system.tunnels),
                        "leave --tunnels out",
                    ));
                }
                Ok(Self::System(Box::new(system), args.play))
            }
            (["--source-token"], _, Some(token)) => Ends::of(tunnel, token, congestion),
            ([], ..) => Err(nothing(tunnel.destination_token.is_some())),
            (more, ..) => Err(Error::usage(
                format!("{} name different things to drive", more.join(" and ")),
                "give one of them",
            )),
        }
    }
}

fn nothing(has_destination: bool) -> Error {
    match has_destination {
        true => Error::usage(
            "a destination alone offers no load",
            "give --source-token too, or play the destination with `adit-loadgen serve`",
        ),
        false => Error::usage(
            "there is nothing to drive",
            "give --self, or --target ADDR where ADDR leads to `adit-loadgen serve`, or \
             --endpoint and --source-token of a tunnel",
        ),
    }
}

impl Ends {
    fn of(
        tunnel: &args::Tunnel,
        source: &AccessToken,
        congestion: Option<&str>,
    ) -> Result<Place, Error> {
        let destination = tunnel.destination_token.as_ref();
        Ok(Place::Tunnel(Box::new(Self {
            source: link(tunnel, source, Mode::Source, congestion)?,
            destination: destination
                .map(|token| link(tunnel, token, Mode::Destination, congestion))
                .transpose()?,
        })))
    }
}

/// What is needed to connect one side.
///
/// # Errors
/// It is not said where.
pub(crate) fn link(
    tunnel: &args::Tunnel,
    token: &AccessToken,
    mode: Mode,
    congestion: Option<&str>,
) -> Result<LinkSettings, Error> {
    let of_region = || tunnel.region.as_deref().map(Endpoint::of_region);
    let Some(endpoint) = tunnel.endpoint.clone().or_else(of_region) else {
        return Err(Error::usage(
            format!("it is not said where the tunnel of the {mode} token is"),
            "give --endpoint wss://HOST:PORT, or -r REGION for AWS",
        ));
    };
    Ok(LinkSettings {
        endpoint,
        trust: Trust::Also(tunnel.ca.clone()),
        token: token.clone(),
        mode,
        congestion: congestion.map(str::to_owned),
    })
}

/// What stands: driven, and ended with this.
pub(crate) struct Stage {
    system: Option<System>,
    /// What load is offered to.
    pub(crate) stand: Stand,
}

/// What load is offered to.
pub(crate) enum Stand {
    /// Addresses that lead to the verifying server, one or more.
    Targets(Vec<SocketAddr>),
    /// A tunnel.
    Tunnel(Box<Ends>),
}

impl Stage {
    /// Starts what has to be started.
    pub(crate) fn set(place: &Place) -> Result<Self, Error> {
        let stand = match place {
            Place::Target(target) => Stand::Targets(vec![*target]),
            Place::Tunnel(ends) => Stand::Tunnel(ends.clone()),
            Place::System(settings, play) => return Self::start(settings, *play),
        };
        Ok(Self {
            system: None,
            stand,
        })
    }

    fn start(settings: &SystemSettings, play: Option<Play>) -> Result<Self, Error> {
        let system = System::start(SystemSettings {
            has_source: play.is_none(),
            has_destination: play != Some(Play::Both),
            ..settings.clone()
        })
        .map_err(anyhow::Error::from)?;
        let own_link = |mode| own_link(&system, mode, settings.congestion.clone());
        let stand = match play {
            None => Stand::Targets(system.targets()),
            Some(play) => Stand::Tunnel(Box::new(Ends {
                source: own_link(Mode::Source)?,
                destination: match play {
                    Play::Both => Some(own_link(Mode::Destination)?),
                    Play::Source => None,
                },
            })),
        };
        Ok(Self {
            system: Some(system),
            stand,
        })
    }

    /// The processes of a system of our own.
    pub(crate) fn subjects(&self) -> Vec<SubjectSpec> {
        self.system.iter().flat_map(System::subjects).collect()
    }

    /// What is wrong with it, if anything is.
    pub(crate) fn fault(&self) -> Option<String> {
        self.system.as_ref().and_then(System::fault)
    }

    /// As reports call it.
    pub(crate) fn name(&self) -> String {
        let stand = match &self.stand {
            Stand::Targets(targets) => {
                let first = targets.first().map(ToString::to_string);
                match (first, targets.len()) {
                    (Some(first), 2..) => format!("{first} and {} more", targets.len() - 1),
                    (first, _) => first.unwrap_or_default(),
                }
            }
            Stand::Tunnel(ends) => {
                let sides = match ends.destination {
                    Some(_) => "both ends of a tunnel",
                    None => "the source of a tunnel",
                };
                let Endpoint { host, port } = &ends.source.endpoint;
                format!("{sides} at {host}:{port}")
            }
        };
        let Some(system) = &self.system else {
            return stand;
        };
        let backend = system.describe().first().map(|it| it.backend.clone());
        let backend = backend.unwrap_or_default();
        format!("{stand}, of a system of its own ({backend})")
    }
}

fn own_link(
    system: &System,
    mode: Mode,
    congestion: Option<String>,
) -> Result<LinkSettings, Error> {
    let service = system.service();
    let ticket = &system.tickets()[0];
    let token = match mode {
        Mode::Source => &ticket.source_token,
        Mode::Destination => &ticket.destination_token,
    };
    let token = AccessToken::new(token.clone()).map_err(anyhow::Error::from)?;
    Ok(LinkSettings {
        endpoint: Endpoint {
            host: service.ip().to_string(),
            port: service.port(),
        },
        trust: Trust::Only(system.authority().to_owned()),
        token,
        mode,
        congestion,
    })
}
