//! What the control plane does by itself: it ends tunnels on time, and follows the changes of other
//! nodes.

use std::time::Duration;

use tracing::{debug, error};

use super::{ControlPlane, News};
use crate::audit::{Change as Audited, ClosedBy};
use crate::clock::Timestamp;
use crate::store::{Change, Changes, Store};

const LONGEST_NAP: Duration = Duration::from_secs(30);

/// Between two attempts at what a store that is away has to do.
const RETRY: Duration = Duration::from_secs(1);

impl<S: Store> ControlPlane<S> {
    /// Cuts the links of this node when their lifetime is over, for ever. Needs no store: lifetimes end on
    /// time although it may be away, or slow to answer that.
    pub(crate) async fn follow_ends(&self) {
        loop {
            let next = self.take_ends();
            let until = next.since(self.clock.now().steady);
            tokio::select! {
                () = tokio::time::sleep(until) => {}
                () = self.links.sooner() => {}
            }
        }
    }

    /// Closes tunnels on time, and forgets old ones, for ever.
    pub(crate) async fn follow_time(&self) {
        loop {
            let next = self.take_time().await;
            let until = next.since(self.clock.now().steady);
            tokio::time::sleep(until).await;
        }
    }

    /// Looks again at what other nodes have changed, for ever.
    ///
    /// `changes` has to be listening since before the first link was admitted.
    pub(crate) async fn follow_changes(&self, mut changes: Changes) {
        loop {
            let change = changes.next().await;
            debug!(?change, "changed by another node");
            self.look_again(change);
        }
    }

    /// Has the links of this node looked at that a change of another one may have taken the right from.
    pub(crate) fn look_again(&self, change: Change) {
        let tunnels = match change {
            Change::Tunnel(tunnel) | Change::Side(tunnel, _) => vec![tunnel],
            Change::Everything => self.links.tunnels(),
            Change::Other(..) => Vec::new(),
        };
        // Most of what others change has no link here.
        for tunnel in tunnels.iter().filter(|tunnel| self.links.has(tunnel)) {
            self.news.send(tunnel, News::LookAgain);
        }
    }

    /// Cuts what is over; says when to come back, in steady time.
    pub(crate) fn take_ends(&self) -> Timestamp {
        let now = self.clock.now().steady;
        for tunnel in self.links.take_over(now) {
            debug!(%tunnel, "lifetime over");
            self.relay.end_tunnel(&tunnel);
        }
        let latest = now.after(LONGEST_NAP);
        let next = self.links.next_end();
        next.map_or(latest, |next| next.min(latest))
    }

    /// Has the store do what is due; says when to come back, in steady time.
    pub(crate) async fn take_time(&self) -> Timestamp {
        let now = self.clock.now();
        // A tunnel opened while we sleep lives for a minute at least: half of that is never too late.
        let latest = now.steady.after(LONGEST_NAP);
        let next = match self.store.expire(now).await {
            Ok(expired) => {
                for tunnel in &expired.ended {
                    debug!(%tunnel, "tunnel ended");
                    self.relay.end_tunnel(tunnel);
                    // Whoever has it for long decides about a tunnel that has ended.
                    let _turn = self.notices.turn(tunnel).await.ok();
                    self.notices.revoke(tunnel).await;
                    let by = ClosedBy::Timeout;
                    self.changed(tunnel, Audited::Closed { by }).await;
                }
                expired.next
            }
            Err(error) => {
                error!(%error, "tunnels could not be closed on time");
                Some(now.steady.after(RETRY))
            }
        };
        next.map_or(latest, |next| next.min(latest))
    }
}
