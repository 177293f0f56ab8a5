//! Certificates: status, deletion, lists.

use super::*;

pub(crate) async fn a_certificate_comes_back_as_it_went_in<R: Registry>(r: &R) {
    for (number, status, origin) in [
        (1, CertificateStatus::Active, CertificateOrigin::Issued),
        (
            0x80,
            CertificateStatus::Inactive,
            CertificateOrigin::Registered,
        ),
        (0xff, CertificateStatus::Revoked, CertificateOrigin::Issued),
    ] {
        let new = Certificate {
            status,
            origin,
            ..certificate(number, 1_763_900_000_250)
        };
        r.add_certificate(new.clone()).await.unwrap();
        assert_eq!(r.certificate(&new.id).await, Ok(new));
    }
    let other = certificate_id(2);
    let missing = Err(RegistryError::CertificateNotFound(other));
    assert_eq!(r.certificate(&other).await, missing);
}

pub(crate) async fn a_certificate_is_registered_once<R: Registry>(r: &R) {
    let first = certificate(1, 5);
    r.add_certificate(first.clone()).await.unwrap();
    let again = Certificate {
        status: CertificateStatus::Active,
        ..certificate(1, 6)
    };
    let refused = r.add_certificate(again).await;
    assert_eq!(refused, Err(RegistryError::CertificateExists(first.id)));
    assert_eq!(r.certificate(&first.id).await, Ok(first));
}

pub(crate) async fn any_status_follows_any_other<R: Registry>(r: &R) {
    add_certificates(r, &[1]).await;
    let id = certificate_id(1);
    let mut millis = 0;
    for (_, from) in CertificateStatus::ALL {
        for (_, to) in CertificateStatus::ALL {
            for status in [from, to] {
                millis += 1;
                let now = Timestamp::from_millis(millis);
                r.set_certificate_status(now, &id, status).await.unwrap();
                assert_eq!(r.certificate(&id).await.unwrap().status, status);
            }
        }
    }
    let (now, other) = (Timestamp::from_millis(1), certificate_id(2));
    let refused = r
        .set_certificate_status(now, &other, CertificateStatus::Active)
        .await;
    assert_eq!(refused, Err(RegistryError::CertificateNotFound(other)));
}

pub(crate) async fn a_status_set_again_does_not_count_as_a_change<R: Registry>(r: &R) {
    add_certificates(r, &[1]).await;
    let id = certificate_id(1);
    for (millis, status, updated) in [
        (7, CertificateStatus::Inactive, 0),
        (8, CertificateStatus::Revoked, 8),
        (9, CertificateStatus::Revoked, 8),
    ] {
        let now = Timestamp::from_millis(millis);
        r.set_certificate_status(now, &id, status).await.unwrap();
        let certificate = r.certificate(&id).await.unwrap();
        assert_eq!(certificate.updated, Timestamp::from_millis(updated));
        assert_eq!(certificate.created, Timestamp::from_millis(0));
    }
}

async fn set<R: Registry>(r: &R, id: &CertificateId, status: CertificateStatus) {
    let now = Timestamp::from_millis(1);
    r.set_certificate_status(now, id, status).await.unwrap();
}

pub(crate) async fn only_an_idle_certificate_can_be_deleted<R: Registry>(r: &R) {
    add_certificates(r, &[1]).await;
    add_things(r, &["t"]).await;
    add_policies(r, &["p"]).await;
    let (id, thing, policy) = (certificate_id(1), thing_name("t"), policy_name("p"));
    set(r, &id, CertificateStatus::Active).await;
    r.attach_thing(&thing, &id).await.unwrap();
    r.attach_policy(&policy, &id).await.unwrap();
    let refused = r.delete_certificate(&id, false).await;
    assert_eq!(refused, Err(RegistryError::CertificateActive(id)));
    set(r, &id, CertificateStatus::Revoked).await;
    let refused = r.delete_certificate(&id, false).await;
    assert_eq!(refused, Err(RegistryError::CertificateHasThings(id)));
    r.detach_thing(&thing, &id).await.unwrap();
    let refused = r.delete_certificate(&id, false).await;
    assert_eq!(refused, Err(RegistryError::CertificateHasPolicies(id)));
    r.detach_policy(&policy, &id).await.unwrap();
    r.delete_certificate(&id, false).await.unwrap();
    let missing = RegistryError::CertificateNotFound(id);
    let again = r.delete_certificate(&id, false).await;
    assert_eq!(again, Err(missing));
}

pub(crate) async fn force_detaches_policies_but_neither_things_nor_activity<R: Registry>(r: &R) {
    add_certificates(r, &[1, 2]).await;
    add_things(r, &["t"]).await;
    add_policies(r, &["p", "q"]).await;
    let (id, thing) = (certificate_id(1), thing_name("t"));
    for name in ["p", "q"] {
        let policy = policy_name(name);
        r.attach_policy(&policy, &id).await.unwrap();
        r.attach_policy(&policy, &certificate_id(2)).await.unwrap();
    }
    set(r, &id, CertificateStatus::Active).await;
    let refused = r.delete_certificate(&id, true).await;
    assert_eq!(refused, Err(RegistryError::CertificateActive(id)));
    set(r, &id, CertificateStatus::Inactive).await;
    r.attach_thing(&thing, &id).await.unwrap();
    let refused = r.delete_certificate(&id, true).await;
    assert_eq!(refused, Err(RegistryError::CertificateHasThings(id)));
    r.detach_thing(&thing, &id).await.unwrap();
    r.delete_certificate(&id, true).await.unwrap();
    for name in ["p", "q"] {
        let page = r.policy_certificates(&policy_name(name), all()).await;
        assert_eq!(page.unwrap().items, [certificate_id(2)], "others' stay");
    }
    // Registered again, it begins anew.
    add_certificates(r, &[1]).await;
    let page = r.certificate_policies(&id, all()).await.unwrap();
    assert!(page.items.is_empty());
}

pub(crate) async fn certificates_are_listed_by_age_with_the_id_between_equals<R: Registry>(r: &R) {
    for (number, millis) in [(0x90, 20), (1, 30), (0x7f, 20), (5, 10), (0xff, 20)] {
        let new = certificate(number, millis);
        r.add_certificate(new).await.unwrap();
    }
    let sorted = [5, 0x7f, 0x90, 0xff, 1].map(certificate_id);
    for ascending in [true, false] {
        for size in 1..=6 {
            let mut seen: Vec<Certificate> = Vec::new();
            loop {
                let after = seen.last().map(|last| (last.created, last.id));
                let query = ByAge {
                    ascending,
                    after,
                    count: count(size),
                };
                let page = r.list_certificates(query).await.unwrap();
                assert!(page.items.len() == size || !page.more);
                seen.extend(page.items);
                if !page.more {
                    break;
                }
            }
            if !ascending {
                seen.reverse();
            }
            let ids: Vec<_> = seen.iter().map(|certificate| certificate.id).collect();
            assert_eq!(ids, sorted, "{size} a page, ascending {ascending}");
        }
    }
}

pub(crate) async fn the_bound_of_certificates_holds<R: Registry>(r: &R) {
    for number in 0..12 {
        r.add_certificate(certificate(number, 0)).await.unwrap();
    }
    let refused = r.add_certificate(certificate(12, 0)).await;
    assert_eq!(refused, Err(limit("certificates", 12)));
    r.delete_certificate(&certificate_id(3), false)
        .await
        .unwrap();
    r.add_certificate(certificate(12, 0)).await.unwrap();
}
