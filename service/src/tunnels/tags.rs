//! Tags: on open tunnels and on closed ones.

use adit_proto::TunnelId;

use super::types::{Tags, TunnelError};
use super::{TAGS, Tunnels, at_most};

impl Tunnels {
    /// Adds tags; the value of a key that is there already is replaced. All of them or none.
    pub fn tag(&mut self, id: &TunnelId, tags: Tags) -> Result<(), TunnelError> {
        let max = self.limits.tags_per_tunnel_max;
        let record = self.record_mut(id)?;
        let new = tags.keys().filter(|key| !record.tags.contains_key(*key));
        at_most(record.tags.len() + new.count(), max, TAGS)?;
        record.tags.extend(tags);
        self.revision += 1;
        Ok(())
    }

    /// Removes tags; keys that are not there are ignored.
    pub fn untag(&mut self, id: &TunnelId, keys: &[String]) -> Result<(), TunnelError> {
        let record = self.record_mut(id)?;
        for key in keys {
            record.tags.remove(key);
        }
        self.revision += 1;
        Ok(())
    }

    /// The tags of a tunnel.
    pub fn tags(&self, id: &TunnelId) -> Result<Tags, TunnelError> {
        self.record(id).map(|record| record.tags.clone())
    }
}
