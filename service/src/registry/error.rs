//! Why the registry refuses.

use uuid::Uuid;

use super::types::{CertificateId, PolicyName};
use crate::tunnels::ThingName;

/// Why an operation on the registry was refused. Nothing of it has taken effect, but where it is `Uncertain`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no thing of this name.
    #[error("thing {} does not exist", .0.as_str())]
    ThingNotFound(ThingName),
    /// There is no certificate of this id.
    #[error("certificate {0} does not exist")]
    CertificateNotFound(CertificateId),
    /// There is no policy of this name.
    #[error("policy {0} does not exist")]
    PolicyNotFound(PolicyName),
    /// There is a thing of this name with another type or other attributes.
    #[error("thing {} already exists, with another type or other attributes", name.as_str())]
    ThingExists {
        /// Its name.
        name: ThingName,
        /// Its id.
        id: Uuid,
    },
    /// The certificate is there already.
    #[error("the certificate is already provisioned or registered (id {0})")]
    CertificateExists(CertificateId),
    /// There is a policy of this name.
    #[error("policy {0} already exists")]
    PolicyExists(PolicyName),
    /// The thing was changed since the caller looked.
    #[error("the thing has version {actual}, not the expected {expected}")]
    VersionConflict {
        /// What the caller expects.
        expected: u64,
        /// What it has.
        actual: u64,
    },
    /// The thing has certificates.
    #[error(
        "thing {} is still attached to one or more certificates; detach them before deleting it",
        .0.as_str()
    )]
    ThingAttached(ThingName),
    /// Devices may connect with the certificate.
    #[error(
        "certificate {0} is ACTIVE; Certificate must be deactivated (not ACTIVE) before deletion."
    )]
    CertificateActive(CertificateId),
    /// The certificate is attached to things.
    #[error("Things must be detached before deletion (certificate {0})")]
    CertificateHasThings(CertificateId),
    /// The certificate has policies.
    #[error("Certificate policies must be detached before deletion (certificate {0})")]
    CertificateHasPolicies(CertificateId),
    /// The policy is attached to certificates.
    #[error(
        "The policy cannot be deleted as the policy is attached to one or more principals (name={0})"
    )]
    PolicyAttached(PolicyName),
    /// A limit of this installation.
    #[error("limit exceeded: at most {max} {what}")]
    LimitExceeded {
        /// What there would be too many of.
        what: &'static str,
        /// How many are allowed.
        max: usize,
    },
    /// The store cannot answer now.
    #[error("the store is unavailable")]
    Unavailable,
    /// The store did not say whether it was done.
    #[error("the store did not answer; what was asked for may have been done")]
    Uncertain,
}
