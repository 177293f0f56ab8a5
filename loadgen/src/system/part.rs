//! The process of a part: reads what it is to be, is that, and ends with its standard input.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::process;

use adit_engine::ring;
use adit_engine::tls::RecordsChoice;
use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::role::{Order, Report, Role, ServerRole, Tuning};
use super::{mock, proxies};
use crate::args::IoChoice;
use crate::server::{ServeSettings, Server};

/// Bytes of the first line. The service's, with the most tunnels, has under 3 MB.
const ROLE_SIZE_MAX: u64 = 16 << 20;

/// Threads of the runtime that dials and shakes hands, as many as `adit` has.
const RUNTIME_THREADS: usize = 2;

/// Runs the part that standard input describes. Does not return while all is well: the process ends
/// when its standard input does.
///
/// # Errors
/// The part cannot be, or has failed.
pub fn run() -> Result<()> {
    ring::raise_descriptor_limit();
    let role = read_role()?;
    // An order waits only while the one before it is carried out, and the parent waits for each.
    let (orders, carried_out) = unbounded_channel();
    std::thread::Builder::new()
        .name("orders".to_owned())
        .spawn(move || follow_orders(&orders))?;
    match role {
        Role::Service(role) => runtime()?.block_on(mock::run(role, carried_out)),
        Role::Proxies(role) => runtime()?.block_on(proxies::run(role)),
        Role::Server(role) => serve(role),
    }
}

fn read_role() -> Result<Role> {
    let mut line = String::new();
    // Locked for this line alone: not one byte more is taken that the next reader would miss, since
    // both share the one buffer of standard input.
    io::stdin()
        .lock()
        .take(ROLE_SIZE_MAX)
        .read_line(&mut line)?;
    if line.is_empty() {
        bail!(
            "this command is for adit-loadgen's own use: it is told on standard input what to be"
        );
    }
    // The error of the reader may quote the line, which holds tokens.
    serde_json::from_str(&line).map_err(|_| anyhow!("standard input does not say what to be"))
}

/// Ends the process with its standard input: the parent has ended, in whatever way, or wants this
/// part to.
fn follow_orders(orders: &UnboundedSender<Order>) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        if let Ok(order) = serde_json::from_str(&line) {
            let _ = orders.send(order);
        }
    }
    process::exit(0);
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .context("the system gives no threads")
}

fn serve(role: ServerRole) -> Result<()> {
    let server = Server::start(&ServeSettings {
        listen: role.listen,
        threads: role.threads,
        congestion: role.congestion,
        io: IoChoice::Auto,
    })?;
    tell(&Report::Ready {
        address: Some(server.address),
        backend: "monoio".to_owned(),
    });
    Err(server.wait())
}

/// Writes a line for the parent. A parent that is gone is noticed elsewhere.
pub(super) fn tell(report: &Report) {
    let Ok(mut line) = serde_json::to_vec(report) else {
        return;
    };
    line.push(b'\n');
    let mut output = io::stdout().lock();
    let _ = output.write_all(&line).and_then(|()| output.flush());
}

impl Tuning {
    pub(super) fn io(&self) -> Result<ring::IoChoice> {
        self.io.parse().with_context(|| format!("--io {}", self.io))
    }

    pub(super) fn records(&self) -> RecordsChoice {
        match self.in_place_records {
            true => RecordsChoice::InPlace,
            false => RecordsChoice::Library,
        }
    }
}
