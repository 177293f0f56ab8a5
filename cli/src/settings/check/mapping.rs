//! The mapping of `-s` or `-d`, or the look-up table in their place.

use adit_engine::tunnel::endpoint::{EndpointError, Excerpt};
use adit_engine::tunnel::mapping::{Mapping, MappingError};
use adit_proto::escape::Escaped;
use adit_proto::{InvalidId, Mode};

use super::config_dir;
use crate::args::options::Opt;
use crate::args::{Given, ProxyArgs};
use crate::fault::BadInput;
use crate::world::World;

/// Reads what is mapped. A given `--config-dir` must be good even if a mapping makes it unused.
pub(super) fn read(
    args: &ProxyArgs,
    mode: Mode,
    world: &World,
    warnings: &mut Vec<String>,
) -> Result<Mapping, BadInput> {
    let option = match mode {
        Mode::Source => Opt::SourceListenPort,
        Mode::Destination => Opt::DestinationApp,
    };
    let mapping = match args.given(option) {
        Some(given) => {
            Mapping::parse(&given.value, mode).map_err(|error| refused(option, given, &error))?
        }
        None => Mapping::default(),
    };
    for service in mapping.duplicates() {
        warnings.push(format!(
            "{}: {service} is mapped more than once, the first one counts",
            option.flag()
        ));
    }
    let directory = config_dir::directory(world, args.given(Opt::ConfigDir))?;
    let mapping = match directory {
        Some(directory) if !mapping.is_direct() => {
            let table = config_dir::read(&directory, mode);
            warnings.extend(table.warnings);
            mapping.with_table(table.entries)
        }
        _ => mapping,
    };
    if mode == Mode::Destination && mapping.is_empty() {
        // Found out here, the single-use token is not spent on it.
        return Err(BadInput::fatal(
            "the destination has nothing to dial: no -d and no configuration files",
            "give -d MAPPING, for example -d 22 or -d SSH=22,DB=db.lan:5432",
        )
        .reference("No port mapping exists"));
    }
    Ok(mapping)
}

fn refused(option: Opt, given: &Given, error: &MappingError) -> BadInput {
    let (reference, reason) = reference_of(error);
    let fault = BadInput::value(
        option,
        &given.origin,
        error.to_string(),
        hint(option, error),
    );
    match reason {
        Some((input, reason)) => fault.reference(reference).rejected(input, reason),
        None => fault.reference(reference),
    }
}

fn hint(option: Opt, error: &MappingError) -> String {
    let source = option == Opt::SourceListenPort;
    let example = if source {
        "SSH=5555,RDP=5556"
    } else {
        "SSH=22,DB=db.lan:5432"
    };
    let short = option.spelling().short.unwrap_or_default();
    match error {
        MappingError::Endpoint { source: error, .. } => match error {
            EndpointError::PortOutOfRange { .. } | EndpointError::PortNotANumber { .. } => {
                "a port is a number from 1 to 65535".to_owned()
            }
            EndpointError::PortMissing { given } => {
                format!(
                    "add the port, for example {}:22",
                    Excerpt(given.trim_end_matches(':'))
                )
            }
            EndpointError::HostMissing { .. } => {
                "for a port of this machine write the port alone".to_owned()
            }
            EndpointError::Ipv6 { .. } | EndpointError::Ipv6WithoutBrackets { .. } => {
                "an IPv6 endpoint is like [::1]:22".to_owned()
            }
            EndpointError::PathTooLong { .. } | EndpointError::PathHasNul => {
                "use a shorter path, or a relative one: the kernel takes 107 bytes".to_owned()
            }
            EndpointError::StdioIsForSources => {
                "`stdio:` belongs to -s; a destination dials PORT, HOST:PORT or a socket path"
                    .to_owned()
            }
            _ => "an endpoint is PORT, HOST:PORT, [IPV6]:PORT, or a path with a `/`".to_owned(),
        },
        MappingError::Service { .. } => {
            "a service id has 1 to 128 letters, digits, `_`, `-` and `:`; it ends at the first `=`"
                .to_owned()
        }
        MappingError::Shared { .. } => "give each service its own endpoint".to_owned(),
        MappingError::StdioNotAlone => {
            "map one service alone, for example -s SSH=stdio:".to_owned()
        }
        _ => format!("write one endpoint alone, or name every service: -{short} {example}"),
    }
}

/// The reference's sentence, and what it logs as rejected.
fn reference_of(error: &MappingError) -> (String, Option<(&'static str, &'static str)>) {
    let fixed = |text: &str, reason| (text.to_owned(), reason);
    match error {
        MappingError::ServiceMissing { item } if item.contains('=') => (wrong_item(item), None),
        MappingError::ServiceMissing { .. } => fixed(
            "Wrong format for the port mappings! Example: SSH1=5555,SSH2=6666.",
            None,
        ),
        MappingError::Service { source, .. } => match source {
            InvalidId::TooLong { .. } => fixed(
                "Service ID exceeds maximum allowed length",
                Some(("service-id", "exceeds maximum length")),
            ),
            _ => fixed(
                "Service ID must contain only alphanumeric characters, hyphens, and underscores",
                Some(("service-id", "invalid characters")),
            ),
        },
        MappingError::Endpoint { item, source } => match source {
            EndpointError::Empty => (wrong_item(item), None),
            EndpointError::PortOutOfRange { given } if given.len() > 10 => {
                fixed("Port value is too large", Some(("port", "value too large")))
            }
            EndpointError::PortOutOfRange { .. } => fixed(
                "Port must be between 1 and 65535",
                Some(("port", "out of valid range")),
            ),
            EndpointError::PortNotANumber { .. } => fixed(
                "Port must contain only digits",
                Some(("port", "non-numeric characters")),
            ),
            EndpointError::HostTooLong { .. } => fixed(
                "Bind address exceeds maximum allowed length",
                Some(("bind-address", "exceeds maximum length")),
            ),
            EndpointError::HostCharacter { .. } => fixed(
                "Bind address contains invalid characters",
                Some(("bind-address", "invalid characters")),
            ),
            EndpointError::PathTooLong { .. } => fixed(
                "Path exceeds maximum allowed length",
                Some(("path", "exceeds maximum length")),
            ),
            EndpointError::PathHasNul => fixed(
                "Path contains invalid null byte",
                Some(("path", "contains null byte")),
            ),
            other => (other.to_string(), None),
        },
        other => (other.to_string(), None),
    }
}

fn wrong_item(item: &str) -> String {
    format!(
        "Wrong format for the port mappings: {} .Example: SSH1=5555",
        Escaped(item)
    )
}
