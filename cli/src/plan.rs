//! From an argument list to the one thing that will be done.

use std::ffi::OsString;
use std::num::NonZeroU16;

use adit_engine::tunnel::endpoint::Excerpt;
use clap::builder::StyledStr;

use crate::args::command::{self, DemoArgs, LogArgs, Request, ServeArgs};
use crate::args::options::{OPTIONS, Opt};
use crate::args::{Given, ProxyArgs, environment, file, reference};
use crate::fault::BadInput;
use crate::log::{Format, LogSettings, Verbosity};
use crate::personality::Personality;
use crate::settings::{DemoSettings, ProxySettings, ServeSettings, check, json};
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
    Serve(ServeSettings),
    /// Show a tunnel at work.
    Demo(DemoSettings),
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
            Job::Serve(serve(args)?)
        }
        Request::Demo(args) => {
            log_of(&args.log, log);
            let DemoArgs { check, io, .. } = args;
            Job::Demo(DemoSettings { check, io })
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
    set_log(&args, personality, log)?;
    if let Some(path) = args.value(Opt::ExportDefaultSettings) {
        let (path, text) = (path.to_owned(), json::export());
        return Ok((Job::Export { path, text }, Vec::new()));
    }
    let mut warnings = Vec::new();
    if let Some(path) = args.value(Opt::Config).map(str::to_owned) {
        let config = file::read(world, &path, personality)?;
        warnings.extend(without_effect(&config));
        args.layer(config);
        set_log(&args, personality, log)?;
    }
    args.layer(environment::read(world)?);
    let (settings, more) = check::proxy(args, personality, world)?;
    warnings.extend(more);
    Ok((Job::Proxy(Box::new(settings)), warnings))
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

fn serve(args: ServeArgs) -> Result<ServeSettings, BadInput> {
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
    Ok(ServeSettings {
        data_dir: args.data_dir,
        api_listen: args.api_listen,
        tunnel_listen: args.tunnel_listen,
        mqtt_listen: args.mqtt_listen,
        loops: args.loops.and_then(NonZeroU16::new),
        io: args.io,
        records: args.tls_records,
    })
}

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
