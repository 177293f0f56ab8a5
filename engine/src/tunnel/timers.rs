//! Everything of a proxy that waits for time: pings, quiet connections, stalls.

use super::connection::{Connection, State};
use super::key::{ConnectionKey, Slots};
use super::proxy::{Action, Proxy};
use adit_proto::ids::Mode;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// How long a connection that the peer has ended may go without its application taking a byte.
///
/// Somebody may read it in a pager, and must not lose the rest; it costs at most its queue.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(300);

/// Least time after which a half-closed connection is looked at again.
const RECHECK: Duration = Duration::from_millis(100);

/// Entries for connections that ended, beside as many as are open.
const ENDED_MAX: usize = 64;

/// Pings that may go unanswered, each for a whole period, before the link counts as dead, once it has answered one:
/// silence is noticed within three periods of its beginning.
///
/// A link that never answered proves nothing: AWS's service does not answer before a source is
/// connected (specification 2.1).
const UNANSWERED_PINGS_MAX: u32 = 2;

/// Unanswered pings that end a link without connections in any case, some ten minutes: a proxy on the way
/// acknowledges what it gets whether or not anybody is behind it.
const DRAINING_PINGS_MAX: u32 = 30;

/// Longest time between two pings while queues keep the tunnel from being read. Its end may wait behind all that is not
/// read, and then what cannot be sent is all that shows it.
const BLIND_PING: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(crate) struct Timers {
    /// Connections to look at: quiet after a half-close, or flushing. One entry for each, not
    /// later than it is due; see `forget_ended` for those of connections that ended.
    quiet: BinaryHeap<Reverse<(Instant, ConnectionKey)>>,
    last_ping: Option<Instant>,
    next_ping: Option<Instant>,
    ping_count: u64,
    unanswered: u32,
    answers_pings: bool,
    /// How many pings had left when data was last composed, until the answer to a later one shows
    /// that all of it has arrived.
    sent_behind: Option<u64>,
    /// The stall clock: runs while reading is paused by queues.
    next_stall_check: Option<Instant>,
    round_trip: Option<Duration>,
}

impl Timers {
    pub(crate) fn link_up(&mut self, now: Instant) {
        self.link_lost();
        self.next_ping = Some(now);
    }

    pub(crate) fn link_lost(&mut self) {
        let quiet = std::mem::take(&mut self.quiet);
        *self = Self {
            quiet,
            ping_count: self.ping_count,
            ..Self::default()
        };
    }

    /// Sweeps out the entries of connections that are gone, before they outnumber the others.
    pub(crate) fn forget_ended(&mut self, connections: &Slots<Connection>) {
        if self.quiet.len() > 2 * connections.count() + ENDED_MAX {
            self.quiet
                .retain(|Reverse((_, key))| connections.find(*key).is_some());
        }
    }

    /// The tunnel is not read from now on: the next ping does not wait for as long as others do.
    fn go_blind(&mut self, now: Instant) {
        let soon = self
            .last_ping
            .map_or(now, |last| now.max(last + BLIND_PING));
        self.next_ping = self.next_ping.map(|at| at.min(soon));
    }

    pub(crate) fn stop_stall_clock(&mut self) {
        self.next_stall_check = None;
    }

    /// Entries, those of connections that ended included.
    pub(crate) fn watched_count(&self) -> usize {
        self.quiet.len()
    }

    /// Any byte from the peer shows that it lives.
    pub(crate) fn peer_spoke(&mut self) {
        self.unanswered = 0;
    }

    /// Data was composed: the next pings wait behind it.
    #[inline]
    pub(crate) fn data_left(&mut self) {
        self.sent_behind = Some(self.ping_count);
    }

    pub(crate) fn pong(&mut self, payload: &[u8], now: Instant) {
        self.answers_pings = true;
        self.unanswered = 0;
        let answered = str::from_utf8(payload)
            .ok()
            .and_then(|text| text.parse().ok());
        if answered
            .is_some_and(|ping: u64| ping <= self.ping_count && Some(ping) > self.sent_behind)
        {
            self.sent_behind = None;
        }
        // An odd pong is no reason to end anything (specification 17, Q-08).
        if payload == self.ping_count.to_string().as_bytes() {
            self.round_trip = self
                .last_ping
                .map(|sent| now.saturating_duration_since(sent));
        }
    }

    pub(crate) fn next(&self, has_link: bool) -> Option<Instant> {
        let quiet = self.quiet.peek().map(|Reverse((at, _))| *at);
        let ping = self.next_ping.filter(|_| has_link);
        [quiet, ping, self.next_stall_check]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Proxy {
    /// Time has come; see [`poll_timeout`](Self::poll_timeout). Harmless when it has not.
    ///
    /// `read_until`: whatever of the tunnel had come by then was handed in and is used up. What has
    /// come and was not read yet, be it that reading is paused or that the process got no time, must
    /// not be taken for silence.
    pub fn handle_timeout(&mut self, now: Instant, read_until: Instant) {
        self.send_due_ping(now);
        self.end_quiet(now, read_until);
        if self.timers.next_stall_check.is_some_and(|at| at <= now) {
            self.reset_stalled(now);
        }
    }

    /// The last measured time from ping to pong.
    pub fn round_trip(&self) -> Option<Duration> {
        self.timers.round_trip
    }

    /// How long a half-closed connection may be quiet.
    ///
    /// A destination gets a quarter: there the application that ended first mostly ended for
    /// good, and somebody waits for the news.
    pub(crate) fn grace(&self) -> Duration {
        match self.mode {
            Mode::Source => self.limits.half_close_grace,
            Mode::Destination => self.limits.half_close_grace / 4,
        }
    }

    /// Looks at a connection after `patience`, or earlier and again then.
    pub(crate) fn watch(&mut self, key: ConnectionKey, now: Instant, patience: Duration) {
        let Some(connection) = self.connections.find_mut(key) else {
            return;
        };
        // A later state has at least the patience `FLUSH_TIMEOUT`, so the entry is early enough.
        if !std::mem::replace(&mut connection.is_watched, true) {
            let at = now + patience.min(FLUSH_TIMEOUT);
            self.timers.quiet.push(Reverse((at, key)));
        }
    }

    pub(crate) fn send_due_ping(&mut self, now: Instant) {
        // What we do not read cannot be counted against the peer.
        let is_heard = !self.is_blocked();
        let timers = &mut self.timers;
        let Some(at) = timers.next_ping else { return };
        if now < at {
            return;
        }
        if is_heard && timers.answers_pings && timers.unanswered >= UNANSWERED_PINGS_MAX {
            // Without connections a new link costs nothing. With some, silence may as well be
            // back-pressure: a service that cannot pass our data on does not read our pings. So it
            // is while what an ended connection sent is on its way, on a slow network or to a
            // service that holds to a quota; but not for ever.
            let may_drain = timers.sent_behind.is_some() && timers.unanswered < DRAINING_PINGS_MAX;
            if self.connections.count() == 0 && !may_drain {
                timers.next_ping = None;
                return self.act(Action::LinkDead);
            }
            self.act(Action::LinkSuspect {
                silent_for: self.limits.ping_interval * UNANSWERED_PINGS_MAX,
            });
        }
        let timers = &mut self.timers;
        timers.unanswered += u32::from(is_heard);
        timers.ping_count += 1;
        timers.last_ping = Some(now);
        timers.next_ping = Some(
            now + match is_heard {
                true => self.limits.ping_interval,
                false => self.limits.ping_interval.min(BLIND_PING),
            },
        );
        self.outbox.ping(timers.ping_count.to_string().into_bytes());
    }

    fn end_quiet(&mut self, now: Instant, read_until: Instant) {
        let grace = self.grace();
        while let Some(&Reverse((at, key))) = self.timers.quiet.peek() {
            if at > now {
                return;
            }
            self.timers.quiet.pop();
            let Some(connection) = self.connections.find_mut(key) else {
                continue;
            };
            connection.is_watched = false;
            let patience = match connection.state {
                State::LocalEnded => grace,
                State::Flushing | State::Dialling { peer_ended: true } => FLUSH_TIMEOUT,
                State::Open if connection.is_gone && connection.credit() == 0 => FLUSH_TIMEOUT,
                State::Dialling { peer_ended: false } | State::Open => continue,
            };
            let due = connection.moved_at + patience;
            if due > now {
                self.watch(key, now, due - now);
            } else if connection.state == State::LocalEnded && connection.queue.is_empty() {
                match read_until >= due {
                    true => self.end(key),
                    false => self.watch(key, now, RECHECK),
                }
            } else if connection.state == State::LocalEnded {
                // It still has bytes to take; the stall clock decides about those.
                self.watch(key, now, patience.max(RECHECK));
            } else if connection.state == State::Open {
                self.local_failed(key);
            } else {
                self.abort(key);
            }
        }
    }

    /// The application is gone, and what it sent last may not leave: the peer has so long to let it.
    pub(crate) fn wait_for_credit_of_gone(&mut self, now: Instant, key: ConnectionKey) {
        if let Some(connection) = self.connections.find_mut(key)
            && !connection.is_watched
        {
            connection.moved_at = now;
            self.watch(key, now, FLUSH_TIMEOUT);
        }
    }

    /// Starts or stops the stall clock after a change of the queues.
    pub(crate) fn watch_pause(&mut self, now: Instant) {
        if !self.is_blocked() {
            self.timers.stop_stall_clock();
        } else if self.timers.next_stall_check.is_none() {
            self.timers.next_stall_check = Some(now + self.limits.stall_timeout);
            self.timers.go_blind(now);
        }
    }

    /// While reading is paused, resets the connection with the largest queue among those that
    /// drained nothing for `stall_timeout`, unless it is alone.
    fn reset_stalled(&mut self, now: Instant) {
        let timeout = self.limits.stall_timeout;
        self.timers.next_stall_check = Some(now + (timeout / 4).max(Duration::from_millis(10)));
        let others = self.connections.iter();
        if others.filter(|(_, other)| !other.is_void()).count() < 2 {
            return;
        }
        let stalled = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                !connection.queue.is_empty() && connection.moved_at + timeout <= now
            })
            .max_by_key(|(_, connection)| connection.queue.size())
            .map(|(key, connection)| {
                (
                    key,
                    connection.queue.size(),
                    connection.service,
                    connection.stream,
                    connection.id,
                    connection.state,
                )
            });
        let Some((key, size, service, stream, id, state)) = stalled else {
            return;
        };
        tracing::warn!(
            service = self.service_id(service).map(tracing::field::display),
            connection = id,
            queued_bytes = size,
            "reset a connection: its application took nothing for {timeout:?} while other connections waited"
        );
        self.counters.stalled += 1;
        let peer_knows = matches!(
            state,
            State::Flushing | State::Dialling { peer_ended: true }
        );
        self.abort(key);
        if !peer_knows {
            self.send_reset(service, stream, id);
        }
        self.watch_pause(now);
    }
}
