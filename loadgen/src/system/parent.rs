//! The side that starts the parts, waits for them, and ends them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::{Attempt, Board, LinkState, PartState, Side, State};
use super::child::Part;
use super::pki::Identity;
use super::role::{Order, ProxiesRole, ProxyTunnel, Role, ServerRole, ServiceRole, Tuning};
use super::settings::{SystemSettings, TUNNELS_MAX};
use super::tickets::Ticket;
use crate::account::SubjectSpec;

/// How long a part may take to end once its standard input has.
const FAREWELL: Duration = Duration::from_secs(3);

/// Where everything listens unless it is told a port.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Why there is no system, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemError {
    /// More tunnels than one relay process can have, or none.
    #[error("{tunnels} tunnels: a system of one relay has 1 to {TUNNELS_MAX}")]
    Tunnels {
        /// As asked for.
        tunnels: usize,
    },
    /// Certificates or tokens cannot be made.
    #[error("cannot make certificates and tokens: {0}")]
    Secrets(String),
    /// A part cannot be started.
    #[error("cannot start the {part}: {source}")]
    Start {
        /// Which.
        part: String,
        /// Why.
        source: std::io::Error,
    },
    /// A part ended, or a proxy in it.
    #[error("{0}; what it said is above")]
    Failed(String),
    /// Not everything became ready in time.
    #[error("not ready within {} s: {missing}", .after.as_secs())]
    NotReady {
        /// What is missing.
        missing: String,
        /// How long was waited.
        after: Duration,
    },
}

/// A running system. Dropping it ends every part, within [`FAREWELL`].
pub struct System {
    settings: SystemSettings,
    identity: Identity,
    tickets: Vec<Ticket>,
    board: Arc<Board>,
    parts: Vec<Part>,
    service: SocketAddr,
    target: SocketAddr,
}

/// The service is the first part.
const SERVICE_PART: usize = 0;

impl System {
    /// Starts all parts and waits until every tunnel can be used.
    ///
    /// # Errors
    /// Something did not start; what did is ended again.
    pub fn start(settings: SystemSettings) -> Result<Self, SystemError> {
        if !(1..=TUNNELS_MAX).contains(&settings.tunnels) {
            return Err(SystemError::Tunnels {
                tunnels: settings.tunnels,
            });
        }
        let identity = Identity::new().map_err(|it| SystemError::Secrets(it.to_string()))?;
        let tickets: Result<Vec<_>, _> = (0..settings.tunnels).map(Ticket::new).collect();
        let mut system = Self {
            identity,
            tickets: tickets.map_err(|it| SystemError::Secrets(it.to_string()))?,
            board: Arc::new(Board::default()),
            parts: Vec::new(),
            service: LOOPBACK,
            target: settings.target.unwrap_or(LOOPBACK),
            settings,
        };
        {
            let mut state = system.board.lock();
            let links = vec![LinkState::default(); system.settings.tunnels];
            state.sources.clone_from(&links);
            state.destinations = links;
        }
        system.start_parts()?;
        Ok(system)
    }

    fn start_parts(&mut self) -> Result<(), SystemError> {
        let end = Instant::now() + self.settings.ready_within();
        let role = self.service_role();
        self.launch(SERVICE_PART, "service", None, &role)?;
        self.service = self.address_of(SERVICE_PART, end)?;
        if self.settings.target.is_none() {
            let part = self.parts.len();
            let role = Role::Server(ServerRole {
                listen: LOOPBACK,
                threads: self.settings.server_threads,
                congestion: self.settings.congestion.clone(),
            });
            self.launch(part, "server", None, &role)?;
            self.target = self.address_of(part, end)?;
        }
        // Destinations first: a connection that a source takes leads somewhere.
        for side in self.sides() {
            self.launch_proxies(side)?;
        }
        self.wait_ready(end)
    }

    fn service_role(&self) -> Role {
        Role::Service(ServiceRole {
            listen: self.service,
            certificate: self.identity.certificate.clone(),
            key: self.identity.key.clone(),
            tickets: self.tickets.clone(),
            tuning: self.tuning(),
            loops: self.settings.relay_loops,
            resets_links: self.settings.resets_links,
        })
    }

    fn launch_proxies(&mut self, side: Side) -> Result<(), SystemError> {
        let per_process = self.settings.tunnels_per_process();
        let groups = self.settings.tunnels.div_ceil(per_process);
        for group in 0..groups {
            let first = group * per_process;
            let last = (first + per_process).min(self.settings.tunnels);
            let name = match groups {
                1 => side.name().to_owned(),
                _ => format!("{} {}", side.name(), group + 1),
            };
            let tunnel = |index: usize| {
                let ticket = &self.tickets[index];
                let (access, client) = match side {
                    Side::Source => (&ticket.source_token, &ticket.source_client_token),
                    Side::Destination => {
                        (&ticket.destination_token, &ticket.destination_client_token)
                    }
                };
                ProxyTunnel {
                    index,
                    access_token: access.clone(),
                    client_token: client.clone(),
                }
            };
            let role = Role::Proxies(ProxiesRole {
                side,
                service: self.service,
                authority: self.identity.authority.clone(),
                tunnels: (first..last).map(tunnel).collect(),
                tuning: self.tuning(),
                target: (side == Side::Destination).then_some(self.target),
            });
            self.launch(self.parts.len(), &name, Some(side), &role)?;
        }
        Ok(())
    }

    fn tuning(&self) -> Tuning {
        Tuning {
            io: self.settings.io.to_string(),
            in_place_records: self.settings.in_place_records,
        }
    }

    /// Starts a part, or starts one again in its place.
    fn launch(
        &mut self,
        index: usize,
        name: &str,
        side: Option<Side>,
        role: &Role,
    ) -> Result<(), SystemError> {
        self.board.enter(index, name, side);
        let executable = &self.settings.executable;
        let board = Arc::clone(&self.board);
        let part = Part::start(executable, name, role, index, board).map_err(|source| {
            SystemError::Start {
                part: format!("{name} ({})", executable.display()),
                source,
            }
        })?;
        match self.parts.get_mut(index) {
            Some(place) => *place = part,
            None => self.parts.push(part),
        }
        Ok(())
    }

    fn address_of(&self, part: usize, end: Instant) -> Result<SocketAddr, SystemError> {
        let look = |state: &State| {
            let part = &state.parts[part];
            match state.fault() {
                Some(fault) => Some(Err(SystemError::Failed(fault))),
                None => part.address.filter(|_| part.is_ready).map(Ok),
            }
        };
        let missing = || self.not_ready(format!("the {}", self.parts[part].name()));
        self.board.wait(end, look).unwrap_or_else(|| Err(missing()))
    }

    fn wait_ready(&self, end: Instant) -> Result<(), SystemError> {
        let sides = self.sides();
        let look = |state: &State| match state.fault() {
            Some(fault) => Some(Err(SystemError::Failed(fault))),
            None => (missing(state, &sides).is_none()).then_some(Ok(())),
        };
        self.board.wait(end, look).unwrap_or_else(|| {
            let missing = missing(&self.board.lock(), &sides);
            Err(self.not_ready(missing.unwrap_or_else(|| "the last report".to_owned())))
        })
    }

    fn not_ready(&self, missing: String) -> SystemError {
        SystemError::NotReady {
            missing,
            after: self.settings.ready_within(),
        }
    }

    /// The sides whose proxies are part of this system.
    fn sides(&self) -> Vec<Side> {
        let destination = self.settings.has_destination.then_some(Side::Destination);
        let source = self.settings.has_source.then_some(Side::Source);
        destination.into_iter().chain(source).collect()
    }

    /// Where the sources listen, by tunnel; empty without sources.
    #[must_use]
    pub fn targets(&self) -> Vec<SocketAddr> {
        let state = self.board.lock();
        state.sources.iter().filter_map(|it| it.address).collect()
    }

    /// Where the service takes clients.
    #[must_use]
    pub fn service(&self) -> SocketAddr {
        self.service
    }

    /// What destinations dial: the verifying server.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.target
    }

    /// The authority to trust, PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.identity.authority
    }

    /// The tokens, by tunnel. Those of a side that is part of this system are in use.
    #[must_use]
    pub fn tickets(&self) -> &[Ticket] {
        &self.tickets
    }

    /// The processes, to be accounted for by name.
    #[must_use]
    pub fn subjects(&self) -> Vec<SubjectSpec> {
        self.parts.iter().map(Part::subject).collect()
    }

    /// The service's process alone: it is another one after each [`restart`](Self::restart_service).
    #[must_use]
    pub fn service_subject(&self) -> SubjectSpec {
        self.parts[SERVICE_PART].subject()
    }

    /// What the parts said of themselves: name, process, listener, kernel interface.
    #[must_use]
    pub fn describe(&self) -> Vec<PartInfo> {
        let state = self.board.lock();
        let describe = |(part, state): (&Part, &PartState)| PartInfo {
            name: part.name().to_owned(),
            pid: part.pid(),
            address: state.address,
            backend: state.backend.clone(),
        };
        self.parts.iter().zip(&state.parts).map(describe).collect()
    }

    /// What is wrong, if anything is: a part or a proxy has ended by itself.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.board.lock().fault()
    }

    /// Ends every link at once, without a close frame; the service stays.
    ///
    /// # Errors
    /// The service is gone, or does not carry it out within 20 s.
    pub fn cut_links(&mut self) -> Result<Instant, SystemError> {
        const PATIENCE: Duration = Duration::from_secs(20);
        let at = Instant::now();
        let done = self.board.lock().done;
        self.parts[SERVICE_PART].order(Order::CutLinks);
        let look = |state: &State| match state.fault() {
            Some(fault) => Some(Err(SystemError::Failed(fault))),
            None => (state.done > done).then_some(Ok(())),
        };
        let carried_out = self.board.wait(at + PATIENCE, look);
        carried_out.unwrap_or_else(|| {
            Err(SystemError::NotReady {
                missing: "the service did not cut its links".to_owned(),
                after: PATIENCE,
            })
        })?;
        Ok(at)
    }

    /// Kills the service (`SIGKILL`) and, after `pause`, starts it again on its port. Returns when
    /// it was killed; does not wait for the tunnels.
    ///
    /// # Errors
    /// It does not start again.
    pub fn restart_service(&mut self, pause: Duration) -> Result<Instant, SystemError> {
        // Links are lost while the process is taken down, before it is known to be gone.
        let at = Instant::now();
        // Not a fault: it is entered anew before anyone looks.
        self.parts[SERVICE_PART].kill();
        std::thread::sleep(pause);
        let role = self.service_role();
        self.launch(SERVICE_PART, "service", None, &role)?;
        let end = Instant::now() + self.settings.ready_within();
        self.address_of(SERVICE_PART, end)?;
        Ok(at)
    }

    /// How one side of every tunnel stands.
    #[must_use]
    pub fn links(&self, side: Side) -> Vec<LinkState> {
        self.board.lock().links(side).to_vec()
    }

    /// Waits until `done` holds of the links of both sides (source, destination), at most until
    /// `end`. `false`: it does not.
    ///
    /// # Errors
    /// A part or a proxy has ended by itself.
    pub fn wait_links(
        &self,
        end: Instant,
        done: impl Fn(&[LinkState], &[LinkState]) -> bool,
    ) -> Result<bool, SystemError> {
        let look = |state: &State| match state.fault() {
            Some(fault) => Some(Err(SystemError::Failed(fault))),
            None => done(&state.sources, &state.destinations).then_some(Ok(true)),
        };
        self.board.wait(end, look).unwrap_or(Ok(false))
    }

    /// The attempts to connect since the last call.
    #[must_use]
    pub fn take_attempts(&self) -> Vec<Attempt> {
        std::mem::take(&mut self.board.lock().attempts)
    }

    /// Why a link was lost last, in the words of its proxy.
    #[must_use]
    pub fn last_loss(&self) -> Option<String> {
        self.board.lock().last_loss.clone()
    }
}

/// What a part said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartInfo {
    /// What it is.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Where it listens; a source listens once for each tunnel, see [`System::targets`].
    pub address: Option<SocketAddr>,
    /// The kernel interface in use.
    pub backend: String,
}

/// The first thing that is missing, if any is.
fn missing(state: &State, sides: &[Side]) -> Option<String> {
    let part = state.parts.iter().find(|part| !part.is_ready);
    if let Some(part) = part {
        return Some(format!("the {}", part.name));
    }
    sides.iter().find_map(|side| {
        let links = state.links(*side);
        let lacks =
            |it: &&LinkState| !it.is_running || (*side == Side::Source && it.address.is_none());
        let count = links.iter().filter(lacks).count();
        let why = state.last_loss.as_deref().unwrap_or("no reason was told");
        let name = side.name();
        (count > 0).then(|| format!("{count} of {} {name} links ({why})", links.len()))
    })
}

impl Drop for System {
    fn drop(&mut self) {
        // All at once, then wait for each.
        for part in &mut self.parts {
            part.dismiss();
        }
        let end = Instant::now() + FAREWELL;
        for part in &mut self.parts {
            part.end(end);
        }
    }
}
