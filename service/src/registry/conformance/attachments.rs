//! What is attached to what.

use super::*;

pub(crate) async fn things_and_certificates_are_attached_in_both_directions<R: Registry>(r: &R) {
    add_things(r, &["a", "b"]).await;
    add_certificates(r, &[1, 0x80]).await;
    let [a, b] = ["a", "b"].map(thing_name);
    let [one, two] = [1, 0x80].map(certificate_id);
    for (thing, certificate) in [(&a, &two), (&a, &one), (&b, &two)] {
        r.attach_thing(thing, certificate).await.unwrap();
    }
    let of = async |thing| r.thing_certificates(thing, all()).await.unwrap().items;
    let things = async |id| r.certificate_things(id, all()).await.unwrap().items;
    assert_eq!(of(&a).await, [one, two]);
    assert_eq!(of(&b).await, [two]);
    assert_eq!(things(&one).await, std::slice::from_ref(&a));
    assert_eq!(things(&two).await, [a.clone(), b.clone()]);
    r.detach_thing(&a, &two).await.unwrap();
    assert_eq!(of(&a).await, [one]);
    assert_eq!(things(&two).await, [b]);
}

pub(crate) async fn a_thing_with_certificates_cannot_be_deleted<R: Registry>(r: &R) {
    add_things(r, &["a"]).await;
    add_certificates(r, &[1]).await;
    let (name, id) = (thing_name("a"), certificate_id(1));
    r.attach_thing(&name, &id).await.unwrap();
    let refused = r.delete_thing(&name, None).await;
    assert_eq!(refused, Err(RegistryError::ThingAttached(name.clone())));
    let conflict = RegistryError::VersionConflict {
        expected: 3,
        actual: 1,
    };
    assert_eq!(r.delete_thing(&name, Some(3)).await, Err(conflict));
    r.detach_thing(&name, &id).await.unwrap();
    r.delete_thing(&name, Some(1)).await.unwrap();
}

pub(crate) async fn policies_and_certificates_are_attached_in_both_directions<R: Registry>(r: &R) {
    add_policies(r, &["q", "P"]).await;
    add_certificates(r, &[1, 0x80]).await;
    let [upper, q] = ["P", "q"].map(policy_name);
    let [one, two] = [1, 0x80].map(certificate_id);
    for (policy, certificate) in [(&q, &one), (&upper, &one), (&q, &two)] {
        r.attach_policy(policy, certificate).await.unwrap();
    }
    let of = async |id| r.certificate_policies(id, all()).await.unwrap().items;
    let targets = async |name| r.policy_certificates(name, all()).await.unwrap().items;
    assert_eq!(of(&one).await, [upper.clone(), q.clone()]);
    assert_eq!(of(&two).await, std::slice::from_ref(&q));
    assert_eq!(targets(&q).await, [one, two]);
    assert_eq!(targets(&upper).await, [one]);
    r.detach_policy(&q, &one).await.unwrap();
    assert_eq!(of(&one).await, std::slice::from_ref(&upper));
    assert_eq!(targets(&q).await, [two]);
}

pub(crate) async fn attaching_and_detaching_can_be_repeated<R: Registry>(r: &R) {
    add_things(r, &["t"]).await;
    add_policies(r, &["p"]).await;
    add_certificates(r, &[1]).await;
    let (thing, policy, id) = (thing_name("t"), policy_name("p"), certificate_id(1));
    for _ in 0..3 {
        r.attach_thing(&thing, &id).await.unwrap();
        r.attach_policy(&policy, &id).await.unwrap();
    }
    let things = r.certificate_things(&id, all()).await.unwrap();
    assert_eq!(things.items, std::slice::from_ref(&thing));
    for _ in 0..2 {
        r.detach_thing(&thing, &id).await.unwrap();
        r.detach_policy(&policy, &id).await.unwrap();
    }
    let policies = r.certificate_policies(&id, all()).await.unwrap();
    assert!(policies.items.is_empty());
}

pub(crate) async fn attachments_need_both_ends<R: Registry>(r: &R) {
    add_things(r, &["t"]).await;
    add_policies(r, &["p"]).await;
    add_certificates(r, &[1]).await;
    let (thing, policy, id) = (thing_name("t"), policy_name("p"), certificate_id(1));
    let (no_thing, no_policy, no_id) = (thing_name("no"), policy_name("no"), certificate_id(2));
    let thing_missing = Err(RegistryError::ThingNotFound(no_thing.clone()));
    let policy_missing = Err(RegistryError::PolicyNotFound(no_policy.clone()));
    let missing = RegistryError::CertificateNotFound(no_id);
    let id_missing = Err(missing.clone());

    assert_eq!(r.attach_thing(&no_thing, &id).await, thing_missing);
    assert_eq!(r.detach_thing(&no_thing, &id).await, thing_missing);
    assert_eq!(r.attach_thing(&thing, &no_id).await, id_missing);
    assert_eq!(r.detach_thing(&thing, &no_id).await, id_missing);
    assert_eq!(r.attach_policy(&no_policy, &id).await, policy_missing);
    assert_eq!(r.detach_policy(&no_policy, &id).await, policy_missing);
    assert_eq!(r.attach_policy(&policy, &no_id).await, id_missing);
    assert_eq!(r.detach_policy(&policy, &no_id).await, id_missing);

    let listed = r.thing_certificates(&no_thing, all()).await;
    assert_eq!(listed.map(|_| ()), thing_missing);
    let listed = r.policy_certificates(&no_policy, all()).await;
    assert_eq!(listed.map(|_| ()), policy_missing);
    let things = r.certificate_things(&no_id, all()).await;
    assert_eq!(things, Err(missing.clone()));
    let policies = r.certificate_policies(&no_id, all()).await;
    assert_eq!(policies, Err(missing));
}

pub(crate) async fn lists_of_attachments_come_page_by_page<R: Registry>(r: &R) {
    add_things(r, &["a", "B", "c"]).await;
    add_certificates(r, &[0x80, 1, 0xff]).await;
    add_policies(r, &["a", "B", "c"]).await;
    let (thing, id, policy) = (thing_name("a"), certificate_id(1), policy_name("a"));
    for name in ["a", "B", "c"] {
        r.attach_thing(&thing_name(name), &id).await.unwrap();
        r.attach_policy(&policy_name(name), &id).await.unwrap();
    }
    for number in [0x80, 0xff] {
        let id = certificate_id(number);
        r.attach_thing(&thing, &id).await.unwrap();
        r.attach_policy(&policy, &id).await.unwrap();
    }
    fn by<K>(after: Option<K>) -> ByKey<K> {
        ByKey {
            after,
            count: count(2),
        }
    }
    let ids = [1, 0x80, 0xff].map(certificate_id);
    let page = r.thing_certificates(&thing, by(None)).await.unwrap();
    assert_eq!((&page.items[..], page.more), (&ids[..2], true));
    let rest = by(Some(ids[1]));
    let page = r.thing_certificates(&thing, rest.clone()).await.unwrap();
    assert_eq!((&page.items[..], page.more), (&ids[2..], false));
    let page = r.policy_certificates(&policy, rest).await.unwrap();
    assert_eq!((&page.items[..], page.more), (&ids[2..], false));

    let names = ["B", "a", "c"].map(thing_name);
    let page = r.certificate_things(&id, by(None)).await.unwrap();
    assert_eq!((&page.items[..], page.more), (&names[..2], true));
    let rest = by(Some(names[1].clone()));
    let page = r.certificate_things(&id, rest).await.unwrap();
    assert_eq!((&page.items[..], page.more), (&names[2..], false));
    let names = ["B", "a", "c"].map(policy_name);
    let rest = by(Some(names[0].clone()));
    let page = r.certificate_policies(&id, rest).await.unwrap();
    assert_eq!((&page.items[..], page.more), (&names[1..], false));
}

pub(crate) async fn the_bounds_of_attachments_hold<R: Registry>(r: &R) {
    add_things(r, &["a", "b", "c", "d", "e", "f"]).await;
    add_certificates(r, &[1, 2, 3, 4, 5]).await;
    add_policies(r, &["p", "q", "r", "s"]).await;
    let (a, one) = (thing_name("a"), certificate_id(1));
    for number in 1..=4 {
        r.attach_thing(&a, &certificate_id(number)).await.unwrap();
    }
    let refused = r.attach_thing(&a, &certificate_id(5)).await;
    assert_eq!(refused, Err(limit("certificates per thing", 4)));
    for name in ["b", "c", "d", "e"] {
        r.attach_thing(&thing_name(name), &one).await.unwrap();
    }
    let refused = r.attach_thing(&thing_name("f"), &one).await;
    assert_eq!(refused, Err(limit("things per certificate", 5)));
    r.attach_thing(&a, &one).await.expect("it is attached");
    for name in ["p", "q", "r"] {
        r.attach_policy(&policy_name(name), &one).await.unwrap();
    }
    let refused = r.attach_policy(&policy_name("s"), &one).await;
    assert_eq!(refused, Err(limit("policies per certificate", 3)));
    let p = policy_name("p");
    r.attach_policy(&p, &one).await.expect("it is attached");
    r.detach_policy(&p, &one).await.unwrap();
    r.attach_policy(&policy_name("s"), &one).await.unwrap();
}

/// Everything in `all` at one time.
async fn together<T>(all: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (one, result) in all.iter_mut().zip(&mut done) {
            if result.is_none()
                && let std::task::Poll::Ready(value) = one.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if done.iter().any(Option::is_none) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(done.iter_mut().filter_map(Option::take).collect())
    })
    .await
}

pub(crate) async fn simultaneous_attachments_keep_to_the_bound<R: Registry>(r: &R) {
    add_things(r, &["a"]).await;
    add_certificates(r, &[1, 2, 3, 4, 5, 6, 7, 8]).await;
    let a = thing_name("a");
    let ids: Vec<_> = (1..=8).map(certificate_id).collect();
    let results = together(ids.iter().map(|id| r.attach_thing(&a, id)).collect()).await;
    let attached = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(attached, 4, "{results:?}");
    let listed = r.thing_certificates(&a, all()).await.unwrap();
    assert_eq!(listed.items.len(), 4);
}

pub(crate) async fn simultaneous_creations_make_one_thing<R: Registry>(r: &R) {
    let results = together((0..8).map(|_| r.create_thing(new_thing("t"))).collect()).await;
    let kept = r.thing(&thing_name("t")).await.unwrap();
    for result in results {
        assert_eq!(result, Ok(kept.clone()), "all are told of the same one");
    }
}
