//! The command `adit`: arguments to checked settings to one call into the crates below.
//!
//! It is *not* where tunnels are carried or tokens are kept; see `adit-engine` and `adit-service`. The way
//! of an invocation through this crate, one module after the other:
//!
//! ```text
//! argv[0] ─► personality     adit, or a drop-in for the AWS localproxy
//! argv    ─► args            as typed: command line, --config file, environment
//!         ─► settings        checked, nothing left to interpret
//!         ─► plan            the one thing to do      (or fault: one bad input, said in either's words)
//!         ─► run             does it
//!         ─► exit            a number that a script can tell apart
//! ```

#![forbid(unsafe_code)]

pub mod agent;
pub mod args;
pub mod aws;
pub mod exit;
pub mod fault;
pub mod fleet;
pub mod log;
pub mod output;
pub mod personality;
pub mod plan;
pub mod run;
pub mod settings;
pub mod world;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write};
use std::process;

use adit_process::core_files;
use clap::builder::StyledStr;
use exit::ExitCode;
use fault::{BadInput, Class};
use log::LogSettings;
use personality::Personality;
use plan::{Job, Plan, Refusal};
use world::World;

/// The whole program.
pub fn main() -> process::ExitCode {
    core_files::write_none();
    let mut arguments = std::env::args_os();
    let personality = Personality::of(arguments.next().as_deref());
    let arguments: Vec<OsString> = arguments.collect();
    let mut world = World::of_process();
    let outcome = plan::plan(personality, &arguments, &mut world);
    // Not before: whoever reads it may let us wait, and until then a token on the command line can be seen.
    if personality == Personality::Localproxy {
        say(&mut io::stdout(), &format!("{}\n", output::BANNER));
    }
    let code = match outcome {
        Ok(plan) => carry_out(plan, personality, &world),
        Err(refusal) => {
            report(&refusal, personality, &world);
            refusal.fault.code()
        }
    };
    code.to_process(personality)
}

fn carry_out(plan: Plan, personality: Personality, world: &World) -> ExitCode {
    let Plan { job, log, warnings } = plan;
    match job {
        Job::Show(text) => {
            let color = world.wants_color(io::stdout().is_terminal());
            say(&mut io::stdout(), &styled(&text, color));
        }
        Job::ShowAside(text) => say(&mut io::stderr(), &text),
        Job::Lost(text) => {
            let color = world.wants_color(io::stderr().is_terminal());
            say(&mut io::stderr(), &styled(&text, color));
            return ExitCode::Usage;
        }
        Job::Export { path, text } => return export(&path, &text, personality, log, world),
        Job::Proxy(settings) => {
            begin(log, &warnings, personality, world);
            return run::proxy(*settings);
        }
        Job::Serve(settings) => {
            begin(log, &warnings, personality, world);
            return run::serve(*settings);
        }
        Job::Agent(settings) => {
            begin(log, &warnings, personality, world);
            return run::agent(*settings);
        }
        Job::Demo(settings) => {
            begin(log, &warnings, personality, world);
            return run::demo(settings, world);
        }
        Job::Tunnel(settings) => {
            begin(log, &warnings, personality, world);
            return run::tunnel(*settings, world);
        }
        Job::Thing(settings) => {
            begin(log, &warnings, personality, world);
            return run::thing(*settings, world);
        }
        Job::Ssh(settings) => {
            begin(log, &warnings, personality, world);
            return run::ssh(*settings);
        }
        Job::Connect(settings) => {
            begin(log, &warnings, personality, world);
            return run::connect(*settings);
        }
    }
    ExitCode::Ended
}

fn begin(log: LogSettings, warnings: &[String], personality: Personality, world: &World) {
    log::start(log, world);
    if personality == Personality::Localproxy {
        tracing::info!("{}", output::SELF);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

fn export(
    path: &str,
    text: &str,
    personality: Personality,
    log: LogSettings,
    world: &World,
) -> ExitCode {
    if path == "-" {
        say(&mut io::stdout(), text);
        return ExitCode::Ended;
    }
    let Err(error) = std::fs::write(world.path(path), text) else {
        return ExitCode::Ended;
    };
    let shown = adit_proto::escape::Escaped(path);
    let fault = BadInput::fatal(
        format!("--export-default-settings: cannot write `{shown}`: {error}"),
        "give a file in a directory that this user can write to, or `-` for standard output",
    )
    .reference(format!("{shown}: cannot open file"));
    let code = fault.code();
    let fault = Box::new(fault);
    report(&Refusal { fault, log }, personality, world);
    code
}

/// Says why there is nothing to do, in the words of the personality (wire specification, section 13,
/// "error classes"). Behind the reference's sentence goes our explanation: it hurts no script.
fn report(refusal: &Refusal, personality: Personality, world: &World) {
    let Refusal { fault, log } = refusal;
    let mut stderr = io::stderr();
    match (personality, fault.class()) {
        (Personality::Adit, _) => say(&mut stderr, &fault.report()),
        (Personality::Localproxy, Class::Usage) => say(
            &mut stderr,
            &format!(
                "{}\nTry 'localproxy --help' for a list of options.\n{}\n",
                fault.reference_text(),
                fault.explanation()
            ),
        ),
        (Personality::Localproxy, Class::Fatal) => {
            if let Some(rejection) = fault.rejection() {
                log::early_warning(&rejection, *log, world);
            }
            log::fatal(fault.reference_text(), *log, world);
            if log.verbosity.shows_fatal() {
                say(&mut stderr, &format!("{}\n", fault.explanation()));
            }
        }
    }
}

fn styled(text: &StyledStr, color: bool) -> String {
    if color {
        text.ansi().to_string()
    } else {
        text.to_string()
    }
}

/// Writes what can be written: a closed pipe is the reader's choice, not our failure.
fn say(stream: &mut dyn Write, text: &str) {
    let _ = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush());
}
