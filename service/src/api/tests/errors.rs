//! Refusals have AWS's shape, whatever a client sends.

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::testing::{connect, request};

fn builder() -> axum::http::request::Builder {
    Request::post("/").header("host", "localhost")
}

#[tokio::test]
async fn the_target_decides_not_the_path_nor_the_content_type() {
    let mut fixture = Fixture::new().await;
    for path in [
        "/",
        "/api/",
        "/a/b?c=d",
        "//",
        "/tunnel?local-proxy-mode=source",
    ] {
        let request = Request::post(path)
            .header("Host", "localhost:1")
            .header("X-AMZ-TARGET", "IoTSecuredTunneling.ListTunnels")
            .body(Body::from("{}"));
        let answered = fixture.client.send(request.unwrap()).await;
        assert_eq!(answered.json(), json!({"tunnelSummaries": []}), "{path}");
    }
    let mut empty = request("ListTunnels", Body::empty());
    empty.headers_mut().remove("content-type");
    assert!(fixture.client.send(empty).await.head.status().is_success());
}

#[tokio::test]
async fn unknown_operations() {
    let mut fixture = Fixture::new().await;
    let list = "IoTSecuredTunneling.ListTunnels";
    for targets in [
        &[][..],
        &[""],
        &["ListTunnels"],
        &["IoTSecuredTunneling."],
        &["IoTSecuredTunneling.listTunnels"],
        &["IoTSecureTunneling.ListTunnels"],
        &["IoTSecuredTunneling.DeleteTunnel"],
        &[list, list],
    ] {
        let builder = targets.iter().fold(builder(), |builder, target| {
            builder.header("x-amz-target", *target)
        });
        let answered = fixture
            .client
            .send(builder.body(Body::from("{}")).unwrap())
            .await;
        let (status, code, _) = answered.refusal();
        assert_eq!(
            (status, code.as_str()),
            (400, "UnknownOperationException"),
            "{targets:?}"
        );
    }
}

#[tokio::test]
async fn bodies_that_are_no_object() {
    let mut fixture = Fixture::new().await;
    let deep = format!("{}{}", "{\"a\":".repeat(1_000), "1}");
    for body in [
        "{",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{}x",
        "<html>",
        "{\"a\":1,}",
        "\u{feff}{}",
        &deep,
    ] {
        let answered = fixture
            .client
            .send(request("OpenTunnel", body.to_owned()))
            .await;
        let (status, code, message) = answered.refusal();
        assert_eq!(
            (status, code.as_str()),
            (400, "SerializationException"),
            "{body}"
        );
        assert!(!message.contains(body) || body.len() == 1, "{message}");
    }
    let not_utf8 = request("OpenTunnel", &b"{\"description\":\"\xff\"}"[..]);
    let (_, code, _) = fixture.client.send(not_utf8).await.refusal();
    assert_eq!(code, "SerializationException");
}

#[tokio::test]
async fn other_methods() {
    let mut fixture = Fixture::new().await;
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "ODD"] {
        let mut request = request("ListTunnels", Body::empty());
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        let answered = fixture.client.send(request).await;
        assert_eq!(answered.head.headers()["allow"], "POST");
        let (status, code, _) = answered.refusal();
        assert_eq!(
            (status, code.as_str()),
            (405, "UnknownOperationException"),
            "{method}"
        );
    }
    let head = Request::head("/").header("host", "localhost");
    let answered = fixture.client.send(head.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (answered.head.status().as_u16(), answered.text.as_str()),
        (405, "")
    );
}

#[tokio::test]
async fn bodies_up_to_320_kib() {
    let mut fixture = Fixture::new().await;
    let padded = |size: usize| format!("{{{}}}", " ".repeat(size - 2));
    for (size, good) in [(327_680, true), (327_681, false), (900_000, false)] {
        // A connection is not used again after a body that was too large.
        fixture.client = Client::new(&fixture.running).await;
        let answered = fixture
            .client
            .send(request("ListTunnels", padded(size)))
            .await;
        assert_eq!(answered.head.status().is_success(), good, "{size}");
        if !good {
            let (status, code, _) = answered.refusal();
            assert_eq!(
                (status, code.as_str()),
                (413, "RequestEntityTooLargeException")
            );
            assert_eq!(answered.head.headers()["connection"], "close");
        }
    }
    // The largest that the model allows, raw and escaped by a client that sends ASCII only.
    let tags: Vec<_> = (0..50)
        .map(|n| json!({"key": format!("{n:𠜎>128}"), "value": "𠜎".repeat(256)}))
        .collect();
    let largest = json!({"description": "🚇".repeat(2_048), "tags": tags}).to_string();
    for body in [escaped(&largest), largest] {
        fixture.client = Client::new(&fixture.running).await;
        let answered = fixture.client.send(request("OpenTunnel", body)).await;
        assert_eq!(answered.head.status(), 200, "{}", answered.text);
    }
}

/// With `\uXXXX` for what is not ASCII, as Python's `json` writes it.
fn escaped(json: &str) -> String {
    let escape = |unit: u16| match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    json.encode_utf16().map(escape).collect()
}

#[tokio::test]
async fn requests_under_another_name_are_not_for_us() {
    let mut fixture = Fixture::new().await;
    for host in ["evil.example", "localhost.evil.example", "192.0.2.1", ""] {
        let request = Request::post("/")
            .header("host", host)
            .header("x-amz-target", "IoTSecuredTunneling.ListTunnels")
            .body(Body::from("{}"));
        let (status, code, message) = fixture.client.send(request.unwrap()).await.refusal();
        assert_eq!(
            (status, code.as_str()),
            (403, "AccessDeniedException"),
            "{host}"
        );
        assert!(message.contains("Host"), "{message}");
    }
    for host in ["localhost:8443", "127.0.0.1", "[::1]:1"] {
        let mut request = request("ListTunnels", "{}");
        request.headers_mut().insert("host", host.parse().unwrap());
        assert!(
            fixture
                .client
                .send(request)
                .await
                .head
                .status()
                .is_success(),
            "{host}"
        );
    }
}

/// A page of somebody else's need not read the answer to do harm, and what it sends so bears the right name.
#[tokio::test]
async fn requests_that_pages_of_others_make_are_not_for_us() {
    let mut fixture = Fixture::new().await;
    let create = |origin: &str| {
        Request::post("/things/of-a-page")
            .header("host", "localhost")
            .header("content-type", "text/plain")
            .header("origin", origin)
            .body(Body::from("{}"))
            .unwrap()
    };
    for origin in [
        "https://evil.example",
        "http://localhost.evil.example:80",
        "null",
        "",
    ] {
        let answered = fixture.client.send(create(origin)).await;
        assert_eq!(answered.head.status(), 403, "{origin}: {}", answered.text);
    }
    for origin in [
        "http://localhost:3000",
        "https://127.0.0.1",
        "http://[::1]:1",
    ] {
        let answered = fixture.client.send(create(origin)).await;
        assert_eq!(answered.head.status(), 200, "{origin}: {}", answered.text);
    }
}

#[tokio::test]
async fn no_text_of_a_request_comes_back_in_an_error() {
    let mut fixture = Fixture::new().await;
    let canary = "<script>canary\u{1b}[31m";
    for (operation, body) in [
        ("OpenTunnel", json!({"description": format!("{canary}\n")})),
        (
            "OpenTunnel",
            json!({"destinationConfig": {"services": [canary]}}),
        ),
        ("DescribeTunnel", json!({"tunnelId": canary})),
        (
            "RotateTunnelAccessToken",
            json!({"tunnelId": "a", "clientMode": canary}),
        ),
        (
            "TagResource",
            json!({"resourceArn": canary, "tags": [{"key": "k", "value": "v"}]}),
        ),
        ("ListTunnels", json!({"nextToken": canary})),
    ] {
        let answered = fixture.client.call(operation, &body).await;
        answered.refusal();
        assert!(
            !answered.text.contains("canary"),
            "{operation}: {}",
            answered.text
        );
    }
}

/// Whatever the bytes: no answer, or one with no body, or JSON. Never HTML.
#[tokio::test]
async fn malformed_http_is_never_answered_with_html() {
    let fixture = Fixture::new().await;
    let long_header = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    for bytes in [
        "rubbish\r\n\r\n",
        "POST / HTTP/3.0\r\n\r\n",
        "POST / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /tunnel HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &long_header,
    ] {
        let mut stream = connect(&fixture.running).await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        // Nothing more comes from us, so the server must not wait for more either.
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(!answer.contains('<'), "{bytes:.60}: {answer}");
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            continue;
        };
        let is_json = (head.contains("application/x-amz-json-1.1")
            || head.contains("application/json"))
            && serde_json::from_str::<Value>(body).is_ok();
        assert!(body.is_empty() || is_json, "{bytes:.60}: {answer}");
    }
}
