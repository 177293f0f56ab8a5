//! Things: creation, updates, deletion, lists.

use super::*;

pub(crate) async fn a_new_thing_has_version_one_and_comes_back_as_it_went_in<R: Registry>(r: &R) {
    let mut new = new_thing("a:b_c-D9");
    new.type_name = Some(thing_name("lamp"));
    new.attributes = attributes(&[("b", "2"), ("a", "x=[1]"), ("none", "")]);
    let made = r.create_thing(new.clone()).await.unwrap();
    let expected = Thing {
        name: new.name.clone(),
        id: new.id,
        type_name: new.type_name,
        attributes: attributes(&[("a", "x=[1]"), ("b", "2")]),
        version: 1,
    };
    assert_eq!(made, expected);
    assert_eq!(r.thing(&new.name).await, Ok(expected));
    assert_eq!(r.thing_exists(&new.name).await, Ok(true));
    for other in ["a:b_c-d9", "a:b_c-D", "a"] {
        let name = thing_name(other);
        assert_eq!(r.thing_exists(&name).await, Ok(false), "{other}");
        let missing = Err(RegistryError::ThingNotFound(name.clone()));
        assert_eq!(r.thing(&name).await, missing);
    }
}

pub(crate) async fn creating_an_equal_thing_again_finds_the_first<R: Registry>(r: &R) {
    let mut new = new_thing("t");
    new.attributes = attributes(&[("a", "1")]);
    let first = r.create_thing(new.clone()).await.unwrap();
    new.id = Uuid::new_v4();
    assert_eq!(r.create_thing(new).await, Ok(first.clone()));
    assert_eq!(r.thing(&first.name).await, Ok(first));
}

pub(crate) async fn creating_another_thing_of_the_name_is_refused<R: Registry>(r: &R) {
    let first = r.create_thing(new_thing("t")).await.unwrap();
    let mut typed = new_thing("t");
    typed.type_name = Some(thing_name("lamp"));
    let mut attributed = new_thing("t");
    attributed.attributes = attributes(&[("a", "1")]);
    for other in [typed, attributed] {
        let refused = r.create_thing(other).await;
        let (name, id) = (first.name.clone(), first.id);
        assert_eq!(refused, Err(RegistryError::ThingExists { name, id }));
    }
    assert_eq!(r.thing(&first.name).await, Ok(first));
}

async fn update<R: Registry>(r: &R, change: AttributeChange) -> Thing {
    let update = ThingUpdate {
        attributes: Some(change),
        ..ThingUpdate::default()
    };
    let name = thing_name("t");
    r.update_thing(&name, update).await.unwrap();
    r.thing(&name).await.unwrap()
}

pub(crate) async fn an_update_replaces_or_merges_attributes_and_counts<R: Registry>(r: &R) {
    let made = r.create_thing(new_thing("t")).await.unwrap();
    for (change, expected) in [
        (
            AttributeChange::Replace(attributes(&[("a", "1"), ("b", "2")])),
            attributes(&[("a", "1"), ("b", "2")]),
        ),
        (
            AttributeChange::Merge(attributes(&[("b", "3"), ("c", "4")])),
            attributes(&[("a", "1"), ("b", "3"), ("c", "4")]),
        ),
        (
            AttributeChange::Merge(attributes(&[("a", ""), ("never", "")])),
            attributes(&[("b", "3"), ("c", "4")]),
        ),
        (
            AttributeChange::Merge(Attributes::new()),
            attributes(&[("b", "3"), ("c", "4")]),
        ),
        (
            AttributeChange::Replace(attributes(&[("d", "")])),
            Attributes::new(),
        ),
    ] {
        assert_eq!(update(r, change).await.attributes, expected);
    }
    let thing = r.thing(&made.name).await.unwrap();
    assert_eq!((thing.version, thing.id), (6, made.id));
    let nowhere = thing_name("u");
    let refused = r.update_thing(&nowhere, ThingUpdate::default()).await;
    assert_eq!(refused, Err(RegistryError::ThingNotFound(nowhere)));
}

pub(crate) async fn an_update_changes_the_type<R: Registry>(r: &R) {
    let name = thing_name("t");
    add_things(r, &["t"]).await;
    let lamp = thing_name("lamp");
    for (type_name, expected) in [
        (TypeChange::Set(lamp.clone()), Some(lamp.clone())),
        (TypeChange::Keep, Some(lamp)),
        (TypeChange::Remove, None),
    ] {
        let update = ThingUpdate {
            type_name,
            ..ThingUpdate::default()
        };
        r.update_thing(&name, update).await.unwrap();
        assert_eq!(r.thing(&name).await.unwrap().type_name, expected);
    }
}

pub(crate) async fn an_update_expects_its_version<R: Registry>(r: &R) {
    let name = thing_name("t");
    add_things(r, &["t"]).await;
    let update = |expected| ThingUpdate {
        attributes: Some(AttributeChange::Replace(attributes(&[("a", "1")]))),
        expected_version: Some(expected),
        ..ThingUpdate::default()
    };
    for expected in [0, 2, u64::MAX] {
        let conflict = RegistryError::VersionConflict {
            expected,
            actual: 1,
        };
        let refused = r.update_thing(&name, update(expected)).await;
        assert_eq!(refused, Err(conflict));
    }
    assert!(r.thing(&name).await.unwrap().attributes.is_empty());
    r.update_thing(&name, update(1)).await.unwrap();
    assert_eq!(r.thing(&name).await.unwrap().version, 2);
}

pub(crate) async fn deleting_a_thing_expects_its_version_and_can_be_repeated<R: Registry>(r: &R) {
    let name = thing_name("t");
    add_things(r, &["t"]).await;
    let conflict = RegistryError::VersionConflict {
        expected: 2,
        actual: 1,
    };
    assert_eq!(r.delete_thing(&name, Some(2)).await, Err(conflict));
    r.delete_thing(&name, Some(1)).await.unwrap();
    assert_eq!(r.thing_exists(&name).await, Ok(false));
    for expected in [None, Some(7)] {
        assert_eq!(r.delete_thing(&name, expected).await, Ok(()));
    }
}

async fn names<R: Registry>(r: &R, query: ThingQuery) -> (Vec<String>, bool) {
    let page = r.list_things(query).await.unwrap();
    let names = page
        .things
        .iter()
        .map(|thing| thing.name.as_str().to_owned());
    (names.collect(), page.next.is_some())
}

fn query(after: Option<&str>, of: usize) -> ThingQuery {
    ThingQuery {
        type_name: None,
        attribute: None,
        after: after.map(thing_name),
        count: count(of),
    }
}

pub(crate) async fn things_are_listed_by_name_in_bytes_page_by_page<R: Registry>(r: &R) {
    add_things(r, &["b", "a", "A", "_", "Z", "-", "10", "9", ":"]).await;
    let sorted = ["-", "10", "9", ":", "A", "Z", "_", "a", "b"];
    for size in [1, 2, 3, 8, 9, 10] {
        let mut seen = Vec::new();
        loop {
            let after = seen.last().map(String::as_str);
            let (page, more) = names(r, query(after, size)).await;
            assert!(page.len() == size || !more, "only the last page is short");
            seen.extend(page);
            if !more {
                break;
            }
        }
        assert_eq!(seen, sorted, "{size} a page");
    }
    let (empty, more) = names(r, query(Some("b"), 5)).await;
    assert_eq!((empty.len(), more), (0, false));
}

pub(crate) async fn things_are_filtered_by_type_and_attribute<R: Registry>(r: &R) {
    for (name, type_name, pairs) in [
        ("a", Some("lamp"), &[("room", "kitchen")][..]),
        ("b", Some("lamp"), &[("room", "hall%")]),
        ("c", Some("Lamp"), &[("room", "kit")]),
        ("d", None, &[("Room", "kitchen"), ("hall%", "room")]),
        ("e", Some("lamp"), &[]),
    ] {
        let mut new = new_thing(name);
        new.type_name = type_name.map(thing_name);
        new.attributes = attributes(pairs);
        r.create_thing(new).await.unwrap();
    }
    let attribute = |value: Option<&str>, prefix| AttributeFilter {
        name: "room".to_owned(),
        value: value.map(str::to_owned),
        prefix,
    };
    for (type_name, attribute, expected) in [
        (Some("lamp"), None, &["a", "b", "e"][..]),
        (Some("none"), None, &[]),
        (None, Some(attribute(None, false)), &["a", "b", "c"]),
        (None, Some(attribute(Some("kitchen"), false)), &["a"]),
        (None, Some(attribute(Some("kit"), true)), &["a", "c"]),
        (None, Some(attribute(Some("hall%"), true)), &["b"]),
        (None, Some(attribute(Some("%"), true)), &[]),
        (None, Some(attribute(Some("k_t"), true)), &[]),
        (Some("lamp"), Some(attribute(Some("kit"), true)), &["a"]),
    ] {
        let of = |count_of| ThingQuery {
            type_name: type_name.map(thing_name),
            attribute: attribute.clone(),
            ..query(None, count_of)
        };
        let (found, more) = names(r, of(10)).await;
        assert_eq!((&found[..], more), (&expected.map_owned()[..], false));
        if expected.len() > 1 {
            let (first, more) = names(r, of(1)).await;
            assert_eq!((first.len(), more), (1, true), "the filter counts");
        }
    }
}

trait MapOwned {
    fn map_owned(&self) -> Vec<String>;
}

impl MapOwned for [&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

pub(crate) async fn a_page_of_things_begins_where_the_last_one_ended_whatever_happened<
    R: Registry,
>(
    r: &R,
) {
    add_things(r, &["b", "d", "f"]).await;
    let (first, more) = names(r, query(None, 2)).await;
    assert_eq!((first, more), (["b", "d"].map_owned(), true));
    add_things(r, &["a", "c", "e"]).await;
    r.delete_thing(&thing_name("d"), None).await.unwrap();
    let (second, more) = names(r, query(Some("d"), 9)).await;
    assert_eq!((second, more), (["e", "f"].map_owned(), false));
}

pub(crate) async fn a_page_of_things_ends_when_enough_were_looked_at<R: Registry>(r: &R) {
    let all = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    for name in all {
        let mut new = new_thing(name);
        if ["c", "l"].contains(&name) {
            new.attributes = attributes(&[("room", "hall")]);
        }
        r.create_thing(new).await.unwrap();
    }
    let of = |after, count_of| ThingQuery {
        attribute: Some(AttributeFilter {
            name: "room".to_owned(),
            value: None,
            prefix: false,
        }),
        ..query(after, count_of)
    };
    for (after, next, found) in [(None, Some("j"), &["c"][..]), (Some("c"), None, &["l"])] {
        let page = r.list_things(of(after, 2)).await.unwrap();
        assert_eq!(page.next, next.map(thing_name));
        assert_eq!(names(r, of(after, 2)).await.0, found.map_owned());
    }
    let page = r.list_things(of(Some("j"), 2)).await.unwrap();
    assert_eq!((page.things.len(), page.next), (1, None));
    // Full before that.
    let page = r.list_things(of(None, 1)).await.unwrap();
    assert_eq!((page.things.len(), page.next), (1, Some(thing_name("j"))));
}

pub(crate) async fn the_bounds_of_things_hold<R: Registry>(r: &R) {
    let mut full = new_thing("t0");
    full.attributes = attributes(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let mut too_full = full.clone();
    too_full.attributes.insert("d".to_owned(), "4".to_owned());
    let refused = r.create_thing(too_full.clone()).await;
    assert_eq!(refused, Err(limit("attributes per thing", 3)));
    r.create_thing(full.clone()).await.unwrap();
    let update = ThingUpdate {
        attributes: Some(AttributeChange::Merge(too_full.attributes)),
        ..ThingUpdate::default()
    };
    let refused = r.update_thing(&full.name, update).await;
    assert_eq!(refused, Err(limit("attributes per thing", 3)));

    for index in 1..12 {
        let new = new_thing(&format!("t{index}"));
        r.create_thing(new).await.unwrap();
    }
    let refused = r.create_thing(new_thing("t12")).await;
    assert_eq!(refused, Err(limit("things", 12)));
    r.create_thing(full).await.expect("it is there already");
    r.delete_thing(&thing_name("t1"), None).await.unwrap();
    r.create_thing(new_thing("t12")).await.unwrap();
}
