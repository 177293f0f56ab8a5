//! The door of the data plane: every handshake asks here, and every link that comes or goes is
//! reported here.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use adit_engine::link::{Admission, Denial, Grant};
use adit_proto::handshake::ServerRequest;
use tokio::sync::mpsc;
use tracing::debug;

use crate::audit::{Audit, Change, Event};
use crate::clock::{Clock, Timestamp};
use crate::links::Links;
use crate::store::Store;
use crate::token::{ClientTokenHash, RoutingKey, TokenHash};
use crate::tunnels::{Presented, Refusal};

/// The control plane as the data plane sees it.
pub struct Gate<S> {
    store: Arc<S>,
    clock: Clock,
    links: Arc<Links>,
    audit: Audit,
    quotas: TunnelQuotas,
    events: mpsc::UnboundedSender<LinkEvent>,
}

/// What one tunnel may use of the data plane; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct TunnelQuotas {
    /// Bytes in a second, both directions together.
    pub bytes_per_second: Option<NonZeroU64>,
    /// New connections in a second.
    pub connections_per_second: Option<NonZeroU32>,
}

/// A link came or went. Reported by threads that must not wait, so it is queued, in order; at most two
/// per link, and no link without a slow handshake before it, which is what bounds the queue.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    Connected(Grant),
    Disconnected(Grant),
}

impl<S: Store> Gate<S> {
    pub(crate) fn new(
        store: Arc<S>,
        links: Arc<Links>,
        clock: Clock,
    ) -> (Self, mpsc::UnboundedReceiver<LinkEvent>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let gate = Self {
            store,
            clock,
            links,
            audit: Audit::none(),
            quotas: TunnelQuotas::default(),
            events,
        };
        (gate, receiver)
    }

    /// Tells this audit of every handshake that is admitted.
    pub(crate) fn with_audit(mut self, audit: Audit) -> Self {
        self.audit = audit;
        self
    }

    /// Holds every tunnel to these from its next link on.
    pub(crate) fn with_quotas(mut self, quotas: TunnelQuotas) -> Self {
        self.quotas = quotas;
        self
    }

    async fn decide(&self, request: &ServerRequest) -> Result<(Grant, Timestamp), Refusal> {
        let token = &request.access_token;
        let routing_key = RoutingKey::in_front_of(token).ok_or(Refusal::UnknownToken)?;
        let presented = Presented {
            routing_key,
            token: TokenHash::of(token),
            client_token: request.client_token.as_ref().map(ClientTokenHash::of),
            mode: request.mode,
        };
        let admitted = self.store.spend_token(self.clock.now(), presented).await?;
        let grant = Grant {
            tunnel: admitted.tunnel,
            mode: request.mode,
            services: admitted.services,
            session: admitted.session,
            bytes_per_second: self.quotas.bytes_per_second,
            connections_per_second: self.quotas.connections_per_second,
        };
        Ok((grant, admitted.ends))
    }

    fn report(&self, event: LinkEvent) {
        // Nobody listens any more only while the whole service is being torn down.
        let _ = self.events.send(event);
    }
}

impl<S: Store> Admission for Gate<S> {
    async fn admit(&self, request: &ServerRequest, channel_id: &str) -> Result<Grant, Denial> {
        let mode = request.mode;
        match self.decide(request).await {
            Ok((grant, ends)) => {
                self.links.admitted(&grant, ends);
                let (tunnel, session) = (&grant.tunnel, grant.session);
                debug!(channel_id, %mode, %tunnel, session, "handshake admitted");
                let change = Change::Admitted {
                    side: mode,
                    session,
                    // A UUID in every answer; one that is none is a test's.
                    channel_id: channel_id.parse().unwrap_or_default(),
                };
                let id = tunnel.clone();
                let time = self.clock.now().wall;
                self.audit.record(time, Event::Tunnel { id, change }).await;
                Ok(grant)
            }
            Err(refusal) => {
                debug!(channel_id, %mode, %refusal, "handshake refused");
                Err(denial(refusal))
            }
        }
    }

    fn connected(&self, grant: &Grant) {
        self.links.connected(grant);
        self.report(LinkEvent::Connected(grant.clone()));
    }

    fn disconnected(&self, grant: &Grant) {
        self.links.gone(grant);
        self.report(LinkEvent::Disconnected(grant.clone()));
    }
}

fn denial(refusal: Refusal) -> Denial {
    let status = match refusal {
        // Clients try again on 5xx and give up on 4xx.
        Refusal::Unavailable => 503,
        Refusal::UnknownToken
        | Refusal::WrongMode
        | Refusal::Used
        | Refusal::OtherClientToken
        | Refusal::ClientTokenTaken
        | Refusal::TunnelClosed => 400,
    };
    Denial {
        status,
        text: refusal.to_string(),
    }
}

#[cfg(test)]
mod tests;
