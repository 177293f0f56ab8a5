//! What every store has to do for the registry: one function a rule, each on an empty registry with
//! [`limits`]. `registry_conformance!` makes tests of all of them.

mod attachments;
mod certificates;
mod changes;
mod devices;
mod policies;
mod things;

use std::num::NonZeroUsize;
use std::sync::Arc;

use uuid::Uuid;

use super::*;

pub(crate) use attachments::*;
pub(crate) use certificates::*;
pub(crate) use changes::*;
pub(crate) use devices::*;
pub(crate) use policies::*;
pub(crate) use things::*;

/// One test a rule. `$make` is an `async fn()` that gives something that dereferences to an empty
/// registry with `conformance::limits()`; what it gives is dropped after the rule.
macro_rules! registry_conformance {
    ($make:path) => {
        $crate::registry::conformance::registry_conformance! { @ $make;
            a_new_thing_has_version_one_and_comes_back_as_it_went_in
            creating_an_equal_thing_again_finds_the_first
            creating_another_thing_of_the_name_is_refused
            an_update_replaces_or_merges_attributes_and_counts
            an_update_changes_the_type
            an_update_expects_its_version
            deleting_a_thing_expects_its_version_and_can_be_repeated
            things_are_listed_by_name_in_bytes_page_by_page
            things_are_filtered_by_type_and_attribute
            a_page_of_things_begins_where_the_last_one_ended_whatever_happened
            a_page_of_things_ends_when_enough_were_looked_at
            the_bounds_of_things_hold
            a_certificate_comes_back_as_it_went_in
            a_certificate_is_registered_once
            any_status_follows_any_other
            a_status_set_again_does_not_count_as_a_change
            only_an_idle_certificate_can_be_deleted
            force_detaches_policies_but_neither_things_nor_activity
            certificates_are_listed_by_age_with_the_id_between_equals
            the_bound_of_certificates_holds
            a_policy_comes_back_as_it_went_in_and_is_created_once
            an_attached_policy_cannot_be_deleted
            policies_are_listed_by_age_with_the_name_between_equals
            the_bound_of_policies_holds
            things_and_certificates_are_attached_in_both_directions
            a_thing_with_certificates_cannot_be_deleted
            policies_and_certificates_are_attached_in_both_directions
            attaching_and_detaching_can_be_repeated
            attachments_need_both_ends
            lists_of_attachments_come_page_by_page
            the_bounds_of_attachments_hold
            simultaneous_attachments_keep_to_the_bound
            simultaneous_creations_make_one_thing
            an_unknown_certificate_is_no_device
            a_device_is_judged_by_what_is_attached_to_its_certificate
            whatever_takes_a_right_is_told
            what_fails_or_adds_no_certificate_is_not_told
        }
    };
    (@ $make:path; $($rule:ident)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let registry = $make().await;
                $crate::registry::conformance::$rule(&*registry).await;
            }
        )*
    };
}
pub(crate) use registry_conformance;

/// Small enough to be reached.
pub(crate) fn limits() -> RegistryLimits {
    RegistryLimits {
        things_max: 12,
        certificates_max: 12,
        policies_max: 12,
        attributes_per_thing_max: 3,
        certificates_per_thing_max: 4,
        things_per_certificate_max: 5,
        policies_per_certificate_max: 3,
    }
}

pub(super) fn thing_name(text: &str) -> ThingName {
    ThingName::new(text).unwrap()
}

pub(super) fn policy_name(text: &str) -> PolicyName {
    PolicyName::new(text).unwrap()
}

pub(super) fn attributes(pairs: &[(&str, &str)]) -> Attributes {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

pub(super) fn new_thing(name: &str) -> NewThing {
    NewThing {
        name: thing_name(name),
        id: Uuid::new_v4(),
        type_name: None,
        attributes: Attributes::new(),
    }
}

/// A certificate of its own for every number, created at `millis`.
pub(super) fn certificate(number: u64, millis: u64) -> Certificate {
    Certificate {
        id: certificate_id(number),
        pem: format!("-----BEGIN CERTIFICATE-----\n{number}\n").into(),
        status: CertificateStatus::Inactive,
        origin: CertificateOrigin::Issued,
        created: Timestamp::from_millis(millis),
        updated: Timestamp::from_millis(millis),
        not_before: Timestamp::from_millis(1_000),
        not_after: Timestamp::from_millis(2_524_607_999_000),
    }
}

/// Ids in the order of their numbers, with bytes above 0x7f, where signed or textual orders go wrong.
pub(super) fn certificate_id(number: u64) -> CertificateId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number << 56 | number).to_be_bytes());
    CertificateId::from_bytes(bytes)
}

pub(super) fn policy(name: &str, millis: u64) -> Policy {
    Policy {
        name: policy_name(name),
        document: Arc::from(format!("{{\"of\": \"{name}\"}}")),
        version: 1,
        created: Timestamp::from_millis(millis),
    }
}

pub(super) fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

pub(super) fn all<K>() -> ByKey<K> {
    ByKey {
        after: None,
        count: count(250),
    }
}

pub(super) async fn add_things<R: Registry>(registry: &R, names: &[&str]) {
    for name in names {
        registry.create_thing(new_thing(name)).await.unwrap();
    }
}

pub(super) async fn add_certificates<R: Registry>(registry: &R, numbers: &[u64]) {
    for number in numbers {
        let certificate = certificate(*number, 0);
        registry.add_certificate(certificate).await.unwrap();
    }
}

pub(super) async fn add_policies<R: Registry>(registry: &R, names: &[&str]) {
    for name in names {
        registry.create_policy(policy(name, 0)).await.unwrap();
    }
}

pub(super) fn limit(what: &'static str, max: usize) -> RegistryError {
    RegistryError::LimitExceeded { what, max }
}
