//! Signed calls: who gets in, and what each may do.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use adit_proto::Secret;
use axum::body::Body;
use axum::http::{HeaderValue, Request};
use serde_json::json;

use super::*;
use crate::access::sigv4::{Credentials, Moment};
use crate::clock::Timestamp;
use crate::clock::manual::ManualClock;
use crate::settings::ApiSettings;
use crate::testing::{Answered, signed};

const ANY: &str = "127.0.0.1:0";
const TUNNELLING: &str = "IoTSecuredTunneling";

/// A service with access keys, one for each user.
pub(super) struct Guarded {
    pub(super) clock: ManualClock,
    pub(super) running: Running<StartedRelay>,
    pub(super) client: Client,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

fn credentials(user: &str) -> Credentials {
    Credentials {
        access_key_id: format!("KEY{user}"),
        secret_access_key: Secret::new(format!("secret-of-{user}-canary")),
        session_token: None,
    }
}

pub(super) fn key(user: &str, statements: Value) -> Value {
    let credentials = credentials(user);
    json!({
        "accessKeyId": credentials.access_key_id,
        "secretAccessKey": credentials.secret_access_key.expose(),
        "user": user,
        "policy": {"Version": "2012-10-17", "Statement": statements},
    })
}

pub(super) fn everything() -> Value {
    json!({"Effect": "Allow", "Action": "*", "Resource": "*"})
}

impl Guarded {
    async fn new(keys: Value) -> Self {
        Self::with(keys, |_| {}).await
    }

    pub(super) async fn with(keys: Value, change: impl FnOnce(&mut crate::Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        fs::write(&file, keys.to_string()).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let clock = ManualClock::new();
        let mut settings = settings();
        settings.api = ApiSettings::signed(ANY.parse().unwrap(), Some(file.clone()));
        settings.clock = Some(clock.clock());
        // These tests are about tunnels alone.
        settings.unregistered_things = true;
        change(&mut settings);
        let running = start(settings).await;
        let client = Client::new(&running).await;
        Self {
            clock,
            running,
            client,
            file,
            _dir: dir,
        }
    }

    fn moment(&self) -> Moment {
        Moment::at(self.clock.now().wall)
    }

    pub(super) fn request(&self, user: &str, operation: &str, body: &Value) -> Request<Body> {
        let text = body.to_string();
        let request = crate::testing::request(operation, text.clone());
        let credentials = credentials(user);
        signed(
            request,
            text.as_bytes(),
            &credentials,
            TUNNELLING,
            self.moment(),
        )
    }

    pub(super) async fn call(&mut self, user: &str, operation: &str, body: Value) -> Answered {
        let request = self.request(user, operation, &body);
        self.client.send(request).await
    }

    pub(super) async fn ok(&mut self, user: &str, operation: &str, body: Value) -> Value {
        let answered = self.call(user, operation, body).await;
        assert!(
            answered.head.status().is_success(),
            "{operation}: {}",
            answered.text
        );
        answered.json()
    }

    pub(super) async fn denied(&mut self, user: &str, operation: &str, body: Value) -> String {
        let (status, code, message) = self.call(user, operation, body).await.refusal();
        assert_eq!(
            (status, code.as_str()),
            (403, "AccessDeniedException"),
            "{message}"
        );
        message
    }
}

#[tokio::test]
async fn only_what_a_key_has_signed_is_answered() {
    let mut service = Guarded::new(json!([key("ops", everything())])).await;
    let opened = service.ok("ops", "OpenTunnel", json!({})).await;
    service
        .ok(
            "ops",
            "DescribeTunnel",
            json!({"tunnelId": opened["tunnelId"]}),
        )
        .await;

    let good = |service: &Guarded| service.request("ops", "ListTunnels", &json!({}));
    let mut unsigned = good(&service);
    unsigned.headers_mut().remove("authorization");
    let mut malformed = good(&service);
    malformed
        .headers_mut()
        .insert("authorization", HeaderValue::from_static("Bearer x"));
    let stranger = service.request("nobody", "ListTunnels", &json!({}));
    let mut changed = good(&service);
    *changed.body_mut() = Body::from(r#"{"maxResults": 1}"#);
    let mut other_target = good(&service);
    let target = HeaderValue::from_static("IoTSecuredTunneling.CloseTunnel");
    other_target.headers_mut().insert("x-amz-target", target);
    let old = {
        let old = Timestamp::from_millis(service.clock.now().wall.millis() - 301_000);
        let request = crate::testing::request("ListTunnels", "{}");
        signed(
            request,
            b"{}",
            &credentials("ops"),
            TUNNELLING,
            Moment::at(old),
        )
    };
    let registry = {
        let request = crate::testing::request("ListTunnels", "{}");
        signed(request, b"{}", &credentials("ops"), "iot", service.moment())
    };
    for (request, expected) in [
        (unsigned, "MissingAuthenticationTokenException"),
        (malformed, "IncompleteSignatureException"),
        (stranger, "UnrecognizedClientException"),
        (changed, "InvalidSignatureException"),
        (other_target, "InvalidSignatureException"),
        (old, "InvalidSignatureException"),
        (registry, "InvalidSignatureException"),
    ] {
        let answered = service.client.send(request).await;
        let (status, code, _) = answered.refusal();
        assert_eq!((status, code.as_str()), (403, expected));
        assert!(!answered.text.contains("canary"), "{}", answered.text);
    }
    // Under any name: the signature is about it.
    let mut request = crate::testing::request("ListTunnels", "{}");
    let host = HeaderValue::from_static("tunnels.example.org");
    request.headers_mut().insert("host", host);
    let request = signed(
        request,
        b"{}",
        &credentials("ops"),
        "iotsecuredtunneling",
        service.moment(),
    );
    assert!(
        service
            .client
            .send(request)
            .await
            .head
            .status()
            .is_success()
    );
}

#[tokio::test]
async fn refusals_have_the_form_of_their_protocol() {
    let mut service = Guarded::new(json!([key("ops", everything())])).await;
    let rest = Request::get("/things").header("host", "localhost");
    let answered = service.client.send(rest.body(Body::empty()).unwrap()).await;
    assert_eq!(answered.head.status(), 403);
    assert_eq!(answered.head.headers()["content-type"], "application/json");
    let code = "MissingAuthenticationTokenException";
    assert_eq!(answered.head.headers()["x-amzn-errortype"], code);
    let body: Value = serde_json::from_str(&answered.text).unwrap();
    assert_eq!(body["__type"], code);

    let form = Request::post("/")
        .header("host", "localhost")
        .header(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        )
        .body(Body::from("Action=GetCallerIdentity"));
    let answered = service.client.send(form.unwrap()).await;
    assert_eq!(answered.head.status(), 403);
    assert_eq!(answered.head.headers()["content-type"], "text/xml");
    let code = "<Code>MissingAuthenticationToken</Code>";
    assert!(answered.text.contains(code), "{}", answered.text);

    let unknown = Request::get("/nothing/here").header("host", "localhost");
    let unknown = unknown.body(Body::empty()).unwrap();
    let unknown = signed(unknown, b"", &credentials("ops"), "iot", service.moment());
    let answered = service.client.send(unknown).await;
    assert_eq!(answered.head.status(), 404);
    assert!(
        answered.text.contains("UnknownOperationException"),
        "{}",
        answered.text
    );
}

#[tokio::test]
async fn a_policy_bounds_what_a_key_may_do() {
    let arn = |rest: &str| format!("arn:aws:iot:us-east-1:000000000000:{rest}");
    let lamps = json!([
        {"Effect": "Allow", "Action": "iot:OpenTunnel",
         "Resource": [arn("tunnel/*"), arn("thing/lamp-*")],
         "Condition": {"ForAllValues:StringEquals": {"iot:TunnelDestinationService": ["SSH"]}}},
        {"Effect": "Allow", "Action": ["iot:DescribeTunnel", "iot:TagResource"], "Resource": "*",
         "Condition": {"StringEquals": {"aws:ResourceTag/team": "lamps"}}},
        {"Effect": "Allow", "Action": "iot:CloseTunnel", "Resource": arn("tunnel/*"),
         "Condition": {"Bool": {"iot:Delete": "false"}}},
        {"Effect": "Allow", "Action": "iot:RotateTunnelAccessToken",
         "Resource": [arn("tunnel/*"), arn("thing/lamp-*")],
         "Condition": {"StringEquals": {"iot:ClientMode": "SOURCE"}}},
    ]);
    let keys = json!([key("ops", everything()), key("lamps", lamps)]);
    let mut service = Guarded::new(keys).await;
    let config = |thing: &str, service: &str| {
        let config = json!({"thingName": thing, "services": [service]});
        json!({"destinationConfig": config, "tags": [{"key": "team", "value": "lamps"}]})
    };
    let own = service
        .ok("lamps", "OpenTunnel", config("lamp-1", "SSH"))
        .await;
    let own = &own["tunnelId"];
    let message = service
        .denied("lamps", "OpenTunnel", config("door-1", "SSH"))
        .await;
    let expected = format!(
        "user lamps is not authorized to perform iot:OpenTunnel on resource {}",
        arn("thing/door-1")
    );
    assert_eq!(message, expected);
    service
        .denied("lamps", "OpenTunnel", config("lamp-1", "HTTP"))
        .await;
    service.denied("lamps", "ListTunnels", json!({})).await;

    service
        .ok("lamps", "DescribeTunnel", json!({"tunnelId": own}))
        .await;
    let other = service.ok("ops", "OpenTunnel", json!({})).await;
    let other = &other["tunnelId"];
    service
        .denied("lamps", "DescribeTunnel", json!({"tunnelId": other}))
        .await;
    // Whether a tunnel exists is for those who may ask.
    service
        .denied("lamps", "DescribeTunnel", json!({"tunnelId": "none"}))
        .await;

    let rotate = |id: &Value, mode: &str| json!({"tunnelId": id, "clientMode": mode});
    service
        .ok("lamps", "RotateTunnelAccessToken", rotate(own, "SOURCE"))
        .await;
    service
        .denied("lamps", "RotateTunnelAccessToken", rotate(own, "ALL"))
        .await;
    // The thing of the tunnel counts, named in the request or not.
    let door = service
        .ok("ops", "OpenTunnel", config("door-1", "SSH"))
        .await;
    let door = rotate(&door["tunnelId"], "SOURCE");
    service
        .denied("lamps", "RotateTunnelAccessToken", door)
        .await;

    let close = |delete: bool| json!({"tunnelId": own, "delete": delete});
    service.denied("lamps", "CloseTunnel", close(true)).await;
    service.ok("lamps", "CloseTunnel", close(false)).await;
}

#[tokio::test]
async fn keys_that_are_read_again_count_from_then_on() {
    let mut service = Guarded::new(json!([key("ops", everything())])).await;
    let write = |service: &Guarded, keys: &str| fs::write(&service.file, keys).unwrap();
    write(&service, "broken");
    assert!(service.running.reload().is_err());
    service.ok("ops", "ListTunnels", json!({})).await;
    write(&service, &json!([key("dev", everything())]).to_string());
    assert_eq!(service.running.reload().unwrap(), Some(1));
    let (_, code, _) = service
        .call("ops", "ListTunnels", json!({}))
        .await
        .refusal();
    assert_eq!(code, "UnrecognizedClientException");
    service.ok("dev", "ListTunnels", json!({})).await;
}

#[tokio::test]
async fn a_key_expires() {
    let mut expiring = key("ops", everything());
    // The manual clock begins on 23 November 2025, 12:13:20.
    expiring["expires"] = json!("2025-11-23T12:20:00Z");
    let mut service = Guarded::new(json!([expiring])).await;
    service.ok("ops", "ListTunnels", json!({})).await;
    service.clock.advance(Duration::from_secs(400));
    let (_, code, _) = service
        .call("ops", "ListTunnels", json!({}))
        .await
        .refusal();
    assert_eq!(code, "ExpiredTokenException");
}

/// T-23 of the reliability plan.
#[tokio::test]
async fn one_caller_cannot_use_up_what_all_share_nor_crowd_a_thing() {
    let keys = json!([key("flood", everything()), key("ops", everything())]);
    let mut service = Guarded::with(keys, |settings| {
        let mut quotas = crate::quotas::Quotas::default();
        quotas.set("open-tunnels-per-key=3").unwrap();
        quotas.set("open-tunnels-per-thing=2").unwrap();
        settings.unregistered_things = true;
        quotas.apply_to(&mut settings.limits);
    })
    .await;
    let to_lamp = json!({"destinationConfig": {"thingName": "lamp", "services": ["SSH"]}});
    for _ in 0..2 {
        service.ok("flood", "OpenTunnel", to_lamp.clone()).await;
    }
    let refused = service.call("ops", "OpenTunnel", to_lamp).await.refusal();
    let (status, code, message) = refused;
    assert_eq!((status, code.as_str()), (400, "LimitExceededException"));
    assert!(
        message.contains("at most 2 open tunnels to one thing"),
        "{message}"
    );
    let last = service.ok("flood", "OpenTunnel", json!({})).await;
    let refused = service.call("flood", "OpenTunnel", json!({})).await;
    let (status, code, message) = refused.refusal();
    assert_eq!((status, code.as_str()), (400, "LimitExceededException"));
    let expected = "at most 3 open tunnels of one access key";
    assert!(message.contains(expected), "{message}");
    // The others go on, and may make room.
    service.ok("ops", "OpenTunnel", json!({})).await;
    let close = json!({"tunnelId": last["tunnelId"]});
    service.ok("ops", "CloseTunnel", close).await;
    service.ok("flood", "OpenTunnel", json!({})).await;
}

/// T-23 of the reliability plan.
#[tokio::test]
async fn a_flood_of_open_tunnel_is_throttled_and_bounded() {
    let keys = json!([key("flood", everything()), key("ops", everything())]);
    let mut service = Guarded::with(keys, |settings| {
        settings.limits.open_tunnels_max = 20;
        settings.calls_per_second = Some(50);
    })
    .await;
    let mut codes = std::collections::BTreeMap::new();
    for round in 0..400 {
        if round % 100 == 0 {
            service.clock.advance(Duration::from_secs(1));
        }
        let answered = service.call("flood", "OpenTunnel", json!({})).await;
        let code = match answered.head.status().is_success() {
            true => "opened".to_owned(),
            false => answered.refusal().1,
        };
        *codes.entry(code).or_insert(0) += 1;
    }
    let count = |code: &str| codes.get(code).copied().unwrap_or(0);
    assert_eq!(count("opened"), 20);
    assert_eq!(count("LimitExceededException"), 180);
    assert_eq!(count("ThrottlingException"), 200);
    // Another key has its own rate.
    let listed = service.ok("ops", "ListTunnels", json!({})).await;
    assert_eq!(listed["tunnelSummaries"].as_array().unwrap().len(), 20);
}
