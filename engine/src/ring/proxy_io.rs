//! Drives one [`Proxy`]: its WebSocket on one side, its local sockets on the other.

use super::backend::{Backend, Outgoing, Ready};
use super::buffers::OUTPUT_MARK;
use super::handle::{LinkEnd, ProxyOptions, ProxyStatus, TunnelEvent};
use super::io::{Io, Owner};
use super::link_io::{LinkFault, LinkIo, Received};
use super::socket::{self, Address};
use crate::link::Link;
use crate::tunnel::deliver::{BATCH_MAX, PARTS_MAX};
use crate::tunnel::endpoint::Endpoint;
use crate::tunnel::flow::Flow;
use crate::tunnel::key::ConnectionKey;
use crate::tunnel::proxy::{Action, Proxy};
use crate::tunnel::send::LocalReader;
use adit_proto::websocket::CloseCode;
use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Payload parts that one batch of sends names; more go in the next batch.
const BATCH_PARTS: usize = 4 * PARTS_MAX;

/// Times that one turn reads the tunnel's socket (256 KiB each) before others get theirs.
const READS_PER_TURN: usize = 2;

/// Connections accepted from one listener in one turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How long applications that connect while the tunnel is down are kept waiting for it; later
/// ones are reset at once, so that they do not hang.
const DOWN_PATIENCE: Duration = Duration::from_secs(10);

/// Pause of a listener after the system refused a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a silent link is given up.
const SILENT: &str = "the service answers no pings any more";

/// One proxy on a loop.
pub(super) struct ProxyIo {
    tunnel: u32,
    proxy: Box<Proxy>,
    link: Option<LinkIo>,
    listeners: Vec<Listener>,
    /// Connections whose socket became writable while bytes waited.
    flushes: Vec<ConnectionKey>,
    results: Vec<(usize, io::Result<usize>)>,
    options: ProxyOptions,
    events: UnboundedSender<TunnelEvent>,
    /// Sockets that are being connected.
    dials: HashMap<ConnectionKey, u32>,
    /// Dials that failed and are tried again, in order: the pause is the same for all.
    redials: VecDeque<(Instant, ConnectionKey)>,
    /// How often each of those was tried again.
    tries: HashMap<ConnectionKey, u32>,
    down_since: Instant,
    accept_at: Option<Instant>,
    drain_until: Option<Instant>,
    is_over: bool,
}

struct Listener {
    socket: u32,
    service: u32,
    /// Connections may wait; cleared when the system says that none does.
    is_ready: bool,
}

/// Reads local sockets for the core.
struct Reader<'a>(&'a mut Io);

impl LocalReader for Reader<'_> {
    fn receive(&mut self, io: u32, into: &mut [u8]) -> io::Result<usize> {
        let fd = self.0.fd(io);
        self.0.backend.recv(fd, into)
    }
}

impl ProxyIo {
    pub(super) fn new(
        tunnel: u32,
        proxy: Box<Proxy>,
        options: ProxyOptions,
        events: UnboundedSender<TunnelEvent>,
        now: Instant,
    ) -> Self {
        Self {
            tunnel,
            proxy,
            link: None,
            listeners: Vec::new(),
            flushes: Vec::new(),
            results: Vec::new(),
            options,
            events,
            dials: HashMap::new(),
            redials: VecDeque::new(),
            tries: HashMap::new(),
            down_since: now,
            accept_at: None,
            drain_until: None,
            is_over: false,
        }
    }

    /// Whether it is finished and holds no socket any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over && self.link.is_none()
    }

    /// A fresh link; one that was still there is dropped.
    pub(super) fn link_up(&mut self, io: &mut Io, link: Link) {
        self.drop_link(io, LinkEnd::Lost("replaced by a newer link".into()));
        let owner = Owner::Link {
            tunnel: self.tunnel,
            side: 0,
        };
        match io.insert(link.socket, owner) {
            Ok(socket) => {
                socket::keep_unsent_short(io.fd(socket));
                self.link = Some(LinkIo::new(
                    socket,
                    link.records,
                    &link.opened,
                    &link.unread,
                    &mut io.buffers,
                ));
                self.proxy.link_up(io.now);
            }
            Err(error) => self.tell(TunnelEvent::LinkEnded(LinkEnd::Lost(format!(
                "the link's socket cannot be watched: {error}"
            )))),
        }
    }

    pub(super) fn link_ready(&mut self, ready: &Ready) {
        if let Some(link) = &mut self.link {
            link.ready(ready);
        }
    }

    pub(super) fn local_ready(&mut self, key: ConnectionKey, ready: &Ready) {
        if ready.gone {
            self.proxy.gone(key);
        }
        if ready.readable {
            self.proxy.readable(key, ready.reads_short());
        }
        if ready.writable && self.proxy.writable(key).is_some() {
            self.flushes.push(key);
        }
    }

    pub(super) fn listener_ready(&mut self, service: u32) {
        for listener in self
            .listeners
            .iter_mut()
            .filter(|listener| listener.service == service)
        {
            listener.is_ready = true;
        }
    }

    /// A listening socket for a service, made elsewhere.
    pub(super) fn add_listener(&mut self, io: &mut Io, service: u32, fd: OwnedFd) {
        let owner = Owner::Listener {
            tunnel: self.tunnel,
            service,
        };
        match io.insert(fd, owner) {
            Ok(socket) => self.listeners.push(Listener {
                socket,
                service,
                is_ready: true,
            }),
            Err(error) => tracing::error!(%error, "a listener cannot be watched"),
        }
    }

    /// A connected socket to be carried as if it had been accepted for `service`.
    pub(super) fn add_local(&mut self, io: &mut Io, service: u32, fd: OwnedFd) {
        self.take_accepted(io, service, fd);
    }

    /// The dialler outside of the loop is done.
    pub(super) fn dialled_outside(
        &mut self,
        io: &mut Io,
        key: ConnectionKey,
        result: io::Result<OwnedFd>,
    ) {
        let owner = Owner::Local {
            tunnel: self.tunnel,
            key,
        };
        match result.and_then(|fd| io.insert(fd, owner)) {
            Ok(socket) => self.connected(io, key, socket, false),
            Err(error) => self.dial_failed(io, key, &error),
        }
    }

    /// A socket that is being connected has news.
    pub(super) fn dial_ready(
        &mut self,
        io: &mut Io,
        socket: u32,
        reads_short: bool,
        overdue: bool,
    ) {
        let fd = io.fd(socket);
        let result = match io.backend.connect_result(fd) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !overdue => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            result => result,
        };
        let Some(Owner::Dialling { key, rest, .. }) = io.take_owner(socket) else {
            return;
        };
        self.dials.remove(&key);
        match result {
            Ok(()) => {
                io.set_owner(
                    socket,
                    Owner::Local {
                        tunnel: self.tunnel,
                        key,
                    },
                );
                // Its end may have come along with its beginning, in one edge.
                self.connected(io, key, socket, reads_short);
            }
            Err(error) => {
                io.close(socket);
                match io.dial(self.tunnel, key, rest, error) {
                    Ok(next) => drop(self.dials.insert(key, next)),
                    Err(error) => self.dial_failed(io, key, &error),
                }
            }
        }
    }

    /// Stops taking connections; ends when those open are done, at `until` at the latest.
    pub(super) fn drain(&mut self, io: &mut Io, until: Instant) {
        self.proxy.drain();
        self.drain_until = Some(until.min(self.drain_until.unwrap_or(until)));
        self.close_listeners(io);
    }

    /// When time alone gives it something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let down = (self.link.is_none() && self.listeners.iter().any(|listener| listener.is_ready))
            .then(|| self.down_since + DOWN_PATIENCE);
        [
            self.proxy.poll_timeout(),
            self.accept_at,
            self.drain_until,
            self.redials.front().map(|(at, _)| *at),
            down,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn status(&self) -> ProxyStatus {
        ProxyStatus {
            counters: self.proxy.counters(),
            connections: self.proxy.connection_count(),
            queued_size: self.proxy.queued_size(),
            is_running: self.proxy.is_running(),
            round_trip: self.proxy.round_trip(),
            bytes_moved: self.link.as_ref().map_or(0, LinkIo::bytes_moved),
        }
    }

    /// One turn: a bounded share of everything. Returns whether more is to be done at once.
    pub(super) fn turn(&mut self, io: &mut Io) -> bool {
        self.proxy.handle_timeout(io.now);
        self.flush_writable(io);
        self.redial(io);
        let mut again = self.receive(io);
        let was_paused = self.proxy.is_paused();
        self.act(io);
        self.accept(io);
        let kept_waiting = self.kept_waiting();
        again |= self.send(io);
        self.act(io);
        // Sending may have emptied the queue of control messages that paused the reading, and a
        // dial that failed at once the queue of its connection.
        again |= was_paused && !self.proxy.is_paused();
        again |= self.kept_waiting() < kept_waiting;
        self.check_drained(io);
        if let Some(link) = &mut self.link {
            link.release(&mut io.buffers);
        }
        again
    }

    /// Reads the tunnel. Returns whether the turn ended before the bytes did.
    fn receive(&mut self, io: &mut Io) -> bool {
        for _ in 0..READS_PER_TURN {
            if self.link.as_ref().is_none_or(|link| !link.may_read()) {
                return false;
            }
            match self.receive_once(io) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(end) => {
                    self.end_link(io, end);
                    return false;
                }
            }
        }
        !self.proxy.is_paused()
    }

    /// Carries out what is in the buffer, then reads once. `Ok(true)`: there may be more.
    fn receive_once(&mut self, io: &mut Io) -> Result<bool, LinkEnd> {
        if !self.read_opened(io)? {
            return Ok(false);
        }
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        let received = match link.receive(io) {
            Ok(Received::Some) => true,
            Ok(Received::Nothing) => return Ok(false),
            Ok(Received::Ended) => return Err(LinkEnd::of(&LinkFault::Ended)),
            Err(error) => return Err(LinkEnd::of(&LinkFault::Io(error))),
        };
        Ok(self.read_opened(io)? && received)
    }

    /// Opens records and hands them to the core until the buffer is used up. `Ok(false)`: the
    /// core is paused.
    fn read_opened(&mut self, io: &mut Io) -> Result<bool, LinkEnd> {
        let outcome = loop {
            let Some(link) = &mut self.link else {
                break Ok(false);
            };
            match link.open() {
                Ok(true) => {}
                Ok(false) => break Ok(true),
                Err(fault) => break Err(LinkEnd::of(&fault)),
            }
            let (buffer, position) = link.opened();
            match self.proxy.handle_input(io.now, buffer, position) {
                Ok(Flow::Done) => link.opened_done(),
                Ok(Flow::Deliver) => self.deliver(io),
                Ok(Flow::Paused) => {
                    // What this batch delivers may lift the pause.
                    self.deliver(io);
                    if self.proxy.is_paused() {
                        return Ok(false);
                    }
                }
                Ok(Flow::Closed(code)) => break Err(LinkEnd::Closed(code)),
                Err(error) => break Err(LinkEnd::Violation(error.to_string())),
            }
        };
        // What the peer sent before its end is delivered, whatever that end was.
        self.deliver(io);
        outcome
    }

    /// Offers what the core decided to deliver, many sockets in one batch.
    fn deliver(&mut self, io: &mut Io) {
        if !self.proxy.has_deliveries() {
            return;
        }
        let Self {
            proxy,
            link,
            results,
            ..
        } = self;
        let buffer = link.as_ref().map_or(&[][..], LinkIo::input_bytes);
        let count = proxy.deliveries().count();
        let mut first = 0;
        while first < count {
            offer(proxy, buffer, io, first, results);
            first += results.len();
            for (index, result) in results.drain(..) {
                proxy.delivered(io.now, index, buffer, result);
            }
        }
        proxy.clear_deliveries();
    }

    /// Offers waiting bytes to the sockets that can take some again.
    fn flush_writable(&mut self, io: &mut Io) {
        for key in std::mem::take(&mut self.flushes) {
            self.flush_one(io, key);
        }
    }

    fn flush_one(&mut self, io: &mut Io, key: ConnectionKey) {
        while let Some(socket) = self.proxy.writable(key) {
            let mut parts = [IoSlice::new(&[]); PARTS_MAX];
            let count = self.proxy.queued_parts(key, &mut parts);
            let offered: usize = parts[..count].iter().map(|part| part.len()).sum();
            let mut batch = [Outgoing::new(io.fd(socket), &parts[..count])];
            io.backend.send_batch(&mut batch);
            let [sent] = batch;
            let is_short = sent.result.as_ref().map_or(true, |taken| *taken < offered);
            self.proxy.flushed(io.now, key, sent.result);
            // A short send means a full socket; its draining makes a new edge.
            if is_short {
                return;
            }
        }
    }

    /// Composes records while the tunnel takes them. Returns whether the turn ended before the
    /// local sockets did.
    fn send(&mut self, io: &mut Io) -> bool {
        let mut moved = 0;
        while moved < OUTPUT_MARK {
            match self.fill_and_flush(io) {
                Ok(0) => return false,
                Ok(size) => moved += size,
                Err(fault) => {
                    self.end_link(io, LinkEnd::of(&fault));
                    return false;
                }
            }
        }
        self.proxy.wants_output()
    }

    /// Fills the output up to its mark and offers it to the socket. Returns the bytes that were
    /// composed or sent; 0 when there is nothing to do before the next event.
    ///
    /// Sending alone is progress too: it may have made the room that composing lacked, and a
    /// socket that took everything reports no edge.
    fn fill_and_flush(&mut self, io: &mut Io) -> Result<usize, LinkFault> {
        let Some(link) = &mut self.link else {
            return Ok(0);
        };
        let mut composed = 0;
        while link.has_room() && self.proxy.wants_output() {
            let area = link.area(&mut io.buffers);
            let size = self.proxy.compose(io.now, area, &mut Reader(io));
            if size == 0 {
                break;
            }
            link.seal(size)?;
            composed += size;
        }
        let waiting = link.output_size();
        link.flush(io)?;
        let sent = waiting.saturating_sub(link.output_size());
        Ok(if link.is_writable() {
            composed + sent
        } else {
            0
        })
    }

    /// Carries out what the core decided.
    fn act(&mut self, io: &mut Io) {
        while let Some(action) = self.proxy.poll_action() {
            match action {
                Action::Listen { service } => self.listen(service),
                Action::Unlisten => {
                    self.close_listeners(io);
                    self.tell(TunnelEvent::Unlisten);
                }
                Action::Dial { key, service } => self.dial(io, key, service),
                Action::CancelDial { key } => self.cancel_dial(io, key),
                Action::End { io: socket } => io.end(socket),
                Action::Abort { io: socket } => io.reset(socket),
                Action::LinkDead => self.end_link(io, LinkEnd::Lost(SILENT.into())),
                Action::LinkSuspect => {
                    let socket = self.link.as_ref().map(|link| io.fd(link.socket));
                    if socket.is_some_and(socket::is_retransmitting) {
                        self.end_link(io, LinkEnd::Lost(SILENT.into()));
                    }
                }
                Action::Mismatch(mismatch) => {
                    self.proxy.close(CloseCode::Normal, "services do not fit");
                    self.send(io);
                    self.end_link(io, LinkEnd::Drained);
                    self.tell(TunnelEvent::Mismatch(mismatch));
                }
            }
        }
    }

    fn listen(&mut self, service: u32) {
        let Some(endpoint) = self.proxy.endpoint(service).cloned() else {
            return;
        };
        let name = self.proxy.service_id(service).cloned();
        self.tell(TunnelEvent::Listen {
            service,
            name,
            endpoint,
        });
    }

    fn dial(&mut self, io: &mut Io, key: ConnectionKey, service: u32) {
        let addresses = match self.proxy.endpoint(service) {
            Some(Endpoint::Unix(path)) => vec![Address::Unix(path.clone())],
            Some(Endpoint::Tcp { host, port }) => {
                // A name is looked up for each connection: what it stands for may change, and a
                // look-up that failed once may succeed the next time.
                let host = host.as_ref().unwrap_or(&self.options.default_host);
                match literal_addresses(host, *port) {
                    Some(addresses) => addresses,
                    None => {
                        return self.tell(TunnelEvent::Dial {
                            key,
                            host: host.clone(),
                            port: *port,
                        });
                    }
                }
            }
            Some(Endpoint::Stdio) | None => Vec::new(),
        };
        let nowhere = io::ErrorKind::AddrNotAvailable.into();
        match io.dial(self.tunnel, key, addresses, nowhere) {
            Ok(socket) => drop(self.dials.insert(key, socket)),
            Err(error) => self.dial_failed(io, key, &error),
        }
    }

    /// Ends a dial that nobody waits for any more: its socket must not outlive the proxy, whose
    /// place on the loop another one takes. What is dialled outside of the loop, or waits to be
    /// tried again, ends when it reports.
    fn cancel_dial(&mut self, io: &mut Io, key: ConnectionKey) {
        if let Some(socket) = self.dials.remove(&key) {
            io.close(socket);
            self.tries.remove(&key);
            self.proxy.dial_failed(key);
        }
    }

    fn connected(&mut self, io: &mut Io, key: ConnectionKey, socket: u32, reads_short: bool) {
        if let Ok(peer) = io.peer(socket) {
            self.announce(format_args!("Connected to {}", peer_text(&peer)));
        }
        self.tries.remove(&key);
        if self.proxy.dialled(io.now, key, socket) {
            self.flush_one(io, key);
            self.proxy.readable(key, reads_short);
        } else {
            io.close(socket);
        }
    }

    fn dial_failed(&mut self, io: &Io, key: ConnectionKey, error: &io::Error) {
        let dialled = self.proxy.dialled_service(key);
        if let Some(retries) = self.options.dial_retries
            && dialled.is_some()
        {
            let tries = self.tries.entry(key).or_default();
            if retries.count.is_none_or(|count| *tries < count) {
                *tries += 1;
                self.redials.push_back((io.now + retries.delay, key));
                return;
            }
        }
        // `None`: the peer has ended the connection meanwhile, and nobody misses it.
        if let Some(service) = dialled {
            let endpoint = self.endpoint_text(service);
            let service = self.service_text(service);
            tracing::warn!(service, endpoint, %error, "could not connect to the local service; its connection was reset");
        }
        self.tries.remove(&key);
        self.proxy.dial_failed(key);
    }

    /// Tries again what failed a while ago and is still wanted.
    fn redial(&mut self, io: &mut Io) {
        while let Some(&(at, key)) = self.redials.front() {
            if at > io.now {
                return;
            }
            self.redials.pop_front();
            match self.proxy.dialled_service(key) {
                Some(service) => self.dial(io, key, service),
                None => {
                    self.tries.remove(&key);
                    self.proxy.dial_failed(key);
                }
            }
        }
    }

    /// Accepts what waits at listeners, or leaves it there while the tunnel is down.
    fn accept(&mut self, io: &mut Io) {
        if self.accept_at.is_some_and(|at| at > io.now) {
            return;
        }
        self.accept_at = None;
        // Each would add to what waits for the tunnel already.
        if self.proxy.is_outbox_full() {
            return;
        }
        let is_patient = !self.proxy.is_running() && io.now < self.down_since + DOWN_PATIENCE;
        if is_patient {
            return;
        }
        for index in 0..self.listeners.len() {
            let Listener {
                is_ready, service, ..
            } = self.listeners[index];
            if is_ready && !self.proxy.keeps_waiting(service) {
                self.accept_from(io, index);
            }
        }
    }

    /// Listeners whose applications wait for another's connection to end.
    fn kept_waiting(&self) -> usize {
        let waiting = self.listeners.iter().filter(|listener| listener.is_ready);
        waiting
            .filter(|listener| self.proxy.keeps_waiting(listener.service))
            .count()
    }

    fn accept_from(&mut self, io: &mut Io, index: usize) {
        let (socket, service) = (self.listeners[index].socket, self.listeners[index].service);
        let listener = io.fd(socket);
        for _ in 0..ACCEPTS_PER_TURN {
            match io.backend.accept(listener) {
                Ok(fd) => self.take_accepted(io, service, fd),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.listeners[index].is_ready = false;
                    return;
                }
                Err(error) => {
                    // The connection stays in the queue without a new edge: try again.
                    tracing::warn!(%error, "cannot accept connections; trying again every {ACCEPT_PAUSE:?}");
                    self.accept_at = Some(io.now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        // More may wait; others get their turn first.
        self.accept_at = Some(io.now);
    }

    fn take_accepted(&mut self, io: &mut Io, service: u32, fd: OwnedFd) {
        if let Some(reason) = self.proxy.unwelcome(service) {
            let endpoint = self.endpoint_text(service);
            let service = self.service_text(service);
            tracing::warn!(service, endpoint, %reason, "refused a local connection");
            return socket::reset(fd);
        }
        if let (Ok(local), Ok(peer)) = (socket::local_address(&fd), socket::peer_address(&fd)) {
            self.announce(format_args!(
                "Accepted tcp connection on port {} from {peer}",
                port_text(&local)
            ));
        }
        // The key is not known before the socket has its slot.
        let owner = Owner::Lingering;
        let Ok(socket) = io.insert(fd, owner) else {
            return;
        };
        match self.proxy.accepted(io.now, service, socket) {
            Some(key) => {
                io.set_owner(
                    socket,
                    Owner::Local {
                        tunnel: self.tunnel,
                        key,
                    },
                );
                // What it sent before it was watched made no edge of its own.
                self.proxy.readable(key, false);
            }
            None => io.reset(socket),
        }
    }

    /// Ends the WebSocket: says why where the peer can still hear it, cuts the connections.
    fn end_link(&mut self, io: &mut Io, end: LinkEnd) {
        if self.link.is_none() {
            return;
        }
        if let LinkEnd::Closed(_) = &end {
            self.proxy.close(CloseCode::Normal, "");
        }
        if !matches!(end, LinkEnd::Lost(_)) {
            // Best effort: a peer that does not read learns nothing.
            let _ = self.fill_and_flush(io);
        }
        self.drop_link(io, end);
    }

    fn drop_link(&mut self, io: &mut Io, end: LinkEnd) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        if !matches!(end, LinkEnd::Lost(_)) {
            link.close_notify();
        }
        // Best effort: an alert says what was wrong, to a peer that may be gone.
        let _ = link.flush(io);
        link.discard_input();
        link.release(&mut io.buffers);
        io.end(link.socket);
        self.down_since = io.now;
        self.proxy.link_lost();
        self.act(io);
        self.tell(TunnelEvent::LinkEnded(end));
    }

    fn check_drained(&mut self, io: &mut Io) {
        let Some(until) = self.drain_until else {
            return;
        };
        // Without a link only those are left that deliver what came before they ended.
        if self.proxy.connection_count() > 0 && io.now < until {
            return;
        }
        if self.link.is_some() {
            self.proxy.close(CloseCode::Normal, "the proxy ends");
            let _ = self.fill_and_flush(io);
            let is_sent = self
                .link
                .as_ref()
                .is_none_or(|link| link.output_size() == 0)
                && self.proxy.is_closed();
            if !is_sent && io.now < until {
                return;
            }
            self.drop_link(io, LinkEnd::Drained);
        }
        // Patience is over: nothing of it may stay on the loop.
        self.proxy.abort_all();
        self.act(io);
        self.drain_until = None;
        self.is_over = true;
        self.tell(TunnelEvent::Over);
    }

    fn close_listeners(&mut self, io: &mut Io) {
        for listener in self.listeners.drain(..) {
            io.close(listener.socket);
        }
    }

    /// Logs what names a single connection: in the reference's words, which scripts wait for
    /// (specification 13.2), and only to those who asked for it, since addresses are private.
    fn announce(&self, text: std::fmt::Arguments<'_>) {
        if self.options.announces_connections {
            tracing::info!("{text}");
        } else {
            tracing::debug!("{text}");
        }
    }

    /// The name of a service, for the log; empty in a tunnel without services.
    fn service_text(&self, service: u32) -> &str {
        self.proxy.service_id(service).map_or("", |id| id.as_str())
    }

    /// Where a service listens or is dialled, for the log; a port alone gets the host that stands
    /// for it.
    fn endpoint_text(&self, service: u32) -> String {
        match self.proxy.endpoint(service) {
            Some(Endpoint::Tcp { host: None, port }) => Endpoint::Tcp {
                host: Some(self.options.default_host.clone()),
                port: *port,
            }
            .to_string(),
            Some(endpoint) => endpoint.to_string(),
            None => String::new(),
        }
    }

    fn tell(&self, event: TunnelEvent) {
        // Nobody listens any more when the program ends.
        let _ = self.events.send(event);
    }
}

/// Offers deliveries from the `first` on, as many as one batch holds.
fn offer(
    proxy: &Proxy,
    buffer: &[u8],
    io: &mut Io,
    first: usize,
    results: &mut Vec<(usize, io::Result<usize>)>,
) {
    let mut parts = [IoSlice::new(&[]); BATCH_PARTS];
    let mut spans = [(-1, 0, 0); BATCH_MAX];
    let (mut count, mut used) = (0, 0);
    for delivery in proxy.deliveries().skip(first) {
        if count == BATCH_MAX || used + delivery.parts > BATCH_PARTS {
            break;
        }
        let end = used + proxy.delivery_parts(delivery.index, buffer, &mut parts[used..]);
        spans[count] = (io.fd(delivery.io), used, end);
        (count, used) = (count + 1, end);
    }
    let mut batch: [Outgoing<'_>; BATCH_MAX] = std::array::from_fn(|at| {
        let (fd, start, end) = spans[at];
        Outgoing::new(fd, &parts[start..end])
    });
    io.backend.send_batch(&mut batch[..count]);
    let sent = batch.into_iter().take(count).enumerate();
    results.extend(sent.map(|(at, outgoing)| (first + at, outgoing.result)));
}

/// The addresses of a host that needs no look-up: a literal one, and this machine's own name
/// (RFC 6761 §6.3: always loopback).
fn literal_addresses(host: &str, port: u16) -> Option<Vec<Address>> {
    let of = |ip: IpAddr| Address::Ip(SocketAddr::new(ip, port));
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(vec![of(ip)]);
    }
    host.eq_ignore_ascii_case("localhost").then(|| {
        vec![
            of(Ipv4Addr::LOCALHOST.into()),
            of(Ipv6Addr::LOCALHOST.into()),
        ]
    })
}

fn port_text(address: &Address) -> String {
    match address {
        Address::Ip(address) => address.port().to_string(),
        Address::Unix(path) => path.display().to_string(),
    }
}

fn peer_text(address: &Address) -> String {
    match address {
        Address::Ip(address) => format!("{}, port: {}", address.ip(), address.port()),
        Address::Unix(path) => path.display().to_string(),
    }
}
