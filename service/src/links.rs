//! The links that this node has let in: what has to be cut when a tunnel ends, also while the store
//! cannot be asked.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use adit_engine::link::Grant;
use adit_proto::{Mode, TunnelId};

use crate::clock::Timestamp;

/// Every link from its admission to its end. There are as many as the relay takes.
#[derive(Default)]
pub(crate) struct Links(Mutex<Table>);

#[derive(Default)]
struct Table {
    tunnels: HashMap<TunnelId, Tunnel>,
    /// Tunnels that have not been cut yet, by the end of their lifetime.
    ending: BTreeSet<(Timestamp, TunnelId)>,
}

struct Tunnel {
    ends: Timestamp,
    links: Vec<Link>,
}

/// One link of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) mode: Mode,
    pub(crate) session: u64,
    /// Whether the relay has it.
    pub(crate) connected: bool,
}

impl Links {
    /// A handshake was let in, to a tunnel that ends then.
    pub(crate) fn admitted(&self, grant: &Grant, ends: Timestamp) {
        let mut table = self.table();
        table.ending.insert((ends, grant.tunnel.clone()));
        let tunnel = table.tunnels.entry(grant.tunnel.clone());
        let tunnel = tunnel.or_insert_with(|| Tunnel {
            ends,
            links: Vec::new(),
        });
        tunnel.links.push(Link {
            mode: grant.mode,
            session: grant.session,
            connected: false,
        });
    }

    /// The relay has the link.
    pub(crate) fn connected(&self, grant: &Grant) {
        let mut table = self.table();
        let tunnel = table.tunnels.get_mut(&grant.tunnel);
        let links = tunnel.into_iter().flat_map(|tunnel| &mut tunnel.links);
        for link in links.filter(|link| link.is(grant)) {
            link.connected = true;
        }
    }

    /// The link is gone, or never came.
    pub(crate) fn gone(&self, grant: &Grant) {
        let mut table = self.table();
        let Some(tunnel) = table.tunnels.get_mut(&grant.tunnel) else {
            return;
        };
        tunnel.links.retain(|link| !link.is(grant));
        if tunnel.links.is_empty() {
            let place = (tunnel.ends, grant.tunnel.clone());
            table.tunnels.remove(&grant.tunnel);
            table.ending.remove(&place);
        }
    }

    /// Takes the tunnels whose lifetime is over, to be cut.
    pub(crate) fn take_over(&self, now: Timestamp) -> Vec<TunnelId> {
        let mut table = self.table();
        let mut over = Vec::new();
        while table.ending.first().is_some_and(|(ends, _)| *ends <= now) {
            over.extend(table.ending.pop_first().map(|(_, tunnel)| tunnel));
        }
        over
    }

    /// When the next one is over.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.table().ending.first().map(|(ends, _)| *ends)
    }

    /// What the relay has of this tunnel.
    pub(crate) fn of(&self, tunnel: &TunnelId) -> Vec<Link> {
        let table = self.table();
        let links = table.tunnels.get(tunnel).into_iter();
        let links = links.flat_map(|tunnel| &tunnel.links);
        links.copied().filter(|link| link.connected).collect()
    }

    /// Every tunnel that has links here.
    pub(crate) fn tunnels(&self) -> Vec<TunnelId> {
        self.table().tunnels.keys().cloned().collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    fn is(&self, grant: &Grant) -> bool {
        self.mode == grant.mode && self.session == grant.session
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn grant(tunnel: &str, mode: Mode, session: u64) -> Grant {
        Grant {
            tunnel: tunnel.parse().unwrap(),
            mode,
            services: Arc::default(),
            session,
            bytes_per_second: None,
            connections_per_second: None,
        }
    }

    #[test]
    fn tunnels_are_over_in_time_and_told_once() {
        let links = Links::default();
        let at = Timestamp::from_millis;
        links.admitted(&grant("late", Mode::Source, 1), at(20));
        links.admitted(&grant("soon", Mode::Source, 1), at(10));
        links.admitted(&grant("soon", Mode::Destination, 2), at(10));
        assert_eq!(links.next_end(), Some(at(10)));
        assert!(links.take_over(at(9)).is_empty());
        assert_eq!(links.take_over(at(10)), ["soon".parse().unwrap()]);
        assert!(links.take_over(at(10)).is_empty());
        assert_eq!(links.next_end(), Some(at(20)));
        // What is cut is still here until it is gone.
        assert_eq!(links.tunnels().len(), 2);
    }

    #[test]
    fn nothing_is_left_of_links_that_are_gone() {
        let links = Links::default();
        let (old, new) = (grant("t", Mode::Source, 1), grant("t", Mode::Source, 2));
        for grant in [&old, &new] {
            links.admitted(grant, Timestamp::from_millis(5));
        }
        links.connected(&new);
        assert_eq!(links.of(&old.tunnel).len(), 1, "the other is not up yet");
        links.gone(&old);
        assert_eq!(links.of(&old.tunnel)[0].session, 2);
        links.gone(&new);
        assert!(links.tunnels().is_empty());
        assert_eq!(links.next_end(), None);
    }
}
