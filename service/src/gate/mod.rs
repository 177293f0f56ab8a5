//! The door of the data plane: every handshake asks here, and every link that comes or goes is
//! reported here.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use adit_engine::link::{Admission, Denial, Grant};
use adit_proto::handshake::ServerRequest;
use tracing::debug;

use crate::audit::{Audit, Change, Event, Peer};
use crate::clock::{Clock, Timestamp};
use crate::control::{LinkEvent, News, NewsSender};
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
    news: NewsSender,
}

/// What one tunnel may use of the data plane; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct TunnelQuotas {
    /// Bytes in a second, both directions together.
    pub bytes_per_second: Option<NonZeroU64>,
    /// New connections in a second.
    pub connections_per_second: Option<NonZeroU32>,
}

impl<S: Store> Gate<S> {
    /// A gate that tells `news` of every link that comes or goes.
    pub(crate) fn new(store: Arc<S>, links: Arc<Links>, news: NewsSender, clock: Clock) -> Self {
        Self {
            store,
            clock,
            links,
            audit: Audit::none(),
            quotas: TunnelQuotas::default(),
            news,
        }
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

    fn report(&self, grant: &Grant, peer: Peer, event: LinkEvent) {
        let news = News::Link {
            mode: grant.mode,
            session: grant.session,
            peer,
            at: self.clock.now().wall,
            event,
        };
        self.news.send(&grant.tunnel, news);
    }
}

impl<S: Store> Admission for Gate<S> {
    async fn admit(
        &self,
        request: &ServerRequest,
        address: SocketAddr,
        channel_id: &str,
    ) -> Result<Grant, Denial> {
        let mode = request.mode;
        match self.decide(request).await {
            Ok((grant, ends)) => {
                let peer = Peer {
                    address,
                    // A UUID in every answer; one that is none is a test's.
                    channel_id: channel_id.parse().unwrap_or_default(),
                };
                self.links.admitted(&grant, ends, peer);
                let (tunnel, session) = (&grant.tunnel, grant.session);
                debug!(channel_id, %mode, %tunnel, session, "handshake admitted");
                let change = Change::Admitted {
                    side: mode,
                    session,
                    peer,
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
        if let Some(peer) = self.links.connected(grant) {
            self.report(grant, peer, LinkEvent::Connected);
        }
    }

    fn disconnected(&self, grant: &Grant) {
        if let Some(gone) = self.links.gone(grant) {
            let event = LinkEvent::Disconnected { shown: gone.shown };
            self.report(grant, gone.peer, event);
        }
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
