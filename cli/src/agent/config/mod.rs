//! The configuration file of an agent.
//!
//! ```toml
//! endpoint = "mqtt.example.org:8883"      # or HOST:443, which takes the ALPN name of AWS
//! certificate = "device.pem"              # paths start at this file's directory
//! key = "device.key"                      # mode 0600
//! ca = "ca.pem"                           # leave out for the system's authorities (AWS)
//! thing = "lamp-17"
//! tunnel_endpoint = "tunnels.example.org:7443"   # leave out for AWS's, by the region
//! pin = "sha256//…;sha256//…"             # keys of it, as of `adit proxy --pin`; any unless given
//! state_dir = "/var/lib/adit-agent"       # `state` beside this file unless given
//!
//! [services]                              # leave out for SSH on 22 and VNC on 5900
//! SSH = 22
//! DB = "db.lan:5432"
//! APP = "unix:/run/app.sock"
//! "*" = "gateway.lan:9000"                # every other name
//!
//! [limits]
//! tunnels = 20
//! connections = 16384
//!
//! [log]
//! verbose = 4
//! format = "text"
//! ```
//!
//! `region` refuses tunnels of other regions, `alpn` names another protocol, `on_tunnel` is a program to
//! run (see [`hook`](super::hook)).

mod document;
mod nearest;
mod services;

use std::path::Path;

use adit_engine::tls::{PinError, Pins};
use adit_engine::tunnel::endpoint::Excerpt;
use adit_proto::notification::Region;

use self::document::{Document, Entry, Table};
use super::identity::{Identity, IdentityError, IdentityFiles};
use super::services::ServiceMap;
use super::settings::{AgentLimits, AgentSettings, Thing};
use crate::args::command::AgentArgs;
use crate::fault::BadInput;
use crate::log::{Format, LogSettings, Verbosity};
use crate::settings::check::{PIN_HINT, web_proxy};
use crate::settings::limits::CONNECTIONS;
use crate::settings::service::{ServiceAddress, parse_address};
use crate::world::World;

/// Reads the file that the arguments name, and those that it names. The log is told as soon as it is
/// known.
pub fn read(
    args: AgentArgs,
    world: &World,
    log: &mut LogSettings,
) -> Result<AgentSettings, BadInput> {
    let file = world.path(&args.config);
    let shown = args.config.to_string_lossy();
    let document = Document::read(&shown, &file)?;
    let mut root = document.root(&KEYS)?;
    set_log(&args, root.take("log"), log)?;
    let endpoint = address(&root.need(ENDPOINT)?, MQTT_PORT)?;
    let thing = thing(&root.need(THING)?)?;
    let alpn = match root.take("alpn") {
        Some(entry) => Some(alpn(&entry)?),
        None if endpoint.port == 443 => Some(AWS_ALPN.to_owned()),
        None => None,
    };
    let identity = identity(&mut root, alpn.as_deref())?;
    let region = root
        .take("region")
        .map(|entry| region(&entry))
        .transpose()?;
    let tunnel_endpoint = root.take("tunnel_endpoint");
    let tunnel_endpoint = tunnel_endpoint.map(|entry| address(&entry, TLS_PORT));
    let state_dir = match root.take("state_dir") {
        Some(entry) => entry.path()?,
        None => document.beside(STATE_DIR),
    };
    let on_tunnel = match (&args.on_tunnel, root.take("on_tunnel")) {
        (Some(path), _) => Some(world.path(path)),
        (None, Some(entry)) => Some(entry.path()?),
        (None, None) => None,
    };
    Ok(AgentSettings {
        thing,
        endpoint,
        identity,
        region,
        tunnel_endpoint: tunnel_endpoint.transpose()?,
        services: map(&mut root)?,
        limits: limits(&mut root)?,
        state_dir,
        on_tunnel,
        io: args.io,
        web_proxy: web_proxy(world)?,
        config: file,
    })
}

/// Reads the services again, for a running agent with those `in_force`. A file that no agent would start with is
/// refused: in one that was cut off, no services would mean those of every agent. For the same reason a file that names
/// none is refused where one before it did, although an agent would start with it.
pub fn read_services(file: &Path, in_force: &ServiceMap) -> Result<ServiceMap, BadInput> {
    let document = Document::read(&file.to_string_lossy(), file)?;
    let mut root = document.root(&KEYS)?;
    for needed in [ENDPOINT, THING, CERTIFICATE, KEY] {
        root.need(needed)?;
    }
    let (services, _) = read_alone(&document)?;
    if services.is_default() && !in_force.is_default() {
        return Err(document.fault(
            "[services] is missing, which was there before",
            "put [services] back and send SIGHUP again; where SSH = 22 and VNC = 5900 are meant, write them there",
        ));
    }
    Ok(services)
}

fn map(root: &mut Table<'_>) -> Result<ServiceMap, BadInput> {
    root.take("services")
        .map_or_else(|| Ok(ServiceMap::default()), services::map)
}

fn address(entry: &Entry<'_>, port: u16) -> Result<ServiceAddress, BadInput> {
    let text = entry.text()?;
    parse_address(text, port).map_err(|problem| {
        entry.fault(
            format_args!("`{}`: {problem}", Excerpt(text)),
            "write HOST:PORT or [IPV6]:PORT, without a scheme or a path",
        )
    })
}

fn thing(entry: &Entry<'_>) -> Result<Thing, BadInput> {
    let text = entry.text()?;
    text.parse().map_err(|problem| {
        entry.fault(
            format_args!("`{}` {problem}", Excerpt(text)),
            "give the name under which the thing was created",
        )
    })
}

fn alpn(entry: &Entry<'_>) -> Result<String, BadInput> {
    let text = entry.text()?;
    if text.len() > ALPN_SIZE_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(entry.fault(
            format_args!("`{}` is no name of a protocol", Excerpt(text)),
            format!("AWS's is {AWS_ALPN}; leave it out where none is wanted"),
        ));
    }
    Ok(text.to_owned())
}

fn region(entry: &Entry<'_>) -> Result<Region, BadInput> {
    let problem = |_| {
        entry.fault(
            "a region has 1 to 64 lower-case letters, digits and hyphens",
            "it is like eu-west-1; leave it out to take tunnels of any",
        )
    };
    entry.text()?.parse().map_err(problem)
}

fn pins(entry: &Entry<'_>) -> Result<Pins, BadInput> {
    let problem = |error: PinError| entry.fault(error, PIN_HINT);
    entry.text()?.parse().map_err(problem)
}

/// Complaints about a file stand at the key that names it.
fn identity(root: &mut Table<'_>, alpn: Option<&str>) -> Result<Identity, BadInput> {
    let certificate = root.need(CERTIFICATE)?;
    let key = root.need(KEY)?;
    let ca = root.take("ca");
    let files = IdentityFiles {
        certificate: certificate.path()?,
        key: key.path()?,
        ca: ca.as_ref().map(Entry::path).transpose()?,
        pins: root.take("pin").map(|entry| pins(&entry)).transpose()?,
    };
    Identity::read(&files, alpn).map_err(|error| match (&error, &ca) {
        (IdentityError::Certificate(file), _) => certificate.fault(&error, file.hint()),
        (IdentityError::Key(file), _) => key.fault(&error, file.hint()),
        (IdentityError::Pair(_), _) => {
            key.fault(&error, "give the two files that were made together")
        }
        (IdentityError::Ca(_), Some(ca)) => ca.fault(
            &error,
            "give a PEM file of the authority that certified the endpoint",
        ),
        (IdentityError::Ca(_), None) => certificate.fault(
            format_args!("no authority is trusted: {error}"),
            "install ca-certificates, or give one with ca = \"FILE\"",
        ),
    })
}

fn limits(root: &mut Table<'_>) -> Result<AgentLimits, BadInput> {
    let mut limits = AgentLimits::default();
    let Some(entry) = root.take("limits") else {
        return Ok(limits);
    };
    let mut table = entry.table(Some(&["tunnels", "connections"]))?;
    if let Some(entry) = table.take("tunnels") {
        limits.tunnels = entry.number(&AgentLimits::TUNNELS)?;
    }
    if let Some(entry) = table.take("connections") {
        limits.connections = entry.number(&CONNECTIONS)?;
    }
    Ok(limits)
}

/// The command line wins.
fn set_log(
    args: &AgentArgs,
    entry: Option<Entry<'_>>,
    log: &mut LogSettings,
) -> Result<(), BadInput> {
    if let Some(entry) = entry {
        let mut table = entry.table(Some(&["verbose", "format"]))?;
        if let Some(entry) = table.take("verbose") {
            // Checked against a range that fits.
            log.verbosity = Verbosity(entry.number(&(0..=6))? as u16);
        }
        if let Some(entry) = table.take("format") {
            let text = entry.text()?;
            log.format = text.parse::<Format>().map_err(|_| {
                let problem = format!("`{}` is no form of log", Excerpt(text));
                entry.fault(problem, "allowed are \"text\" and \"json\"")
            })?;
        }
    }
    log.verbosity = args.verbose.map_or(log.verbosity, Verbosity);
    log.format = args.log_format.unwrap_or(log.format);
    Ok(())
}

/// Reads a configuration of any bytes, as far as that needs no other file: what is wrong is told with
/// its line, and can be shown.
pub fn fuzz_agent_config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let lines = text.lines().count();
    let document = Document::new("agent.toml", "/etc/adit".into(), text);
    match read_alone(&document) {
        Ok((_, limits)) => {
            assert!(AgentLimits::TUNNELS.contains(&limits.tunnels));
            assert!(CONNECTIONS.contains(&limits.connections));
        }
        Err(fault) => {
            fault.assert_showable();
            let place = fault.message().strip_prefix("agent.toml:");
            let line = place.and_then(|place| place.split(':').next());
            let line = line.and_then(|line| line.parse::<usize>().ok());
            assert!(line.is_none_or(|line| (1..=lines + 1).contains(&line)));
        }
    }
}

/// What needs no other file, once the rest of that was looked at.
fn read_alone(document: &Document) -> Result<(ServiceMap, AgentLimits), BadInput> {
    let mut root = document.root(&KEYS)?;
    for key in ["endpoint", "tunnel_endpoint"] {
        root.take(key)
            .map(|entry| address(&entry, MQTT_PORT))
            .transpose()?;
    }
    root.take("thing").map(|entry| thing(&entry)).transpose()?;
    root.take("alpn").map(|entry| alpn(&entry)).transpose()?;
    root.take("pin").map(|entry| pins(&entry)).transpose()?;
    root.take("region")
        .map(|entry| region(&entry))
        .transpose()?;
    for key in ["certificate", "key", "ca", "state_dir", "on_tunnel"] {
        root.take(key).map(|entry| entry.path()).transpose()?;
    }
    Ok((map(&mut root)?, limits(&mut root)?))
}

/// Keys that have to be there, with what might stand there.
const ENDPOINT: (&str, &str) = ("endpoint", "\"mqtt.example.org:8883\"");
const THING: (&str, &str) = ("thing", "\"lamp-17\"");
const CERTIFICATE: (&str, &str) = ("certificate", "\"device.pem\"");
const KEY: (&str, &str) = ("key", "\"device.key\"");

const KEYS: [&str; 14] = [
    "endpoint",
    "alpn",
    "certificate",
    "key",
    "ca",
    "thing",
    "region",
    "tunnel_endpoint",
    "pin",
    "state_dir",
    "on_tunnel",
    "services",
    "limits",
    "log",
];

/// Where tunnels are remembered unless the file says so.
const STATE_DIR: &str = "state";

/// What an endpoint that speaks more than MQTT is asked for (control-plane specification, 14.2).
const AWS_ALPN: &str = "x-amzn-mqtt-ca";
/// Longest protocol name, in bytes (RFC 7301 §3.1).
const ALPN_SIZE_MAX: usize = 255;
/// MQTT over TLS.
const MQTT_PORT: u16 = 8_883;
/// The data plane of AWS.
const TLS_PORT: u16 = 443;

#[cfg(test)]
mod tests;
