//! The control plane itself: what the API can ask for, and what happens by itself.
//!
//! Each operation is decided by the store first; only then is the relay told to cut what lost its
//! right. A link that is on its way from admission to the relay meanwhile is caught when its arrival is
//! reported.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_engine::link::RelayControl;
use adit_proto::{AccessToken, Mode, TunnelId};
use tokio::sync::mpsc;
use tracing::{debug, error};
use uuid::Uuid;

use crate::clock::Clock;
use crate::gate::LinkEvent;
use crate::notify::{Notices, Notifier};
use crate::store::Store;
use crate::token::{RoutingKey, TokenHash, mint};
use crate::tunnels::{
    Connected, DestinationConfig, Lifetime, ListRequest, NewTunnel, Page, Rotation, Tags,
    TunnelError, TunnelView,
};

/// Operations on tunnels, with their effect on the data plane.
pub struct ControlPlane<S> {
    store: Arc<S>,
    relay: Arc<dyn RelayControl>,
    clock: Clock,
    notices: Notices,
}

/// What a caller says about a tunnel to be opened.
#[derive(Clone, Debug)]
pub struct OpenTunnel {
    /// Free text.
    pub description: Option<Arc<str>>,
    /// Tags to begin with.
    pub tags: Tags,
    /// Device and services, if any.
    pub config: Option<DestinationConfig>,
    /// How long it may live.
    pub lifetime: Lifetime,
}

/// A tunnel just opened. The tokens exist nowhere else.
#[derive(Debug)]
pub struct OpenedTunnel {
    /// Its id, a UUID.
    pub id: TunnelId,
    /// For the operator's side.
    pub source: AccessToken,
    /// For the device's side.
    pub destination: AccessToken,
}

/// New tokens, of the sides that were rotated.
#[derive(Debug)]
pub struct RotatedTokens {
    /// For the operator's side.
    pub source: Option<AccessToken>,
    /// For the device's side.
    pub destination: Option<AccessToken>,
}

/// Which tokens a rotation replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotatedSides {
    /// Only this side's.
    One(Mode),
    /// Both.
    All,
}

impl RotatedSides {
    fn has(self, mode: Mode) -> bool {
        self == Self::All || self == Self::One(mode)
    }
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The tunnel's state forbids it.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The system gives no random numbers, so there are no tokens.
    #[error("no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

impl<S: Store> ControlPlane<S> {
    pub(crate) fn new(store: Arc<S>, relay: Arc<dyn RelayControl>, clock: Clock) -> Self {
        Self {
            store,
            relay,
            clock,
            notices: Notices::default(),
        }
    }

    /// Tells devices of their tunnels; `region` is what they are told.
    pub(crate) fn with_notifier(self, notifier: Arc<dyn Notifier>, region: Arc<str>) -> Self {
        Self {
            notices: Notices::new(notifier, region),
            ..self
        }
    }

    /// Opens a tunnel and makes its two tokens.
    pub async fn open(&self, request: OpenTunnel) -> Result<OpenedTunnel, ControlError> {
        let id: TunnelId = Uuid::new_v4()
            .to_string()
            .parse()
            .expect("a UUID is a tunnel id");
        let routing_key = RoutingKey::of(&id);
        let opened = OpenedTunnel {
            id: id.clone(),
            source: mint(routing_key)?,
            destination: mint(routing_key)?,
        };
        let config = request.config.clone();
        let _turn = self.notices.turn(&id).await;
        let new = NewTunnel {
            id,
            routing_key,
            source: TokenHash::of(&opened.source),
            destination: TokenHash::of(&opened.destination),
            description: request.description,
            tags: request.tags,
            config: request.config,
            lifetime: request.lifetime,
        };
        self.store.open_tunnel(self.clock.now(), new).await?;
        debug!(tunnel = %opened.id, "tunnel opened");
        self.notices
            .publish(&opened.id, config, &opened.destination)
            .await;
        Ok(opened)
    }

    /// One tunnel, open or closed.
    pub async fn describe(&self, id: &TunnelId) -> Result<TunnelView, ControlError> {
        Ok(self.store.describe(self.clock.now(), id).await?)
    }

    /// One page of tunnels, the newest first.
    pub async fn list(&self, request: ListRequest) -> Result<Page, ControlError> {
        Ok(self.store.list(self.clock.now(), request).await?)
    }

    /// Closes a tunnel and cuts both its sides; forgets it when `delete` is set.
    pub async fn close(&self, id: &TunnelId, delete: bool) -> Result<(), ControlError> {
        let _turn = self.notices.turn(id).await;
        self.store.close(self.clock.now(), id, delete).await?;
        debug!(tunnel = %id, delete, "tunnel closed");
        self.notices.revoke(id).await;
        self.relay.end_tunnel(id);
        Ok(())
    }

    /// Replaces tokens and cuts the sides that used the old ones.
    pub async fn rotate(
        &self,
        id: &TunnelId,
        sides: RotatedSides,
        config: Option<DestinationConfig>,
    ) -> Result<RotatedTokens, ControlError> {
        let routing_key = RoutingKey::of(id);
        let token = |mode| sides.has(mode).then(|| mint(routing_key)).transpose();
        let tokens = RotatedTokens {
            source: token(Mode::Source)?,
            destination: token(Mode::Destination)?,
        };
        let rotation = Rotation {
            source: tokens.source.as_ref().map(TokenHash::of),
            destination: tokens.destination.as_ref().map(TokenHash::of),
            config,
        };
        let _turn = self.notices.turn(id).await;
        self.store.rotate(self.clock.now(), id, rotation).await?;
        debug!(tunnel = %id, ?sides, "tokens rotated");
        for mode in [Mode::Source, Mode::Destination] {
            if sides.has(mode) {
                self.relay.end_side(id, mode);
            }
        }
        if let Some(token) = &tokens.destination {
            self.notices.revoke(id).await;
            // Who is told, and of what, is what the rotation has left.
            match self.store.describe(self.clock.now(), id).await {
                Ok(tunnel) => self.notices.publish(id, tunnel.config, token).await,
                Err(error) => error!(%error, tunnel = %id, "no notification of a rotated token"),
            }
        }
        Ok(tokens)
    }

    /// Adds tags, all or none.
    pub async fn tag(&self, id: &TunnelId, tags: Tags) -> Result<(), ControlError> {
        Ok(self.store.tag(id, tags).await?)
    }

    /// Removes tags.
    pub async fn untag(&self, id: &TunnelId, keys: Vec<String>) -> Result<(), ControlError> {
        Ok(self.store.untag(id, keys).await?)
    }

    /// The tags of a tunnel.
    pub async fn tags(&self, id: &TunnelId) -> Result<Tags, ControlError> {
        Ok(self.store.tags(id).await?)
    }

    /// Takes in what the relay reports, in its order, for as long as the gate exists.
    pub(crate) async fn follow_links(&self, mut events: mpsc::UnboundedReceiver<LinkEvent>) {
        while let Some(event) = events.recv().await {
            if let Err(error) = self.take_in(&event).await {
                error!(%error, ?event, "the state of a link could not be stored");
            }
        }
    }

    /// Ends tunnels on time, and forgets old ones, for ever.
    pub(crate) async fn follow_time(&self) {
        loop {
            let next = self.take_time().await;
            let until = next.saturating_duration_since(self.clock.now().instant);
            tokio::time::sleep(until).await;
        }
    }

    async fn take_in(&self, event: &LinkEvent) -> Result<(), TunnelError> {
        let now = self.clock.now();
        let (LinkEvent::Connected(grant) | LinkEvent::Disconnected(grant)) = event;
        let (tunnel, mode, session) = (&grant.tunnel, grant.mode, grant.session);
        debug!(%tunnel, %mode, session, connected = matches!(event, LinkEvent::Connected(_)), "link");
        if matches!(event, LinkEvent::Disconnected(_)) {
            return self
                .store
                .set_disconnected(now, tunnel, mode, session)
                .await;
        }
        match self.store.set_connected(now, tunnel, mode, session).await? {
            // The relay has replaced the older of two links itself: it knows the sessions.
            Connected::Current | Connected::Superseded => {}
            // Rotated between admission and arrival, so the cut at the rotation came too early.
            Connected::Revoked => self.relay.end_side(tunnel, mode),
            Connected::TunnelEnded => self.relay.end_tunnel(tunnel),
        }
        Ok(())
    }

    /// Does what is due; says when to come back.
    pub(crate) async fn take_time(&self) -> Instant {
        let now = self.clock.now();
        // A tunnel opened while we sleep lives for a minute at least: half of that is never too late.
        let latest = now.instant + LONGEST_NAP;
        match self.store.expire(now).await {
            Ok(expired) => {
                for tunnel in &expired.ended {
                    debug!(%tunnel, "lifetime over");
                    self.relay.end_tunnel(tunnel);
                    let _turn = self.notices.turn(tunnel).await;
                    self.notices.revoke(tunnel).await;
                }
                expired.next.map_or(latest, |next| next.min(latest))
            }
            Err(error) => {
                error!(%error, "tunnels could not be ended on time");
                now.instant + Duration::from_secs(1)
            }
        }
    }
}

const LONGEST_NAP: Duration = Duration::from_secs(30);
