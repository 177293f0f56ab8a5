//! Which service is carried to which local endpoint.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use adit_proto::limits::MAX_SERVICE_IDS;
use adit_proto::{InvalidId, Mode, ServiceId};

use super::endpoint::{Endpoint, EndpointError, Excerpt};

/// What the user said about services and endpoints, before the services of the tunnel are known.
///
/// ```text
/// mapping := item ("," item)*          empty items are skipped
/// item    := [service "="] endpoint    split at the first run of "="; spaces around parts are trimmed
/// ```
///
/// Service ids may contain colons (Q-30); the split at the first `=` keeps `a:b=host:22` readable. One
/// item without `=` is the *V1 form*: an endpoint for the only service of the tunnel, whatever its
/// name, or for a tunnel without services. Wire specification, section 11.
///
/// A look-up table, filled from configuration files, is asked when nothing was mapped directly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    direct: Direct,
    /// Keyed by plain text: a dot in a name is a character like any other (Q-29).
    table: BTreeMap<String, Endpoint>,
    duplicates: Vec<ServiceId>,
}

/// What was mapped on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Direct {
    #[default]
    Nothing,
    /// The V1 form.
    Nameless(Endpoint),
    /// Never empty, at most [`MAX_SERVICE_IDS`].
    Named(BTreeMap<ServiceId, Endpoint>),
}

impl Mapping {
    /// Reads the argument of `-s` ([`Mode::Source`]) or `-d` ([`Mode::Destination`]).
    ///
    /// An empty text, or only commas, maps nothing. Of two items for one service the first wins, see
    /// [`Mapping::duplicates`].
    pub fn parse(text: &str, mode: Mode) -> Result<Self, MappingError> {
        let items: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .collect();
        if items.len() > MAX_SERVICE_IDS {
            return Err(MappingError::TooMany { count: items.len() });
        }
        let mut mapping = Self::default();
        if let [only] = items[..]
            && !only.contains('=')
        {
            mapping.direct = Direct::Nameless(parse_endpoint(only, only, mode)?);
            return Ok(mapping);
        }
        let mut named = BTreeMap::new();
        for item in items {
            let (service, endpoint) = parse_item(item, mode)?;
            match named.entry(service) {
                Entry::Vacant(slot) => _ = slot.insert(endpoint),
                Entry::Occupied(slot) => mapping.duplicates.push(slot.key().clone()),
            }
        }
        check_shared(&named, mode)?;
        if !named.is_empty() {
            mapping.direct = Direct::Named(named);
        }
        Ok(mapping)
    }

    /// Adds the look-up table of the configuration files: service name to endpoint.
    #[must_use]
    pub fn with_table(mut self, table: BTreeMap<String, Endpoint>) -> Self {
        self.table = table;
        self
    }

    /// True when neither an item nor a table entry is there: a source then picks free ports, a
    /// destination has nothing to dial.
    pub fn is_empty(&self) -> bool {
        !self.is_direct() && self.table.is_empty()
    }

    /// True when at least one item was given directly, so that no look-up table is asked.
    pub fn is_direct(&self) -> bool {
        self.direct != Direct::Nothing
    }

    /// True when the one endpoint is [`Endpoint::Stdio`].
    pub fn is_stdio(&self) -> bool {
        match &self.direct {
            Direct::Nothing => false,
            Direct::Nameless(endpoint) => *endpoint == Endpoint::Stdio,
            Direct::Named(named) => named.values().any(|endpoint| *endpoint == Endpoint::Stdio),
        }
    }

    /// Services that were given again; their later endpoints are not used. Worth a warning.
    pub fn duplicates(&self) -> &[ServiceId] {
        &self.duplicates
    }

    /// Matches the mapping against the services that the tunnel offers (section 11.3), in the order
    /// of the offer, each service once. `None` is the stream of a tunnel without services.
    ///
    /// [`Endpoint::ANY_PORT`] comes out for a source's services that nothing was said about; a
    /// configured port always stays the configured one (Q-25).
    pub fn resolve(&self, mode: Mode, offered: &[ServiceId]) -> Result<Resolved, MappingMismatch> {
        let mut seen = BTreeSet::new();
        let mut services: Vec<&ServiceId> = Vec::new();
        for service in offered {
            if seen.insert(service) {
                services.push(service);
            }
        }
        match &self.direct {
            Direct::Nameless(endpoint) => match services[..] {
                [] => Ok(vec![(None, endpoint.clone())]),
                [only] => Ok(vec![(Some(only.clone()), endpoint.clone())]),
                _ => Err(MappingMismatch::NamesNeeded {
                    offered: Names::of(services),
                }),
            },
            Direct::Named(named) => resolve_named(named, &services, &seen),
            Direct::Nothing => self.resolve_table(mode, &services),
        }
    }

    fn resolve_table(
        &self,
        mode: Mode,
        services: &[&ServiceId],
    ) -> Result<Resolved, MappingMismatch> {
        let found = |service: &ServiceId| self.table.get(service.as_str());
        match mode {
            Mode::Source if services.is_empty() => Ok(vec![(None, Endpoint::ANY_PORT)]),
            Mode::Source => Ok(services
                .iter()
                .map(|service| {
                    let endpoint = found(service).cloned().unwrap_or(Endpoint::ANY_PORT);
                    (Some((*service).clone()), endpoint)
                })
                .collect()),
            Mode::Destination if self.table.is_empty() || services.is_empty() => {
                Err(MappingMismatch::NothingMapped {
                    offered: Names::of(services.iter().copied()),
                })
            }
            Mode::Destination => {
                let missing: Vec<&ServiceId> = services
                    .iter()
                    .copied()
                    .filter(|service| found(service).is_none())
                    .collect();
                if !missing.is_empty() {
                    return Err(MappingMismatch::NotInTable {
                        missing: Names::of(missing),
                    });
                }
                Ok(services
                    .iter()
                    .filter_map(|service| Some((Some((*service).clone()), found(service)?.clone())))
                    .collect())
            }
        }
    }
}

/// One endpoint per service of the tunnel.
pub type Resolved = Vec<(Option<ServiceId>, Endpoint)>;

fn parse_item(item: &str, mode: Mode) -> Result<(ServiceId, Endpoint), MappingError> {
    let given = || item.to_owned();
    let (service, endpoint) = item
        .split_once('=')
        .ok_or_else(|| MappingError::ServiceMissing { item: given() })?;
    // The run may have spaces in it: they are around parts that are empty.
    let is_between = |character: char| character == '=' || character.is_whitespace();
    let (service, endpoint) = (
        service.trim(),
        endpoint.trim_start_matches(is_between).trim(),
    );
    if service.is_empty() {
        return Err(MappingError::ServiceMissing { item: given() });
    }
    let service = service.parse().map_err(|source| MappingError::Service {
        item: given(),
        source,
    })?;
    Ok((service, parse_endpoint(endpoint, item, mode)?))
}

fn parse_endpoint(text: &str, item: &str, mode: Mode) -> Result<Endpoint, MappingError> {
    Endpoint::parse(text, mode).map_err(|source| MappingError::Endpoint {
        item: item.to_owned(),
        source,
    })
}

/// Two services of a source cannot listen in one place, and standard input exists once.
fn check_shared(named: &BTreeMap<ServiceId, Endpoint>, mode: Mode) -> Result<(), MappingError> {
    if mode == Mode::Destination {
        return Ok(());
    }
    let mut owners: BTreeMap<&Endpoint, &ServiceId> = BTreeMap::new();
    for (service, endpoint) in named {
        if *endpoint == Endpoint::Stdio && named.len() > 1 {
            return Err(MappingError::StdioNotAlone);
        }
        if let Some(first) = owners.insert(endpoint, service) {
            return Err(MappingError::Shared {
                endpoint: endpoint.clone(),
                first: first.clone(),
                second: service.clone(),
            });
        }
    }
    Ok(())
}

fn resolve_named(
    named: &BTreeMap<ServiceId, Endpoint>,
    services: &[&ServiceId],
    offered: &BTreeSet<&ServiceId>,
) -> Result<Resolved, MappingMismatch> {
    let unmapped = services
        .iter()
        .copied()
        .filter(|service| !named.contains_key(*service));
    let unknown = named.keys().filter(|service| !offered.contains(service));
    let (unmapped, unknown) = (Names::of(unmapped), Names::of(unknown));
    if !unmapped.0.is_empty() || !unknown.0.is_empty() {
        return Err(MappingMismatch::Different { unmapped, unknown });
    }
    Ok(services
        .iter()
        .filter_map(|service| {
            let endpoint = named.get(*service)?.clone();
            Some((Some((*service).clone()), endpoint))
        })
        .collect())
}

/// Why a text is no mapping. Texts as given are shown as an [`Excerpt`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// One of several items, or an item that starts with `=`, names no service.
    #[error("`{}` names no service; each item is SERVICE=ENDPOINT", Excerpt(item))]
    ServiceMissing {
        /// The item as given.
        item: String,
    },
    /// The part in front of `=` is no service id.
    #[error("in `{}`: {source}", Excerpt(item))]
    Service {
        /// The item as given.
        item: String,
        /// What is wrong with it.
        source: InvalidId,
    },
    /// The part behind `=`, or the whole V1 form, is no endpoint.
    #[error("in `{}`: {source}", Excerpt(item))]
    Endpoint {
        /// The item as given.
        item: String,
        /// What is wrong with it.
        source: EndpointError,
    },
    /// Two services of a source in one place.
    #[error("{first} and {second} would both listen on {endpoint}")]
    Shared {
        /// The place.
        endpoint: Endpoint,
        /// One service.
        first: ServiceId,
        /// The other.
        second: ServiceId,
    },
    /// Standard input and output carry one service.
    #[error("`stdio:` carries one service, it cannot stand beside others")]
    StdioNotAlone,
    /// More items than any tunnel has services.
    #[error("{count} items, the limit is {MAX_SERVICE_IDS}")]
    TooMany {
        /// Number of items.
        count: usize,
    },
}

/// Why a mapping does not fit the services of the tunnel. The process ends: only its user can mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingMismatch {
    /// The V1 form against two or more services: which one is meant cannot be known.
    #[error("the mapping names no service, but the tunnel has several: {offered}")]
    NamesNeeded {
        /// The services of the tunnel.
        offered: Names,
    },
    /// A source that writes V1 has no word for a service: with several, bytes for one of them would
    /// arrive at another.
    #[error("the tunnel has several services, which V1 (-y) cannot tell apart: {offered}")]
    Indistinct {
        /// The services of the tunnel.
        offered: Names,
    },
    /// The mapping and the tunnel do not have the same services.
    #[error(
        "the mapping does not fit the tunnel: without an endpoint: {unmapped}; not in the tunnel: {unknown}"
    )]
    Different {
        /// Services of the tunnel that the mapping does not name.
        unmapped: Names,
        /// Services of the mapping that the tunnel does not have.
        unknown: Names,
    },
    /// A destination has a table, but not all services are in it.
    #[error("no configuration file has an endpoint for: {missing}")]
    NotInTable {
        /// Services without an entry.
        missing: Names,
    },
    /// A destination has neither a mapping nor a table, or the tunnel has no service to look up.
    #[error("no endpoint is mapped; services of the tunnel: {offered}")]
    NothingMapped {
        /// The services of the tunnel.
        offered: Names,
    },
}

/// Service ids, shown with commas between, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(pub Vec<ServiceId>);

impl Names {
    pub(crate) fn of<'a>(services: impl IntoIterator<Item = &'a ServiceId>) -> Self {
        Self(services.into_iter().cloned().collect())
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, service) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{service}")?;
        }
        Ok(())
    }
}

/// Reads a mapping from any bytes, for either side, and matches it against the services that it names.
///
/// What was read is typed again from what it shows, and means the same.
pub fn fuzz_mapping(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for mode in [Mode::Source, Mode::Destination] {
        let mapping = match Mapping::parse(&text, mode) {
            Ok(mapping) => mapping,
            Err(error) => {
                assert!(!error.to_string().contains(char::is_control));
                continue;
            }
        };
        let offered: Vec<ServiceId> = match &mapping.direct {
            Direct::Nothing | Direct::Nameless(_) => Vec::new(),
            Direct::Named(named) => named.keys().cloned().collect(),
        };
        assert!(offered.len() <= MAX_SERVICE_IDS);
        let Ok(resolved) = mapping.resolve(mode, &offered) else {
            assert!(mode == Mode::Destination && mapping.is_empty());
            continue;
        };
        let typed: Vec<String> = resolved.iter().map(typed).collect();
        let again = Mapping::parse(&typed.join(","), mode);
        // A path may have characters that are not shown as they are.
        let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if mapping.is_direct() && is_plain && !text.contains('\\') {
            assert_eq!(again.map(|again| again.direct), Ok(mapping.direct));
        }
    }
}

fn typed((service, endpoint): &(Option<ServiceId>, Endpoint)) -> String {
    match service {
        Some(service) => format!("{service}={endpoint}"),
        None => endpoint.to_string(),
    }
}

#[cfg(test)]
mod tests;
