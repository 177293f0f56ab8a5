//! What may be done to what: functions of the records concerned, for every store alike.
//!
//! A store loads what a function asks for inside its transaction, and does what the function lets
//! through.

use super::error::RegistryError;
use super::types::{
    AttributeChange, Certificate, CertificateStatus, NewThing, Policy, RegistryLimits, Thing,
    ThingQuery, ThingUpdate, TypeChange,
};

/// What creating a thing comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It is to be added.
    Add(Thing),
    /// An equal one is there: that one is the answer, and nothing changes.
    Present(Thing),
}

/// Creates a thing; `existing` is the one of the same name, `things` is how many there are.
///
/// Creating one that is there already, with equal type and attributes, succeeds: a script can be run
/// twice. Attributes with an empty value are not kept.
pub fn create_thing(
    existing: Option<&Thing>,
    things: usize,
    new: NewThing,
    limits: &RegistryLimits,
) -> Result<Creation, RegistryError> {
    let mut attributes = new.attributes;
    attributes.retain(|_, value| !value.is_empty());
    if let Some(thing) = existing {
        if thing.type_name == new.type_name && thing.attributes == attributes {
            return Ok(Creation::Present(thing.clone()));
        }
        let (name, id) = (thing.name.clone(), thing.id);
        return Err(RegistryError::ThingExists { name, id });
    }
    at_most(
        attributes.len(),
        limits.attributes_per_thing_max,
        ATTRIBUTES,
    )?;
    room_for_one(things, limits.things_max, THINGS)?;
    Ok(Creation::Add(Thing {
        name: new.name,
        id: new.id,
        type_name: new.type_name,
        attributes,
        version: 1,
    }))
}

/// The thing after an update, one version later, also when nothing else changed.
pub fn update_thing(
    thing: &Thing,
    update: &ThingUpdate,
    limits: &RegistryLimits,
) -> Result<Thing, RegistryError> {
    expect_version(thing, update.expected_version)?;
    let mut next = thing.clone();
    match &update.attributes {
        None => {}
        Some(AttributeChange::Replace(attributes)) => next.attributes = attributes.clone(),
        Some(AttributeChange::Merge(attributes)) => next.attributes.extend(attributes.clone()),
    }
    next.attributes.retain(|_, value| !value.is_empty());
    let attributes = next.attributes.len();
    at_most(attributes, limits.attributes_per_thing_max, ATTRIBUTES)?;
    match &update.type_name {
        TypeChange::Keep => {}
        TypeChange::Set(name) => next.type_name = Some(name.clone()),
        TypeChange::Remove => next.type_name = None,
    }
    next.version += 1;
    Ok(next)
}

/// Whether a thing may be deleted; `certificates` is how many are attached to it.
pub fn delete_thing(
    thing: &Thing,
    certificates: usize,
    expected_version: Option<u64>,
) -> Result<(), RegistryError> {
    expect_version(thing, expected_version)?;
    if certificates > 0 {
        return Err(RegistryError::ThingAttached(thing.name.clone()));
    }
    Ok(())
}

/// Whether the registry takes a certificate; `existing` says whether it has it, `certificates` is how
/// many there are.
pub fn add_certificate(
    new: &Certificate,
    existing: bool,
    certificates: usize,
    limits: &RegistryLimits,
) -> Result<(), RegistryError> {
    if existing {
        return Err(RegistryError::CertificateExists(new.id));
    }
    room_for_one(certificates, limits.certificates_max, CERTIFICATES)
}

/// Whether a certificate may be deleted; with `force`, its policies go with it.
pub fn delete_certificate(
    certificate: &Certificate,
    things: usize,
    policies: usize,
    force: bool,
) -> Result<(), RegistryError> {
    if certificate.status == CertificateStatus::Active {
        return Err(RegistryError::CertificateActive(certificate.id));
    }
    if things > 0 {
        return Err(RegistryError::CertificateHasThings(certificate.id));
    }
    if policies > 0 && !force {
        return Err(RegistryError::CertificateHasPolicies(certificate.id));
    }
    Ok(())
}

/// Whether the registry takes a policy.
pub fn create_policy(
    new: &Policy,
    existing: bool,
    policies: usize,
    limits: &RegistryLimits,
) -> Result<(), RegistryError> {
    if existing {
        return Err(RegistryError::PolicyExists(new.name.clone()));
    }
    room_for_one(policies, limits.policies_max, POLICIES)
}

/// Whether a policy may be deleted; `certificates` is how many it is attached to.
pub fn delete_policy(policy: &Policy, certificates: usize) -> Result<(), RegistryError> {
    if certificates > 0 {
        return Err(RegistryError::PolicyAttached(policy.name.clone()));
    }
    Ok(())
}

/// Whether one more certificate may be attached to a thing with `certificates`, and one more thing to
/// the certificate with `things`. Not asked when the two are attached already.
pub fn attach_thing(
    certificates: usize,
    things: usize,
    limits: &RegistryLimits,
) -> Result<(), RegistryError> {
    let per_thing = limits.certificates_per_thing_max;
    room_for_one(certificates, per_thing, CERTIFICATES_PER_THING)?;
    let per_certificate = limits.things_per_certificate_max;
    room_for_one(things, per_certificate, THINGS_PER_CERTIFICATE)
}

/// Whether one more policy may be attached to a certificate with `policies`.
pub fn attach_policy(policies: usize, limits: &RegistryLimits) -> Result<(), RegistryError> {
    let max = limits.policies_per_certificate_max;
    room_for_one(policies, max, POLICIES_PER_CERTIFICATE)
}

/// Whether a thing belongs into a list, wherever its page begins.
pub fn matches(thing: &Thing, query: &ThingQuery) -> bool {
    let type_fits = query.type_name.is_none() || thing.type_name == query.type_name;
    type_fits
        && query.attribute.as_ref().is_none_or(|filter| {
            let Some(value) = thing.attributes.get(&filter.name) else {
                return false;
            };
            match &filter.value {
                None => true,
                Some(wanted) if filter.prefix => value.starts_with(wanted),
                Some(wanted) => value == wanted,
            }
        })
}

fn expect_version(thing: &Thing, expected: Option<u64>) -> Result<(), RegistryError> {
    let actual = thing.version;
    match expected {
        Some(expected) if expected != actual => {
            Err(RegistryError::VersionConflict { expected, actual })
        }
        _ => Ok(()),
    }
}

fn room_for_one(count: usize, max: usize, what: &'static str) -> Result<(), RegistryError> {
    at_most(count.saturating_add(1), max, what)
}

fn at_most(count: usize, max: usize, what: &'static str) -> Result<(), RegistryError> {
    if count > max {
        return Err(RegistryError::LimitExceeded { what, max });
    }
    Ok(())
}

const THINGS: &str = "things";
const CERTIFICATES: &str = "certificates";
const POLICIES: &str = "policies";
const ATTRIBUTES: &str = "attributes per thing";
const CERTIFICATES_PER_THING: &str = "certificates per thing";
const THINGS_PER_CERTIFICATE: &str = "things per certificate";
const POLICIES_PER_CERTIFICATE: &str = "policies per certificate";
