//! What the control plane does by itself: it takes in what the relay reports, ends tunnels on time, and
//! follows the changes of other nodes.

use std::time::Duration;

use adit_proto::{Mode, TunnelId};
use tokio::sync::mpsc;
use tracing::{debug, error};

use super::ControlPlane;
use crate::audit::{Change as Audited, ClosedBy};
use crate::clock::Timestamp;
use crate::gate::LinkEvent;
use crate::store::{Change, Store};
use crate::tunnels::{Connected, TunnelError};

const LONGEST_NAP: Duration = Duration::from_secs(30);

/// Between two attempts at what a store that is away has to do.
const RETRY: Duration = Duration::from_secs(1);

/// An hour of them; then the state of this link is not worth holding up the others.
const ATTEMPTS: usize = 3_600;

impl<S: Store> ControlPlane<S> {
    /// Takes in what the relay reports, in its order, for as long as the gate exists.
    pub(crate) async fn follow_links(&self, mut events: mpsc::UnboundedReceiver<LinkEvent>) {
        while let Some(event) = events.recv().await {
            // The store is asked until it answers: nobody is let in meanwhile, so no more events queue up
            // than the links that there are can make.
            for attempt in 0..ATTEMPTS {
                let Err(error) = self.take_in(&event).await else {
                    break;
                };
                if attempt == 0 {
                    error!(%error, ?event, "the state of a link cannot be stored yet");
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Ends tunnels on time, and forgets old ones, for ever.
    pub(crate) async fn follow_time(&self) {
        loop {
            let next = self.take_time().await;
            let until = next.since(self.clock.now().steady);
            tokio::time::sleep(until).await;
        }
    }

    /// Looks again at what other nodes have changed, for ever.
    pub(crate) async fn follow_changes(&self) {
        let mut changes = self.store.changes();
        loop {
            let change = changes.next().await;
            debug!(?change, "changed by another node");
            self.look_again(change).await;
        }
    }

    /// Cuts the links of this node that a change of another one took the right from.
    pub(crate) async fn look_again(&self, change: Change) {
        let tunnels = match change {
            Change::Tunnel(tunnel) | Change::Side(tunnel, _) => vec![tunnel],
            Change::Everything => self.links.tunnels(),
            Change::Other(..) => Vec::new(),
        };
        for tunnel in tunnels {
            for link in self.links.of(&tunnel) {
                let looked = self.arrive(&tunnel, link.mode, link.session).await;
                if let Err(error) = looked {
                    error!(%error, %tunnel, "a link may have lost its right, and cannot be asked for");
                }
            }
        }
    }

    async fn take_in(&self, event: &LinkEvent) -> Result<(), TunnelError> {
        let (LinkEvent::Connected(grant) | LinkEvent::Disconnected(grant)) = event;
        let (tunnel, mode, session) = (&grant.tunnel, grant.mode, grant.session);
        debug!(%tunnel, %mode, session, connected = matches!(event, LinkEvent::Connected(_)), "link");
        match event {
            LinkEvent::Connected(_) => {
                let change = Audited::Connected {
                    side: mode,
                    session,
                };
                self.changed(tunnel, change).await;
                self.arrive(tunnel, mode, session).await
            }
            LinkEvent::Disconnected(_) => {
                let change = Audited::Disconnected {
                    side: mode,
                    session,
                };
                self.changed(tunnel, change).await;
                let now = self.clock.now();
                let gone = self.store.set_disconnected(now, tunnel, mode, session);
                gone.await
            }
        }
    }

    /// The relay has this link: it is stored, or cut.
    async fn arrive(&self, tunnel: &TunnelId, mode: Mode, session: u64) -> Result<(), TunnelError> {
        let now = self.clock.now();
        match self.store.set_connected(now, tunnel, mode, session).await? {
            // The relay has replaced the older of two links itself: it knows the sessions.
            Connected::Current | Connected::Superseded => {}
            // Rotated between admission and arrival, so the cut at the rotation came too early; or
            // the client is at another node by now.
            Connected::Revoked | Connected::Moved => self.relay.end_side(tunnel, mode, session),
            Connected::TunnelEnded => self.relay.end_tunnel(tunnel),
        }
        Ok(())
    }

    /// Does what is due; says when to come back, in steady time.
    pub(crate) async fn take_time(&self) -> Timestamp {
        let now = self.clock.now();
        // First what needs no store: lifetimes end on time although it may be away.
        for tunnel in self.links.take_over(now.steady) {
            debug!(%tunnel, "lifetime over");
            self.relay.end_tunnel(&tunnel);
        }
        // A tunnel opened while we sleep lives for a minute at least: half of that is never too late.
        let latest = now.steady.after(LONGEST_NAP);
        let next = match self.store.expire(now).await {
            Ok(expired) => {
                for tunnel in &expired.ended {
                    debug!(%tunnel, "tunnel ended");
                    self.relay.end_tunnel(tunnel);
                    let _turn = self.notices.turn(tunnel).await;
                    self.notices.revoke(tunnel).await;
                    let by = ClosedBy::Timeout;
                    self.changed(tunnel, Audited::Closed { by }).await;
                }
                expired.next
            }
            Err(error) => {
                error!(%error, "tunnels could not be ended on time");
                Some(now.steady.after(RETRY))
            }
        };
        let next = [next, self.links.next_end()].into_iter().flatten().min();
        next.map_or(latest, |next| next.min(latest))
    }
}
