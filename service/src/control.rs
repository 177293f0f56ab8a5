//! The control plane itself: what the API can ask for, and what happens by itself.
//!
//! Each operation is decided by the store first; only then is the relay told to cut what lost its
//! right. A link that is on its way from admission to the relay meanwhile is caught when its arrival is
//! reported.

use std::sync::Arc;
use std::time::Duration;

use adit_engine::link::RelayControl;
use adit_proto::{AccessToken, Mode, TunnelId};
use tokio::sync::mpsc;
use tracing::{debug, error};
use uuid::Uuid;

use crate::audit::{Audit, Change as Audited, ClosedBy, Event};
use crate::clock::{Clock, Timestamp};
use crate::gate::LinkEvent;
use crate::links::Links;
use crate::notify::{Notices, Notifier};
use crate::registry::{KnownThings, RegistryError};
use crate::store::{Change, Store};
use crate::token::{RoutingKey, TokenHash, mint};
use crate::tunnels::{
    Connected, DestinationConfig, Lifetime, ListRequest, NewTunnel, Page, Rotation, Tags,
    ThingName, TunnelError, TunnelView,
};

/// Operations on tunnels, with their effect on the data plane.
pub struct ControlPlane<S> {
    store: Arc<S>,
    relay: Arc<dyn RelayControl>,
    /// The devices that there are; `None` when a tunnel may be opened to any name.
    things: Option<Arc<dyn KnownThings>>,
    links: Arc<Links>,
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
        clock: Clock,
    ) -> Self {
        Self {
            store,
            relay,
            things,
            links,
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
        let _turn = self.notices.turn(id).await;
        self.store.close(self.clock.now(), id, delete).await?;
        debug!(tunnel = %id, delete, "tunnel closed");
        self.notices.revoke(id).await;
        self.relay.end_tunnel(id);
        let by = match delete {
            true => ClosedBy::Deletion,
            false => ClosedBy::Call,
        };
        self.changed(id, Audited::Closed { by }).await;
        Ok(())
    }

    /// Replaces tokens and cuts the sides that used the old ones.
    pub async fn rotate(
        &self,
        id: &TunnelId,
        sides: RotatedSides,
        config: Option<DestinationConfig>,
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
        };
        let _turn = self.notices.turn(id).await;
        self.store.rotate(self.clock.now(), id, rotation).await?;
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

    async fn changed(&self, id: &TunnelId, change: Audited) {
        let id = id.clone();
        let time = self.clock.now().wall;
        self.audit.record(time, Event::Tunnel { id, change }).await;
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

const LONGEST_NAP: Duration = Duration::from_secs(30);

/// Between two attempts at what a store that is away has to do.
const RETRY: Duration = Duration::from_secs(1);

/// An hour of them; then the state of this link is not worth holding up the others.
const ATTEMPTS: usize = 3_600;
