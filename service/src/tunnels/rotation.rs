//! New tokens for old (control-plane specification, section 7).

use std::sync::Arc;

use adit_proto::ServiceId;

use super::record::{Record, State};
use super::types::{DestinationConfig, Limits, Rotation, Seen, TunnelError};
use super::{SERVICES, at_most};
use crate::clock::{Now, Timestamp};
use crate::token::TokenHash;

impl Record {
    /// Replaces the token of one side or both. What was admitted with an old one is revoked, and its
    /// client token is free again. The lifetime stays as it was.
    pub(crate) fn rotate(
        &mut self,
        now: Now,
        limits: &Limits,
        rotation: &Rotation,
    ) -> Result<(), TunnelError> {
        if !self.is_open(now) {
            return Err(TunnelError::Closed(self.id.clone()));
        }
        if matches!(&rotation.seen, Seen::Config(seen) if *seen != self.config) {
            return Err(TunnelError::Moved);
        }
        let config = match &rotation.config {
            Some(new) => Some(merge(self.config.as_ref(), new)?),
            None => self.config.clone(),
        };
        let services = config.as_ref().map_or(0, |c| c.services.len());
        at_most(services, limits.services_per_tunnel_max, SERVICES)?;

        // Nothing is refused from here on.
        let first_session = self.next_session;
        for (side, token) in [
            (&mut self.source, rotation.source),
            (&mut self.destination, rotation.destination),
        ] {
            if let Some(token) = token {
                side.rotate(now, token, first_session);
            }
        }
        self.updated = now.wall;
        self.config = config;
        Ok(())
    }
}

impl Record {
    /// Whether a device may be told of this token now, in steady time.
    pub(crate) fn may_tell(&self, now: Timestamp, token: &TokenHash) -> bool {
        let is_open = matches!(self.state, State::Open { ends } if now < ends);
        is_open && self.destination.token == *token
    }

    /// Whether what a device was to be told of `old` is good for nothing any more.
    pub(crate) fn silences(&self, old: &Self) -> bool {
        let ended = matches!(
            (&old.state, &self.state),
            (State::Open { .. }, State::Closed { .. })
        );
        ended || self.destination.token != old.destination.token
    }
}

/// A rotation may name another device; services only when the tunnel has none yet, because the peers
/// that are connected were told them.
fn merge(
    old: Option<&DestinationConfig>,
    new: &DestinationConfig,
) -> Result<DestinationConfig, TunnelError> {
    let Some(old) = old else {
        return Ok(new.clone());
    };
    if sorted(&old.services) != sorted(&new.services) {
        return Err(TunnelError::ServicesFixed);
    }
    Ok(DestinationConfig {
        thing: new.thing.clone().or_else(|| old.thing.clone()),
        services: Arc::clone(&old.services),
    })
}

fn sorted(services: &[ServiceId]) -> Vec<&ServiceId> {
    let mut services: Vec<_> = services.iter().collect();
    services.sort_unstable();
    services
}
