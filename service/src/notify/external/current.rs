//! Whether a token is still worth telling when the broker can be told.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use adit_proto::{Mode, TunnelId};

use crate::clock::Clock;
use crate::store::TunnelStore;
use crate::token::TokenHash;
use crate::tunnels::{Status, TunnelError};

/// Asked before each publication: another node may have rotated the token away, or ended the tunnel, while this
/// one waited for its broker.
pub(crate) trait MayTell: Send + Sync + 'static {
    /// Whether this is the destination's token of a tunnel that is open.
    fn may_tell<'a>(
        &'a self,
        tunnel: &'a TunnelId,
        token: TokenHash,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;
}

/// By what the store says. One that cannot answer keeps nothing from a device: a token that is over is refused where
/// it is used.
pub(crate) struct Stored<S> {
    pub(crate) store: Arc<S>,
    pub(crate) clock: Clock,
}

impl<S: TunnelStore> Stored<S> {
    async fn look(&self, tunnel: &TunnelId, token: TokenHash) -> Result<bool, TunnelError> {
        let has = self.store.has_token(tunnel, Mode::Destination, token);
        if !has.await? {
            return Ok(false);
        }
        let view = self.store.describe(self.clock.now(), tunnel).await?;
        Ok(view.summary.status == Status::Open)
    }
}

impl<S: TunnelStore> MayTell for Stored<S> {
    fn may_tell<'a>(
        &'a self,
        tunnel: &'a TunnelId,
        token: TokenHash,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            match self.look(tunnel, token).await {
                Err(TunnelError::NotFound(_)) => false,
                looked => looked.unwrap_or(true),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::manual::ManualClock;
    use crate::store::MemoryStore;
    use crate::store::conformance::prepare;
    use crate::token::{RoutingKey, mint};
    use crate::tunnels::{Limits, Rotation, Seen};

    #[tokio::test]
    async fn only_the_last_token_of_an_open_tunnel_may_be_told() {
        let clock = ManualClock::new();
        let stored = Stored {
            store: Arc::new(MemoryStore::new(Limits::default())),
            clock: clock.clock(),
        };
        let (opened, new) = prepare("t");
        let id = opened.id;
        let first = TokenHash::of(&opened.destination);
        assert!(!stored.may_tell(&id, first).await);
        stored.store.open_tunnel(clock.now(), new).await.unwrap();
        assert!(stored.may_tell(&id, first).await);
        assert!(!stored.may_tell(&id, TokenHash::of(&opened.source)).await);
        let second = TokenHash::of(&mint(RoutingKey::of(&id)).unwrap());
        let rotation = Rotation {
            source: None,
            destination: Some(second),
            config: None,
            seen: Seen::Anything,
        };
        let rotated = stored.store.rotate(clock.now(), &id, rotation);
        rotated.await.unwrap();
        assert!(!stored.may_tell(&id, first).await && stored.may_tell(&id, second).await);
        stored.store.close(clock.now(), &id, false).await.unwrap();
        assert!(!stored.may_tell(&id, second).await);
    }
}
