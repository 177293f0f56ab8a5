//! Tags: on open tunnels and on closed ones.

use super::record::Record;
use super::types::{Limits, Tags, TunnelError};
use super::{TAGS, at_most};

impl Record {
    /// Adds tags; the value of a key that is there already is replaced. All of them or none.
    pub(crate) fn tag(&mut self, limits: &Limits, tags: Tags) -> Result<(), TunnelError> {
        let new = tags.keys().filter(|key| !self.tags.contains_key(*key));
        let count = self.tags.len() + new.count();
        at_most(count, limits.tags_per_tunnel_max, TAGS)?;
        self.tags.extend(tags);
        Ok(())
    }

    /// Removes tags; keys that are not there are ignored.
    pub(crate) fn untag(&mut self, keys: &[String]) {
        for key in keys {
            self.tags.remove(key);
        }
    }
}
