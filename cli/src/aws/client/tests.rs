use std::sync::atomic::{AtomicUsize, Ordering};

use adit_proto::Secret;
use adit_service::access::sigv4::{Authorization, Credentials, SKEW_MAX, verify};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::args::fleet::ApiArgs;
use crate::settings::web_proxies::WebProxies;
use crate::world::testing::world;

/// A service that gives these answers, one a connection, and keeps what it was asked.
struct Script {
    settings: ApiSettings,
    served: Arc<AtomicUsize>,
    asked: tokio::task::JoinHandle<Vec<String>>,
}

async fn script(answers: Vec<&'static str>) -> Script {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap());
    let endpoint = Endpoint::parse(&url).unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            while !String::from_utf8_lossy(&request).contains("\r\n\r\n") {
                let size = stream.read(&mut chunk).await.unwrap();
                request.extend_from_slice(&chunk[..size]);
            }
            asked.push(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        }
        asked
    });
    let settings = ApiSettings {
        tunneling: endpoint.clone(),
        iot: endpoint,
        region: "eu-west-1".to_owned(),
        credentials: Some(Credentials {
            access_key_id: "AKID".to_owned(),
            secret_access_key: Secret::new("canary".to_owned()),
            session_token: Some(Secret::new("session".to_owned())),
        }),
        ca: None,
        tunnel: None,
        mqtt: None,
        web_proxies: WebProxies::default(),
    };
    Script {
        settings,
        served,
        asked,
    }
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"a\":\"b\\n\"}";
const THROTTLED: &str =
    "HTTP/1.1 400 Bad Request\r\nContent-Length: 32\r\n\r\n{\"__type\":\"ThrottlingException\"}";
const DENIED: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 34\r\nx-amzn-RequestId: r1\r\n\r\n{\"__type\":\"AccessDeniedException\"}";

#[tokio::test]
async fn a_call_is_signed_and_tried_again_with_the_same_name() {
    let script = script(vec![THROTTLED, GOOD]).await;
    let client = Client::new(script.settings).unwrap();
    let output = client.tunneling("OpenTunnel", &json!({})).await.unwrap();
    assert_eq!(output, json!({ "a": "b\n" }));
    let asked = script.asked.await.unwrap();
    for (request, attempt) in asked.iter().zip(1..) {
        assert!(request.starts_with("POST /base/ HTTP/1.1\r\n"), "{request}");
        for line in [
            "x-amz-target: IoTSecuredTunneling.OpenTunnel\r\n".to_owned(),
            format!("amz-sdk-request: attempt={attempt}; max=3\r\n"),
            "x-amz-security-token: session\r\n".to_owned(),
        ] {
            assert!(request.contains(&line), "{request}");
        }
        let scope = "/eu-west-1/IoTSecuredTunneling/aws4_request, SignedHeaders=";
        assert!(
            request.contains("Credential=AKID/") && request.contains(scope),
            "{request}"
        );
        assert!(!request.contains("canary"));
    }
    let invocation = |request: &String| {
        let line = request
            .lines()
            .find(|line| line.starts_with("amz-sdk-invocation-id"));
        line.unwrap().to_owned()
    };
    assert_eq!(invocation(&asked[0]), invocation(&asked[1]));
}

#[tokio::test]
async fn a_refusal_is_not_tried_again_and_says_whose_key_it_was() {
    let script = script(vec![DENIED, GOOD]).await;
    let client = Client::new(script.settings).unwrap();
    let fault = client
        .tunneling("CloseTunnel", &json!({}))
        .await
        .unwrap_err();
    assert_eq!(
        fault.to_string(),
        "CloseTunnel: AccessDeniedException (request r1)"
    );
    assert!(fault.hint().contains("AKID") && fault.hint().contains("iot:CloseTunnel"));
    assert_eq!(script.served.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again_only_where_that_does_no_harm() {
    for (operation, served) in [("OpenTunnel", 1), ("DescribeTunnel", 2)] {
        let script = script(vec!["", GOOD]).await;
        let client = Client::new(script.settings).unwrap();
        let outcome = client.tunneling(operation, &json!({})).await;
        assert_eq!(outcome.is_ok(), served == 2, "{operation}: {outcome:?}");
        assert_eq!(script.served.load(Ordering::SeqCst), served, "{operation}");
    }
}

#[tokio::test]
async fn nobody_at_the_endpoint_is_said_with_the_place_to_look() {
    let script = script(vec![]).await;
    script.asked.await.unwrap();
    let authority = script.settings.tunneling.authority();
    let client = Client::new(script.settings).unwrap();
    let fault = client
        .tunneling("ListTunnels", &json!({}))
        .await
        .unwrap_err();
    let hint = format!("is `adit serve` running, and is its API at {authority}?");
    assert_eq!(fault.hint(), hint);
    assert_eq!(fault.code(), crate::exit::ExitCode::Unreachable);
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_not_repeated() {
    let html = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary";
    let script = script(vec![html]).await;
    let client = Client::new(script.settings).unwrap();
    let fault = client
        .tunneling("ListTunnels", &json!({}))
        .await
        .unwrap_err();
    assert!(fault.to_string().contains("no JSON") && !fault.to_string().contains("canary"));
}

#[test]
fn segments_are_encoded() {
    assert_eq!(encode("a:b/c d~é"), "a%3Ab%2Fc%20d~%C3%A9");
}

/// What the service makes of a call that is made with these settings: whose key it was, in which region, and
/// whether the signature is good with that key.
fn heard(settings: ApiSettings) -> Option<(String, String)> {
    let credentials = settings.credentials.clone()?;
    let client = Client::new(settings).unwrap();
    let call = Call {
        api: Api::Tunneling,
        operation: "ListTunnels",
        method: Method::POST,
        path: "/".to_owned(),
        query: String::new(),
        headers: Vec::new(),
        body: Bytes::new(),
        is_repeatable: true,
    };
    let endpoint = &client.settings.tunneling;
    let at = now();
    let request = client.request(&call, endpoint, Uuid::nil(), 1, at)?;
    let signed = Signable {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: "",
        headers: request.headers(),
        body: b"",
    };
    let mut id = String::new();
    verify(signed, Moment::at(at), SKEW_MAX, |shown| {
        id = shown.to_owned();
        Some((&credentials, ()))
    })
    .unwrap();
    let header = request.headers()[header::AUTHORIZATION].to_str().unwrap();
    let names = request.headers().keys().map(HeaderName::as_str);
    let parsed = Authorization::parse(header).unwrap();
    // `user-agent` and `connection` are added later.
    assert_eq!(parsed.signed_headers.len() + 3, names.count(), "{header}");
    Some((id, parsed.scope.region))
}

/// Threat T-20: each of 256 bytes in each part of an access key and in the region, as they come in. It is
/// refused, and the message names the variable; or the service reads just what was given, and the signature
/// over it is good.
#[test]
fn no_part_of_an_access_key_breaks_out_of_its_header() {
    let directory = tempfile::tempdir().unwrap();
    let resolved = |changed: &str, text: &str| {
        let mut world = world(directory.path());
        for (name, value) in [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", "canary"),
            ("AWS_SESSION_TOKEN", "session"),
            ("AWS_REGION", "r"),
            (changed, text),
        ] {
            world.variables.insert(name.to_owned(), value.into());
        }
        ApiSettings::resolve(&ApiArgs::default(), Api::Tunneling, &world)
    };
    let mut refused = 0;
    for byte in 0..=255u8 {
        let text = format!("a{}b", char::from(byte));
        for (name, expected) in [
            ("AWS_ACCESS_KEY_ID", (&*text, "r")),
            ("AWS_SESSION_TOKEN", ("AKID", "r")),
            ("AWS_REGION", ("AKID", &*text)),
        ] {
            let may_fail = !byte.is_ascii_alphanumeric();
            match resolved(name, &text) {
                Ok(settings) => {
                    let (id, region) = heard(settings).expect("what was let in can be sent");
                    assert_eq!((&*id, &*region), expected, "{name}: {byte}");
                }
                Err(fault) if may_fail => {
                    refused += 1;
                    assert!(fault.message().starts_with(name), "{}", fault.message());
                    fault.assert_showable();
                }
                Err(fault) => panic!("{name}: {byte}: {fault:?}"),
            }
        }
    }
    // 63 bytes may be in a key's id, 94 in a session token, 63 in a region.
    assert_eq!(refused, 3 * 256 - 63 - 94 - 63);
}
