//! What the audit file says about calls and tunnels.

use std::fs;
use std::sync::Arc;

use adit_engine::link::Admission;
use adit_proto::Mode;
use axum::http::HeaderValue;
use serde_json::json;

use super::access::{Guarded, everything, key};
use super::*;
use crate::Settings;
use crate::testing::{PEER, eventually, upgrade_request};

fn read(dir: &tempfile::TempDir) -> Vec<Value> {
    let text = fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
    assert!(!text.contains("canary"), "{text}");
    assert!(
        !text.chars().any(|c| c.is_control() && c != '\n'),
        "{text:?}"
    );
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn audited(keys: Value) -> (Guarded, tempfile::TempDir) {
    audited_with(keys, |_| {}).await
}

async fn audited_with(
    keys: Value,
    change: impl FnOnce(&mut Settings),
) -> (Guarded, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let service = Guarded::with(keys, move |settings| {
        settings.data_dir = Some(path);
        change(settings);
    })
    .await;
    (service, dir)
}

#[tokio::test]
async fn every_call_and_every_change_has_a_line_and_no_secret() {
    let nothing = json!({"Effect": "Deny", "Action": "*", "Resource": "*"});
    let keys = json!([key("ops", everything()), key("guest", nothing)]);
    let (mut service, dir) = audited(keys).await;
    let config = json!({"thingName": "lamp", "services": ["SSH"]});
    let open = json!({"destinationConfig": config, "description": "canary"});
    let opened = service.ok("ops", "OpenTunnel", open).await;
    let (id, arn) = (text(&opened["tunnelId"]), text(&opened["tunnelArn"]));
    service
        .denied("guest", "CloseTunnel", json!({"tunnelId": id}))
        .await;
    service
        .call("nobody", "ListTunnels", json!({}))
        .await
        .refusal();

    let token = text(&opened["sourceAccessToken"]);
    let gate = &service.running.relay.gate;
    let request = upgrade_request(Mode::Source, &token, None);
    let channel = "6f9619ff-8b86-4011-b42d-00cf4fc964ff";
    let grant = gate.admit(&request, PEER, channel).await.unwrap();
    gate.connected(&grant);
    gate.disconnected(&grant);
    eventually("the link is gone", async || {
        read(&dir)
            .iter()
            .any(|line| line["event"] == "SideDisconnected")
    })
    .await;
    let rotate = json!({"tunnelId": id, "clientMode": "ALL"});
    service.ok("ops", "RotateTunnelAccessToken", rotate).await;
    service
        .ok("ops", "CloseTunnel", json!({"tunnelId": id}))
        .await;

    let lines = read(&dir);
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            let who = field("user") + &field("side") + &field("by");
            format!(
                "{} {who} {} {}",
                field("event"),
                field("action"),
                field("outcome")
            )
        })
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        seen,
        [
            "TunnelOpened",
            "ApiCall ops iot:OpenTunnel Success",
            "ApiCall guest iot:CloseTunnel AccessDeniedException",
            "ApiCall UnrecognizedClientException",
            "SideAdmitted source",
            "SideConnected source",
            "SideDisconnected source",
            "TokenRotated source",
            "TokenRotated destination",
            "ApiCall ops iot:RotateTunnelAccessToken Success",
            "TunnelClosed call",
            "ApiCall ops iot:CloseTunnel Success",
        ]
    );
    let things = "arn:aws:iot:us-east-1:000000000000:tunnel/*";
    let thing = "arn:aws:iot:us-east-1:000000000000:thing/lamp";
    assert_eq!(lines[1]["resources"], json!([things, thing, arn]));
    assert_eq!(lines[1]["accessKeyId"], "KEYops");
    let source = lines[1]["source"].as_str().unwrap();
    assert!(source.starts_with("127.0.0.1:"), "{source}");
    // Specification, section 12: with peer address and channel id.
    for line in &lines[4..=6] {
        assert_eq!(line["channelId"], channel);
        assert_eq!(line["peer"], PEER.to_string());
        assert_eq!(line["session"], lines[4]["session"]);
    }
    assert!(!format!("{lines:?}").contains(&token));
}

/// T-22 of the reliability plan: `read` looks for raw control characters.
#[tokio::test]
async fn what_clients_send_is_escaped() {
    let (mut service, dir) = audited(json!([key("ops", everything())])).await;
    let escape = "\u{1b}[31m\u{9b}\r\n";
    for body in [
        json!({"destinationConfig": {"services": [escape]}}),
        json!({"destinationConfig": {"services": ["S"], "thingName": escape}}),
    ] {
        service.call("ops", "OpenTunnel", body).await.refusal();
    }
    let mut request = service.request("ops", "ListTunnels", &json!({}));
    let agent = HeaderValue::from_bytes("a\u{9b}31m\u{202e}".as_bytes()).unwrap();
    request.headers_mut().insert("user-agent", agent);
    assert!(
        service
            .client
            .send(request)
            .await
            .head
            .status()
            .is_success()
    );
    let lines = read(&dir);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2]["userAgent"], "a\\u{9b}31m\\u{202e}");
}

#[tokio::test]
async fn a_flood_of_strangers_does_not_fill_the_audit() {
    let (mut service, dir) = audited(json!([key("ops", everything())])).await;
    for _ in 0..60 {
        service
            .call("nobody", "ListTunnels", json!({}))
            .await
            .refusal();
    }
    service.ok("ops", "ListTunnels", json!({})).await;
    let lines = read(&dir);
    assert_eq!(lines.len(), 11);
    assert_eq!(lines[10]["unrecorded"], 50);
}

/// T-23 of the reliability plan: who floods is named, and pushes out nobody else.
#[tokio::test]
async fn a_flood_of_one_key_is_attributed_and_does_not_fill_the_audit() {
    let keys = json!([key("flood", everything()), key("ops", everything())]);
    let (mut service, dir) = audited_with(keys, |settings| {
        settings.calls_per_second = Some(20);
    })
    .await;
    for _ in 0..80 {
        service.call("flood", "ListTunnels", json!({})).await;
    }
    service
        .call("nobody", "ListTunnels", json!({}))
        .await
        .refusal();
    service.ok("ops", "ListTunnels", json!({})).await;
    let lines = read(&dir);
    let is_throttled = |line: &&Value| line["outcome"] == "ThrottlingException";
    assert_eq!(lines.iter().filter(is_throttled).count(), 10);
    for line in lines.iter().filter(is_throttled) {
        assert_eq!(line["user"], "flood");
        assert_eq!(line["action"], "iot:ListTunnels");
        assert!(line["accessKeyId"].is_string(), "{line}");
    }
    assert_eq!(lines.len(), 20 + 10 + 2);
    assert_eq!(lines[30]["unrecorded"], 50);
}

#[tokio::test]
async fn links_that_are_up_when_the_service_stops_have_their_end_recorded() {
    let (mut service, dir) = audited(json!([key("ops", everything())])).await;
    let opened = service.ok("ops", "OpenTunnel", json!({})).await;
    let request = upgrade_request(Mode::Source, &text(&opened["sourceAccessToken"]), None);
    let gate = Arc::clone(&service.running.relay.gate);
    let grant = gate.admit(&request, PEER, "channel").await.unwrap();
    gate.connected(&grant);
    let events = |name: &str| {
        let lines = read(&dir);
        lines.iter().filter(|line| line["event"] == name).count()
    };
    eventually("the link is there", async || events("SideConnected") == 1).await;
    service.running.stop().await.unwrap();
    assert_eq!(events("SideDisconnected"), 1);
    let last = read(&dir).pop().unwrap();
    assert_eq!(last["tunnelId"], opened["tunnelId"]);
    assert_eq!(last["peer"], PEER.to_string());
    // The relay ends after the service, and tells it again.
    gate.disconnected(&grant);
    assert_eq!(events("SideDisconnected"), 1);
}
