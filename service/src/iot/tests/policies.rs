use super::*;

#[tokio::test]
async fn a_policy_answers_with_the_members_of_the_model() {
    let mut fixture = Fixture::new().await;
    let body = json!({"policyDocument": DOCUMENT});
    let path = "/policies/P_%2B%3D,.%40-1";
    let made = fixture.ok("POST", path, body.clone()).await;
    let arn = "arn:aws:iot:us-east-1:000000000000:policy/P_+=,.@-1";
    let expected = json!({
        "policyName": "P_+=,.@-1",
        "policyArn": arn,
        "policyDocument": DOCUMENT,
        "policyVersionId": "1",
    });
    assert_eq!(made, expected);
    let read = fixture.ok("GET", path, Value::Null).await;
    assert_eq!(
        members(&read),
        [
            "creationDate",
            "defaultVersionId",
            "lastModifiedDate",
            "policyArn",
            "policyDocument",
            "policyName"
        ]
    );
    let listed = fixture.ok("GET", "/policies", Value::Null).await;
    let summary = json!({"policyName": "P_+=,.@-1", "policyArn": arn});
    assert_eq!(listed, json!({"policies": [summary]}));
    let refused = fixture.refused("POST", path, body).await;
    assert_eq!(code(&refused), EXISTS);
    assert_eq!(fixture.ok("DELETE", path, Value::Null).await, json!({}));
    for method in ["GET", "DELETE"] {
        let refused = fixture.refused(method, path, Value::Null).await;
        assert_eq!(code(&refused), NOT_FOUND, "{method}");
    }
}

#[tokio::test]
async fn what_is_no_policy_is_refused() {
    let mut fixture = Fixture::new().await;
    let unknown = DOCUMENT.replace("Resource", "Resources");
    for bad in ["", "{", "{}", "[]", "\"x\"", "null", &unknown] {
        let body = json!({"policyDocument": bad});
        let refused = fixture.refused("POST", "/policies/p", body).await;
        assert_eq!(code(&refused), (400, "MalformedPolicyException"), "{bad}");
    }
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(20 * 1024));
    for (path, body) in [
        ("/policies/a%20b", json!({"policyDocument": DOCUMENT})),
        ("/policies/p%C3%A4", json!({"policyDocument": DOCUMENT})),
        ("/policies/p", json!({})),
        ("/policies/p", json!({"policyDocument": {}})),
        ("/policies/p", json!({"policyDocument": large})),
    ] {
        let refused = fixture.refused("POST", path, body).await;
        assert_eq!(code(&refused), INVALID, "{path}");
    }
    let tags = json!([{"Key": "a", "Value": "b"}]);
    let body = json!({"policyDocument": DOCUMENT, "tags": tags});
    let refused = fixture.refused("POST", "/policies/p", body).await;
    assert_eq!(code(&refused), INVALID, "never silently ignored");
}

#[tokio::test]
async fn policies_are_attached_and_shown_from_both_ends() {
    let mut fixture = Fixture::new().await;
    let (_, arn) = fixture.certificate().await;
    let encoded = arn.replace(':', "%3A").replace('/', "%2F");
    let attached = format!("/attached-policies/{encoded}");
    for name in ["p", "q", "r"] {
        fixture.policy(name).await;
        let path = format!("/target-policies/{name}");
        for _ in 0..2 {
            let body = json!({"target": arn});
            assert_eq!(fixture.ok("PUT", &path, body).await, json!({}));
        }
    }
    let path = format!("{attached}?pageSize=2&recursive=true");
    let first = fixture.ok("POST", &path, Value::Null).await;
    assert_eq!(first["policies"][0]["policyName"], "p");
    let marker = text(&first["nextMarker"]).replace('+', "%2B");
    let path = format!("{attached}?pageSize=2&marker={marker}");
    let second = fixture.ok("POST", &path, Value::Null).await;
    assert_eq!(members(&second), ["policies"]);
    assert_eq!(second["policies"].as_array().unwrap().len(), 1);
    let targets = fixture.ok("POST", "/policy-targets/p", Value::Null).await;
    assert_eq!(targets, json!({"targets": [arn]}));
    let refused = fixture.refused("DELETE", "/policies/p", Value::Null).await;
    assert_eq!(code(&refused), DELETE_CONFLICT);
    for _ in 0..2 {
        let body = json!({"target": arn});
        let detached = fixture.ok("POST", "/target-policies/p", body).await;
        assert_eq!(detached, json!({}));
    }
    fixture.ok("DELETE", "/policies/p", Value::Null).await;
    let body = json!({"target": arn});
    let refused = fixture.refused("PUT", "/target-policies/p", body).await;
    assert_eq!(code(&refused), NOT_FOUND);
    let body = json!({"target": "arn:aws:iot:us-east-1:000000000000:thinggroup/g"});
    let refused = fixture.refused("PUT", "/target-policies/q", body).await;
    assert_eq!(code(&refused), INVALID);
}
