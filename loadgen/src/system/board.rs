//! What is known of all parts: written by the threads that read their reports, read by who waits.

use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::role::{Order, Report};

/// One of the two ends of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Where applications connect to.
    Source,
    /// Which dials the service.
    Destination,
}

impl Side {
    /// As the protocol writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// How one side of a tunnel stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Whether its link came about and was not lost.
    pub is_connected: bool,
    /// Whether the tunnel may be used from this side.
    pub is_running: bool,
    /// When that began or ended last.
    pub changed_at: Option<Instant>,
    /// How often it came up.
    pub sessions: u64,
    /// Where a source listens.
    pub address: Option<SocketAddr>,
}

/// One try to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When its outcome was told.
    pub at: Instant,
    /// Of which tunnel.
    pub tunnel: usize,
    /// Which side.
    pub side: Side,
    /// Whether a link came about.
    pub succeeded: bool,
}

/// Attempts that are remembered: with 9,500 tunnels, 26 of each side. 40 bytes each, 20 MB.
const ATTEMPTS_MAX: usize = 500_000;

/// What is known of all parts.
#[derive(Default)]
pub(super) struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) parts: Vec<PartState>,
    pub(super) sources: Vec<LinkState>,
    pub(super) destinations: Vec<LinkState>,
    pub(super) attempts: Vec<Attempt>,
    /// The first proxy that ended by itself, and why.
    pub(super) failure: Option<String>,
    /// Why a link was lost last.
    pub(super) last_loss: Option<String>,
    pub(super) done: u64,
}

#[derive(Default, Clone)]
pub(super) struct PartState {
    pub(super) name: String,
    pub(super) side: Option<Side>,
    pub(super) is_ready: bool,
    pub(super) address: Option<SocketAddr>,
    pub(super) backend: String,
    /// Its reports have ended, and so has the part.
    pub(super) is_over: bool,
}

impl State {
    pub(super) fn links(&self, side: Side) -> &[LinkState] {
        match side {
            Side::Source => &self.sources,
            Side::Destination => &self.destinations,
        }
    }

    fn link(&mut self, side: Side, tunnel: usize) -> Option<&mut LinkState> {
        match side {
            Side::Source => self.sources.get_mut(tunnel),
            Side::Destination => self.destinations.get_mut(tunnel),
        }
    }

    /// What went wrong, if anything did.
    pub(super) fn fault(&self) -> Option<String> {
        let over = self.parts.iter().find(|part| part.is_over);
        let over = over.map(|part| format!("the {} ended by itself", part.name));
        self.failure.clone().or(over)
    }

    fn take(&mut self, part: usize, at: Instant, report: Report) {
        let Some(side) = self.parts.get(part).map(|it| it.side) else {
            return;
        };
        match (report, side) {
            (Report::Ready { address, backend }, _) => {
                let part = &mut self.parts[part];
                part.is_ready = true;
                part.address = address;
                part.backend = backend;
            }
            (Report::Done(Order::CutLinks), _) => self.done += 1,
            (Report::Connected { tunnel }, Some(side)) => self.connected(side, tunnel, at),
            (Report::Running { tunnel }, Some(side)) => {
                // It may come behind the word that the link was lost.
                let link = self.link(side, tunnel);
                if let Some(link) = link.filter(|it| it.is_connected) {
                    link.is_running = true;
                    link.changed_at = Some(at);
                }
            }
            (Report::Retrying { tunnel, reason }, Some(side)) => {
                self.lost(side, tunnel, at, reason);
            }
            (Report::Listening { tunnel, address }, Some(side)) => {
                if let Some(link) = self.link(side, tunnel) {
                    link.address = Some(address);
                }
            }
            (Report::Over { tunnel, reason }, Some(side)) => {
                let name = side.name();
                let text = format!("the {name} proxy of tunnel {tunnel} ended: {reason}");
                self.failure.get_or_insert(text);
            }
            // Only proxies tell of tunnels.
            (_, None) => {}
        }
    }

    fn connected(&mut self, side: Side, tunnel: usize, at: Instant) {
        let Some(link) = self.link(side, tunnel) else {
            return;
        };
        link.is_connected = true;
        link.sessions += 1;
        self.attempted(side, tunnel, at, true);
    }

    /// A link that was there is lost; one that was not did not come about.
    fn lost(&mut self, side: Side, tunnel: usize, at: Instant, reason: String) {
        let Some(link) = self.link(side, tunnel) else {
            return;
        };
        if link.is_connected {
            link.is_connected = false;
            link.is_running = false;
            link.changed_at = Some(at);
            self.last_loss = Some(reason);
        } else {
            self.attempted(side, tunnel, at, false);
        }
    }

    fn attempted(&mut self, side: Side, tunnel: usize, at: Instant, succeeded: bool) {
        if self.attempts.len() < ATTEMPTS_MAX {
            self.attempts.push(Attempt {
                at,
                tunnel,
                side,
                succeeded,
            });
        }
    }
}

impl Board {
    /// Forgets a part's past and gives it a name, for a part that is started or started again.
    pub(super) fn enter(&self, part: usize, name: &str, side: Option<Side>) {
        let mut state = self.lock();
        if state.parts.len() <= part {
            state.parts.resize_with(part + 1, PartState::default);
        }
        state.parts[part] = PartState {
            name: name.to_owned(),
            side,
            ..PartState::default()
        };
    }

    pub(super) fn take(&self, part: usize, report: Report) {
        self.lock().take(part, Instant::now(), report);
        self.changed.notify_all();
    }

    pub(super) fn over(&self, part: usize) {
        if let Some(part) = self.lock().parts.get_mut(part) {
            part.is_over = true;
        }
        self.changed.notify_all();
    }

    /// Waits until `look` gives something, at most until `deadline`.
    pub(super) fn wait<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return None;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        let board = Board::default();
        board.enter(0, "service", None);
        board.enter(1, "source", Some(Side::Source));
        board.lock().sources = vec![LinkState::default(); 2];
        board
    }

    fn retrying(tunnel: usize) -> Report {
        Report::Retrying {
            tunnel,
            reason: "gone".to_owned(),
        }
    }

    #[test]
    fn a_loss_is_no_attempt_and_a_failure_is_one() {
        let board = board();
        board.take(1, Report::Connected { tunnel: 1 });
        board.take(1, retrying(1));
        board.take(1, retrying(1));
        board.take(1, Report::Connected { tunnel: 1 });
        let state = board.lock();
        let succeeded: Vec<bool> = state.attempts.iter().map(|it| it.succeeded).collect();
        assert_eq!(succeeded, [true, false, true]);
        assert!(state.sources[1].is_connected && !state.sources[0].is_connected);
        assert_eq!(state.sources[1].sessions, 2);
        assert_eq!(state.last_loss.as_deref(), Some("gone"));
        assert_eq!(state.fault(), None);
    }

    #[test]
    fn a_side_runs_from_its_services_to_the_loss_of_its_link() {
        let board = board();
        let runs = || board.lock().sources[0].is_running;
        board.take(1, Report::Connected { tunnel: 0 });
        assert!(!runs());
        board.take(1, Report::Running { tunnel: 0 });
        assert!(runs());
        board.take(1, retrying(0));
        assert!(!runs());
        board.take(1, Report::Running { tunnel: 0 });
        assert!(!runs(), "it was told too late");
    }

    #[test]
    fn reports_about_what_is_not_there_are_dropped() {
        let board = board();
        board.take(1, Report::Connected { tunnel: 2 });
        board.take(0, Report::Connected { tunnel: 0 });
        board.take(9, retrying(0));
        board.over(9);
        let state = board.lock();
        assert!(state.attempts.is_empty());
        assert_eq!(state.sources, [LinkState::default(); 2]);
    }

    #[test]
    fn a_part_that_ends_is_a_fault_until_it_is_entered_again() {
        let board = board();
        board.over(0);
        let fault = board.wait(Instant::now(), State::fault);
        assert_eq!(fault.as_deref(), Some("the service ended by itself"));
        board.enter(0, "service", None);
        assert_eq!(board.lock().fault(), None);
    }

    #[test]
    fn waiting_has_an_end() {
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(board().wait(deadline, |_| None::<()>), None);
        assert!(Instant::now() >= deadline);
    }
}
