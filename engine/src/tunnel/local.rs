//! What happens on the local side of a connection.

use super::connection::{LastWay, State};
use super::key::ConnectionKey;
use super::proxy::{Action, Proxy};
use adit_proto::ids::Mode;
use std::time::Instant;

impl Proxy {
    /// The local socket may have bytes, or its end. `hangup`: the system reported the end or an
    /// error, so it is read until that shows, whatever a short read suggests.
    pub fn readable(&mut self, key: ConnectionKey, hangup: bool) {
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        connection.hangup |= hangup;
        if connection.state == State::Open {
            self.schedule.ready(key, &mut connection.turn);
        }
    }

    /// The local application sends no more (specification 9.3).
    ///
    /// The protocol cannot say so. Where the application still awaits something, the connection
    /// stays for a grace time: a source's application that asked and was not answered, a
    /// destination's that ended before it said a word or while it was being sent to. Else the
    /// end is final, and the peer hears of it at once.
    pub(crate) fn local_ended(&mut self, now: Instant, key: ConnectionKey) {
        let grace = self.grace();
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        let awaits = match self.mode {
            Mode::Source => connection.last_way == LastWay::FromLocal,
            Mode::Destination => connection.last_way != LastWay::FromLocal,
        };
        if connection.queue.is_empty() && (!awaits || grace.is_zero()) {
            return self.end(key);
        }
        connection.state = State::LocalEnded;
        connection.moved_at = now;
        self.watch(key, now, grace);
    }

    /// Ends a connection whose application is done: the peer is told, the socket closed.
    pub(crate) fn end(&mut self, key: ConnectionKey) {
        let Some(connection) = self.forget(key) else {
            return;
        };
        self.send_reset(connection.service, connection.stream, connection.id);
        self.act(Action::End { io: connection.io });
    }

    /// The local socket failed: a reset by the application, mostly.
    pub(crate) fn local_failed(&mut self, key: ConnectionKey) {
        let Some(connection) = self.forget(key) else {
            return;
        };
        if connection.state != State::Flushing {
            self.send_reset(connection.service, connection.stream, connection.id);
        }
        self.act(Action::Abort { io: connection.io });
    }
}
