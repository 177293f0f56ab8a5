//! The control plane itself: what the API can ask for, and what happens by itself.
//!
//! Each operation is decided by the store first; only then is the relay told to cut what lost its
//! right. A link that is on its way from admission to the relay meanwhile is caught when its arrival is
//! reported.

pub(crate) mod news;
mod upkeep;

use std::sync::Arc;

use adit_engine::link::RelayControl;
use adit_proto::{AccessToken, Mode, TunnelId};
use tracing::{debug, error};
use uuid::Uuid;

use crate::audit::{Audit, Change as Audited, ClosedBy, Event};
use crate::clock::{Clock, Timestamp};
use crate::links::Links;
use crate::notify::{Notices, Notifier};
use crate::registry::{KnownThings, RegistryError};
use crate::store::Store;
use crate::token::{RoutingKey, TokenHash, mint};
use crate::tunnels::{
    DestinationConfig, Found, Lifetime, ListRequest, NewTunnel, Page, Rotation, Seen, Tags,
    ThingName, TunnelError, TunnelView,
};

#[cfg(test)]
pub(crate) use news::NewsReceiver;
pub(crate) use news::{LinkEvent, News, NewsSender, news};

/// Operations on tunnels, with their effect on the data plane.
pub struct ControlPlane<S> {
    store: Arc<S>,
    relay: Arc<dyn RelayControl>,
    /// The devices that there are; `None` when a tunnel may be opened to any name.
    things: Option<Arc<dyn KnownThings>>,
    links: Arc<Links>,
    news: NewsSender,
    clock: Clock,
    audit: Audit,
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
    /// The access key that it is opened with.
    pub owner: Option<Arc<str>>,
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
    /// The tunnel is for a device that is not registered.
    #[error("thing {} does not exist; create it before a tunnel is opened to it", .0.as_str())]
    UnknownThing(ThingName),
    /// The registry cannot answer now.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The system gives no random numbers, so there are no tokens.
    #[error("no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

impl<S: Store> ControlPlane<S> {
    pub(crate) fn new(
        store: Arc<S>,
        relay: Arc<dyn RelayControl>,
        things: Option<Arc<dyn KnownThings>>,
        links: Arc<Links>,
        news: NewsSender,
        clock: Clock,
    ) -> Self {
        Self {
            store,
            relay,
            things,
            links,
            news,
            clock,
            audit: Audit::none(),
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

    /// Tells this audit of every change.
    pub(crate) fn with_audit(mut self, audit: Audit) -> Self {
        self.audit = audit;
        self
    }

    /// Opens a tunnel and makes its two tokens.
    pub async fn open(&self, request: OpenTunnel) -> Result<OpenedTunnel, ControlError> {
        self.check_thing(request.config.as_ref()).await?;
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
        let _turn = self.notices.turn(&id).await?;
        let new = NewTunnel {
            id,
            routing_key,
            source: TokenHash::of(&opened.source),
            destination: TokenHash::of(&opened.destination),
            description: request.description,
            tags: request.tags,
            config: request.config,
            lifetime: request.lifetime,
            owner: request.owner,
        };
        self.open_surely(new).await?;
        debug!(tunnel = %opened.id, "tunnel opened");
        self.changed(&opened.id, Audited::Opened).await;
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
        let _turn = self.notices.turn(id).await?;
        let closed = match self.store.close(self.clock.now(), id, delete).await {
            // Saying it twice does no harm, and finds out.
            Err(TunnelError::Uncertain) => {
                let again = self.store.close(self.clock.now(), id, delete).await;
                match again {
                    Err(TunnelError::NotFound(_)) if delete => Ok(Found::Open),
                    // By the first attempt, most likely: the audit rather has it twice than not at all.
                    Ok(Found::Closed) if !delete => Ok(Found::Open),
                    again => again,
                }
            }
            first => first,
        };
        match &closed {
            // Also when it is gone: its end may be one whose answer was lost before anybody was cut.
            Ok(_) | Err(TunnelError::NotFound(_)) => {
                self.relay.end_tunnel(id);
                self.notices.revoke(id).await;
            }
            Err(TunnelError::Uncertain) => self.news.send(id, News::LookAgain),
            Err(_) => {}
        }
        let found = closed?;
        debug!(tunnel = %id, delete, ?found, "tunnel closed");
        let by = match (found, delete) {
            (Found::Open, true) => Some(ClosedBy::Deletion),
            (Found::Open, false) => Some(ClosedBy::Call),
            (Found::Over, _) => Some(ClosedBy::Timeout),
            (Found::Closed, _) => None,
        };
        if let Some(by) = by {
            self.changed(id, Audited::Closed { by }).await;
        }
        if delete {
            self.changed(id, Audited::Deleted).await;
        }
        Ok(())
    }

    /// Replaces tokens and cuts the sides that used the old ones.
    pub async fn rotate(
        &self,
        id: &TunnelId,
        sides: RotatedSides,
        config: Option<DestinationConfig>,
        seen: Seen,
    ) -> Result<RotatedTokens, ControlError> {
        self.check_thing(config.as_ref()).await?;
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
            seen,
        };
        let (source, destination) = (rotation.source, rotation.destination);
        let _turn = self.notices.turn(id).await?;
        match self.store.rotate(self.clock.now(), id, rotation).await {
            Err(TunnelError::Uncertain) => {
                let (mode, token) = match (source, destination) {
                    (Some(token), _) => (Mode::Source, token),
                    (None, Some(token)) => (Mode::Destination, token),
                    (None, None) => return Err(TunnelError::Uncertain.into()),
                };
                self.find_out(id, mode, token).await?;
            }
            other => other?,
        }
        debug!(tunnel = %id, ?sides, "tokens rotated");
        for mode in [Mode::Source, Mode::Destination] {
            if sides.has(mode) {
                // Nobody has the new token yet.
                self.relay.end_side(id, mode, u64::MAX);
                let change = Audited::TokenRotated { side: mode };
                self.changed(id, change).await;
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

    /// Opens a tunnel. Where the answer of the store is lost, it is told once more: that waits for the first time, if it is
    /// still under way, which a look at a tunnel that is not there yet does not.
    async fn open_surely(&self, new: NewTunnel) -> Result<(), TunnelError> {
        let again = new.clone();
        let opened = self.store.open_tunnel(self.clock.now(), new).await;
        if opened != Err(TunnelError::Uncertain) {
            return opened;
        }
        let (id, source) = (again.id.clone(), again.source);
        let opened = self.store.open_tunnel(self.clock.now(), again).await;
        // Refused: it was there already, perhaps, or is the last one that a limit allows.
        if opened.is_ok() || self.store.has_token(&id, Mode::Source, source).await == Ok(true) {
            return Ok(());
        }
        self.news.send(&id, News::LookAgain);
        Err(TunnelError::Uncertain)
    }

    /// The answer to a change that gave a side this token was lost: did it come about? What it took the
    /// right from is cut in any case, as soon as the store can be asked.
    async fn find_out(
        &self,
        id: &TunnelId,
        mode: Mode,
        token: TokenHash,
    ) -> Result<(), TunnelError> {
        match self.store.has_token(id, mode, token).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(TunnelError::Unavailable),
            Err(_) => {
                self.news.send(id, News::LookAgain);
                Err(TunnelError::Uncertain)
            }
        }
    }

    /// A thing that is deleted at the same moment may still get its tunnel; nobody can connect as it.
    async fn check_thing(&self, config: Option<&DestinationConfig>) -> Result<(), ControlError> {
        let thing = config.and_then(|config| config.thing.as_ref());
        if let (Some(things), Some(thing)) = (&self.things, thing)
            && !things.knows(thing).await?
        {
            return Err(ControlError::UnknownThing(thing.clone()));
        }
        Ok(())
    }

    async fn changed(&self, id: &TunnelId, change: Audited) {
        self.changed_at(self.clock.now().wall, id, change).await;
    }

    async fn changed_at(&self, time: Timestamp, id: &TunnelId, change: Audited) {
        let id = id.clone();
        self.audit.record(time, Event::Tunnel { id, change }).await;
    }
}
