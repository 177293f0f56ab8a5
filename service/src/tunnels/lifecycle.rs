//! How a tunnel begins and ends (control-plane specification, section 6).

use std::time::Duration;

use super::record::{Record, Side, State};
use super::tags::distinct;
use super::types::{Found, Limits, NewTunnel, TunnelError};
use super::{SERVICES, TAGS, at_most};
use crate::clock::Now;

impl Record {
    /// An open tunnel with both sides disconnected, at this place in the order of creation.
    pub(crate) fn open(
        now: Now,
        limits: &Limits,
        sequence: u64,
        new: NewTunnel,
    ) -> Result<Self, TunnelError> {
        let services = new.config.as_ref().map_or(0, |c| c.services.len());
        at_most(services, limits.services_per_tunnel_max, SERVICES)?;
        at_most(new.tags.len(), limits.tags_per_tunnel_max, TAGS)?;
        distinct(new.tags.keys())?;
        Ok(Self {
            id: new.id,
            routing_key: new.routing_key,
            sequence,
            state: State::Open {
                ends: now.steady.after(new.lifetime.duration()),
            },
            next_session: FIRST_SESSION,
            config: new.config,
            tags: new.tags,
            updated: now.wall,
            source: Side::new(new.source, FIRST_SESSION),
            destination: Side::new(new.destination, FIRST_SESSION),
            description: new.description,
            lifetime: new.lifetime,
            created: now.wall,
            owner: new.owner,
        })
    }

    /// Closes it; closing twice is fine.
    pub(crate) fn close(&mut self, now: Now, retention: Duration) -> Found {
        let found = self.found(now);
        match found {
            Found::Open => self.end(now, retention),
            Found::Over => self.expire(now, retention),
            Found::Closed => {}
        }
        found
    }

    /// How who closes it now will find it.
    pub(crate) fn found(&self, now: Now) -> Found {
        match self.state {
            State::Open { ends } if ends <= now.steady => Found::Over,
            State::Open { .. } => Found::Open,
            State::Closed { .. } => Found::Closed,
        }
    }

    /// Closes it if its lifetime is over, as of that moment, however late this is called.
    pub(crate) fn expire(&mut self, now: Now, retention: Duration) {
        let State::Open { ends } = self.state else {
            return;
        };
        if ends > now.steady {
            return;
        }
        // A clock that was set meanwhile would tell of an end before what came before it.
        let updates = [
            Some(self.updated),
            self.source.updated,
            self.destination.updated,
        ];
        let last = updates.into_iter().flatten().max();
        let wall = now.wall.before(now.steady.since(ends));
        let then = Now {
            steady: ends,
            wall: wall.max(last.unwrap_or(wall)),
            ..now
        };
        self.end(then, retention);
    }

    /// Takes back what a clock that was set back has given: nothing has more left than its full length.
    /// For the first look at a record after a restart.
    pub(crate) fn clamp(&mut self, now: Now, retention: Duration) {
        match &mut self.state {
            State::Open { ends } => *ends = (*ends).min(now.steady.after(self.lifetime.duration())),
            State::Closed { purge } => *purge = (*purge).min(now.steady.after(retention)),
        }
    }

    fn end(&mut self, now: Now, retention: Duration) {
        self.state = State::Closed {
            purge: now.steady.after(retention),
        };
        self.updated = now.wall;
        self.source.disconnect(now);
        self.destination.disconnect(now);
    }
}

/// Below every session that is ever given out there is one number left.
const FIRST_SESSION: u64 = 1;
