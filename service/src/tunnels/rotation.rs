//! New tokens for old (control-plane specification, section 7).

use std::sync::Arc;

use adit_proto::{ServiceId, TunnelId};

use super::types::{DestinationConfig, Rotation, TunnelError};
use super::{SERVICES, Tunnels, at_most};
use crate::clock::Now;

impl Tunnels {
    /// Replaces the token of one side or both. What was admitted with an old one is revoked, and its
    /// client token is free again. The lifetime stays as it was.
    pub fn rotate(
        &mut self,
        now: Now,
        id: &TunnelId,
        rotation: &Rotation,
    ) -> Result<(), TunnelError> {
        let record = self.record(id)?;
        if !record.is_open(now) {
            return Err(TunnelError::Closed(id.clone()));
        }
        let old_config = record.config.clone();
        let config = match &rotation.config {
            Some(new) => Some(merge(old_config.as_ref(), new)?),
            None => old_config.clone(),
        };
        let services = config.as_ref().map_or(0, |c| c.services.len());
        at_most(services, self.limits.services_per_tunnel_max, SERVICES)?;

        // Nothing is refused from here on.
        let first_session = self.next_session;
        let record = self.record_mut(id)?;
        let mut released = Vec::new();
        for (side, token) in [
            (&mut record.source, rotation.source),
            (&mut record.destination, rotation.destination),
        ] {
            if let Some(token) = token {
                released.push(side.token_use);
                side.rotate(now, token, first_session);
            }
        }
        record.updated = now.wall;
        record.config = config.clone();
        let sequence = record.sequence;
        self.unindex_thing(old_config.and_then(|c| c.thing), sequence);
        self.index_thing(config.and_then(|c| c.thing), sequence);
        self.revision += 1;
        released
            .into_iter()
            .for_each(|token_use| self.release(token_use));
        Ok(())
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
