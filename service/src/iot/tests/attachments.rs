use super::*;

#[tokio::test]
async fn attachments_show_from_both_ends() {
    let mut fixture = Fixture::new().await;
    let (_, first) = fixture.certificate().await;
    let (_, second) = fixture.certificate().await;
    fixture.thing("a:b").await;
    fixture.thing("c").await;
    for (name, arn) in [("a%3Ab", &first), ("a:b", &second), ("c", &first)] {
        let path = format!("/things/{name}/principals");
        for _ in 0..2 {
            assert_eq!(fixture.ok_with("PUT", &path, arn).await, json!({}));
        }
    }
    let mut both = [first.clone(), second.clone()];
    both.sort();
    let path = "/things/a:b/principals";
    let listed = fixture.ok("GET", path, Value::Null).await;
    assert_eq!(listed, json!({"principals": both}));
    let things = fixture.ok_with("GET", "/principals/things", &first).await;
    assert_eq!(things, json!({"things": ["a:b", "c"]}));
    let page = "/principals/things?maxResults=1";
    let things = fixture.ok_with("GET", page, &first).await;
    assert_eq!(things["things"], json!(["a:b"]));
    let page = format!("{page}&nextToken={}", text(&things["nextToken"]));
    let things = fixture.ok_with("GET", &page, &first).await;
    assert_eq!(things, json!({"things": ["c"]}));

    let refused = fixture.refused("DELETE", "/things/c", Value::Null).await;
    assert_eq!(code(&refused), INVALID, "it has a certificate");
    for _ in 0..2 {
        let path = "/things/c/principals";
        assert_eq!(fixture.ok_with("DELETE", path, &first).await, json!({}));
    }
    fixture.ok("DELETE", "/things/c", Value::Null).await;
}

#[tokio::test]
async fn attachments_need_both_ends() {
    let mut fixture = Fixture::new().await;
    let (id, arn) = fixture.certificate().await;
    fixture.thing("t").await;
    let unknown = arn.replace(&id, &"0".repeat(64));
    for method in ["PUT", "DELETE"] {
        for (path, principal) in [
            ("/things/u/principals", arn.as_str()),
            ("/things/t/principals", &unknown),
        ] {
            let refused = fixture.refused_with(method, path, principal).await;
            assert_eq!(code(&refused), NOT_FOUND, "{method} {path} {principal}");
        }
        for bad in [
            "",
            "x",
            &id,
            &arn[1..],
            &arn.replace("us-east-1", "us-east-2"),
        ] {
            let path = "/things/t/principals";
            let refused = fixture.refused_with(method, path, bad).await;
            assert_eq!(code(&refused), INVALID, "{method} {bad}");
        }
        let path = "/things/t/principals";
        let refused = fixture.refused(method, path, Value::Null).await;
        assert_eq!(code(&refused), INVALID);
        assert!(refused.2.contains("must not be null"), "{refused:?}");
    }
    for (kind, good) in [
        ("NON_EXCLUSIVE_THING", true),
        ("EXCLUSIVE_THING", false),
        ("x", false),
    ] {
        let path = format!("/things/t/principals?thingPrincipalType={kind}");
        let answered = fixture.send("PUT", &path, Some(&arn), "").await;
        assert_eq!(answered.head.status().is_success(), good, "{kind}");
    }
    for path in ["/things/u/principals", "/things/u"] {
        let refused = fixture.refused("GET", path, Value::Null).await;
        assert_eq!(code(&refused), NOT_FOUND, "{path}");
    }
    let refused = fixture
        .refused_with("GET", "/principals/things", &unknown)
        .await;
    assert_eq!(code(&refused), NOT_FOUND);
}
