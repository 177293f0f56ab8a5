//! What happens on the local side of a connection.

use super::connection::{LastWay, State};
use super::key::ConnectionKey;
use super::proxy::{Action, Proxy};
use adit_proto::ids::Mode;
use std::io;
use std::time::Instant;

impl Proxy {
    /// The local socket may have bytes, or its end. `reads_short`: a read may give less than there
    /// is, so from now on it is read until it has nothing, whatever a short read suggests.
    pub fn readable(&mut self, key: ConnectionKey, reads_short: bool) {
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        connection.reads_short |= reads_short;
        if connection.state == State::Open {
            self.schedule.ready(key, &mut connection.turn);
        }
    }

    /// The local socket takes nothing any more either: its application has closed completely, or
    /// reset the connection. What it sent before is still read.
    pub fn gone(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        connection.is_gone = true;
        if connection.state == State::Open && connection.credit() == 0 {
            // Nothing reads it now, so that nothing would find the error.
            self.schedule.ready(key, &mut connection.turn);
            return;
        }
        // Reading shows no error behind an end.
        if connection.state == State::LocalEnded {
            self.local_failed(key);
        }
    }

    /// The local socket was offered bytes and failed. Where that is a reset, what its application sent before is still
    /// read: the system of one that answers and closes over bytes that it has not read resets the connection right behind
    /// the answer. Such a socket fails whatever else it is offered, and shows its end to who reads it.
    #[cold]
    pub(crate) fn not_taken(&mut self, key: ConnectionKey, error: &io::Error) {
        let was_reset = matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        );
        match self.connections.find_mut(key) {
            Some(connection) if was_reset && connection.state == State::Open => {
                connection.is_gone = true;
                // No edge tells of what is there already.
                connection.reads_short = true;
                self.schedule.ready(key, &mut connection.turn);
                self.drop_queue(key);
            }
            _ => self.local_failed(key),
        }
    }

    /// The local application sends no more (specification 9.3).
    ///
    /// The protocol cannot say so. Where the application may still await something, the connection
    /// stays until the other direction has been quiet for a grace time: a source's always, since
    /// nobody knows whether an answer is to come, or is half here; a destination's if it ended
    /// before it said a word or while it was being sent to. A service that has answered and ends
    /// is final at once: the peer hears of it, and waits no longer either. An application that has
    /// closed altogether shows it by a reset when something is sent to it, see [`Self::gone`].
    pub(crate) fn local_ended(&mut self, now: Instant, key: ConnectionKey) {
        let grace = self.grace();
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        if connection.is_gone {
            return self.local_failed(key);
        }
        let awaits = match self.mode {
            Mode::Source => true,
            Mode::Destination => connection.last_way != LastWay::FromLocal,
        };
        if connection.queue.is_empty() && (!awaits || grace.is_zero()) {
            return self.end(key);
        }
        connection.state = State::LocalEnded;
        connection.moved_at = now;
        self.half_closed.push(now, key);
        self.watch(key, now, grace);
    }

    /// Whether one more connection can be taken: below the bound, or in the place of one that
    /// only waits for its grace time to end.
    pub(crate) fn has_place(&mut self) -> bool {
        self.connections.count() < self.limits.connections_max
            || self.half_closed.quietest(&self.connections).is_some()
    }

    /// Makes a place for one more connection, as [`has_place`](Self::has_place) says it can.
    pub(crate) fn make_place(&mut self) {
        if self.connections.count() >= self.limits.connections_max
            && let Some(key) = self.half_closed.quietest(&self.connections)
        {
            self.end(key);
        }
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
