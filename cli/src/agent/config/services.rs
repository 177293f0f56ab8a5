//! The table `[services]`.

use std::collections::BTreeMap;

use adit_engine::tunnel::endpoint::{Endpoint, Excerpt};
use adit_proto::{Mode, ServiceId};

use super::document::Entry;
use crate::agent::services::{SERVICES_MAX, ServiceMap};
use crate::fault::BadInput;

/// Reads the table.
pub(super) fn map(entry: Entry<'_>) -> Result<ServiceMap, BadInput> {
    let empty = entry.fault(
        "no service is named",
        "add lines like SSH = 22, or leave [services] out for SSH and VNC",
    );
    let entries = entry.table(None)?.rest();
    let (mut named, mut wildcard) = (BTreeMap::new(), None);
    for entry in entries {
        if named.len() == SERVICES_MAX {
            let problem = format!("there are more than {SERVICES_MAX} services");
            return Err(entry.fault(problem, "use \"*\" for the rest"));
        }
        let place = place(&entry)?;
        if entry.key() == "*" {
            wildcard = Some(place);
            continue;
        }
        let service: ServiceId = entry.key().parse().map_err(|error| {
            entry.fault(
                error,
                "a service has 1 to 128 letters, digits, `:`, `_` and `-`",
            )
        })?;
        named.insert(service, place);
    }
    if named.is_empty() && wildcard.is_none() {
        return Err(empty);
    }
    Ok(ServiceMap::new(named, wildcard))
}

fn place(entry: &Entry<'_>) -> Result<Endpoint, BadInput> {
    let text = entry.text_or_number()?;
    let socket = text.strip_prefix("unix:");
    // What would be a path of the working directory is one of the file's directory.
    let path = socket.or_else(|| text.contains('/').then_some(text));
    let endpoint = match path {
        Some("") => return Err(entry.fault("there is no path behind `unix:`", HINT)),
        Some(path) => Endpoint::parse(&entry.beside(path).to_string_lossy(), Mode::Destination),
        None => Endpoint::parse(text, Mode::Destination),
    };
    endpoint.map_err(|error| entry.fault(format_args!("`{}`: {error}", Excerpt(text)), HINT))
}

const HINT: &str = "write a port (22), \"host:port\" or \"unix:/path/to.sock\"";
