//! Plays the destination: behind each connection of the tunnel stands a verifying server of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use adit_proto::message::{Kind, MessageView};
use anyhow::{Result, bail, ensure};

use super::compose::Route;
use super::session::{COMPOSE_MARK, End};
use crate::server::Responder;

/// Connections that may be open at once; further ones are reset.
pub(super) const CONNECTIONS_MAX: usize = 100_000;

/// What one connection sends in its turn.
const TURN_SIZE: usize = 16 * 1024;

/// A connection: its service's place and its id on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    service: usize,
    connection: u32,
}

/// What the far end has seen; read while it goes on.
#[derive(Debug, Default)]
pub(super) struct FarCounts {
    /// Connections that were opened.
    pub(super) connections: AtomicU64,
    /// Bytes that came and were right.
    pub(super) received: AtomicU64,
    /// Connections on which a byte was wrong.
    pub(super) faults: AtomicU64,
    /// Connections that ended before their trailer.
    pub(super) cut: AtomicU64,
}

/// The destination's end.
pub(super) struct Destination {
    routes: Vec<Route>,
    connections: HashMap<Key, Place>,
    /// Connections that owe something, in the order of their turns.
    turns: VecDeque<Key>,
    control: Vec<u8>,
    scratch: Vec<u8>,
    /// The connection whose answers pile up.
    blocked: Option<Key>,
    counts: Arc<FarCounts>,
    /// Nothing new is waited for.
    is_ending: bool,
    /// The service has told its services: it knows this end.
    is_running: bool,
}

struct Place {
    responder: Responder,
    has_turn: bool,
    /// A byte was wrong: only the complaint is still to be sent.
    is_faulty: bool,
}

impl Destination {
    pub(super) fn new(counts: Arc<FarCounts>) -> Self {
        Self {
            routes: Vec::new(),
            connections: HashMap::new(),
            turns: VecDeque::new(),
            control: Vec::new(),
            scratch: Vec::new(),
            blocked: None,
            counts,
            is_ending: false,
            is_running: false,
        }
    }

    /// Ends once no connection is open.
    pub(super) fn finish(&mut self) {
        self.is_ending = true;
    }

    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    fn start(&mut self, message: &MessageView<'_>) {
        let service = self.service(message.service_id, message.stream_id);
        let key = Key {
            service,
            connection: message.connection_id,
        };
        if message.kind == Kind::StreamStart {
            self.routes[service].stream = message.stream_id;
            self.end_all(|it| it.service == service);
        }
        if self.connections.len() >= CONNECTIONS_MAX {
            let route = &self.routes[service];
            route.control(Kind::ConnectionReset, key.connection, &mut self.control);
            return;
        }
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            responder: Responder::new(),
            has_turn: false,
            is_faulty: false,
        };
        if let Some(old) = self.connections.insert(key, place) {
            self.note_end(&old);
        }
    }

    /// The place of a service, which is as good as its name.
    fn service(&mut self, name: &str, stream: i32) -> usize {
        let known = self.routes.iter().position(|it| it.service == name);
        known.unwrap_or_else(|| {
            self.routes.push(Route {
                service: name.to_owned(),
                stream,
            });
            self.routes.len() - 1
        })
    }

    fn data(&mut self, message: &MessageView<'_>) {
        let service = self
            .routes
            .iter()
            .position(|it| it.service == message.service_id);
        let Some(service) = service.filter(|it| self.routes[*it].stream == message.stream_id)
        else {
            // Of a stream that is over.
            return;
        };
        let key = Key {
            service,
            connection: message.connection_id,
        };
        let place = self.connections.get_mut(&key);
        let Some(place) = place.filter(|it| !it.is_faulty) else {
            return;
        };
        let before = place.responder.received();
        // The complaint is owed then, and the fault is counted.
        if place.responder.receive(message.payload).is_err() {
            place.is_faulty = true;
            self.counts.faults.fetch_add(1, Ordering::Relaxed);
        }
        let size = place.responder.received() - before;
        self.counts.received.fetch_add(size, Ordering::Relaxed);
        if !place.responder.can_receive() {
            self.blocked = Some(key);
        }
        if !std::mem::replace(&mut place.has_turn, true) {
            self.turns.push_back(key);
        }
    }

    fn end(&mut self, key: Key) {
        if let Some(place) = self.connections.remove(&key) {
            self.note_end(&place);
        }
    }

    fn end_all(&mut self, which: impl Fn(&Key) -> bool) {
        let keys: Vec<Key> = self.connections.keys().copied().filter(which).collect();
        keys.into_iter().for_each(|key| self.end(key));
    }

    fn note_end(&self, place: &Place) {
        if !place.is_faulty && place.responder.finish().is_err() {
            self.counts.cut.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives the next connection its turn.
    fn turn(&mut self, key: Key, out: &mut Vec<u8>) {
        let Some(place) = self.connections.get_mut(&key) else {
            return;
        };
        self.scratch.clear();
        place.responder.fill(&mut self.scratch, TURN_SIZE);
        let route = &self.routes[key.service];
        route.data(key.connection, &self.scratch, out);
        place.has_turn = !self.scratch.is_empty();
        if place.responder.has_ended() {
            // Behind the last bytes, as the end of a service's own connection would be.
            route.control(Kind::ConnectionReset, key.connection, out);
            self.end(key);
        } else if place.has_turn {
            self.turns.push_back(key);
        }
    }
}

impl End for Destination {
    fn take(&mut self, message: MessageView<'_>) -> Result<()> {
        match message.kind {
            Kind::ServiceIds => self.is_running = true,
            Kind::StreamStart | Kind::ConnectionStart => {
                ensure!(message.stream_id > 0, "a start without a stream");
                self.start(&message);
            }
            Kind::Data => self.data(&message),
            Kind::ConnectionReset => {
                let service = self.service(message.service_id, message.stream_id);
                self.end(Key {
                    service,
                    connection: message.connection_id,
                });
            }
            Kind::StreamReset => {
                let service = self.service(message.service_id, message.stream_id);
                if self.routes[service].stream == message.stream_id {
                    self.end_all(|it| it.service == service);
                }
            }
            Kind::SessionReset => self.end_all(|_| true),
            Kind::Credit | Kind::Unknown(_) if message.ignorable => {}
            kind @ (Kind::Credit | Kind::Unknown(_)) => {
                bail!("a message of the unknown type {}", kind.raw())
            }
        }
        Ok(())
    }

    fn compose(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.control);
        while out.len() < COMPOSE_MARK {
            let Some(key) = self.turns.pop_front() else {
                break;
            };
            self.turn(key, out);
        }
    }

    fn may_read(&self) -> bool {
        let place = self.blocked.and_then(|key| self.connections.get(&key));
        place.is_none_or(|it| it.responder.can_receive())
    }

    fn is_over(&self) -> bool {
        self.is_ending && self.connections.is_empty()
    }
}
