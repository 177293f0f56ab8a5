//! The destination's part: connections are announced by the peer and dialled (specification 8.3).

use super::connection::{Connection, State};
use super::key::ConnectionKey;
use super::proxy::{Action, Proxy};
use super::receive::{Message, Named};
use super::timers::FLUSH_TIMEOUT;
use adit_proto::ids::{Dialect, StreamId};
use adit_proto::message::{Control, Kind};
use std::time::Instant;

impl Proxy {
    /// STREAM_START or CONNECTION_START.
    pub(crate) fn on_start(&mut self, now: Instant, message: &Message) {
        let Some(index) = self.service_of(message) else {
            return;
        };
        let Some(stream) = StreamId::new(message.stream) else {
            return self.counters.stale += 1;
        };
        // Not answered: a reset without a connection id would be a change of dialect.
        if message.kind == Kind::ConnectionStart && message.connection == 0 {
            return self.counters.stale += 1;
        }
        let current = self.services[index].stream;
        match (message.kind, current) {
            // Specification 7.2: the same stream again is ignored.
            (Kind::StreamStart, Some(current)) if current == stream => {
                return self.counters.stale += 1;
            }
            // A new stream replaces the old one, and is not lost for it (17, Q-13).
            (Kind::StreamStart, Some(_)) => self.end_stream(now, index),
            // A stream this side does not know of, or no longer: a start that came too late.
            (Kind::ConnectionStart, Some(current)) if current != stream => {
                return self.refuse_start(index, message);
            }
            (Kind::ConnectionStart, Some(_)) => {
                return self.on_connection_start(now, index, message);
            }
            // It crosses the news that the stream is over, which ends it at the source: nobody would
            // ever end it here.
            (Kind::ConnectionStart, None) if self.services[index].last_stream == Some(stream) => {
                return self.refuse_start(index, message);
            }
            // Without a stream, CONNECTION_START begins one: this side may have been restarted.
            (_, None) | (_, Some(_)) => {}
        }
        let has_services = self.services[index].id.is_some();
        let dialect = message.dialect(has_services);
        self.services[index].join_stream(stream, message.connection, dialect);
        self.begin_connection(now, index, message);
    }

    fn on_connection_start(&mut self, now: Instant, index: usize, message: &Message) {
        if self.services[index].is_single {
            return self.refuse_start(index, message);
        }
        if let Some(key) = self.services[index].find(message.connection) {
            // Specification 7.3: an id in use. The peer lost count; none of the two can go on,
            // or bytes of one would reach the other.
            self.peer_ended(now, key);
            return self.refuse_start(index, message);
        }
        self.begin_connection(now, index, message);
    }

    fn begin_connection(&mut self, now: Instant, index: usize, message: &Message) {
        if !self.has_place() || !self.accepting {
            self.counters.refused += 1;
            return self.send_reset(index as u32, message.stream, message.connection);
        }
        self.make_place();
        self.counters.connections += 1;
        let state = State::Dialling { peer_ended: false };
        let mut connection = Connection::new(
            index as u32,
            message.connection,
            message.stream,
            state,
            u32::MAX,
            now,
        );
        if self.services[index].dialect == Dialect::V3 {
            connection.offsets = self.offsets(index, message.connection);
        }
        let key = self.connections.insert(connection);
        self.services[index].insert(message.connection, key);
        self.act(Action::Dial {
            key,
            service: index as u32,
        });
    }

    /// Answers a CONNECTION_START that cannot be served, under the ids it came with.
    fn refuse_start(&mut self, index: usize, message: &Message) {
        self.counters.refused += 1;
        let service_id = match (message.service, &self.services[index].id) {
            (Named::Known(_), Some(id)) => id.as_str(),
            (Named::Known(_) | Named::Absent | Named::Unknown, _) => "",
        };
        self.outbox.push(&Control {
            kind: Kind::ConnectionReset,
            stream_id: message.stream,
            service_id,
            connection_id: message.connection,
        });
    }

    /// The driver connected: `io` is its handle of the socket. `false`: nobody wants the
    /// connection any more, the driver closes it.
    ///
    /// Afterwards ask [`writable`](Self::writable): bytes may have come while it was dialling.
    pub fn dialled(&mut self, now: Instant, key: ConnectionKey, io: u32) -> bool {
        let Some(connection) = self.connections.find_mut(key) else {
            return false;
        };
        let State::Dialling { peer_ended } = connection.state else {
            return false;
        };
        if peer_ended && connection.queue.is_empty() {
            self.forget(key);
            return false;
        }
        connection.io = io;
        connection.moved_at = now;
        connection.state = State::Open;
        if peer_ended {
            connection.state = State::Flushing;
            self.watch(key, now, FLUSH_TIMEOUT);
        }
        true
    }

    /// The service that a connection is being dialled for, while somebody still wants it.
    pub fn dialled_service(&self, key: ConnectionKey) -> Option<u32> {
        let connection = self.connections.find(key)?;
        let is_dialling = matches!(connection.state, State::Dialling { .. });
        (is_dialling && !connection.is_void()).then_some(connection.service)
    }

    /// The driver could not connect, or gave up after [`Action::CancelDial`]. The connection that
    /// a stream began with ends the stream if it is alone, another ends alone (specification 8.3;
    /// 17, Q-15): there may be more on their way.
    pub fn dial_failed(&mut self, key: ConnectionKey) {
        let Some(connection) = self.forget(key) else {
            return;
        };
        if connection.state == (State::Dialling { peer_ended: true }) {
            return;
        }
        let service = &self.services[connection.service as usize];
        if connection.id == service.first && service.count() == 0 {
            self.send_stream_reset(connection.service, connection.stream);
        } else {
            self.send_reset(connection.service, connection.stream, connection.id);
        }
    }
}
