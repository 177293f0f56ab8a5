//! From an argument list to the one thing that will be done.

use std::ffi::OsString;
use std::io;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use adit_engine::tunnel::endpoint::Excerpt;
use adit_service::api::{InvalidNaming, Naming};
use adit_service::quotas::Quotas;
use adit_service::store::StoreChoice;
use clap::builder::StyledStr;
use rustls::pki_types::ServerName;

use crate::agent;
use crate::agent::settings::AgentSettings;
use crate::args::command::{self, AgentArgs, DemoArgs, Request, ServeArgs};
use crate::args::log::LogArgs;
use crate::args::options::{OPTIONS, Opt};
use crate::args::{Given, ProxyArgs, environment, file, reference};
use crate::fault::BadInput;
use crate::fleet::settings::{
    self as fleet, ConnectSettings, SshSettings, ThingSettings, TunnelSettings,
};
use crate::log::{Format, LogSettings, Verbosity};
use crate::personality::Personality;
use crate::settings::quantity::{Time, parse_time, shown_range};
use crate::settings::{DemoSettings, ProxySettings, ServeSettings, broker, check, json};
use crate::world::World;

/// What will be done, with all that it takes.
#[derive(Debug)]
pub struct Plan {
    /// The thing itself.
    pub job: Job,
    /// How to log meanwhile.
    pub log: LogSettings,
    /// To be logged before it starts.
    pub warnings: Vec<String>,
}

/// The things that a command can do.
#[derive(Debug)]
pub enum Job {
    /// Connect one side of a tunnel.
    Proxy(Box<ProxySettings>),
    /// Run the service.
    Serve(Box<ServeSettings>),
    /// Wait for tunnels as a device.
    Agent(Box<AgentSettings>),
    /// Show a tunnel at work.
    Demo(DemoSettings),
    /// Manage tunnels.
    Tunnel(Box<TunnelSettings>),
    /// Manage things.
    Thing(Box<ThingSettings>),
    /// Run ssh to a thing.
    Ssh(Box<SshSettings>),
    /// Hold ports open that lead to a thing.
    Connect(Box<ConnectSettings>),
    /// Write this text to that file, `-` for standard output.
    Export {
        /// As given.
        path: String,
        /// The whole file.
        text: String,
    },
    /// Print this to standard output and end well.
    Show(StyledStr),
    /// Print this to standard error and end well (the help of the reference).
    ShowAside(String),
    /// Print this to standard error and end as a usage error: `adit` without a command.
    Lost(StyledStr),
}

/// Why there is no plan, and how it is to be said.
#[derive(Debug)]
pub struct Refusal {
    /// The bad input.
    pub fault: Box<BadInput>,
    /// As far as it was known by then.
    pub log: LogSettings,
}

/// Decides what to do. Reads files and variables, changes nothing.
pub fn plan(
    personality: Personality,
    arguments: &[OsString],
    world: &mut World,
) -> Result<Plan, Refusal> {
    let mut log = LogSettings {
        verbosity: Verbosity::DEFAULT,
        format: match personality {
            Personality::Adit => Format::Text,
            Personality::Localproxy => Format::Reference,
        },
    };
    let result = match personality {
        Personality::Adit => adit(arguments, world, &mut log),
        Personality::Localproxy => localproxy(arguments, world, &mut log),
    };
    match result {
        Ok((job, warnings)) => Ok(Plan { job, log, warnings }),
        Err(fault) => Err(Refusal {
            fault: Box::new(fault),
            log,
        }),
    }
}

type Planned = Result<(Job, Vec<String>), BadInput>;

fn adit(arguments: &[OsString], world: &mut World, log: &mut LogSettings) -> Planned {
    let job = match command::parse(arguments)? {
        Request::Proxy(args) => return proxy(args, Personality::Adit, world, log),
        Request::Serve(args) => {
            log_of(&args.log, log);
            let (settings, warnings) = serve(args, world)?;
            return Ok((Job::Serve(Box::new(settings)), warnings));
        }
        Request::Agent(args) => agent(args, world, log)?,
        Request::Demo(args) => {
            log_of(&args.log, log);
            let DemoArgs { check, io, .. } = args;
            Job::Demo(DemoSettings { check, io })
        }
        Request::Tunnel(args) => {
            log.verbosity = QUIET;
            Job::Tunnel(Box::new(fleet::tunnel(args, world)?))
        }
        Request::Thing(args) => {
            log.verbosity = QUIET;
            Job::Thing(Box::new(fleet::thing(args, world)?))
        }
        Request::Ssh(args) => {
            log_of(&args.log, log);
            Job::Ssh(Box::new(fleet::ssh(*args, world)?))
        }
        Request::Connect(args) => {
            log_of(&args.log, log);
            Job::Connect(Box::new(fleet::connect(*args, world)?))
        }
        Request::Show(text) => Job::Show(text),
        Request::Lost(text) => Job::Lost(text),
    };
    Ok((job, Vec::new()))
}

fn localproxy(arguments: &[OsString], world: &mut World, log: &mut LogSettings) -> Planned {
    let args = reference::parse(arguments)?;
    if args.has(Opt::Version) {
        return Ok((Job::ShowAside(String::new()), Vec::new()));
    }
    if args.has(Opt::Help) {
        return Ok((Job::ShowAside(reference_help()), Vec::new()));
    }
    proxy(args, Personality::Localproxy, world, log)
}

fn proxy(
    mut args: ProxyArgs,
    personality: Personality,
    world: &mut World,
    log: &mut LogSettings,
) -> Planned {
    let mut warnings = Vec::new();
    let typed = [Opt::AccessToken, Opt::ClientToken].map(|option| args.value(option));
    for secret in typed.into_iter().flatten() {
        warnings.extend(not_hidden("command line", world.hide_argument(secret)));
    }
    set_log(&args, personality, log)?;
    if let Some(path) = args.value(Opt::ExportDefaultSettings) {
        let (path, text) = (path.to_owned(), json::export());
        return Ok((Job::Export { path, text }, Vec::new()));
    }
    if let Some(path) = args.value(Opt::Config).map(str::to_owned) {
        let config = file::read(world, &path, personality)?;
        warnings.extend(without_effect(&config));
        args.layer(config);
        set_log(&args, personality, log)?;
    }
    args.layer(environment::read(world)?);
    let secret = [Opt::AccessToken, Opt::ClientToken].map(|option| option.spelling().variable);
    for variable in secret.into_iter().flatten() {
        warnings.extend(not_hidden("environment", world.remove_variable(variable)));
    }
    let (settings, more) = check::proxy(args, personality, world)?;
    warnings.extend(more);
    Ok((Job::Proxy(Box::new(settings)), warnings))
}

/// What to warn of when a secret could not be overwritten.
fn not_hidden(place: &str, outcome: io::Result<()>) -> Option<String> {
    let fault = outcome.err()?;
    Some(format!(
        "a secret stays readable in the {place} of this process, whose memory cannot be overwritten: {fault}"
    ))
}

/// Options that only the command line can give a meaning.
fn without_effect(config: &ProxyArgs) -> Option<String> {
    let options = [
        Opt::Config,
        Opt::ExportDefaultSettings,
        Opt::Help,
        Opt::Version,
    ];
    let (option, given) = options
        .iter()
        .find_map(|option| Some((*option, config.given(*option)?)))?;
    Some(format!(
        "{} has no effect in a configuration file",
        given.origin.name(option)
    ))
}

fn set_log(
    args: &ProxyArgs,
    personality: Personality,
    log: &mut LogSettings,
) -> Result<(), BadInput> {
    if let Some(given) = args.given(Opt::Verbose) {
        log.verbosity = verbosity(given, personality)?;
    }
    if let Some(given) = args.given(Opt::LogFormat) {
        log.format = given.value.parse().map_err(|_| {
            BadInput::value(
                Opt::LogFormat,
                &given.origin,
                format!("`{}` is no form of log", Excerpt(&given.value)),
                "allowed are text and json",
            )
        })?;
    }
    Ok(())
}

/// The reference reads the number with Boost's lexical cast: a sign is allowed, and a negative number
/// wraps around, so `-1` is 65535.
fn verbosity(given: &Given, personality: Personality) -> Result<Verbosity, BadInput> {
    let text = given.value.as_str();
    let (negative, digits) = match (text.strip_prefix('-'), text.strip_prefix('+')) {
        (Some(digits), _) => (true, digits),
        (None, Some(digits)) => (false, digits),
        (None, None) => (false, text),
    };
    let signed = digits.len() != text.len();
    let number = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse::<u16>().ok())
        .flatten()
        .filter(|_| !signed || personality == Personality::Localproxy);
    match number {
        Some(number) if negative => Ok(Verbosity(number.wrapping_neg())),
        Some(number) => Ok(Verbosity(number)),
        None => {
            let shown = Excerpt(text);
            let option = Opt::Verbose;
            let fault = BadInput::value(
                option,
                &given.origin,
                format!("`{shown}` is no level"),
                "allowed are 0 (off), 1 fatal, 2 error, 3 warning, 4 info, 5 debug, 6 trace",
            );
            Err(fault.as_usage().reference(format!(
                "the argument ('{shown}') for option '--verbose' is invalid"
            )))
        }
    }
}

fn log_of(args: &LogArgs, log: &mut LogSettings) {
    log.verbosity = Verbosity(args.verbose);
    log.format = args.log_format;
}

fn serve(args: ServeArgs, world: &World) -> Result<(ServeSettings, Vec<String>), BadInput> {
    if args.data_dir.as_os_str().is_empty() {
        return Err(BadInput::usage(
            "--data-dir: the path is empty",
            "give a directory that this user can write to",
        ));
    }
    if args.api_listen == args.tunnel_listen && args.api_listen.port() != 0 {
        return Err(BadInput::usage(
            format!(
                "--api-listen and --tunnel-listen are both {}",
                args.api_listen
            ),
            "give each its own port",
        ));
    }
    let naming = Naming::new(&args.region, &args.account).map_err(|fault| {
        let option = match fault {
            InvalidNaming::Account => "--account",
            _ => "--region",
        };
        let hint = "for example --region eu-west-1 --account 123456789012";
        BadInput::usage(format!("{option}: {fault}"), hint)
    })?;
    let mut warnings = Vec::new();
    // A URL may hold a password, in front of its host or as a parameter, and so may a slip that is no URL.
    if !matches!(args.store.0.as_str(), "memory" | "sqlite") {
        let outcome = world.hide_argument(&args.store.0);
        warnings.extend(not_hidden("command line", outcome));
    }
    let store = args.store.0.parse::<StoreChoice>();
    let store =
        store.map_err(|fault| BadInput::usage(fault.to_string(), "for example: --store sqlite"))?;
    let names = args.names.iter().map(|name| certificate_name(name));
    let names: Vec<_> = names.collect::<Result<_, _>>()?;
    if names.is_empty() && args.tunnel_listen.ip().is_unspecified() {
        warnings.push(format!(
            "--tunnel-listen {} takes connections on every address of this machine, but the server's \
             certificate names none that others could use: give --name NAME, the name or address by \
             which clients reach it",
            args.tunnel_listen
        ));
    }
    let settings = ServeSettings {
        names,
        data_dir: args.data_dir,
        store,
        access_keys: args.access_keys,
        insecure_no_auth: args.insecure_no_auth,
        naming,
        quotas: quotas(&args.quotas, &args.quota)?,
        notify_retention: retention(
            "--notify-retention",
            args.notify_retention.as_deref(),
            Duration::from_secs(3_600),
            &NOTIFY_RETENTION,
        )?,
        tunnel_retention: retention(
            "--tunnel-retention",
            args.tunnel_retention.as_deref(),
            Duration::from_secs(3 * 3_600),
            &TUNNEL_RETENTION,
        )?,
        api_listen: args.api_listen,
        tunnel_listen: args.tunnel_listen,
        unregistered_things: args.unregistered_things,
        mqtt_listen: args.mqtt_listen,
        mqtt_broker: broker::read(&args.broker, world)?,
        loops: args.loops.and_then(NonZeroU16::new),
        io: args.io,
        records: args.tls_records,
    };
    Ok((settings, warnings))
}

fn certificate_name(text: &str) -> Result<ServerName<'static>, BadInput> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    ServerName::try_from(bare.to_owned()).map_err(|_| {
        BadInput::usage(
            format!("--name: `{}` is no host name or address", Excerpt(text)),
            "write it as clients do in -e, without scheme and port, for example tunnels.example.org",
        )
    })
}

fn retention(
    option: &str,
    text: Option<&str>,
    default: Duration,
    range: &RangeInclusive<Duration>,
) -> Result<Duration, BadInput> {
    let Some(text) = text else {
        return Ok(default);
    };
    let time = parse_time(text).filter(|time| range.contains(time));
    time.ok_or_else(|| {
        let (shown, allowed) = (Excerpt(text), shown_range(range, Time));
        BadInput::usage(
            format!("{option}: `{shown}` is no time that can be kept"),
            format!("allowed are {allowed}, for example 30m or 2h"),
        )
    })
}

/// A token lives no longer than its tunnel, which is 12 hours at most.
const NOTIFY_RETENTION: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(12 * 3_600);

/// Whatever it is, no more than 100,000 closed tunnels are kept.
const TUNNEL_RETENTION: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(30 * 24 * 3_600);

fn quotas(preset: &str, assignments: &[String]) -> Result<Quotas, BadInput> {
    // clap has let no other name through.
    let mut quotas = Quotas::preset(preset).unwrap_or_default();
    for assignment in assignments {
        quotas.set(assignment).map_err(|fault| {
            let shown = Excerpt(assignment);
            let hint = "for example --quota services-per-tunnel=10";
            BadInput::usage(format!("--quota: `{shown}`: {fault}"), hint)
        })?;
    }
    Ok(quotas)
}

fn agent(args: AgentArgs, world: &World, log: &mut LogSettings) -> Result<Job, BadInput> {
    let is_check = args.check;
    let settings = agent::config::read(args, world, log)?;
    Ok(if is_check {
        Job::Show(agent::summary(&settings).into())
    } else {
        Job::Agent(Box::new(settings))
    })
}
/// Warnings only: these commands speak by what they print.
const QUIET: Verbosity = Verbosity(3);

/// The help of the `localproxy` personality, in the layout that its users know.
fn reference_help() -> String {
    let mut text = String::from("Allowed options:\n");
    for row in OPTIONS.iter().filter(|row| !row.own) {
        let name = match row.short {
            Some(short) => format!("-{short} [ --{} ]", row.long),
            None => format!("--{}", row.long),
        };
        let argument = if row.value.is_some() { " arg" } else { "" };
        text.push_str(&format!(
            "  {:<38} {}\n",
            format!("{name}{argument}"),
            row.help
        ));
    }
    text
}

#[cfg(test)]
mod tests;
