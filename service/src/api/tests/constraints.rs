//! Each constraint of the model just inside and just outside, over the wire.

use serde_json::json;

use super::*;

/// Asks for each; the first list must be taken, the second refused as invalid, naming the member.
async fn check(
    fixture: &mut Fixture,
    operation: &str,
    member: &str,
    good: Vec<Value>,
    bad: Vec<Value>,
) {
    for body in good {
        fixture.ok(operation, body).await;
    }
    for body in bad {
        let (status, code, message) = fixture.refused(operation, body.clone()).await;
        let wanted = (400, "ValidationException");
        assert_eq!((status, code.as_str()), wanted, "{body}: {message}");
        assert!(
            message.contains(&format!("'{member}'")),
            "{body}: {message}"
        );
    }
}

#[tokio::test]
async fn open_tunnel_scalars() {
    let mut fixture = Fixture::new().await;
    let open = |name: &str, values: Vec<Value>| -> Vec<Value> {
        values
            .into_iter()
            .map(|value| json!({name: value}))
            .collect()
    };
    check(
        &mut fixture,
        "OpenTunnel",
        "description",
        open("description", vec![json!("x"), json!("é".repeat(2048))]),
        open(
            "description",
            vec![
                json!(""),
                json!("x".repeat(2049)),
                json!("a\nb"),
                json!(1),
                json!(["x"]),
            ],
        ),
    )
    .await;
    let minutes = |values: Vec<Value>| -> Vec<Value> {
        let body = |value| json!({"timeoutConfig": {"maxLifetimeTimeoutMinutes": value}});
        values.into_iter().map(body).collect()
    };
    check(
        &mut fixture,
        "OpenTunnel",
        "timeoutConfig.maxLifetimeTimeoutMinutes",
        minutes(vec![json!(1), json!(720)]),
        minutes(vec![
            json!(0),
            json!(-1),
            json!(721),
            json!(9999),
            json!(1.5),
            json!("30"),
            json!(u64::MAX),
        ]),
    )
    .await;
    let wrong_kind = open("timeoutConfig", vec![json!(30), json!([])]);
    check(
        &mut fixture,
        "OpenTunnel",
        "timeoutConfig",
        vec![],
        wrong_kind,
    )
    .await;
}

#[tokio::test]
async fn open_tunnel_destination() {
    let mut fixture = Fixture::new().await;
    let config = |value: Value| json!({"destinationConfig": value});
    check(
        &mut fixture,
        "OpenTunnel",
        "destinationConfig.thingName",
        vec![
            config(json!({"services": ["S"], "thingName": "a"})),
            config(json!({"services": ["S"], "thingName": "aZ09:_-"})),
            config(json!({"services": ["S"], "thingName": "a".repeat(128)})),
        ],
        vec![
            config(json!({"services": ["S"], "thingName": ""})),
            config(json!({"services": ["S"], "thingName": "a".repeat(129)})),
            config(json!({"services": ["S"], "thingName": "bad/thing"})),
        ],
    )
    .await;
    let services = |value: Value| config(json!({ "services": value }));
    let many: Vec<_> = (0..128).map(|n| format!("S{n}")).collect();
    check(
        &mut fixture,
        "OpenTunnel",
        "destinationConfig.services",
        vec![
            services(json!(["S"])),
            services(json!(["S".repeat(128)])),
            services(json!(many)),
        ],
        vec![
            services(json!([])),
            services(json!("SSH")),
            config(json!({})),
        ],
    )
    .await;
    check(
        &mut fixture,
        "OpenTunnel",
        "destinationConfig.services.2.member",
        vec![],
        vec![
            services(json!(["S", ""])),
            services(json!(["S", "S".repeat(129)])),
            services(json!(["S", "a b"])),
            services(json!(["S", 7])),
            services(json!(["S", null])),
            services(json!(["S", "S"])),
        ],
    )
    .await;
}

#[tokio::test]
async fn tags_of_a_new_tunnel_and_of_an_old_one() {
    let mut fixture = Fixture::new().await;
    let (_, arn) = fixture.open(json!({})).await;
    let tag = |key: Value, value: Value| json!([{"key": key, "value": value}]);
    for operation in ["OpenTunnel", "TagResource"] {
        let body = |tags: Value| json!({"resourceArn": arn, "tags": tags});
        let good = vec![
            body(tag(json!("k"), json!(""))),
            body(tag(json!("K".repeat(128)), json!("v".repeat(256)))),
            body(tag(json!("a_.:/=+-@ é1"), json!("a_.:/=+-@ é1"))),
            body(tag(json!("Aws"), json!("aws:"))),
        ];
        let bad_key = vec![
            body(tag(json!(""), json!("v"))),
            body(tag(json!("k".repeat(129)), json!("v"))),
            body(tag(json!("a#b"), json!("v"))),
            body(json!([{"value": "v"}])),
        ];
        check(&mut fixture, operation, "tags.1.member.key", good, bad_key).await;
        let bad_value = vec![
            body(tag(json!("k"), json!("v".repeat(257)))),
            body(tag(json!("k"), json!("a\tb"))),
            body(json!([{"key": "k"}])),
        ];
        check(
            &mut fixture,
            operation,
            "tags.1.member.value",
            vec![],
            bad_value,
        )
        .await;
        let reserved = vec![
            body(tag(json!("aws:x"), json!("v"))),
            body(tag(json!("AWS:"), json!("v"))),
        ];
        check(&mut fixture, operation, "tags.1.member", vec![], reserved).await;
        // Policies know no case in keys of tags, so that one would hide the other.
        let twice = ["k", "K"].map(|second| {
            let (first, second) = (
                json!({"key": "k", "value": "1"}),
                json!({"key": second, "value": "2"}),
            );
            body(json!([first, second]))
        });
        check(
            &mut fixture,
            operation,
            "tags.2.member",
            vec![],
            twice.to_vec(),
        )
        .await;
        check(
            &mut fixture,
            operation,
            "tags",
            vec![],
            vec![body(json!([]))],
        )
        .await;
    }
}

#[tokio::test]
async fn a_tag_whose_key_differs_only_by_case_from_one_that_is_there_is_refused() {
    let mut fixture = Fixture::new().await;
    let tags = json!([{"key": "env", "value": "test"}]);
    let (_, arn) = fixture.open(json!({"tags": tags})).await;
    let other = json!({"resourceArn": arn, "tags": [{"key": "Env", "value": "prod"}]});
    let (status, code, message) = fixture.refused("TagResource", other).await;
    assert_eq!((status, code.as_str()), (400, "ValidationException"));
    assert!(
        message.contains("env and Env differ only by case"),
        "{message}"
    );
    let kept = fixture.ok("ListTagsForResource", json!({"resourceArn": arn}));
    assert_eq!(kept.await["tags"], tags);
}

#[tokio::test]
async fn the_number_of_tags() {
    let mut fixture = Fixture::new().await;
    let tags = |range: std::ops::Range<usize>| -> Value {
        let tag = |n| json!({"key": format!("k{n}"), "value": "v"});
        range.map(tag).collect()
    };
    let (_, arn) = fixture.open(json!({"tags": tags(0..50)})).await;
    // By the limit of a resource; by the model; and the model's limit comes first.
    for (operation, range, code) in [
        ("OpenTunnel", 0..51, "LimitExceededException"),
        ("OpenTunnel", 0..200, "LimitExceededException"),
        ("OpenTunnel", 0..201, "ValidationException"),
        ("TagResource", 50..51, "LimitExceededException"),
        ("TagResource", 0..201, "ValidationException"),
    ] {
        let body = json!({"resourceArn": arn, "tags": tags(range.clone())});
        let (status, found, message) = fixture.refused(operation, body).await;
        assert_eq!(
            (status, found.as_str()),
            (400, code),
            "{range:?}: {message}"
        );
    }
    fixture
        .ok(
            "TagResource",
            json!({"resourceArn": arn, "tags": tags(0..50)}),
        )
        .await;
    let keys: Vec<_> = (0..200).map(|n| format!("k{n}")).collect();
    let untag = |keys: &[String]| json!({"resourceArn": arn, "tagKeys": keys});
    let more: Vec<_> = (0..201).map(|n| format!("k{n}")).collect();
    let missing = json!({"resourceArn": arn});
    let bad = vec![untag(&more), missing];
    let good = vec![untag(&[]), untag(&keys)];
    check(&mut fixture, "UntagResource", "tagKeys", good, bad).await;
    let listed = fixture
        .ok("ListTagsForResource", json!({"resourceArn": arn}))
        .await;
    assert_eq!(listed, json!({"tags": []}));
    let bad = vec![untag(&["k#".to_owned()]), untag(&[String::new()])];
    check(
        &mut fixture,
        "UntagResource",
        "tagKeys.1.member",
        vec![],
        bad,
    )
    .await;
}

#[tokio::test]
async fn tunnel_ids_and_modes() {
    let mut fixture = Fixture::new().await;
    let (id, _) = fixture.open(json!({})).await;
    for operation in ["DescribeTunnel", "CloseTunnel", "RotateTunnelAccessToken"] {
        let body = |id: Value| json!({"tunnelId": id, "clientMode": "ALL"});
        let bad = vec![
            json!({"clientMode": "ALL"}),
            body(json!(null)),
            body(json!("")),
            body(json!("a".repeat(129))),
            body(json!("a/b")),
            body(json!(7)),
        ];
        check(&mut fixture, operation, "tunnelId", vec![], bad).await;
        for unknown in ["a".repeat(128), "_-+=:".to_owned(), id.to_uppercase() + "x"] {
            let (status, code, message) = fixture.refused(operation, body(json!(unknown))).await;
            assert_eq!((status, code.as_str()), (400, "ResourceNotFoundException"));
            assert!(message.contains("does not exist"), "{message}");
        }
    }
    let body = |mode: Value| json!({"tunnelId": id, "clientMode": mode});
    let good = ["SOURCE", "DESTINATION", "ALL"]
        .map(|mode| body(json!(mode)))
        .to_vec();
    let bad = ["BOGUS", "source", "", "ALL "].map(|mode| body(json!(mode)));
    let bad = [&bad[..], &[body(json!(null)), json!({"tunnelId": id})]].concat();
    check(
        &mut fixture,
        "RotateTunnelAccessToken",
        "clientMode",
        good,
        bad,
    )
    .await;
    let close = |delete: Value| json!({"tunnelId": id, "delete": delete});
    let bad = vec![close(json!("true")), close(json!(1))];
    let good = vec![close(json!(false)), close(json!(true))];
    check(&mut fixture, "CloseTunnel", "delete", vec![], bad).await;
    check(&mut fixture, "CloseTunnel", "delete", good, vec![]).await;
}

#[tokio::test]
async fn list_scalars() {
    let mut fixture = Fixture::new().await;
    let list = |name: &str, values: Vec<Value>| -> Vec<Value> {
        values
            .into_iter()
            .map(|value| json!({name: value}))
            .collect()
    };
    let good = list("maxResults", vec![json!(1), json!(100)]);
    let bad = vec![json!(0), json!(101), json!(-1), json!("1"), json!(1.5)];
    let bad = list("maxResults", bad);
    check(&mut fixture, "ListTunnels", "maxResults", good, bad).await;
    let good = list("thingName", vec![json!("a".repeat(128)), json!("nobody")]);
    let bad = list(
        "thingName",
        vec![json!(""), json!("a".repeat(129)), json!("a/b")],
    );
    check(&mut fixture, "ListTunnels", "thingName", good, bad).await;
    let bad = list(
        "nextToken",
        vec![json!(""), json!("a+b"), json!("a".repeat(4097))],
    );
    check(&mut fixture, "ListTunnels", "nextToken", vec![], bad).await;
    for forged in ["a", "AAAA", &"a".repeat(4096)] {
        let body = json!({"nextToken": forged});
        let (status, code, _) = fixture.refused("ListTunnels", body).await;
        assert_eq!((status, code.as_str()), (400, "ValidationException"));
    }
}

#[tokio::test]
async fn resource_arns() {
    let mut fixture = Fixture::new().await;
    let (id, arn) = fixture.open(json!({})).await;
    for (operation, rest) in [
        ("ListTagsForResource", json!({})),
        ("TagResource", json!({"tags": [{"key": "k", "value": "v"}]})),
        ("UntagResource", json!({"tagKeys": ["k"]})),
    ] {
        let body = |arn: Value| {
            let mut body = rest.clone();
            body["resourceArn"] = arn;
            body
        };
        let bad = vec![
            rest.clone(),
            body(json!("")),
            body(json!("a".repeat(1012))),
            body(json!(1)),
        ];
        let good = vec![body(json!(arn))];
        check(&mut fixture, operation, "resourceArn", good, bad).await;
        for unknown in [
            "a".repeat(1011),
            id.clone(),
            format!("{arn}x"),
            arn.replace("tunnel/", "thing/"),
            arn.replace("us-east-1", "us-east-2"),
        ] {
            let (status, code, _) = fixture.refused(operation, body(json!(unknown))).await;
            assert_eq!(
                (status, code.as_str()),
                (400, "ResourceNotFoundException"),
                "{unknown}"
            );
        }
    }
}

#[tokio::test]
async fn quotas() {
    let mut fixture = Fixture::with_limits(Limits {
        open_tunnels_max: 2,
        services_per_tunnel_max: 3,
        ..Limits::default()
    })
    .await;
    let services = |names: &[&str]| json!({"destinationConfig": {"services": names}});
    let four = services(&["A", "B", "C", "D"]);
    let (status, code, message) = fixture.refused("OpenTunnel", four).await;
    assert_eq!((status, code.as_str()), (400, "LimitExceededException"));
    assert!(message.contains("at most 3 services"), "{message}");
    let (first, _) = fixture.open(services(&["A", "B", "C"])).await;
    fixture.open(json!({})).await;
    let (status, code, message) = fixture.refused("OpenTunnel", json!({})).await;
    assert_eq!((status, code.as_str()), (400, "LimitExceededException"));
    assert!(message.contains("at most 2 open tunnels"), "{message}");
    fixture.ok("CloseTunnel", json!({"tunnelId": first})).await;
    fixture.open(json!({})).await;
}
