use super::*;

#[tokio::test]
async fn a_thing_answers_with_the_members_of_the_model() {
    let mut fixture = Fixture::new().await;
    let body = json!({
        "thingTypeName": "lamp",
        "attributePayload": {"attributes": {"room": "hall", "empty": ""}},
        "unknownMember": {"is": "ignored"},
    });
    let made = fixture.ok("POST", "/things/a:b_C-1", body).await;
    assert_eq!(members(&made), ["thingArn", "thingId", "thingName"]);
    let arn = "arn:aws:iot:us-east-1:000000000000:thing/a:b_C-1";
    assert_eq!(made["thingArn"], arn);
    text(&made["thingId"]).parse::<uuid::Uuid>().unwrap();
    let expected = json!({
        "defaultClientId": "a:b_C-1",
        "thingName": "a:b_C-1",
        "thingId": made["thingId"],
        "thingArn": arn,
        "thingTypeName": "lamp",
        "attributes": {"room": "hall"},
        "version": 1,
    });
    let described = fixture.ok("GET", "/things/a:b_C-1", Value::Null).await;
    assert_eq!(described, expected);
    let listed = fixture.ok("GET", "/things", Value::Null).await;
    assert_eq!(members(&listed), ["things"], "no token on the last page");
    let members = members(&listed["things"][0]);
    assert_eq!(
        members,
        [
            "attributes",
            "thingArn",
            "thingName",
            "thingTypeName",
            "version"
        ]
    );
}

#[tokio::test]
async fn labels_of_the_path_are_decoded_before_they_are_checked() {
    let mut fixture = Fixture::new().await;
    fixture.ok("POST", "/things/a%3Ab%5Fc", json!({})).await;
    let described = fixture.ok("GET", "/things/a:b_c", Value::Null).await;
    assert_eq!(described["thingName"], "a:b_c");
    for bad in ["a%2Fb", "a%20b", "%C3%A4", "a%00", "%25", &"x".repeat(129)] {
        for method in ["POST", "GET", "PATCH", "DELETE"] {
            let path = format!("/things/{bad}");
            let refused = fixture.refused(method, &path, Value::Null).await;
            assert_eq!(code(&refused), INVALID, "{method} {path}");
            assert!(refused.2.contains("'thingName'"), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn creating_again_is_fine_unless_it_differs() {
    let mut fixture = Fixture::new().await;
    let first = fixture.ok("POST", "/things/t", json!({})).await;
    let again = fixture.ok("POST", "/things/t", Value::Null).await;
    assert_eq!(first, again);
    let other = json!({"thingTypeName": "lamp"});
    let refused = fixture.refused("POST", "/things/t", other).await;
    assert_eq!(code(&refused), EXISTS);
    let billed = json!({"billingGroupName": "b"});
    let refused = fixture.refused("POST", "/things/u", billed).await;
    assert_eq!(code(&refused), INVALID, "never silently ignored");
}

#[tokio::test]
async fn updates_merge_replace_and_expect_a_version() {
    let mut fixture = Fixture::new().await;
    fixture.thing("t").await;
    let attributes = |attributes: Value, merge: bool| json!({"attributePayload": {"attributes": attributes, "merge": merge}});
    for (body, expected) in [
        (attributes(json!({"a": "1"}), false), json!({"a": "1"})),
        (
            attributes(json!({"b": "2"}), true),
            json!({"a": "1", "b": "2"}),
        ),
        (attributes(json!({"a": ""}), true), json!({"b": "2"})),
        (
            json!({"attributePayload": {"merge": false}}),
            json!({"b": "2"}),
        ),
        (attributes(json!({}), false), json!({})),
    ] {
        assert_eq!(fixture.ok("PATCH", "/things/t", body).await, json!({}));
        let described = fixture.ok("GET", "/things/t", Value::Null).await;
        assert_eq!(described["attributes"], expected);
    }
    let typed = json!({"thingTypeName": "lamp", "expectedVersion": 6});
    fixture.ok("PATCH", "/things/t", typed.clone()).await;
    let refused = fixture.refused("PATCH", "/things/t", typed).await;
    assert_eq!(code(&refused), (409, "VersionConflictException"));
    let both = json!({"thingTypeName": "lamp", "removeThingType": true});
    let refused = fixture.refused("PATCH", "/things/t", both).await;
    assert_eq!(code(&refused), INVALID);
    let removed = json!({"removeThingType": true});
    fixture.ok("PATCH", "/things/t", removed).await;
    let described = fixture.ok("GET", "/things/t", Value::Null).await;
    assert_eq!(described.get("thingTypeName"), None);
    assert_eq!(described["version"], 8);
    let refused = fixture.refused("PATCH", "/things/u", json!({})).await;
    assert_eq!(code(&refused), NOT_FOUND);
}

#[tokio::test]
async fn deletion_expects_a_version_and_can_be_repeated() {
    let mut fixture = Fixture::new().await;
    fixture.thing("t").await;
    let path = "/things/t?expectedVersion=2";
    let refused = fixture.refused("DELETE", path, Value::Null).await;
    assert_eq!(code(&refused), (409, "VersionConflictException"));
    for bad in ["x", "-1", "1.5", ""] {
        let path = format!("/things/t?expectedVersion={bad}");
        let refused = fixture.refused("DELETE", &path, Value::Null).await;
        assert_eq!(code(&refused), INVALID, "{bad}");
    }
    for path in [
        "/things/t?expectedVersion=1",
        "/things/t?expectedVersion=1",
        "/things/t",
    ] {
        assert_eq!(fixture.ok("DELETE", path, Value::Null).await, json!({}));
    }
    let refused = fixture.refused("GET", "/things/t", Value::Null).await;
    assert_eq!(code(&refused), NOT_FOUND);
}

#[tokio::test]
async fn attributes_keep_to_the_model() {
    let mut fixture = Fixture::new().await;
    let (long_name, long_value) = ("n".repeat(129), "v".repeat(801));
    for attributes in [
        json!({"a b": "v"}),
        json!({"": "v"}),
        json!({ long_name: "v" }),
        json!({ "n": long_value }),
        json!({"n": "a b"}),
        json!({"n": 1}),
        json!([]),
        json!("text"),
    ] {
        let body = json!({"attributePayload": {"attributes": attributes}});
        let refused = fixture.refused("POST", "/things/t", body.clone()).await;
        assert_eq!(code(&refused), INVALID, "{body}");
        assert!(
            refused.2.contains("'attributePayload.attributes"),
            "{refused:?}"
        );
    }
    let many: serde_json::Map<_, _> = (0..51).map(|i| (format!("n{i}"), json!("v"))).collect();
    let body = json!({"attributePayload": {"attributes": many}});
    let refused = fixture.refused("POST", "/things/t", body).await;
    assert_eq!(code(&refused), (410, "LimitExceededException"));
}

async fn names(fixture: &mut Fixture, query: &str) -> (Vec<String>, Option<String>) {
    let path = format!("/things?{query}");
    let listed = fixture.ok("GET", &path, Value::Null).await;
    let things = listed["things"].as_array().unwrap();
    let names = things.iter().map(|thing| text(&thing["thingName"]));
    (names.collect(), listed.get("nextToken").map(text))
}

#[tokio::test]
async fn lists_come_page_by_page_and_filtered() {
    let mut fixture = Fixture::new().await;
    for (name, room) in [("a", "hall"), ("b", "ha"), ("c", "hall"), ("d", "hall")] {
        let body = json!({"attributePayload": {"attributes": {"room": room}}});
        fixture.ok("POST", &format!("/things/{name}"), body).await;
    }
    let mut seen = Vec::new();
    let mut query = "maxResults=2&attributeName=room&attributeValue=hall".to_owned();
    loop {
        let (page, next) = names(&mut fixture, &query).await;
        seen.extend(page);
        let Some(next) = next else { break };
        query = format!(
            "maxResults=2&attributeName=room&attributeValue=hall&nextToken={}",
            next.replace('+', "%2B").replace('/', "%2F")
        );
    }
    assert_eq!(seen, ["a", "c", "d"]);
    let prefix = "attributeName=room&attributeValue=ha&usePrefixAttributeValue=true";
    assert_eq!(names(&mut fixture, prefix).await.0, ["a", "b", "c", "d"]);
    for bad in [
        "maxResults=0",
        "maxResults=251",
        "maxResults=many",
        "nextToken=",
        "nextToken=AAAA",
        "nextToken=%3F",
        "attributeValue=x",
        "attributeName=a%20b",
        "usePrefixAttributeValue=yes",
        "thingTypeName=a%20b",
    ] {
        let path = format!("/things?{bad}");
        let refused = fixture.refused("GET", &path, Value::Null).await;
        assert_eq!(code(&refused), INVALID, "{bad}");
    }
}
