//! Paths, bodies and the other protocols of the port.

use super::*;

#[tokio::test]
async fn what_is_no_operation_says_so() {
    let mut fixture = Fixture::new().await;
    for (method, path) in [
        ("GET", "/jobs"),
        ("GET", "/thing-groups"),
        ("PUT", "/things/t"),
        ("POST", "/things"),
        ("POST", "/things/t/principals"),
        ("GET", "/things/t/principals/x"),
        ("GET", "/keys-and-certificate"),
        ("DELETE", "/certificates"),
    ] {
        let refused = fixture.refused(method, path, Value::Null).await;
        assert_eq!(
            code(&refused),
            (404, "UnknownOperationException"),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn bodies_that_are_no_objects_are_refused_without_being_repeated() {
    let mut fixture = Fixture::new().await;
    for body in ["secret", "[]", "{", "{\"thingTypeName\": }", "\u{feff}{}"] {
        let answered = fixture.send("POST", "/things/t", None, body).await;
        let refused = refusal(&answered);
        assert_eq!(code(&refused), INVALID, "{body}");
        assert!(!refused.2.contains("secret"));
    }
    let answered = fixture
        .send("POST", "/things/t", None, " ".repeat(320 * 1024 + 1))
        .await;
    assert_eq!(refusal(&answered).0, 413);
}

#[tokio::test]
async fn without_an_mqtt_listener_there_is_no_endpoint() {
    let mut fixture = Fixture::new().await;
    for (query, part) in [
        ("", "--mqtt-listen"),
        ("?endpointType=iot:Data-ATS", "--mqtt-listen"),
        ("?endpointType=iot%3AData-ATS", "--mqtt-listen"),
        ("?endpointType=iot:Jobs", "iot:Data and iot:Data-ATS only"),
        ("?endpointType=x", "none of"),
    ] {
        let path = format!("/endpoint{query}");
        let refused = fixture.refused("GET", &path, Value::Null).await;
        assert_eq!(code(&refused), INVALID, "{query}");
        assert!(refused.2.contains(part), "{query}: {refused:?}");
    }
}

#[tokio::test]
async fn sts_tells_who_calls() {
    let mut fixture = Fixture::new().await;
    let form = |body: &'static str| {
        Request::post("/")
            .header("host", "localhost")
            .header(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            )
            .body(Body::from(body))
            .unwrap()
    };
    let request = form("Action=GetCallerIdentity&Version=2011-06-15");
    let answered = fixture.client.send(request).await;
    assert_eq!(answered.head.status(), 200);
    assert_eq!(answered.head.headers()["content-type"], "text/xml");
    let id = answered.head.headers()["x-amzn-requestid"]
        .to_str()
        .unwrap();
    let expected = format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <GetCallerIdentityResult><Arn>arn:aws:iam::000000000000:user/anonymous</Arn>\
         <UserId>anonymous</UserId><Account>000000000000</Account></GetCallerIdentityResult>\
         <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>\
         </GetCallerIdentityResponse>\n"
    );
    assert_eq!(answered.text, expected);
    let refused = fixture.client.send(form("Action=AssumeRole")).await;
    assert_eq!(refused.head.status(), 400);
    let code = "<Code>InvalidAction</Code>";
    assert!(refused.text.contains(code), "{}", refused.text);
}
