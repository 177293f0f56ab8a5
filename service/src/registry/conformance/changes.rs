//! What is told to those who hold connections.

use std::time::Duration;

use super::*;

/// Waits until the change was told; others may come before it.
async fn told(changes: &mut Changes, expected: &Change) {
    let wait = async { while changes.next().await.expect("the store is there") != *expected {} };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    assert!(waited.is_ok(), "{expected:?} was not told");
}

pub(crate) async fn whatever_takes_a_right_is_told<R: Registry>(r: &R) {
    add_things(r, &["t"]).await;
    add_policies(r, &["p"]).await;
    add_certificates(r, &[1]).await;
    let (thing, policy, id) = (thing_name("t"), policy_name("p"), certificate_id(1));
    let certificate = Change::Certificate(id);
    let mut early = r.changes();
    let mut changes = r.changes();

    let now = Timestamp::from_millis(1);
    for (_, status) in CertificateStatus::ALL {
        r.set_certificate_status(now, &id, status).await.unwrap();
        told(&mut changes, &certificate).await;
    }
    r.attach_thing(&thing, &id).await.unwrap();
    told(&mut changes, &certificate).await;
    // The built-in policy no longer counts.
    r.attach_policy(&policy, &id).await.unwrap();
    told(&mut changes, &certificate).await;
    r.detach_policy(&policy, &id).await.unwrap();
    told(&mut changes, &certificate).await;
    r.detach_thing(&thing, &id).await.unwrap();
    told(&mut changes, &certificate).await;
    r.delete_thing(&thing, None).await.unwrap();
    told(&mut changes, &Change::ThingDeleted(thing.clone())).await;
    r.delete_certificate(&id, false).await.unwrap();
    told(&mut changes, &certificate).await;
    told(&mut early, &Change::ThingDeleted(thing)).await;
}

pub(crate) async fn what_fails_or_adds_no_certificate_is_not_told<R: Registry>(r: &R) {
    add_things(r, &["t"]).await;
    add_certificates(r, &[1, 2]).await;
    let (thing, one, two) = (thing_name("t"), certificate_id(1), certificate_id(2));
    r.attach_thing(&thing, &one).await.unwrap();
    let mut changes = r.changes();
    r.delete_thing(&thing, None).await.unwrap_err();
    r.delete_certificate(&one, false).await.unwrap_err();
    r.create_thing(new_thing("u")).await.unwrap();
    let update = ThingUpdate::default();
    r.update_thing(&thing, update).await.unwrap();
    r.add_certificate(certificate(3, 0)).await.unwrap();
    r.delete_thing(&thing_name("never"), None).await.unwrap();
    r.delete_certificate(&two, false).await.unwrap();
    let first = changes.next().await;
    assert_eq!(first, Some(Change::Certificate(two)));
}
