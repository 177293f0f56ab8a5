//! From what was typed to what will be done: [`ProxyArgs`] to [`ProxySettings`].
//!
//! The order is the reference's where a script could see it (wire specification, section 13, "cross
//! checks"): first what makes the invocation unusable, then the values one by one. The token is read
//! last, so that nobody is asked for one in vain.

use std::path::PathBuf;

use adit_engine::ring::IoChoice;
use adit_engine::tls::{PinError, Pins};
use adit_engine::tunnel::endpoint::Excerpt;
use adit_engine::tunnel::mapping::Mapping;
use adit_proto::{Dialect, Mode, Secret};

use super::json::{self, JsonSettings};
use super::limits::Limits;
use super::service::{ServiceAddress, from_endpoint, from_region, is_address_byte};
use super::{ProxySettings, Retries, TlsSettings, WebProxy, config_dir, token};
use crate::args::options::Opt;
use crate::args::{Given, ProxyArgs};
use crate::fault::BadInput;
use crate::personality::Personality;
use crate::settings::records::Records;
use crate::world::World;

mod mapping;

/// Checks everything. The warnings are for the log, in the order in which they arose.
pub fn proxy(
    mut args: ProxyArgs,
    personality: Personality,
    world: &mut World,
) -> Result<(ProxySettings, Vec<String>), BadInput> {
    let mut warnings = Vec::new();
    let mode = cross_checks(&args, personality, world)?;
    let json = match args.value(Opt::SettingsJson) {
        Some(path) => {
            let (settings, more) = json::read(world, path)?;
            warnings.extend(more);
            settings
        }
        None => JsonSettings::default(),
    };
    let service = service(&args, &json, personality)?;
    let local_host = local_host(&args, mode, &json)?;
    let tls = tls(&args, personality, world, &mut warnings)?;
    let mapping = mapping::read(&args, mode, world, &mut warnings)?;
    check_stdin(&args, &mapping)?;
    let access_token = token::access_token(&mut args, world, personality, &mut warnings)?;
    let settings = ProxySettings {
        personality,
        mode,
        local_host,
        service,
        dialect: dialect(&args, personality, &mut warnings)?,
        tls,
        web_proxy: web_proxy(world)?,
        limits: limits(&args, &json)?,
        io: io(&args)?,
        records: records(&args)?,
        client_token: token::client_token(&mut args, &access_token, personality, &mut warnings)?,
        access_token,
        mapping,
        subprotocol: json.subprotocol,
        payload_size_max: json.payload_size_max,
        retries: Retries {
            service_delay: json.service_retry_delay,
            service_max: json.service_retries_max,
            reconnect: json.reconnect_on_data_error,
            local_delay: json.local_retry_delay,
            local_max: json.local_retries_max,
            dials: json.dials,
        },
    };
    Ok((settings, warnings))
}

/// What is missing or contradicts itself; the answer is the mode.
fn cross_checks(
    args: &ProxyArgs,
    personality: Personality,
    world: &World,
) -> Result<Mode, BadInput> {
    if !token::is_given(args, world, personality) {
        return Err(token::missing(personality));
    }
    one_service(args)?;
    let asked = args.given(Opt::Mode).map(mode_of).transpose()?;
    side(args, asked)
}

/// Exactly one of region and endpoint, whatever they come from.
fn one_service(args: &ProxyArgs) -> Result<(), BadInput> {
    let problem = match (args.given(Opt::Region), args.given(Opt::ProxyEndpoint)) {
        (None, None) => "neither a region nor an endpoint is given".to_owned(),
        (Some(region), Some(endpoint)) => format!(
            "{} and {} are both given",
            region.origin.name(Opt::Region),
            endpoint.origin.name(Opt::ProxyEndpoint)
        ),
        _ => return Ok(()),
    };
    let hint = "give either --region REGION (AWS) or --proxy-endpoint HOST[:PORT]; \
                their environment variables count too";
    let reference = "Must specify one and only one of --region/-r or --proxy-endpoint/-e options";
    Err(BadInput::usage(problem, hint).reference(reference))
}

/// Which side of the tunnel this is, said once or said the same.
fn side(args: &ProxyArgs, asked: Option<Mode>) -> Result<Mode, BadInput> {
    let source = args.given(Opt::SourceListenPort);
    let destination = args.given(Opt::DestinationApp);
    match (source, destination, asked) {
        (Some(source), Some(destination), _) => Err(BadInput::usage(
            format!(
                "{} and {} are both given",
                source.origin.name(Opt::SourceListenPort),
                destination.origin.name(Opt::DestinationApp)
            ),
            "one process is one side: -s where you connect from, -d where the application is",
        )
        .reference(
            "Must specify one and only one of --source-listen-port/-s or --destination-app/-d",
        )),
        (None, None, None) => Err(BadInput::usage(
            "it is not said which side of the tunnel this is",
            "give -s MAPPING, -d MAPPING, or --mode with a --config-dir",
        )
        .reference(
            "Must specify one of --source-listen-port/-s or --destination-app/-d or --mode",
        )),
        (Some(source), None, Some(mode @ Mode::Destination)) => {
            Err(mismatch(source, Opt::SourceListenPort, mode))
        }
        (None, Some(destination), Some(mode @ Mode::Source)) => {
            Err(mismatch(destination, Opt::DestinationApp, mode))
        }
        (Some(_), None, _) => Ok(Mode::Source),
        (None, Some(_), _) => Ok(Mode::Destination),
        (None, None, Some(mode)) => Ok(mode),
    }
}

fn mismatch(given: &Given, option: Opt, mode: Mode) -> BadInput {
    let name = given.origin.name(option);
    BadInput::usage(
        format!("{name} does not go with mode {mode}"),
        "leave out --mode, -s and -d say it",
    )
    .reference(format!(
        "-{} and --mode have mismatched mode. Mode is set to {mode}!",
        option.spelling().short.unwrap_or_default()
    ))
}

fn mode_of(given: &Given) -> Result<Mode, BadInput> {
    match given.value.as_str() {
        "src" | "source" => Ok(Mode::Source),
        "dst" | "destination" => Ok(Mode::Destination),
        other => Err(BadInput::value(
            Opt::Mode,
            &given.origin,
            format!("`{}` is no mode", Excerpt(other)),
            "allowed are src, source, dst and destination",
        )
        .as_usage()
        .reference("Mode value is wrong! Allowed values are: src, dst, source, destination")),
    }
}

fn service(
    args: &ProxyArgs,
    json: &JsonSettings,
    personality: Personality,
) -> Result<ServiceAddress, BadInput> {
    match (args.given(Opt::ProxyEndpoint), args.given(Opt::Region)) {
        (Some(endpoint), _) => from_endpoint(endpoint, personality),
        (None, Some(region)) => from_region(region, json, personality),
        (None, None) => unreachable!("cross_checks refuses an invocation with neither"),
    }
}

fn local_host(args: &ProxyArgs, mode: Mode, json: &JsonSettings) -> Result<String, BadInput> {
    let default = match mode {
        Mode::Source => json.default_bind_address.as_str(),
        Mode::Destination => "127.0.0.1",
    };
    let Some(given) = args
        .given(Opt::LocalBindAddress)
        .filter(|given| !given.value.is_empty())
    else {
        return Ok(without_brackets(default).to_owned());
    };
    let text = given.value.as_str();
    let hint = "write a host name or an address, for example localhost, 0.0.0.0 or ::1";
    let fault = |problem: String, reference: &str, reason: &'static str| {
        BadInput::value(Opt::LocalBindAddress, &given.origin, problem, hint)
            .reference(reference)
            .rejected("bind-address", reason)
    };
    if text.len() > BIND_ADDRESS_SIZE_MAX {
        return Err(fault(
            format!("{} bytes, the limit is {BIND_ADDRESS_SIZE_MAX}", text.len()),
            "Bind address exceeds maximum allowed length",
            "exceeds maximum length",
        ));
    }
    if !text.bytes().all(is_address_byte) {
        return Err(fault(
            format!("`{}` has a character that no address has", Excerpt(text)),
            "Bind address contains invalid characters",
            "invalid characters",
        ));
    }
    Ok(without_brackets(text).to_owned())
}

fn without_brackets(text: &str) -> &str {
    text.strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text)
}

fn tls(
    args: &ProxyArgs,
    personality: Personality,
    world: &World,
    warnings: &mut Vec<String>,
) -> Result<TlsSettings, BadInput> {
    let verify = !args.has(Opt::NoSslHostVerify);
    if !verify {
        warnings.push(
            "CERTIFICATE CHECKS ARE OFF (-k): anyone on the way can read and change everything in \
             this tunnel, the access token included. Never use this outside of tests; \
             --capath PATH trusts your own authority instead"
                .to_owned(),
        );
    }
    Ok(TlsSettings {
        verify,
        ca_path: ca_path(args, personality, world, warnings)?,
        pins: args.given(Opt::Pin).map(pins).transpose()?,
    })
}

fn pins(given: &Given) -> Result<Pins, BadInput> {
    given.value.parse().map_err(|error: PinError| {
        BadInput::value(Opt::Pin, &given.origin, error.to_string(), PIN_HINT)
    })
}

/// What to do about pins that cannot be read.
pub(crate) const PIN_HINT: &str = "write sha256// and the base64 of the SHA-256 of the service's public key, with ; \
                                   between several; `adit proxy --help` says how to calculate it";

fn ca_path(
    args: &ProxyArgs,
    personality: Personality,
    world: &World,
    warnings: &mut Vec<String>,
) -> Result<Option<PathBuf>, BadInput> {
    let Some(given) = args.given(Opt::Capath) else {
        return Ok(None);
    };
    let text = given.value.as_str();
    let hint = "give a PEM file, or a directory of them, with the authorities to trust";
    let fault = |problem: String, reference: &str, reason: &'static str| {
        BadInput::value(Opt::Capath, &given.origin, problem, hint)
            .reference(reference)
            .rejected("path", reason)
    };
    if text.is_empty() {
        return Err(fault(
            "the path is empty".to_owned(),
            "Path cannot be empty",
            "empty path",
        ));
    }
    if text.len() > PATH_SIZE_MAX {
        return Err(fault(
            format!("{} bytes, the limit is {PATH_SIZE_MAX}", text.len()),
            "Path exceeds maximum allowed length",
            "exceeds maximum length",
        ));
    }
    let path = world.path(text);
    if path.exists() {
        return Ok(Some(path));
    }
    let problem = format!(
        "`{}` is no directory or file that can be read",
        Excerpt(text)
    );
    if personality == Personality::Adit {
        return Err(BadInput::value(Opt::Capath, &given.origin, problem, hint));
    }
    // The reference does not look (section 13): the system's authorities are left.
    warnings.push(format!("--capath: {problem}"));
    Ok(None)
}

fn dialect(
    args: &ProxyArgs,
    personality: Personality,
    warnings: &mut Vec<String>,
) -> Result<Option<Dialect>, BadInput> {
    let Some(given) = args.given(Opt::DestinationClientType) else {
        return Ok(None);
    };
    match given.value.as_str() {
        "V1" => Ok(Some(Dialect::V1)),
        "V2" => Ok(Some(Dialect::V2)),
        "V3" if personality == Personality::Adit => Ok(Some(Dialect::V3)),
        other => {
            let problem = format!("`{}` is no version", Excerpt(other));
            if personality == Personality::Adit {
                let hint =
                    "allowed are V1, V2 and V3, in capitals; without it the version is recognised";
                let option = Opt::DestinationClientType;
                return Err(BadInput::value(option, &given.origin, problem, hint));
            }
            warnings.push(format!(
                "--destination-client-type: {problem}, V3 is assumed"
            ));
            Ok(None)
        }
    }
}

/// `https_proxy`, then `HTTPS_PROXY`; the first that is set counts, even when it is set to nothing,
/// which means "none" (section 14.4).
pub(crate) fn web_proxy(world: &World) -> Result<Option<WebProxy>, BadInput> {
    for variable in ["https_proxy", "HTTPS_PROXY"] {
        let Some(value) = world.variable(variable) else {
            continue;
        };
        let url = value.to_str().ok_or_else(|| {
            BadInput::fatal(
                format!("{variable}: the value is not valid UTF-8"),
                "write http://HOST:PORT, or unset it",
            )
        })?;
        return Ok((!url.is_empty()).then(|| WebProxy {
            variable,
            url: Secret::new(url.to_owned()),
        }));
    }
    Ok(None)
}

fn limits(args: &ProxyArgs, json: &JsonSettings) -> Result<Limits, BadInput> {
    let mut limits = Limits::default();
    if let Some(count) = json.service_connections_max {
        limits.service_connections_max = Some(count);
        // Who allows one service so many means at least so many in all.
        limits.connections_max = limits.connections_max.max(count);
    }
    if let Some(size) = json.connection_buffer_size {
        limits.connection_buffer_size = size;
        limits.tunnel_buffer_size = limits.tunnel_buffer_size.max(size);
    }
    if let Some(interval) = json.ping_interval {
        limits.ping_interval = interval;
    }
    limits.apply(args, json.connection_buffer_size.is_some())?;
    Ok(limits)
}

fn io(args: &ProxyArgs) -> Result<IoChoice, BadInput> {
    let Some(given) = args.given(Opt::Io) else {
        return Ok(IoChoice::default());
    };
    given.value.parse().map_err(|_| {
        BadInput::value(
            Opt::Io,
            &given.origin,
            format!("`{}` is no kernel interface", Excerpt(&given.value)),
            "allowed are auto, uring and epoll",
        )
    })
}

fn records(args: &ProxyArgs) -> Result<Records, BadInput> {
    let Some(given) = args.given(Opt::TlsRecords) else {
        return Ok(Records::default());
    };
    given.value.parse().map_err(|_| {
        BadInput::value(
            Opt::TlsRecords,
            &given.origin,
            format!("`{}` is nobody who seals records", Excerpt(&given.value)),
            "allowed are library and in-place",
        )
    })
}

/// Standard input cannot carry a token and a connection.
fn check_stdin(args: &ProxyArgs, mapping: &Mapping) -> Result<(), BadInput> {
    let token_from_stdin = args.value(Opt::AccessTokenFile) == Some("-");
    if token_from_stdin && mapping.is_stdio() {
        return Err(BadInput::usage(
            "--access-token-file - and -s stdio: both want standard input",
            "put the token into a file or into AWSIOT_TUNNEL_ACCESS_TOKEN",
        ));
    }
    Ok(())
}

/// Longest bind address and path, in bytes (section 13).
const BIND_ADDRESS_SIZE_MAX: usize = 253;
const PATH_SIZE_MAX: usize = 4_096;
