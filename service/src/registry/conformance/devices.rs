//! What a connecting device is judged by.

use super::*;

pub(crate) async fn an_unknown_certificate_is_no_device<R: Registry>(r: &R) {
    assert_eq!(r.device(&certificate_id(1)).await, Ok(None));
    add_certificates(r, &[1]).await;
    let bare = Device {
        status: CertificateStatus::Inactive,
        things: Vec::new(),
        policies: Vec::new(),
    };
    assert_eq!(r.device(&certificate_id(1)).await, Ok(Some(bare)));
    r.delete_certificate(&certificate_id(1), false)
        .await
        .unwrap();
    assert_eq!(r.device(&certificate_id(1)).await, Ok(None));
}

pub(crate) async fn a_device_is_judged_by_what_is_attached_to_its_certificate<R: Registry>(r: &R) {
    add_certificates(r, &[1, 2]).await;
    add_things(r, &["b", "A", "other"]).await;
    add_policies(r, &["q", "P", "other"]).await;
    let (id, other) = (certificate_id(1), certificate_id(2));
    for (thing, policy, certificate) in [("b", "q", &id), ("A", "P", &id)]
        .into_iter()
        .chain([("other", "other", &other)])
    {
        let (thing, policy) = (thing_name(thing), policy_name(policy));
        r.attach_thing(&thing, certificate).await.unwrap();
        r.attach_policy(&policy, certificate).await.unwrap();
    }
    let now = Timestamp::from_millis(1);
    r.set_certificate_status(now, &id, CertificateStatus::Active)
        .await
        .unwrap();
    let mut expected = Device {
        status: CertificateStatus::Active,
        things: ["A", "b"].map(thing_name).to_vec(),
        policies: ["P", "q"].map(|name| policy(name, 0).document).to_vec(),
    };
    assert_eq!(r.device(&id).await, Ok(Some(expected.clone())));
    r.detach_thing(&thing_name("A"), &id).await.unwrap();
    r.detach_policy(&policy_name("q"), &id).await.unwrap();
    expected.things.remove(0);
    expected.policies.remove(1);
    assert_eq!(r.device(&id).await, Ok(Some(expected)));
}
