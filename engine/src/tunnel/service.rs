//! One service of a tunnel and its current stream.

use super::endpoint::Endpoint;
use super::key::ConnectionKey;
use adit_proto::ids::{ConnectionId, Dialect, ServiceId, StreamId};
use adit_proto::message::{Control, Kind};
use std::collections::HashMap;

pub(crate) struct Service {
    /// `None` in a tunnel without services.
    pub(crate) id: Option<ServiceId>,
    pub(crate) endpoint: Endpoint,
    /// The running stream.
    pub(crate) stream: Option<StreamId>,
    /// The stream before it: the next one gets another id (specification 5.2).
    pub(crate) last_stream: Option<StreamId>,
    /// How messages of this service are written; follows what the peer shows (3.5 of the
    /// design: recognised per service, specification 17, Q-12).
    pub(crate) dialect: Dialect,
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
            next_connection: ConnectionId::FIRST,
            connections: HashMap::new(),
        }
    }

    /// A new WebSocket: ids start over (specification 10.2).
    pub(crate) fn restart(&mut self, dialect: Dialect) {
        self.stream = None;
        self.last_stream = None;
        self.dialect = dialect;
        self.next_connection = ConnectionId::FIRST;
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

    pub(crate) fn find(&self, connection_id: u32) -> Option<ConnectionKey> {
        self.connections.get(&connection_id).copied()
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

    /// Begins the next stream (source).
    pub(crate) fn begin_stream(&mut self) -> StreamId {
        let id = self.last_stream.map_or(StreamId::FIRST, StreamId::next);
        self.stream = Some(id);
        self.last_stream = Some(id);
        id
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
