//! The links that this node has let in: what has to be cut when a tunnel ends, also while the store
//! cannot be asked, and which link takes the place of which.

use std::collections::{BTreeSet, HashMap};

use adit_engine::link::Grant;
use adit_proto::{Mode, TunnelId};
use tokio::sync::Notify;

use crate::audit::Peer;
use crate::clock::Timestamp;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Every link from its admission to its end. There are as many as the relay takes.
#[derive(Default)]
pub(crate) struct Links {
    table: Mutex<Table>,
    /// The first end has become an earlier one.
    sooner: Notify,
}

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
    pub(crate) peer: Peer,
    /// The session that the store shows in its place until it is connected: of a link that is gone.
    replaces: Option<u64>,
}

/// What is left to be done about a link that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) peer: Peer,
    /// The session that the store may show and should not. `None` when a later link of the side is here,
    /// which takes the place of this one: nobody is to see the side without a link in between.
    pub(crate) shown: Option<u64>,
}

impl Links {
    /// A handshake was let in, to a tunnel that ends then.
    pub(crate) fn admitted(&self, grant: &Grant, ends: Timestamp, peer: Peer) {
        let mut table = self.table();
        let first = table.ending.first().map(|(ends, _)| *ends);
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
            peer,
            replaces: None,
        });
        if first.is_none_or(|first| ends < first) {
            self.sooner.notify_one();
        }
    }

    /// The relay has the link. `None` when it was never admitted.
    pub(crate) fn connected(&self, grant: &Grant) -> Option<Peer> {
        let mut table = self.table();
        let tunnel = table.tunnels.get_mut(&grant.tunnel)?;
        let link = tunnel.links.iter_mut().find(|link| link.is(grant))?;
        link.connected = true;
        // The store is going to show this one.
        link.replaces = None;
        Some(link.peer)
    }

    /// The link is gone, or never came. `None` when it was never admitted.
    pub(crate) fn gone(&self, grant: &Grant) -> Option<Gone> {
        let mut table = self.table();
        let tunnel = table.tunnels.get_mut(&grant.tunnel)?;
        let place = tunnel.links.iter().position(|link| link.is(grant))?;
        let link = tunnel.links.remove(place);
        let gone = Gone {
            peer: link.peer,
            shown: tunnel.leave(&link),
        };
        if tunnel.links.is_empty() {
            let place = (tunnel.ends, grant.tunnel.clone());
            table.tunnels.remove(&grant.tunnel);
            table.ending.remove(&place);
        }
        Some(gone)
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

    /// Waits until a tunnel is here that is over before all others. For one caller.
    pub(crate) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    /// What the relay has of this tunnel.
    pub(crate) fn of(&self, tunnel: &TunnelId) -> Vec<Link> {
        let table = self.table();
        let links = table.tunnels.get(tunnel).into_iter();
        let links = links.flat_map(|tunnel| &tunnel.links);
        links.copied().filter(|link| link.connected).collect()
    }

    /// Whether the tunnel has any link here.
    pub(crate) fn has(&self, tunnel: &TunnelId) -> bool {
        self.table().tunnels.contains_key(tunnel)
    }

    /// Every tunnel that has links here.
    pub(crate) fn tunnels(&self) -> Vec<TunnelId> {
        self.table().tunnels.keys().cloned().collect()
    }

    /// Takes every link that the relay has: their ends are not told any more.
    pub(crate) fn take_all(&self) -> Vec<(TunnelId, Link)> {
        let mut table = self.table();
        table.ending.clear();
        let tunnels = std::mem::take(&mut table.tunnels);
        let links = tunnels.into_iter().flat_map(|(id, tunnel)| {
            let links = tunnel.links.into_iter().filter(|link| link.connected);
            links.map(move |link| (id.clone(), link))
        });
        links.collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tunnel {
    /// Hands what the store may show of a link that leaves over to the later link of its side that is on
    /// its way; returns it when there is none.
    fn leave(&mut self, link: &Link) -> Option<u64> {
        let shown = match link.connected {
            true => Some(link.session),
            false => link.replaces,
        };
        let mut side = self.links.iter_mut().filter(|l| l.mode == link.mode);
        let Some(later) = side.find(|other| other.session > link.session) else {
            return shown;
        };
        if !later.connected {
            later.replaces = later.replaces.max(shown);
        }
        None
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

    use uuid::Uuid;

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

    fn peer(port: u16) -> Peer {
        Peer {
            address: ([192, 0, 2, 1], port).into(),
            channel_id: Uuid::nil(),
        }
    }

    fn shown(gone: Option<Gone>) -> Option<u64> {
        gone.expect("it was admitted").shown
    }

    #[test]
    fn tunnels_are_over_in_time_and_told_once() {
        let links = Links::default();
        let at = Timestamp::from_millis;
        links.admitted(&grant("late", Mode::Source, 1), at(20), peer(1));
        links.admitted(&grant("soon", Mode::Source, 1), at(10), peer(1));
        links.admitted(&grant("soon", Mode::Destination, 2), at(10), peer(2));
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
            links.admitted(grant, Timestamp::from_millis(5), peer(1));
        }
        links.connected(&new);
        assert_eq!(links.of(&old.tunnel).len(), 1, "the other is not up yet");
        links.gone(&old);
        assert_eq!(links.of(&old.tunnel)[0].session, 2);
        links.gone(&new);
        assert!(links.tunnels().is_empty());
        assert_eq!(links.next_end(), None);
        assert_eq!(links.gone(&new), None);
    }

    #[test]
    fn each_link_has_its_own_peer() {
        let links = Links::default();
        let (old, new) = (grant("t", Mode::Source, 1), grant("t", Mode::Source, 2));
        links.admitted(&old, Timestamp::from_millis(5), peer(1));
        links.admitted(&new, Timestamp::from_millis(5), peer(2));
        assert_eq!(links.connected(&new), Some(peer(2)));
        assert_eq!(links.gone(&old).unwrap().peer, peer(1));
        assert_eq!(links.connected(&grant("t", Mode::Source, 3)), None);
    }

    #[test]
    fn a_link_that_is_replaced_leaves_the_store_to_its_successor() {
        let ends = Timestamp::from_millis(5);
        let [first, second, third] = [1, 2, 3].map(|session| grant("t", Mode::Source, session));

        // The successor comes: nobody is to forget the first by itself.
        let links = Links::default();
        links.admitted(&first, ends, peer(1));
        links.connected(&first);
        links.admitted(&second, ends, peer(2));
        links.admitted(&grant("t", Mode::Destination, 9), ends, peer(3));
        assert_eq!(shown(links.gone(&first)), None);
        links.connected(&second);
        assert_eq!(shown(links.gone(&second)), Some(2));

        // No successor comes, not even the second one: then the first has to be forgotten.
        let links = Links::default();
        links.admitted(&first, ends, peer(1));
        links.connected(&first);
        links.admitted(&second, ends, peer(2));
        assert_eq!(shown(links.gone(&first)), None);
        links.admitted(&third, ends, peer(3));
        assert_eq!(shown(links.gone(&second)), None);
        assert_eq!(shown(links.gone(&third)), Some(1));

        // One that never came takes nothing from the link that stays.
        let links = Links::default();
        links.admitted(&first, ends, peer(1));
        links.connected(&first);
        links.admitted(&second, ends, peer(2));
        assert_eq!(shown(links.gone(&second)), None);
        assert_eq!(shown(links.gone(&first)), Some(1));
    }
}
