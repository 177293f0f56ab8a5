//! The source's part: local connections are accepted and announced (specification 8.2).

use super::connection::{Connection, State};
use super::key::ConnectionKey;
use super::proxy::{Phase, Proxy};
use adit_proto::ids::{Mode, StreamId};
use adit_proto::message::Kind;
use std::time::Instant;

/// Why a local connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unwelcome {
    /// There is no link, or its SERVICE_IDS has not come.
    #[error("the tunnel is down")]
    Down,
    /// The proxy takes no more.
    #[error("the proxy is about to end")]
    Ending,
    /// The bound over all services.
    #[error("{max} connections are open, which is the limit")]
    Full {
        /// The bound.
        max: usize,
    },
    /// The bound of one service.
    #[error("{max} connections of this service are open, which is its limit")]
    ServiceFull {
        /// The bound.
        max: usize,
    },
    /// A V1 or V2 peer knows one connection for each service.
    #[error("the other side takes one connection of a service at a time")]
    OneAtATime,
}

impl Proxy {
    /// Why an accepted connection of this service would not be taken now; `None`: it would.
    pub fn unwelcome(&mut self, service: u32) -> Option<Unwelcome> {
        let has_place = self.has_place();
        let service = match self.services.get(service as usize) {
            Some(service) if self.phase == Phase::Running => service,
            Some(_) | None => return Some(Unwelcome::Down),
        };
        let (max, of_service_max) = (
            self.limits.connections_max,
            self.limits.service_connections_max,
        );
        if !self.accepting {
            Some(Unwelcome::Ending)
        } else if !has_place {
            Some(Unwelcome::Full { max })
        } else if service.count() >= of_service_max {
            Some(Unwelcome::ServiceFull {
                max: of_service_max,
            })
        } else if service.is_single && service.count() > 0 {
            // A second connection would break the first one (specification 17, Q-10).
            Some(Unwelcome::OneAtATime)
        } else {
            None
        }
    }

    /// Whether an application that connects now should be kept waiting rather than refused: the
    /// one connection that a V1 or V2 peer knows of is about to end.
    pub fn keeps_waiting(&self, service: u32) -> bool {
        let Some(service) = self.services.get(service as usize) else {
            return false;
        };
        let only = service.find(service.first).filter(|_| service.is_single);
        let only = only.and_then(|key| self.connections.find(key));
        only.is_some_and(|connection| connection.state == State::LocalEnded)
    }

    /// A local connection was accepted; the peer is told. `None`: refused, the driver resets it.
    pub fn accepted(&mut self, now: Instant, service: u32, io: u32) -> Option<ConnectionKey> {
        debug_assert_eq!(self.mode, Mode::Source);
        if self.unwelcome(service).is_some() {
            self.counters.refused += 1;
            return None;
        }
        self.make_place();
        self.counters.connections += 1;
        let index = service as usize;
        let id = self.services[index].next_connection_id();
        let (kind, stream) = match self.services[index].stream {
            Some(stream) if !self.services[index].is_single => (Kind::ConnectionStart, stream),
            Some(_) | None => (Kind::StreamStart, self.services[index].begin_stream(id)),
        };
        let mut connection =
            Connection::new(service, id, StreamId::get(stream), State::Open, io, now);
        connection.offsets = self.offsets(index, id);
        let key = self.connections.insert(connection);
        self.services[index].insert(id, key);
        self.outbox
            .push(&self.services[index].control(kind, stream.get(), id));
        Some(key)
    }
}
