//! What a proxy does with each message of the tunnel (specification 7 and 8).

use super::connection::{NO_DELIVERY, State};
use super::error::PeerError;
use super::flow::Flow;
use super::inbound::{Item, Place};
use super::key::ConnectionKey;
use super::proxy::{Action, Phase, Proxy};
use super::timers::FLUSH_TIMEOUT;
use adit_proto::ids::{Dialect, Mode, ServiceId, StreamId};
use adit_proto::message::{Kind, MessageView};
use std::time::Instant;

impl Proxy {
    /// Reads decrypted WebSocket bytes, `buffer[*position..]`; payloads are unmasked and offered
    /// from where they lie.
    ///
    /// # Errors
    /// The peer broke the protocol: send what [`compose`](Self::compose) yields (a close frame),
    /// then drop the link.
    pub fn handle_input(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        position: &mut usize,
    ) -> Result<Flow, PeerError> {
        if !self.is_paused() {
            self.timers.peer_spoke();
        }
        loop {
            if self.is_paused() {
                return Ok(Flow::Paused);
            }
            if self.batch_is_full() {
                return Ok(Flow::Deliver);
            }
            let item = match self.inbound.next(buffer, position) {
                Ok(Some(item)) => item,
                Ok(None) => {
                    let idle_frames = self.inbound.take_idle_frames();
                    if idle_frames > 0
                        && let Err(error) = self.chatter.heard(now, idle_frames)
                    {
                        return Err(self.refuse(error));
                    }
                    return Ok(Flow::Done);
                }
                Err(error) => return Err(self.refuse(error)),
            };
            match item {
                Item::Ping(payload) => self.outbox.pong(payload),
                Item::Pong(payload) => self.timers.pong(&payload, now),
                Item::Close(code, _) => return Ok(Flow::Closed(code)),
                Item::Message(place) => {
                    if place == Place::Assembled {
                        self.counters.bytes_assembled += self.inbound.assembled().len() as u64;
                    }
                    if let Err(error) = self.handle_message(now, buffer, &place) {
                        return Err(self.refuse(error));
                    }
                    // The assembled bytes are gone with the next call of the reader.
                    if place == Place::Assembled && self.has_deliveries() {
                        return Ok(Flow::Deliver);
                    }
                }
            }
        }
    }

    fn refuse(&mut self, error: PeerError) -> PeerError {
        self.outbox.close(error.close_code(), error.close_reason());
        error
    }

    fn handle_message(
        &mut self,
        now: Instant,
        buffer: &[u8],
        place: &Place,
    ) -> Result<(), PeerError> {
        let message = self.read_message(buffer, place)?;
        if self.phase == Phase::AwaitingServices && message.kind != Kind::ServiceIds {
            self.counters.stale += 1;
            return Ok(());
        }
        match message.kind {
            Kind::Data => self.on_data(now, buffer, place, &message),
            Kind::StreamStart | Kind::ConnectionStart if self.mode == Mode::Destination => {
                self.on_start(now, &message)
            }
            // Specification 7.2: the source closes the stream and the WebSocket.
            Kind::StreamStart => {
                return Err(PeerError::Misplaced {
                    kind: message.kind,
                    why: "only a source starts streams",
                });
            }
            // Specification 7.3: the source closes that connection.
            Kind::ConnectionStart => self.on_connection_reset(now, &message),
            Kind::StreamReset => self.on_stream_reset(now, &message),
            Kind::ConnectionReset => self.on_connection_reset(now, &message),
            Kind::SessionReset => self.on_session_reset(now),
            Kind::ServiceIds => return self.on_service_ids(buffer, place),
            Kind::Credit if message.ignorable && self.has_credit => {
                self.on_credit(buffer, place, &message);
            }
            // Not ours: nobody agreed on it.
            Kind::Credit if message.ignorable => {}
            Kind::Credit => return Err(PeerError::UnknownType(message.kind.raw())),
            Kind::Unknown(_) if message.ignorable => {}
            Kind::Unknown(raw) => return Err(PeerError::UnknownType(raw)),
        }
        Ok(())
    }

    /// What a message says, without its bytes.
    fn read_message(&mut self, buffer: &[u8], place: &Place) -> Result<Message, PeerError> {
        let (bytes, offset) = self.message_bytes(buffer, place);
        let view = MessageView::parse(bytes)?;
        let start = offset + view.payload_offset;
        let message = Message {
            kind: view.kind,
            ignorable: view.ignorable,
            service: self.find_service(view.service_id),
            stream: view.stream_id,
            connection: view.connection_id,
            payload: start..start + view.payload.len(),
        };
        if let Named::Known(index) = message.service {
            self.last_service = index;
        }
        Ok(message)
    }

    fn message_bytes<'a>(&'a self, buffer: &'a [u8], place: &Place) -> (&'a [u8], usize) {
        match place {
            Place::Buffer(range) => (&buffer[range.clone()], range.start),
            Place::Assembled => (self.inbound.assembled(), 0),
        }
    }

    fn find_service(&self, name: &str) -> Named {
        if name.is_empty() {
            return Named::Absent;
        }
        let last = self.services.get(self.last_service as usize);
        if last
            .and_then(|service| service.id.as_ref())
            .is_some_and(|id| id.as_str() == name)
        {
            return Named::Known(self.last_service);
        }
        self.service_index
            .get(name)
            .map_or(Named::Unknown, |index| Named::Known(*index))
    }

    /// The service that a message means, by its index. A V1 peer names none: then it is the only
    /// one (specification 17, Q-11).
    pub(crate) fn service_meant(&self, message: &Message) -> Option<usize> {
        match message.service {
            Named::Known(index) => Some(index as usize),
            Named::Absent if self.services.len() == 1 => Some(0),
            Named::Absent | Named::Unknown => None,
        }
    }

    /// The same; a message that means none is counted.
    pub(crate) fn service_of(&mut self, message: &Message) -> Option<usize> {
        let service = self.service_meant(message);
        self.counters.stale += u64::from(service.is_none());
        service
    }

    fn on_service_ids(&mut self, buffer: &[u8], place: &Place) -> Result<(), PeerError> {
        let (bytes, _) = self.message_bytes(buffer, place);
        let offered = MessageView::parse(bytes)?.service_ids()?;
        if self.phase == Phase::AwaitingServices {
            self.begin_services(&offered);
            return Ok(());
        }
        // A repetition is harmless (specification 17, Q-14); a change needs a new WebSocket.
        let known = |id: &ServiceId| self.service_index.contains_key(id);
        if offered.len() == self.service_index.len() && offered.iter().all(known) {
            return Ok(());
        }
        Err(PeerError::Misplaced {
            kind: Kind::ServiceIds,
            why: "the services changed within a session",
        })
    }

    fn on_data(&mut self, now: Instant, buffer: &[u8], place: &Place, message: &Message) {
        self.counters.messages_received += 1;
        let Some(key) = self.data_target(message) else {
            self.counters.stale += 1;
            return;
        };
        let Some(connection) = self.connections.find(key) else {
            return;
        };
        if message.payload.is_empty() {
            return;
        }
        if connection.takes_directly() {
            return self.offer(key, place, message.payload.clone());
        }
        self.enqueue(now, key, buffer, place, message.payload.clone());
    }

    /// The connection that DATA is for; `None` when its stream or connection is not current.
    fn data_target(&mut self, message: &Message) -> Option<ConnectionKey> {
        let index = self.service_meant(message)?;
        if self.services[index].stream.map(StreamId::get) != Some(message.stream) {
            return None;
        }
        self.learn_form(index, message);
        self.services[index].find(message.connection)
    }

    /// A peer that leaves out the connection id knows one connection for each stream
    /// (specification 6.1). Only a source has to learn: a destination is shown by each start.
    ///
    /// What a source writes stays as it began, with ids: those are fields that such a peer skips,
    /// and services refuse a change of dialect within a session.
    fn learn_form(&mut self, index: usize, message: &Message) {
        let service = &mut self.services[index];
        if self.mode == Mode::Destination || service.dialect != Dialect::V3 {
            return;
        }
        if message.connection != 0 {
            service.names_connections = true;
            service.is_single = false;
        } else if !service.is_single && !service.names_connections {
            service.is_single = true;
            self.keep_first(index);
        }
    }

    /// Ends all connections of a stream but the one that it began with: the peer does not know
    /// of others, and what it says is said to that one.
    fn keep_first(&mut self, index: usize) {
        let service = &mut self.services[index];
        let first = service.find(service.first);
        for (id, key) in service.take_all() {
            if Some(key) == first {
                self.services[index].insert(id, key);
                continue;
            }
            tracing::warn!(
                "closed a local connection: the peer speaks an older protocol with one connection for each service"
            );
            self.counters.refused += 1;
            self.abort(key);
        }
        if let (None, Some(stream)) = (first, self.services[index].stream) {
            self.send_stream_reset(index as u32, stream.get());
        }
    }

    fn on_connection_reset(&mut self, now: Instant, message: &Message) {
        let Some(index) = self.service_of(message) else {
            return;
        };
        // The stream id is not checked, as in the reference (specification 5.2); an unknown
        // connection is no news, and must not be answered (7.6).
        match self.services[index].find(message.connection) {
            // Its only connection was the stream (specification 8.2).
            Some(_) if self.services[index].is_single => self.end_stream(now, index),
            Some(key) => self.peer_ended(now, key),
            None => self.counters.stale += 1,
        }
    }

    fn on_stream_reset(&mut self, now: Instant, message: &Message) {
        let Some(index) = self.service_of(message) else {
            return;
        };
        if self.services[index].stream.map(StreamId::get) == Some(message.stream) {
            // A peer that knows connections ends each of them by itself; this is an application
            // that was not reached, or a peer that is gone (specification 7.5, 8.3, 12).
            if !self.services[index].is_single {
                self.counters.cut += self.services[index].count() as u64;
            }
            self.end_stream(now, index);
        } else {
            self.counters.stale += 1;
        }
    }

    fn on_session_reset(&mut self, now: Instant) {
        for index in 0..self.services.len() {
            self.counters.cut += self.services[index].count() as u64;
            self.end_stream(now, index);
        }
    }

    /// The peer ended all connections of a service: what it sent is delivered, then they end.
    pub(crate) fn end_stream(&mut self, now: Instant, index: usize) {
        self.services[index].stream = None;
        for (_, key) in self.services[index].take_all() {
            self.peer_ended(now, key);
        }
    }

    /// The peer ended one connection: flush, then end it.
    pub(crate) fn peer_ended(&mut self, now: Instant, key: ConnectionKey) {
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        let (id, service, io) = (connection.id, connection.service as usize, connection.io);
        let is_empty = connection.queue.is_empty();
        match connection.state {
            State::Dialling { .. } => {
                connection.state = State::Dialling { peer_ended: true };
                if is_empty {
                    self.act(Action::CancelDial { key });
                } else {
                    // Who may be tried again for ever is wanted for so long, as one that takes nothing.
                    connection.moved_at = now;
                    self.watch(key, now, FLUSH_TIMEOUT);
                }
            }
            // What this batch still offers it decides, see `after_queue_change`.
            State::Open | State::LocalEnded if is_empty && connection.delivery == NO_DELIVERY => {
                self.forget(key);
                return self.act(Action::End { io });
            }
            State::Open | State::LocalEnded => {
                connection.state = State::Flushing;
                connection.moved_at = now;
                self.watch(key, now, FLUSH_TIMEOUT);
            }
            State::Flushing => return,
        }
        self.services[service].remove(id, key);
    }
}

/// What a message says; its bytes stay where they are.
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) ignorable: bool,
    pub(crate) service: Named,
    pub(crate) stream: i32,
    pub(crate) connection: u32,
    /// Where the payload lies, in the buffer or in the assembled message.
    pub(crate) payload: std::ops::Range<usize>,
}

/// The service a message names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Known(u32),
    Absent,
    Unknown,
}

impl Message {
    /// The dialect that this message shows (specification 6.1).
    pub(crate) fn dialect(&self, tunnel_has_services: bool) -> Dialect {
        match (self.connection, self.service) {
            (1.., _) => Dialect::V3,
            (0, Named::Absent) if tunnel_has_services => Dialect::V1,
            (0, _) => Dialect::V2,
        }
    }
}
