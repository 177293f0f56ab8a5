//! One service of a tunnel and its current stream.

use super::endpoint::Endpoint;
use super::key::ConnectionKey;
use adit_proto::ids::{ConnectionId, Dialect, Mode, ServiceId, StreamId};
use adit_proto::message::{Control, Kind};
use std::collections::HashMap;

pub(crate) struct Service {
    /// `None` in a tunnel without services.
    pub(crate) id: Option<ServiceId>,
    pub(crate) endpoint: Endpoint,
    /// The running stream.
    pub(crate) stream: Option<StreamId>,
    /// The last stream, running or not; a destination's, of this WebSocket. A source's next one gets another id
    /// (specification 5.2).
    pub(crate) last_stream: Option<StreamId>,
    /// How messages of this service are written: a source's choice for the session, since a
    /// change is illegal (specification 6.1); a destination's by what starts a stream.
    pub(crate) dialect: Dialect,
    /// The peer knows one connection for each stream: by the dialect, or as a source has learned
    /// (recognised per service: specification 17, Q-12).
    pub(crate) is_single: bool,
    /// The peer named a connection in this stream, so it will always.
    pub(crate) names_connections: bool,
    /// Id of the connection that the stream began with.
    pub(crate) first: u32,
    /// The peer has told limits in this stream, so it will for every connection. A stream has one peer.
    pub(crate) gives_credit: bool,
    /// We have told the peer limits in this stream, so it waits for one at every connection.
    pub(crate) told_credit: bool,
    next_connection: ConnectionId,
    /// Live connections by their id on the wire. Never iterated in the map's own order.
    connections: HashMap<u32, ConnectionKey>,
}

impl Service {
    pub(crate) fn new(id: Option<ServiceId>, endpoint: Endpoint, dialect: Dialect) -> Self {
        Self {
            id,
            endpoint,
            stream: None,
            last_stream: None,
            dialect,
            is_single: dialect != Dialect::V3,
            names_connections: false,
            first: 0,
            gives_credit: false,
            told_credit: false,
            next_connection: ConnectionId::FIRST,
            connections: HashMap::new(),
        }
    }

    /// A new WebSocket. The reference's ids start over (specification 10.2); those of a source of ours go on, or what is
    /// still on its way for a connection of the last WebSocket would reach one of this (5.2, 5.3).
    pub(crate) fn restart(&mut self, mode: Mode, dialect: Dialect) {
        self.stream = None;
        if mode == Mode::Destination {
            self.last_stream = None;
        }
        self.dialect = dialect;
        self.is_single = dialect != Dialect::V3;
        self.names_connections = false;
        self.connections = HashMap::new();
    }

    /// The service id as messages carry it; empty where the dialect or the tunnel has none.
    pub(crate) fn name(&self) -> &str {
        match (&self.id, self.dialect) {
            (Some(id), Dialect::V2 | Dialect::V3) => id.as_str(),
            (None, _) | (_, Dialect::V1) => "",
        }
    }

    /// A control message about this service.
    pub(crate) fn control(&self, kind: Kind, stream_id: i32, connection_id: u32) -> Control<'_> {
        Control {
            kind,
            stream_id,
            service_id: self.name(),
            connection_id,
        }
    }

    /// The connection that the peer means. One that knows a single one leaves its id out, or
    /// says 1, which is the same to it (specification 5.3).
    pub(crate) fn find(&self, connection_id: u32) -> Option<ConnectionKey> {
        let id = match connection_id {
            0 | 1 if self.is_single => self.first,
            id => id,
        };
        self.connections.get(&id).copied()
    }

    pub(crate) fn insert(&mut self, connection_id: u32, key: ConnectionKey) {
        self.connections.insert(connection_id, key);
    }

    pub(crate) fn remove(&mut self, connection_id: u32, key: ConnectionKey) {
        if self.connections.get(&connection_id) == Some(&key) {
            self.connections.remove(&connection_id);
            if self.connections.capacity() > 64
                && self.connections.len() < self.connections.capacity() / 8
            {
                self.connections.shrink_to(self.connections.len() * 2);
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.connections.len()
    }

    /// Takes all connections out, lowest id first.
    pub(crate) fn take_all(&mut self) -> Vec<(u32, ConnectionKey)> {
        let mut all: Vec<_> = self.connections.drain().collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Begins the next stream with the connection `first` (source).
    pub(crate) fn begin_stream(&mut self, first: u32) -> StreamId {
        let id = self.last_stream.map_or(StreamId::FIRST, StreamId::next);
        self.stream = Some(id);
        self.last_stream = Some(id);
        self.first = first;
        self.names_connections = false;
        (self.gives_credit, self.told_credit) = (false, false);
        id
    }

    /// Takes over a stream that the source began with the connection `first` (destination).
    pub(crate) fn join_stream(&mut self, stream: StreamId, first: u32, dialect: Dialect) {
        self.stream = Some(stream);
        self.last_stream = Some(stream);
        self.first = first;
        (self.gives_credit, self.told_credit) = (false, false);
        self.dialect = dialect;
        self.is_single = dialect != Dialect::V3;
    }

    /// An id for the next connection (source); 0 where the dialect has none.
    pub(crate) fn next_connection_id(&mut self) -> u32 {
        if self.dialect != Dialect::V3 {
            return 0;
        }
        // After 2^32 connections the counter comes round; those still open are passed over.
        while self.connections.contains_key(&self.next_connection.get()) {
            self.next_connection = self.next_connection.next();
        }
        let id = self.next_connection.get();
        self.next_connection = self.next_connection.next();
        id
    }
}
