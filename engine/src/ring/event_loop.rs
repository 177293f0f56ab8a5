//! The loop: one thread that moves the bytes of its tunnels.

mod guard;

use super::backend::{Backend, Ready};
use super::commands::{Inbox, commands};
use super::handle::{Command, LoopHandle, ProxyId, ProxyStatus};
use super::io::{Io, LINGER_TIMEOUT, Owner};
use super::proxy_io::ProxyIo;
use super::relay_io::RelayIo;
use super::{IoChoice, ProbeError, Settings, open};
use crate::failpoint::failpoint;
use adit_proto::ids::TunnelId;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two looks at what is acknowledged, when nothing else happens.
const ACKNOWLEDGEMENT_CHECK: Duration = Duration::from_millis(10);

/// Why a loop could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The chosen backend is not to be had here.
    #[error(transparent)]
    Backend(#[from] ProbeError),
    /// The system refused a thread or a descriptor.
    #[error("cannot start an event loop: {0}")]
    System(#[from] io::Error),
}

/// Starts a loop on a thread of its own, called `name`.
///
/// # Errors
/// When the backend is refused, or the system has no thread or descriptor left.
pub fn start(name: String, choice: IoChoice) -> Result<(LoopHandle, JoinHandle<()>), StartError> {
    let (commands, inbox) = commands()?;
    let (report, outcome) = channel();
    let (alive, life) = tokio::sync::watch::channel(());
    let mistakes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&mistakes);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        // Dropped last, also by a panic: whoever waits for the end hears of it.
        let _alive = alive;
        // The backend belongs to the thread that opened it (`IORING_SETUP_SINGLE_ISSUER`).
        match EventLoop::new(choice, inbox, counted) {
            Ok(event_loop) => {
                let _ = report.send(Ok(event_loop.io.backend.name()));
                event_loop.run();
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        }
    })?;
    let backend = outcome
        .recv()
        .map_err(|_| io::Error::other("the thread ended before it began"))??;
    Ok((
        LoopHandle {
            commands,
            backend,
            mistakes,
            life,
        },
        thread,
    ))
}

struct EventLoop {
    io: Io,
    inbox: Inbox,
    tunnels: Slab<Tunnel>,
    proxies: HashMap<ProxyId, u32>,
    relays: HashMap<TunnelId, u32>,
    /// Tunnels with something to do, in the order it came; each at most once.
    due: VecDeque<u32>,
    /// When tunnels want a turn. An entry that was overtaken gives a turn with nothing to do.
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
    ready: Vec<Ready>,
    /// Tunnels that were ended by a panic.
    mistakes: Arc<AtomicU64>,
    is_stopping: bool,
    /// When it ends, whoever has not acknowledged everything by then.
    finish_until: Option<Instant>,
}

struct Tunnel {
    kind: Kind,
    is_due: bool,
    /// Its earliest entry in the timers.
    timer: Option<Instant>,
}

enum Kind {
    Proxy(ProxyId, Box<ProxyIo>),
    Relay(Box<RelayIo>),
}

impl EventLoop {
    fn new(choice: IoChoice, inbox: Inbox, mistakes: Arc<AtomicU64>) -> Result<Self, StartError> {
        let backend = open(choice, &Settings::default())?;
        let mut io = Io::new(backend, read_clock());
        // The waker's descriptor is the loop's to watch and the source's to close.
        let fd = super::socket::duplicate(inbox.fd())?;
        io.insert(fd, Owner::Waker)?;
        Ok(Self {
            io,
            inbox,
            tunnels: Slab::new(),
            proxies: HashMap::new(),
            relays: HashMap::new(),
            due: VecDeque::new(),
            timers: BinaryHeap::new(),
            ready: Vec::new(),
            mistakes,
            is_stopping: false,
            finish_until: None,
        })
    }

    /// Turns until told to stop. Order within a turn: events, commands, timers, then each tunnel
    /// with something to do has its bounded share; so load starves neither timers nor commands.
    fn run(mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        while !self.is_stopping {
            let timeout = self.patience();
            if let Err(error) = self.io.backend.wait(&mut ready, timeout) {
                tracing::error!(%error, "the event loop cannot go on: the kernel refuses to report events");
                return;
            }
            failpoint("loop", &self.io.backend.name());
            self.io.now = read_clock();
            for event in ready.drain(..) {
                self.dispatch(&event);
            }
            self.take_commands();
            self.take_timers();
            for _ in 0..self.due.len() {
                let Some(index) = self.due.pop_front() else {
                    break;
                };
                self.turn(index);
            }
            self.io.buffers.review(self.io.now);
            if let Some(until) = self.finish_until {
                self.is_stopping |= self.io.now >= until || !self.io.owes_bytes();
            }
        }
    }

    /// How long to wait for events.
    fn patience(&self) -> Option<Duration> {
        if !self.due.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.finish_until.is_some() {
            // No event tells of an acknowledgement.
            return Some(ACKNOWLEDGEMENT_CHECK);
        }
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let next = timer.into_iter().chain(self.io.next_deadline()).min()?;
        Some(next.saturating_duration_since(read_clock()))
    }

    fn dispatch(&mut self, event: &Ready) {
        let index = event.token.index();
        let Some(owner) = self.io.owner(event) else {
            return;
        };
        let tunnel = match *owner {
            Owner::Waker => {
                self.inbox.acknowledge();
                return;
            }
            Owner::Lingering => return self.io.linger(index),
            Owner::Passing { tunnel } => tunnel,
            Owner::Listener { tunnel, service } => {
                self.with_proxy(tunnel, |proxy, _| proxy.listener_ready(service));
                tunnel
            }
            Owner::Local { tunnel, key } => {
                self.with_proxy(tunnel, |proxy, _| proxy.local_ready(key, event));
                tunnel
            }
            Owner::Dialling { tunnel, .. } => {
                self.with_proxy(tunnel, |proxy, io| {
                    proxy.dial_ready(io, index, Some(event.reads_short()), false)
                });
                tunnel
            }
            Owner::Link { tunnel, side } => {
                self.guarded(tunnel, |kind, _| match kind {
                    Kind::Proxy(_, proxy) => proxy.link_ready(event),
                    Kind::Relay(relay) => relay.link_ready(side, event),
                });
                tunnel
            }
        };
        self.mark_due(tunnel);
    }

    fn take_commands(&mut self) {
        for taken in 0.. {
            let Some(command) = self.inbox.take(taken) else {
                return;
            };
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::AddProxy {
                id,
                proxy,
                options,
                events,
            } => {
                let entry = self.tunnels.vacant_entry();
                let index = entry.key() as u32;
                let proxy = Box::new(ProxyIo::new(index, proxy, options, events, self.io.now));
                entry.insert(Tunnel {
                    kind: Kind::Proxy(id, proxy),
                    is_due: false,
                    timer: None,
                });
                self.proxies.insert(id, index);
            }
            Command::LinkUp { id, link } => {
                self.command_proxy(id, |proxy, io| proxy.link_up(io, *link));
            }
            Command::Listener { id, service, fd } => {
                self.command_proxy(id, |proxy, io| proxy.add_listener(io, service, fd))
            }
            Command::Local { id, service, fd } => {
                self.command_proxy(id, |proxy, io| proxy.add_local(io, service, fd))
            }
            Command::Dialled { id, key, result } => {
                self.command_proxy(id, |proxy, io| proxy.dialled_outside(io, key, result))
            }
            Command::Drain { id, patience } => {
                self.command_proxy(id, |proxy, io| proxy.drain(io, io.now + patience))
            }
            Command::Status { id, reply } => {
                let status = self.proxy_status(id);
                let _ = reply.send(status);
            }
            Command::Attach { admitted, link } => {
                let grant = &admitted.grant;
                let index = self.relay_of(&grant.tunnel, &grant.services);
                self.with_relay(index, |relay, io| relay.attach(io, admitted, *link));
                self.mark_due(index);
            }
            Command::EndSide {
                tunnel,
                mode,
                newest,
            } => self.command_relay(&tunnel, |relay, io| relay.end_side(io, mode, newest)),
            Command::EndTunnel { tunnel } => self.command_relay(&tunnel, RelayIo::end),
            Command::Finish => self.finish_until = Some(self.io.now + LINGER_TIMEOUT),
            Command::Stop => self.is_stopping = true,
            #[cfg(test)]
            Command::Run(action) => action(),
        }
    }

    fn proxy_status(&self, id: ProxyId) -> Option<ProxyStatus> {
        let index = self.proxies.get(&id)?;
        match &self.tunnels.get(*index as usize)?.kind {
            Kind::Proxy(_, proxy) => Some(proxy.status()),
            Kind::Relay(_) => None,
        }
    }

    /// The relay of a tunnel, made on first use.
    fn relay_of(&mut self, id: &TunnelId, services: &Arc<[adit_proto::ids::ServiceId]>) -> u32 {
        if let Some(index) = self.relays.get(id) {
            return *index;
        }
        let entry = self.tunnels.vacant_entry();
        let index = entry.key() as u32;
        let relay = Box::new(RelayIo::new(index, id.clone(), services.clone()));
        entry.insert(Tunnel {
            kind: Kind::Relay(relay),
            is_due: false,
            timer: None,
        });
        self.relays.insert(id.clone(), index);
        index
    }

    fn take_timers(&mut self) {
        while let Some(&Reverse((at, index))) = self.timers.peek() {
            if at > self.io.now {
                break;
            }
            self.timers.pop();
            if let Some(tunnel) = self.tunnels.get_mut(index as usize) {
                tunnel.timer = None;
                self.mark_due(index);
            }
        }
        self.io.close_lingering();
        while let Some(socket) = self.io.overdue_dial() {
            if let Some(&mut Owner::Dialling { tunnel, .. }) = self.io.owner_at(socket) {
                self.with_proxy(tunnel, |proxy, io| {
                    proxy.dial_ready(io, socket, Some(false), true)
                });
                self.mark_due(tunnel);
            }
        }
    }

    fn mark_due(&mut self, index: u32) {
        if let Some(tunnel) = self.tunnels.get_mut(index as usize)
            && !tunnel.is_due
        {
            tunnel.is_due = true;
            self.due.push_back(index);
        }
    }

    fn turn(&mut self, index: u32) {
        if let Some(tunnel) = self.tunnels.get_mut(index as usize) {
            tunnel.is_due = false;
        }
        let outcome = self.guarded(index, |kind, io| match kind {
            Kind::Proxy(_, proxy) => (proxy.turn(io), proxy.next_timeout(), proxy.is_over()),
            Kind::Relay(relay) => (relay.turn(io), relay.next_timeout(), relay.is_over()),
        });
        let Some((again, timeout, is_over)) = outcome else {
            return;
        };
        if is_over {
            return self.remove(index);
        }
        if again {
            self.mark_due(index);
        }
        if let (Some(at), Some(tunnel)) = (timeout, self.tunnels.get_mut(index as usize))
            && tunnel.timer.is_none_or(|timer| at < timer)
        {
            tunnel.timer = Some(at);
            self.timers.push(Reverse((at, index)));
        }
    }

    fn remove(&mut self, index: u32) {
        match self
            .tunnels
            .try_remove(index as usize)
            .map(|tunnel| tunnel.kind)
        {
            Some(Kind::Proxy(id, _)) => {
                self.proxies.remove(&id);
            }
            Some(Kind::Relay(relay)) => {
                self.relays.remove(relay.id());
            }
            None => {}
        }
    }

    fn command_proxy(&mut self, id: ProxyId, action: impl FnOnce(&mut ProxyIo, &mut Io)) {
        if let Some(index) = self.proxies.get(&id).copied() {
            self.with_proxy(index, action);
            self.mark_due(index);
        }
    }

    fn command_relay(&mut self, id: &TunnelId, action: impl FnOnce(&mut RelayIo, &mut Io)) {
        if let Some(index) = self.relays.get(id).copied() {
            self.with_relay(index, action);
            self.mark_due(index);
        }
    }

    fn with_proxy(&mut self, index: u32, action: impl FnOnce(&mut ProxyIo, &mut Io)) {
        self.guarded(index, |kind, io| {
            if let Kind::Proxy(_, proxy) = kind {
                action(proxy, io);
            }
        });
    }

    fn with_relay(&mut self, index: u32, action: impl FnOnce(&mut RelayIo, &mut Io)) {
        self.guarded(index, |kind, io| {
            if let Kind::Relay(relay) = kind {
                action(relay, io);
            }
        });
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the loop's one clock; the core is told the time"
)]
fn read_clock() -> Instant {
    Instant::now()
}
