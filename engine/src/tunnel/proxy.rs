//! One end of one tunnel, source or destination: connections on the local side, one WebSocket
//! on the other.

#[cfg(test)]
mod tests;

use super::chatter::Chatter;
use super::connection::{Connection, State};
use super::deliver::Deliveries;
use super::endpoint::Endpoint;
use super::half_closed::HalfClosed;
use super::inbound::Inbound;
use super::key::{ConnectionKey, Slots};
use super::limits::Limits;
use super::mapping::{Mapping, MappingMismatch, Names};
use super::outbox::Outbox;
use super::pool::Pool;
use super::schedule::Schedule;
use super::service::Service;
use super::timers::Timers;
use adit_proto::ids::{Dialect, Mode, ServiceId, StreamId};
use adit_proto::message::Kind;
use adit_proto::websocket::{CloseCode, Role};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// What a proxy is told once.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Which end it is.
    pub mode: Mode,
    /// Which service is which local endpoint.
    pub mapping: Mapping,
    /// How to write before the peer has shown what it reads; `None` means V3.
    pub dialect: Option<Dialect>,
    /// Bounds.
    pub limits: Limits,
}

/// What the driver is to do. Deliveries are apart, see [`Proxy::deliveries`](super::deliver).
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Listen for connections of this service; its endpoint is [`Proxy::endpoint`].
    Listen {
        /// Index of the service.
        service: u32,
    },
    /// The services changed: end all listeners. Precedes new `Listen`s.
    Unlisten,
    /// Connect to the endpoint of this service and answer with [`Proxy::dialled`].
    Dial {
        /// Whose.
        key: ConnectionKey,
        /// Index of the service.
        service: u32,
    },
    /// Nobody waits for this dial any more: stop it if that is easy, and answer with
    /// [`Proxy::dial_failed`], or let it end by itself.
    CancelDial {
        /// Whose.
        key: ConnectionKey,
    },
    /// All is delivered: end the socket in an orderly way (FIN, then read to its end, so that
    /// unread bytes do not turn the FIN into a reset that destroys what was delivered).
    End {
        /// The driver's handle.
        io: u32,
    },
    /// The connection was cut: the application must see a reset, never a plain end.
    Abort {
        /// The driver's handle.
        io: u32,
    },
    /// The peer answers no pings: drop the link as lost.
    LinkDead,
    /// The peer answers no pings, while connections are open or what they sent may still be on its
    /// way: drop the link as lost if its host has not acknowledged anything for so long either.
    LinkSuspect {
        /// What the unanswered pings had.
        silent_for: Duration,
    },
    /// The services of the tunnel do not fit the configuration; the proxy must end.
    Mismatch(MappingMismatch),
}

/// Counters; all only grow.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counters {
    /// Connections accepted or dialled.
    pub connections: u64,
    /// Payload bytes sent into the tunnel.
    pub bytes_sent: u64,
    /// Payload bytes that local sockets took.
    pub bytes_received: u64,
    /// DATA messages sent.
    pub messages_sent: u64,
    /// DATA messages received.
    pub messages_received: u64,
    /// Messages dropped: service, stream or connection unknown (specification 7.4).
    pub stale: u64,
    /// Connections reset because they drained nothing while others waited.
    pub stalled: u64,
    /// Local connections refused: at the bound, or a second one for a V1 or V2 peer.
    pub refused: u64,
    /// Connections that ended although neither application had ended them: with the link, or with a
    /// whole stream where the peer could have ended the connection alone. And those that the peer had ended,
    /// whose application did not take the last of it in time.
    pub cut: u64,
    /// Payload bytes copied because a local socket did not take them at once.
    pub bytes_queued: u64,
    /// Bytes of messages that came in pieces and were copied together.
    pub bytes_assembled: u64,
    /// Payload bytes moved by a byte, to where the header of a short message ends.
    pub bytes_shifted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No WebSocket.
    Down,
    /// WebSocket up, SERVICE_IDS awaited: nothing local happens before it (specification 7.1).
    AwaitingServices,
    Running,
}

/// A source or a destination.
///
/// Contract: `now` never goes backwards. After every call that takes `&mut self`, call
/// [`poll_action`](Self::poll_action) until `None`; before waiting, read
/// [`poll_timeout`](Self::poll_timeout). Received bytes go through
/// [`handle_input`](Self::handle_input); each [`Flow`](super::flow::Flow) it returns says how to
/// go on. Bytes to send are composed by [`compose`](Self::compose), or by
/// [`read_bulk`](Self::read_bulk), while [`wants_output`](Self::wants_output).
pub struct Proxy {
    pub(crate) mode: Mode,
    pub(crate) limits: Limits,
    pub(crate) dialect: Dialect,
    mapping: Mapping,
    pub(crate) phase: Phase,
    pub(crate) services: Vec<Service>,
    pub(crate) service_index: BTreeMap<ServiceId, u32>,
    /// The service that the last message named: most messages name the same.
    pub(crate) last_service: u32,
    pub(crate) connections: Slots<Connection>,
    pub(crate) schedule: Schedule,
    pub(crate) pool: Pool,
    pub(crate) outbox: Outbox,
    pub(crate) inbound: Inbound,
    pub(crate) chatter: Chatter,
    pub(crate) deliveries: Deliveries,
    actions: VecDeque<Action>,
    pub(crate) timers: Timers,
    /// Connections whose queue is over the mark.
    pub(crate) full_queues: usize,
    pub(crate) half_closed: HalfClosed,
    pub(crate) pool_is_full: bool,
    pub(crate) accepting: bool,
    /// The relay passes credit on.
    pub(crate) has_credit: bool,
    /// The last small message, of those that follow another one: for whom, and when.
    pub(crate) last_small: Option<(ConnectionKey, Instant)>,
    masks: ChaCha12Rng,
    /// The control frame being composed.
    pub(crate) frame: Vec<u8>,
    pub(crate) counters: Counters,
}

impl Proxy {
    /// A proxy without a link. `seed` feeds the WebSocket masks: RFC 6455 §5.3 wants them
    /// unpredictable, so in production it comes from the system.
    pub fn new(settings: ProxySettings, seed: [u8; 32]) -> Self {
        Self {
            mode: settings.mode,
            limits: settings.limits,
            dialect: settings.dialect.unwrap_or(Dialect::V3),
            mapping: settings.mapping,
            phase: Phase::Down,
            services: Vec::new(),
            service_index: BTreeMap::new(),
            last_service: 0,
            connections: Slots::default(),
            schedule: Schedule::default(),
            pool: Pool::default(),
            outbox: Outbox::default(),
            inbound: Inbound::new(Role::Client),
            chatter: Chatter::default(),
            deliveries: Deliveries::default(),
            actions: VecDeque::new(),
            timers: Timers::default(),
            full_queues: 0,
            half_closed: HalfClosed::default(),
            pool_is_full: false,
            accepting: true,
            has_credit: false,
            last_small: None,
            masks: ChaCha12Rng::from_seed(seed),
            frame: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// A fresh WebSocket is there.
    pub fn link_up(&mut self, now: Instant) {
        debug_assert_eq!(
            self.phase,
            Phase::Down,
            "the old link was reported lost first"
        );
        self.phase = Phase::AwaitingServices;
        self.inbound.reset();
        self.chatter = Chatter::default();
        self.outbox.reset();
        self.timers.link_up(now);
        // Connections of the last link may still flush.
        self.watch_pause(now);
        self.send_due_ping(now);
    }

    /// The WebSocket is gone: every connection that was not over is cut (specification 10.2).
    /// What the peer ended before is still delivered.
    pub fn link_lost(&mut self) {
        debug_assert!(!self.has_deliveries(), "what was received was delivered");
        self.phase = Phase::Down;
        self.has_credit = false;
        self.inbound.reset();
        self.outbox.reset();
        self.timers.link_lost();
        for index in 0..self.services.len() {
            self.counters.cut += self.services[index].count() as u64;
            for (_, key) in self.services[index].take_all() {
                self.abort(key);
            }
            self.services[index].restart(self.mode, self.dialect);
        }
    }

    /// Takes SERVICE_IDS: the tunnel may be used from here on (specification 7.1, 11.3).
    pub(crate) fn begin_services(&mut self, offered: &[ServiceId]) {
        let mut resolved = match self.mapping.resolve(self.mode, offered) {
            Ok(resolved) => resolved,
            Err(mismatch) => return self.act(Action::Mismatch(mismatch)),
        };
        if self.mode == Mode::Source && self.dialect == Dialect::V1 && resolved.len() > 1 {
            let offered = Names::of(offered);
            return self.act(Action::Mismatch(MappingMismatch::Indistinct { offered }));
        }
        self.phase = Phase::Running;
        // The order of the list has no meaning (specification 5.1).
        resolved.sort_by(|(left, _), (right, _)| left.cmp(right));
        let unchanged = resolved.len() == self.services.len()
            && resolved
                .iter()
                .zip(&self.services)
                .all(|((id, endpoint), old)| *id == old.id && *endpoint == old.endpoint);
        if unchanged {
            return;
        }
        if !self.services.is_empty() {
            self.act(Action::Unlisten);
        }
        self.service_index.clear();
        self.services.clear();
        for (index, (id, endpoint)) in resolved.into_iter().enumerate() {
            if let Some(id) = &id {
                self.service_index.insert(id.clone(), index as u32);
            }
            self.services.push(Service::new(id, endpoint, self.dialect));
            if self.mode == Mode::Source {
                self.act(Action::Listen {
                    service: index as u32,
                });
            }
        }
    }

    /// Cuts every connection there is, those that only deliver what came before their end too.
    pub fn abort_all(&mut self) {
        let keys: Vec<ConnectionKey> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.abort(key);
        }
    }

    /// Stops taking new connections: local ones are refused, the peer's are reset. Open ones
    /// go on.
    pub fn drain(&mut self) {
        self.accepting = false;
    }

    /// Ends the WebSocket with a close frame once everything that waits has gone out.
    pub fn close(&mut self, code: CloseCode, reason: &'static str) {
        self.outbox.close(code, reason);
    }

    /// Whether the close frame was handed out.
    pub fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Whether SERVICE_IDS came, so that connections are possible.
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether the tunnel must not be read for now: a bound of queues is reached.
    pub fn is_paused(&self) -> bool {
        self.is_blocked() || self.outbox.is_full()
    }

    /// Whether so many control messages wait that no connection should begin.
    pub fn is_outbox_full(&self) -> bool {
        self.outbox.is_full()
    }

    /// Whether local sockets that take too little are the reason.
    pub(crate) fn is_blocked(&self) -> bool {
        self.full_queues > 0 || self.pool_is_full
    }

    /// Connections that exist, those that only flush included.
    pub fn connection_count(&self) -> usize {
        self.connections.count()
    }

    /// Where a service is found, or listens.
    pub fn endpoint(&self, service: u32) -> Option<&Endpoint> {
        self.services
            .get(service as usize)
            .map(|service| &service.endpoint)
    }

    /// The name of a service; `None` in a tunnel without services.
    pub fn service_id(&self, service: u32) -> Option<&ServiceId> {
        self.services
            .get(service as usize)
            .and_then(|service| service.id.as_ref())
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Bytes of memory that queues hold for slow local sockets.
    pub fn queued_size(&self) -> usize {
        self.pool.used_size()
    }

    /// Entries that name a connection, in all tables. Some may outlive it, while there is a link for
    /// five minutes at most: with a link that long and no connection, there are none.
    pub fn entry_count(&self) -> usize {
        let named: usize = self.services.iter().map(Service::count).sum();
        let waiting = self.schedule.size() + self.timers.watched_count() + self.half_closed.size();
        self.connections.count() + named + waiting + self.actions.len()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` when nothing waits for time.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next(self.phase != Phase::Down)
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn mask_key(&mut self) -> [u8; 4] {
        self.masks.next_u32().to_ne_bytes()
    }

    /// Tells the peer that a connection is over, in its dialect: V1 and V2 know only streams
    /// (specification 8.2, 8.3).
    pub(crate) fn send_reset(&mut self, service: u32, stream: i32, id: u32) {
        let known = &self.services[service as usize];
        if known.is_single || id == 0 {
            return self.send_stream_reset(service, stream);
        }
        self.outbox
            .push(&known.control(Kind::ConnectionReset, stream, id));
    }

    /// Ends a stream; a newer one of the same service goes on.
    pub(crate) fn send_stream_reset(&mut self, service: u32, stream: i32) {
        let service = &mut self.services[service as usize];
        self.outbox
            .push(&service.control(Kind::StreamReset, stream, 0));
        if service.stream.map(StreamId::get) == Some(stream) {
            service.stream = None;
        }
    }

    /// Takes a connection out of every table, with no word to anybody.
    pub(crate) fn forget(&mut self, key: ConnectionKey) -> Option<Connection> {
        self.leave_tables(key);
        let connection = self.connections.remove(key)?;
        let open = self.connections.count();
        self.schedule.forget_ended(open, &mut self.connections);
        self.timers.forget_ended(&self.connections);
        self.half_closed.forget_ended(&self.connections);
        Some(connection)
    }

    /// Takes a connection out of its service, and gives back what its queue holds.
    fn leave_tables(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        // What only flushes may be left over from a session with other services.
        if let Some(service) = self.services.get_mut(connection.service as usize) {
            service.remove(connection.id, key);
        }
        self.drop_queue(key);
    }

    /// Gives back what a connection's queue holds.
    pub(crate) fn drop_queue(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        self.pool.clear(&mut connection.queue);
        if std::mem::take(&mut connection.is_full) {
            self.full_queues -= 1;
        }
        self.check_pool();
        if !self.is_blocked() {
            self.timers.stop_stall_clock();
        }
    }

    /// Cuts a connection: what it had not delivered is gone, and its application sees a reset.
    pub(crate) fn abort(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        match connection.state {
            State::Dialling { .. } => {
                connection.state = State::Dialling { peer_ended: true };
                self.leave_tables(key);
                self.act(Action::CancelDial { key });
            }
            State::Open | State::LocalEnded | State::Flushing => {
                let io = connection.io;
                // It is in no table any more that others count.
                let is_cut = connection.state == State::Flushing && !connection.queue.is_empty();
                self.counters.cut += u64::from(is_cut);
                self.forget(key);
                self.act(Action::Abort { io });
            }
        }
    }
}
