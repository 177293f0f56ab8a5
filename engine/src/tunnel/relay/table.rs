//! The services of a tunnel, found by the name in a message.

use super::service::Service;
use crate::tunnel::error::PeerError;
use adit_proto::ids::ServiceId;
use std::sync::Arc;

/// Every service of one tunnel. A tunnel without services has one without a name.
pub(super) struct Table {
    ids: Arc<[ServiceId]>,
    /// One for each id; one if there are none.
    services: Vec<Service>,
    /// Where the last name was found: messages come in bursts for one service.
    last: usize,
}

impl Table {
    pub(super) fn new(ids: Arc<[ServiceId]>) -> Self {
        let services = (0..ids.len().max(1)).map(|_| Service::default()).collect();
        Self {
            ids,
            services,
            last: 0,
        }
    }

    pub(super) fn ids(&self) -> &[ServiceId] {
        &self.ids
    }

    /// Whether the services of this tunnel have names at all.
    #[inline]
    pub(super) fn has_names(&self) -> bool {
        !self.ids.is_empty()
    }

    /// Whether a message without a service id could mean more than one service.
    #[inline]
    pub(super) fn is_ambiguous(&self) -> bool {
        self.services.len() > 1
    }

    /// The index of the service that a message names; an empty name is an absent one.
    ///
    /// # Errors
    /// There is no such service, or the message had to name one (specification 12, item 5).
    #[inline]
    pub(super) fn find(&mut self, name: &str) -> Result<usize, PeerError> {
        if name.is_empty() {
            return match self.is_ambiguous() {
                false => Ok(0),
                true => Err(PeerError::ServiceMissing {
                    count: self.services.len(),
                }),
            };
        }
        match self.ids.get(self.last) {
            Some(id) if id.as_str() == name => Ok(self.last),
            Some(_) | None => self.search(name),
        }
    }

    fn search(&mut self, name: &str) -> Result<usize, PeerError> {
        match self.ids.iter().position(|id| id.as_str() == name) {
            Some(index) => {
                self.last = index;
                Ok(index)
            }
            None => Err(PeerError::unknown_service(name)),
        }
    }

    /// A service by an index that `find` gave.
    #[inline]
    pub(super) fn service(&mut self, index: usize) -> &mut Service {
        &mut self.services[index]
    }

    /// The name for a side that wants names; empty for one that does not, or if there is none.
    #[inline]
    pub(super) fn name(&self, index: usize, wants_names: bool) -> &str {
        match self.ids.get(index) {
            Some(id) if wants_names => id.as_str(),
            Some(_) | None => "",
        }
    }

    /// Number of services, the nameless one included.
    pub(super) fn count(&self) -> usize {
        self.services.len()
    }
}
