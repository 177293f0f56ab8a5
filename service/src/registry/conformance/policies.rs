//! Policies: creation, deletion, lists.

use super::*;

pub(crate) async fn a_policy_comes_back_as_it_went_in_and_is_created_once<R: Registry>(r: &R) {
    let mut new = policy("p", 1_763_900_000_250);
    new.document = Arc::from("{\n \"x\": \"é '\\\" %\" }");
    r.create_policy(new.clone()).await.unwrap();
    assert_eq!(r.policy(&new.name).await, Ok(new.clone()));
    let refused = r.create_policy(policy("p", 1)).await;
    let name = new.name.clone();
    assert_eq!(refused, Err(RegistryError::PolicyExists(name)));
    assert_eq!(r.policy(&new.name).await, Ok(new));
    let other = policy_name("P");
    let missing = RegistryError::PolicyNotFound(other.clone());
    assert_eq!(r.policy(&other).await, Err(missing));
}

pub(crate) async fn an_attached_policy_cannot_be_deleted<R: Registry>(r: &R) {
    add_policies(r, &["p", "q"]).await;
    add_certificates(r, &[1]).await;
    let (name, id) = (policy_name("p"), certificate_id(1));
    r.attach_policy(&name, &id).await.unwrap();
    let refused = r.delete_policy(&name).await;
    assert_eq!(refused, Err(RegistryError::PolicyAttached(name.clone())));
    r.delete_policy(&policy_name("q")).await.unwrap();
    r.detach_policy(&name, &id).await.unwrap();
    r.delete_policy(&name).await.unwrap();
    let missing = RegistryError::PolicyNotFound(name.clone());
    assert_eq!(r.delete_policy(&name).await, Err(missing));
}

pub(crate) async fn policies_are_listed_by_age_with_the_name_between_equals<R: Registry>(r: &R) {
    for (name, millis) in [("b", 20), ("z", 10), ("B", 20), ("a", 30), ("_", 20)] {
        r.create_policy(policy(name, millis)).await.unwrap();
    }
    let sorted = ["z", "B", "_", "b", "a"].map(policy_name);
    for ascending in [true, false] {
        for size in 1..=6 {
            let mut seen: Vec<Policy> = Vec::new();
            loop {
                let after = seen.last().map(|last| (last.created, last.name.clone()));
                let query = ByAge {
                    ascending,
                    after,
                    count: count(size),
                };
                let page = r.list_policies(query).await.unwrap();
                assert!(page.items.len() == size || !page.more);
                seen.extend(page.items);
                if !page.more {
                    break;
                }
            }
            if !ascending {
                seen.reverse();
            }
            let names: Vec<_> = seen.into_iter().map(|policy| policy.name).collect();
            assert_eq!(names, sorted, "{size} a page, ascending {ascending}");
        }
    }
}

pub(crate) async fn the_bound_of_policies_holds<R: Registry>(r: &R) {
    for index in 0..12 {
        let new = policy(&format!("p{index}"), 0);
        r.create_policy(new).await.unwrap();
    }
    let refused = r.create_policy(policy("p12", 0)).await;
    assert_eq!(refused, Err(limit("policies", 12)));
    r.delete_policy(&policy_name("p3")).await.unwrap();
    r.create_policy(policy("p12", 0)).await.unwrap();
}
