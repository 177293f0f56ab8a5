//! Who may call the API, and what they may do: signatures, access keys, policies.

pub mod policy;
pub mod sigv4;

use std::fmt;
use std::sync::Arc;

use policy::Policy;

/// Who makes a call, once that is certain.
#[derive(Clone)]
pub struct Caller {
    /// Name of the user that the access key belongs to; `anonymous` when requests are not signed.
    pub user: Arc<str>,
    /// The public half of the access key; `None` when requests are not signed.
    pub access_key_id: Option<Arc<str>>,
    /// What the caller may do.
    pub policy: Arc<Policy>,
}

impl Caller {
    /// Who calls an API that takes unsigned requests: may do everything.
    pub fn anonymous() -> Self {
        Self {
            user: "anonymous".into(),
            access_key_id: None,
            policy: Arc::new(Policy::allow_everything()),
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("user", &self.user)
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}
