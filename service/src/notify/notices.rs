//! The control plane's side of a notifier: what is told, to whom, and in which order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit_proto::{AccessToken, TunnelId};
use tokio::sync::{Mutex as Queue, OwnedMutexGuard};

use super::{Notification, Notifier};
use crate::sync::timeout;
use crate::tunnels::{DestinationConfig, TunnelError};

/// Tells devices of their tunnels, if there is a notifier.
#[derive(Default)]
pub(crate) struct Notices {
    told: Option<(Arc<dyn Notifier>, Arc<str>)>,
    turns: Turns,
}

/// Whose turn it is, of each tunnel that somebody decides about or waits to.
///
/// Without turns, two rotations of one tunnel could be decided in one order and told in the other, and the device be
/// left with the older token. Nobody waits for another tunnel's: one that the store is slow about holds up itself.
#[derive(Default)]
struct Turns(Mutex<HashMap<TunnelId, Arc<Queue<()>>>>);

/// While it is held, nobody else decides about the tunnel on this node.
pub(crate) struct Turn<'a> {
    // The fields are dropped in this order.
    _turn: OwnedMutexGuard<()>,
    _place: Place<'a>,
}

/// Somebody is in a tunnel's queue; the last one takes the queue away.
struct Place<'a> {
    turns: &'a Turns,
    tunnel: TunnelId,
    /// `None` only while it is dropped.
    queue: Option<Arc<Queue<()>>>,
}

impl Place<'_> {
    fn queue(&self) -> Arc<Queue<()>> {
        Arc::clone(self.queue.as_ref().expect("it is there until the end"))
    }
}

impl Turns {
    fn enter(&self, tunnel: &TunnelId) -> Place<'_> {
        let queue = Arc::clone(self.table().entry(tunnel.clone()).or_default());
        Place {
            turns: self,
            tunnel: tunnel.clone(),
            queue: Some(queue),
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<TunnelId, Arc<Queue<()>>>> {
        // Nothing that holds the lock can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut table = self.turns.table();
        // While the table is held, so that of two who leave at once the second one is seen to be the last.
        drop(self.queue.take());
        if table
            .get(&self.tunnel)
            .is_some_and(|queue| Arc::strong_count(queue) == 1)
        {
            table.remove(&self.tunnel);
        }
    }
}

impl Notices {
    pub(crate) fn new(notifier: Arc<dyn Notifier>, region: Arc<str>) -> Self {
        Self {
            told: Some((notifier, region)),
            ..Self::default()
        }
    }

    /// To be taken before the store decides, and kept until the device was told.
    ///
    /// # Errors
    /// `Unavailable` when those before take too long: they wait for the store.
    pub(crate) async fn turn(&self, tunnel: &TunnelId) -> Result<Turn<'_>, TunnelError> {
        let place = self.turns.enter(tunnel);
        let turn = timeout(TURN_MAX, place.queue().lock_owned()).await;
        Ok(Turn {
            _turn: turn.map_err(|_| TunnelError::Unavailable)?,
            _place: place,
        })
    }

    /// Tells the device, if the tunnel is for one.
    pub(crate) async fn publish(
        &self,
        tunnel: &TunnelId,
        config: Option<DestinationConfig>,
        token: &AccessToken,
    ) {
        let Some((notifier, region)) = &self.told else {
            return;
        };
        let Some(config) = config else { return };
        let Some(thing) = &config.thing else { return };
        let notification = Notification {
            tunnel: tunnel.clone(),
            token: token.clone(),
            region: Arc::clone(region),
            services: config.services,
        };
        notifier.publish(thing, notification).await;
    }

    /// Nothing of the tunnel's is to be delivered any more.
    pub(crate) async fn revoke(&self, tunnel: &TunnelId) {
        if let Some((notifier, _)) = &self.told {
            notifier.revoke(tunnel).await;
        }
    }
}

/// For those who were there before. With what the store may take then, a call is answered in less than the half minute
/// after which its client gives up.
const TURN_MAX: Duration = Duration::from_secs(5);
