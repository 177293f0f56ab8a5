//! The source's part: local connections are accepted and announced (specification 8.2).

use super::connection::{Connection, State};
use super::key::ConnectionKey;
use super::proxy::{Phase, Proxy};
use adit_proto::ids::{Mode, StreamId};
use adit_proto::message::Kind;
use std::time::Instant;

impl Proxy {
    /// Whether an accepted connection of this service would be taken now.
    pub fn can_accept(&self, service: u32) -> bool {
        let Some(service) = self.services.get(service as usize) else {
            return false;
        };
        self.phase == Phase::Running
            && self.accepting
            && self.connections.count() < self.limits.connections_max
            // A second connection would break the first one of a V1 or V2 peer
            // (specification 17, Q-10).
            && (!service.is_single || service.count() == 0)
    }

    /// A local connection was accepted; the peer is told. `None`: refused, the driver resets it.
    pub fn accepted(&mut self, now: Instant, service: u32, io: u32) -> Option<ConnectionKey> {
        debug_assert_eq!(self.mode, Mode::Source);
        if !self.can_accept(service) {
            self.counters.refused += 1;
            return None;
        }
        self.counters.connections += 1;
        let index = service as usize;
        let id = self.services[index].next_connection_id();
        let (kind, stream) = match self.services[index].stream {
            Some(stream) if !self.services[index].is_single => (Kind::ConnectionStart, stream),
            Some(_) | None => (Kind::StreamStart, self.services[index].begin_stream(id)),
        };
        let key = self.connections.insert(Connection::new(
            service,
            id,
            StreamId::get(stream),
            State::Open,
            io,
            now,
        ));
        self.services[index].insert(id, key);
        self.outbox
            .push(&self.services[index].control(kind, stream.get(), id));
        Some(key)
    }
}
