//! The control plane's side of a notifier: what is told, to whom, and in which order.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use adit_proto::{AccessToken, TunnelId};
use tokio::sync::{Mutex, MutexGuard};

use super::{Notification, Notifier};
use crate::tunnels::DestinationConfig;

/// Tells devices of their tunnels, if there is a notifier.
#[derive(Default)]
pub(crate) struct Notices {
    told: Option<(Arc<dyn Notifier>, Arc<str>)>,
    /// Without turns, two rotations of one tunnel could be decided in one order and told in the other, and
    /// the device be left with the older token. Tunnels that share a turn only wait for each other.
    turns: [Mutex<()>; TURNS],
}

/// While it is held, nobody else decides about the tunnel on this node.
pub(crate) type Turn<'a> = MutexGuard<'a, ()>;

impl Notices {
    pub(crate) fn new(notifier: Arc<dyn Notifier>, region: Arc<str>) -> Self {
        Self {
            told: Some((notifier, region)),
            ..Self::default()
        }
    }

    /// To be taken before the store decides, and kept until the device was told.
    pub(crate) async fn turn(&self, tunnel: &TunnelId) -> Turn<'_> {
        let mut hasher = DefaultHasher::new();
        tunnel.hash(&mut hasher);
        let index = hasher.finish() % TURNS as u64;
        self.turns[index as usize].lock().await
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

const TURNS: usize = 32;
