//! Tags: on open tunnels and on closed ones.

use std::collections::HashMap;

use super::record::Record;
use super::types::{Limits, Tags, TunnelError};
use super::{TAGS, at_most};

impl Record {
    /// Adds tags; the value of a key that is there already is replaced. All of them or none.
    ///
    /// Policies compare the keys of tags without regard to case, so two that differ only by it would hide
    /// one another: there never are.
    pub(crate) fn tag(&mut self, limits: &Limits, tags: Tags) -> Result<(), TunnelError> {
        distinct(self.tags.keys().chain(tags.keys()))?;
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

/// Refuses keys of which one is like another but for its case. The same one may come twice.
pub(super) fn distinct<'a>(keys: impl Iterator<Item = &'a String>) -> Result<(), TunnelError> {
    let mut seen = HashMap::new();
    for key in keys {
        let other = *seen.entry(key.to_lowercase()).or_insert(key);
        if other != key {
            return Err(TunnelError::TagKeys(other.clone(), key.clone()));
        }
    }
    Ok(())
}
