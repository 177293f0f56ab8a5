//! `adit-loadgen system`: keeps a system up, to be driven by hand or by another generator.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::parent::System;
use super::settings::SystemSettings;
use super::tickets::Ticket;
use crate::args;
use crate::exit::Error;
use crate::settings::{CONNECTIONS_MAX, within};

/// What to keep up, and what to say of it.
#[derive(Debug)]
pub struct KeepUp {
    /// What it is made of.
    pub system: SystemSettings,
    /// Where the service's authority is written, for `--ca`.
    pub authority: PathBuf,
    /// One document, for scripts, rather than a table.
    pub as_json: bool,
}

impl KeepUp {
    /// Checks what was typed.
    ///
    /// # Errors
    /// A number is out of bounds, or this executable is not to be found.
    pub fn of(args: args::System) -> Result<Self, Error> {
        within("--connections", args.connections, CONNECTIONS_MAX)?;
        let has = |part| !args.without.contains(&part);
        Ok(Self {
            system: SystemSettings {
                connections: args.connections,
                has_source: has(args::system::Part::Source),
                has_destination: has(args::system::Part::Destination),
                target: args.target,
                ..SystemSettings::of(&args.parts, 1)?
            },
            authority: args.ca_out,
            as_json: args.json,
        })
    }
}

/// Keeps a system up until a signal ends it, and says where everything is.
///
/// # Errors
/// It does not start, a part ends by itself, or the authority cannot be written.
pub fn run(wanted: KeepUp) -> anyhow::Result<()> {
    let KeepUp {
        system,
        authority,
        as_json,
    } = wanted;
    let authority = authority.as_path();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Before anything is printed: who reads it may send a signal.
    let signal = runtime.block_on(async { Signals::new() })?;
    let system = System::start(system)?;
    std::fs::write(authority, system.authority())
        .with_context(|| format!("cannot write the authority to {}", authority.display()))?;
    let mut output = io::stdout().lock();
    if as_json {
        let document = Document::of(&system, authority);
        serde_json::to_writer(&mut output, &document)?;
        writeln!(output)?;
    } else {
        print(&system, authority, &mut output)?;
    }
    output.flush()?;
    runtime.block_on(signal.or_fault(&system))
}

/// The same for scripts.
#[derive(Serialize)]
struct Document<'a> {
    endpoint: String,
    authority: &'a Path,
    server: String,
    parts: Vec<PartDocument>,
    tunnels: Vec<TunnelDocument<'a>>,
}

#[derive(Serialize)]
struct PartDocument {
    name: String,
    pid: u32,
    backend: String,
}

#[derive(Serialize)]
struct TunnelDocument<'a> {
    /// Where its source listens.
    listen: Option<String>,
    #[serde(flatten)]
    ticket: &'a Ticket,
}

impl<'a> Document<'a> {
    fn of(system: &'a System, authority: &'a Path) -> Self {
        let targets = system.targets();
        let tunnel = |(index, ticket)| TunnelDocument {
            listen: targets.get(index).map(ToString::to_string),
            ticket,
        };
        let parts = system.describe().into_iter().map(|it| PartDocument {
            name: it.name,
            pid: it.pid,
            backend: it.backend,
        });
        Self {
            endpoint: format!("wss://{}", system.service()),
            authority,
            server: system.server().to_string(),
            parts: parts.collect(),
            tunnels: system.tickets().iter().enumerate().map(tunnel).collect(),
        }
    }
}

fn print(system: &System, authority: &Path, output: &mut impl Write) -> io::Result<()> {
    let endpoint = format!("wss://{}", system.service());
    for part in system.describe() {
        let place = match &*part.name {
            "service" => endpoint.clone(),
            _ => part.address.map(|it| it.to_string()).unwrap_or_default(),
        };
        let (name, pid, backend) = (part.name, part.pid, part.backend);
        writeln!(output, "{name:<14} pid {pid:<8} {backend:<9} {place}")?;
    }
    writeln!(output, "{:<14} {}", "authority", authority.display())?;
    let targets = system.targets();
    for (index, ticket) in system.tickets().iter().enumerate() {
        let listen = targets.get(index).map(ToString::to_string);
        writeln!(
            output,
            "{:<14} listens on {:<22} source token {}  destination token {}",
            ticket.tunnel,
            listen.as_deref().unwrap_or("-"),
            ticket.source_token,
            ticket.destination_token
        )?;
    }
    writeln!(output, "ready; Ctrl-C ends it")
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Completes with a signal, or with what went wrong in the system.
    async fn or_fault(mut self, system: &System) -> anyhow::Result<()> {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(200));
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return Ok(()),
                _ = self.terminate.recv() => return Ok(()),
                _ = looks.tick() => {}
            }
            if let Some(fault) = system.fault() {
                anyhow::bail!(fault);
            }
        }
    }
}
