//! Half-closed connections, in whose place a new one can be taken where none is left.

use super::connection::{Connection, NO_DELIVERY, State};
use super::key::{ConnectionKey, Slots};
use std::collections::VecDeque;
use std::time::Instant;

/// Connections that are looked at for a new one: a peer that starts thousands where there is no
/// place must not have all connections looked through for each.
const LOOKED_AT_MAX: usize = 16;

/// Entries for connections that ended, beside as many as are open.
const ENDED_MAX: usize = 64;

/// Those to which nothing was delivered for longest are in front, as far as was looked.
#[derive(Default)]
pub(crate) struct HalfClosed {
    /// One entry for each, and when it was last seen to move; see `forget_ended` for those of
    /// connections that ended.
    line: VecDeque<(Instant, ConnectionKey)>,
}

impl HalfClosed {
    /// This connection is half-closed from now on.
    pub(crate) fn push(&mut self, now: Instant, key: ConnectionKey) {
        self.line.push_back((now, key));
    }

    /// The one to which nothing was delivered for longest, or about so: one that has moved since it
    /// was last looked at goes to the end of the line. `None`: those that were looked at are busy.
    pub(crate) fn quietest(&mut self, connections: &Slots<Connection>) -> Option<ConnectionKey> {
        let mut looked_at = 0;
        while looked_at < LOOKED_AT_MAX
            && let Some(&(at, key)) = self.line.front()
        {
            let Some(connection) = connections.find(key).filter(|known| is_half_closed(known))
            else {
                self.line.pop_front();
                continue;
            };
            let is_quiet = connection.queue.is_empty() && connection.delivery == NO_DELIVERY;
            if is_quiet && connection.moved_at == at {
                return Some(key);
            }
            self.line.pop_front();
            self.line.push_back((connection.moved_at, key));
            looked_at += 1;
        }
        None
    }

    /// Sweeps out the entries of connections that are gone, before they outnumber the others.
    pub(crate) fn forget_ended(&mut self, connections: &Slots<Connection>) {
        match connections.count() {
            0 => self.line.clear(),
            count if self.line.len() > 2 * count + ENDED_MAX => self
                .line
                .retain(|(_, key)| connections.find(*key).is_some_and(is_half_closed)),
            _ => {}
        }
    }

    /// Entries, those of connections that ended included.
    pub(crate) fn size(&self) -> usize {
        self.line.len()
    }
}

fn is_half_closed(connection: &Connection) -> bool {
    connection.state == State::LocalEnded
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn moment() -> Instant {
        Instant::now()
    }

    fn ended(connections: &mut Slots<Connection>, now: Instant, is_busy: bool) -> ConnectionKey {
        let mut connection = Connection::new(0, 1, 1, State::LocalEnded, 0, now);
        connection.delivery = if is_busy { 0 } else { NO_DELIVERY };
        connections.insert(connection)
    }

    #[test]
    fn a_new_connection_costs_a_bounded_look_and_the_next_one_goes_on_from_there() {
        let (mut connections, mut line) = (Slots::default(), HalfClosed::default());
        let now = moment();
        for _ in 0..3 * LOOKED_AT_MAX {
            line.push(now, ended(&mut connections, now, true));
        }
        let quiet = ended(&mut connections, now, false);
        line.push(now, quiet);
        let looks: Vec<_> = (0..4).map(|_| line.quietest(&connections)).collect();
        assert_eq!(looks, [None, None, None, Some(quiet)]);
        assert_eq!(line.size(), connections.count());
    }

    #[test]
    fn one_that_has_moved_goes_behind_those_that_have_not() {
        let (mut connections, mut line) = (Slots::default(), HalfClosed::default());
        let now = moment();
        let [first, second] = [(); 2].map(|()| ended(&mut connections, now, false));
        line.push(now, first);
        line.push(now, second);
        let moved = connections.find_mut(first).expect("it is there");
        moved.moved_at = now + Duration::from_secs(1);
        assert_eq!(line.quietest(&connections), Some(second));
        connections.remove(second);
        assert_eq!(line.quietest(&connections), Some(first));
    }

    #[test]
    fn entries_of_connections_that_ended_are_swept_out() {
        let (mut connections, mut line) = (Slots::default(), HalfClosed::default());
        let now = moment();
        let stays = ended(&mut connections, now, true);
        line.push(now, stays);
        for _ in 0..10 * ENDED_MAX {
            let key = ended(&mut connections, now, false);
            line.push(now, key);
            connections.remove(key);
            line.forget_ended(&connections);
            assert!(line.size() <= 2 + ENDED_MAX, "{} entries", line.size());
        }
        connections.remove(stays);
        line.forget_ended(&connections);
        assert_eq!(line.size(), 0);
    }
}
