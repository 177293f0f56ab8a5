//! Policies: documents in the grammar of AWS that say who may do what (control-plane specification,
//! section 11).

mod conditions;

pub use conditions::Conditions;

/// What a caller may do.
#[derive(Clone, Debug)]
pub struct Policy {}

impl Policy {
    /// Allows every action on every resource.
    pub fn allow_everything() -> Self {
        Self {}
    }

    /// Decides on one action on one resource, in the circumstances of one request.
    pub fn allows(&self, _action: &str, _resource: &str, _conditions: &Conditions) -> bool {
        true
    }
}
