//! Drives one [`Proxy`]: its WebSocket on one side, its local sockets on the other.

mod accept;
mod announce;
mod deliver;
mod dial;
mod drain;
mod link;
mod reading;

use self::accept::{DOWN_PATIENCE, Listener};
use self::dial::{DIALS_PER_TURN, Tries};
#[cfg(test)]
pub(super) use self::link::READ_OUT;
use self::reading::Reading;
use super::backend::Ready;
use super::complaints::Complaints;
use super::handle::{LinkEnd, ProxyOptions, ProxyStatus, TunnelEvent};
use super::io::Io;
use super::link_io::LinkIo;
use super::socket;
use crate::failpoint::failpoint;
use crate::tunnel::key::ConnectionKey;
use crate::tunnel::proxy::{Action, Proxy};
use adit_proto::websocket::CloseCode;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Why a silent link is given up.
const SILENT: &str = "the service answers no pings any more";

/// The place of the queue of control messages in [`ProxyIo::held_up`].
const OUTBOX: usize = 1;

/// One proxy on a loop.
pub(super) struct ProxyIo {
    tunnel: u32,
    proxy: Box<Proxy>,
    link: Option<LinkIo>,
    reading: Reading,
    /// When the link, which has failed, is given up although it was not read to its end.
    read_until: Option<Instant>,
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
    /// How each of those was tried again.
    tries: HashMap<ConnectionKey, Tries>,
    /// Dials that wait for a further turn; as many as there are connections at most.
    later_dials: VecDeque<ConnectionKey>,
    /// Sockets that were dialled on this machine in this turn.
    near_dials: Vec<u32>,
    /// Dials that this turn may still begin.
    dials_left: usize,
    /// About applications that cannot be reached, of which the peer decides how often that is tried.
    complaints: Complaints,
    /// About connections that the system does not give out.
    refusals: Complaints,
    down_since: Instant,
    accept_at: Option<Instant>,
    drain_until: Option<Instant>,
    is_over: bool,
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
            reading: Reading::new(now),
            read_until: None,
            listeners: Vec::new(),
            flushes: Vec::new(),
            results: Vec::new(),
            options,
            events,
            dials: HashMap::new(),
            redials: VecDeque::new(),
            tries: HashMap::new(),
            later_dials: VecDeque::new(),
            near_dials: Vec::new(),
            dials_left: DIALS_PER_TURN,
            complaints: Complaints::every(Duration::from_secs(1)),
            refusals: Complaints::every(Duration::from_secs(10)),
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

    /// Tells that it ends by a mistake of ours.
    pub(super) fn failed(&self, mistake: String) {
        self.tell(TunnelEvent::Failed(mistake));
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

    /// When time alone gives it something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        // While accepting pauses, that moment would be now for ever.
        let down = (self.link.is_none()
            && self.accept_at.is_none()
            && self.listeners.iter().any(|listener| listener.is_ready))
        .then(|| self.down_since + DOWN_PATIENCE);
        [
            self.proxy.poll_timeout(),
            self.accept_at,
            self.drain_until,
            self.read_until,
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
        failpoint("proxy-turn", &self.tunnel);
        if let Some(link) = &mut self.link {
            link.way.look(io.now, io.fd(link.socket));
        }
        // First what has happened, then what has not: a process that got no time for a while finds both
        // at once, and nobody is given up whose answer is here.
        self.flush_writable(io);
        self.dials_left = DIALS_PER_TURN;
        self.dial_later(io);
        self.redial(io);
        let mut again = self.receive(io);
        self.end_deaf(io);
        let mut held_up = self.held_up();
        self.handle_timeout(io);
        self.act(io);
        self.look_at_dials(io);
        self.accept(io);
        // What has ended just now may have filled it.
        held_up[OUTBOX] |= self.proxy.is_outbox_full();
        let kept_waiting = self.kept_waiting();
        again |= self.send(io);
        self.act(io);
        // Sending may have emptied the queue of control messages that held up reading and accepting, a dial that failed
        // at once the queue of its connection, and the end of a time that of one that stalled. What was read of the link,
        // and who waits at a listener, has no edge any more.
        again |= (held_up.into_iter().zip(self.held_up())).any(|(was, is)| was && !is);
        again |= self.kept_waiting() < kept_waiting;
        again |= !self.later_dials.is_empty();
        self.check_drained(io);
        if let Some(link) = &mut self.link {
            link.release(&mut io.buffers);
        }
        again
    }

    /// What may keep waiting what the link has brought, or who connects. One may end while another stays.
    fn held_up(&self) -> [bool; 3] {
        [
            self.proxy.is_blocked(),
            self.proxy.is_outbox_full(),
            self.link.as_ref().is_some_and(LinkIo::is_held),
        ]
    }

    fn handle_timeout(&mut self, io: &Io) {
        let now = io.now;
        if self.proxy.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        let read_until = match &self.link {
            Some(link) => self.reading.look(now, link.read_size(), || {
                link.received_size() + socket::unread(io.fd(link.socket))
            }),
            None => now,
        };
        self.proxy.handle_timeout(now, read_until);
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
                Action::Dial { key, service } => self.dial_in_turn(io, key, service),
                Action::CancelDial { key } => self.cancel_dial(io, key),
                Action::End { io: socket } => io.end(socket),
                Action::Abort { io: socket } => io.reset(socket),
                Action::LinkDead => self.end_link(io, LinkEnd::Lost(SILENT.into())),
                Action::LinkSuspect { silent_for } => {
                    let socket = self.link.as_ref().map(|link| io.fd(link.socket));
                    if socket.is_some_and(|fd| socket::echo(fd).is_gone(silent_for)) {
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

    fn tell(&self, event: TunnelEvent) {
        // Nobody listens any more when the program ends.
        let _ = self.events.send(event);
    }
}
