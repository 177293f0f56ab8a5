//! The registry: which devices there are, which certificates they show, and what these allow
//! (control-plane specification, section 14).
//!
//! ```text
//! Thing ◄── attached ──► Certificate ◄── attached ──► Policy
//! ```
//!
//! This is the domain alone: `iot` is its API, [`certificates`](crate::certificates) makes what is
//! registered here. Nothing in it is secret.

mod changes;
#[cfg(test)]
pub(crate) mod conformance;
mod error;
mod memory;
pub mod rules;
mod search;
mod types;

use std::future::Future;
use std::pin::Pin;

use crate::clock::Timestamp;
use crate::tunnels::ThingName;

pub use changes::{Change, ChangeSender, Changes};
pub use error::RegistryError;
pub use memory::MemoryRegistry;
pub use search::ThingPage;
pub(crate) use search::ThingSearch;
pub use types::{
    AttributeChange, AttributeFilter, Attributes, ByAge, ByKey, CERTIFICATE_PEM_SIZE_MAX,
    Certificate, CertificateId, CertificateOrigin, CertificateStatus, Device, NewThing,
    POLICY_DOCUMENT_SIZE_MAX, Page, Policy, PolicyName, RegistryLimits, Thing, ThingQuery,
    ThingUpdate, TypeChange,
};

/// What a store does for the registry. What is allowed is decided by [`rules`].
///
/// Contract: an operation that has returned is durable, as far as the store is, and the next one sees
/// it. Operations take effect one after the other; one that fails has not taken effect, and after
/// `Unavailable` it can be tried again. One that fails with `Uncertain` may have taken effect, and the same again finds
/// out; an operation of which that is not so (what is made would be there already, or what is deleted gone) has asked
/// itself before it says so. Whatever takes a right from a device is told to
/// [`changes`](Self::changes) once it can be read.
///
/// Names and ids are ordered by their bytes, whatever the store's own collation says.
pub trait Registry: Send + Sync + 'static {
    /// Adds a thing, or finds the equal one that is there ([`rules::create_thing`]).
    fn create_thing(
        &self,
        new: NewThing,
    ) -> impl Future<Output = Result<Thing, RegistryError>> + Send;

    /// One thing.
    fn thing(&self, name: &ThingName) -> impl Future<Output = Result<Thing, RegistryError>> + Send;

    /// Whether there is a thing of this name; for tunnels to be opened to it.
    fn thing_exists(
        &self,
        name: &ThingName,
    ) -> impl Future<Output = Result<bool, RegistryError>> + Send;

    /// One page of things that fit, by name.
    fn list_things(
        &self,
        query: ThingQuery,
    ) -> impl Future<Output = Result<ThingPage, RegistryError>> + Send;

    /// Changes a thing ([`rules::update_thing`]).
    fn update_thing(
        &self,
        name: &ThingName,
        update: ThingUpdate,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Deletes a thing ([`rules::delete_thing`]); one that is not there is fine.
    fn delete_thing(
        &self,
        name: &ThingName,
        expected_version: Option<u64>,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Adds a certificate ([`rules::add_certificate`]).
    fn add_certificate(
        &self,
        new: Certificate,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// One certificate.
    fn certificate(
        &self,
        id: &CertificateId,
    ) -> impl Future<Output = Result<Certificate, RegistryError>> + Send;

    /// One page of certificates, by age.
    fn list_certificates(
        &self,
        query: ByAge<CertificateId>,
    ) -> impl Future<Output = Result<Page<Certificate>, RegistryError>> + Send;

    /// Sets a certificate's status; `now` becomes its `updated`, unless it has that status already.
    fn set_certificate_status(
        &self,
        now: Timestamp,
        id: &CertificateId,
        status: CertificateStatus,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Deletes a certificate ([`rules::delete_certificate`]); with `force`, detaches its policies first.
    fn delete_certificate(
        &self,
        id: &CertificateId,
        force: bool,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Attaches a certificate to a thing; when it is, nothing changes ([`rules::attach_thing`]).
    fn attach_thing(
        &self,
        thing: &ThingName,
        certificate: &CertificateId,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Detaches a certificate from a thing; both have to exist, but need not be attached.
    fn detach_thing(
        &self,
        thing: &ThingName,
        certificate: &CertificateId,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// The certificates attached to a thing, by id.
    fn thing_certificates(
        &self,
        thing: &ThingName,
        query: ByKey<CertificateId>,
    ) -> impl Future<Output = Result<Page<CertificateId>, RegistryError>> + Send;

    /// The things that a certificate is attached to, by name.
    fn certificate_things(
        &self,
        certificate: &CertificateId,
        query: ByKey<ThingName>,
    ) -> impl Future<Output = Result<Page<ThingName>, RegistryError>> + Send;

    /// Adds a policy ([`rules::create_policy`]).
    fn create_policy(&self, new: Policy) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// One policy.
    fn policy(
        &self,
        name: &PolicyName,
    ) -> impl Future<Output = Result<Policy, RegistryError>> + Send;

    /// One page of policies, by age.
    fn list_policies(
        &self,
        query: ByAge<PolicyName>,
    ) -> impl Future<Output = Result<Page<Policy>, RegistryError>> + Send;

    /// Deletes a policy ([`rules::delete_policy`]).
    fn delete_policy(
        &self,
        name: &PolicyName,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Attaches a policy to a certificate; when it is, nothing changes ([`rules::attach_policy`]).
    fn attach_policy(
        &self,
        policy: &PolicyName,
        certificate: &CertificateId,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Detaches a policy from a certificate; both have to exist, but need not be attached.
    fn detach_policy(
        &self,
        policy: &PolicyName,
        certificate: &CertificateId,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// The policies attached to a certificate, by name.
    fn certificate_policies(
        &self,
        certificate: &CertificateId,
        query: ByKey<PolicyName>,
    ) -> impl Future<Output = Result<Page<PolicyName>, RegistryError>> + Send;

    /// The certificates that a policy is attached to, by id.
    fn policy_certificates(
        &self,
        policy: &PolicyName,
        query: ByKey<CertificateId>,
    ) -> impl Future<Output = Result<Page<CertificateId>, RegistryError>> + Send;

    /// What a device that proved to hold the key of this certificate is judged by; `None` when the
    /// certificate is not registered. All of it is of one moment.
    fn device(
        &self,
        certificate: &CertificateId,
    ) -> impl Future<Output = Result<Option<Device>, RegistryError>> + Send;

    /// Every change from now on that may take a right from a device. Other nodes' changes are told too,
    /// when they arrive.
    fn changes(&self) -> Changes;
}

/// Whether a tunnel may be opened to a device of this name. What tunnels know of the registry.
pub(crate) trait KnownThings: Send + Sync + 'static {
    /// [`Registry::thing_exists`], in a box.
    fn knows<'a>(&'a self, name: &'a ThingName) -> Knows<'a>;
}

/// What [`KnownThings`] gives.
pub(crate) type Knows<'a> = Pin<Box<dyn Future<Output = Result<bool, RegistryError>> + Send + 'a>>;

impl<R: Registry> KnownThings for R {
    fn knows<'a>(&'a self, name: &'a ThingName) -> Knows<'a> {
        Box::pin(self.thing_exists(name))
    }
}

#[cfg(test)]
mod tests;
