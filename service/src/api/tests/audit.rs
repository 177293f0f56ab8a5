//! What the audit file says about calls and tunnels.

use std::fs;

use adit_engine::link::Admission;
use adit_proto::Mode;
use axum::http::HeaderValue;
use serde_json::json;

use super::access::{Guarded, everything, key};
use super::*;
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
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let service = Guarded::with(keys, move |settings| settings.data_dir = Some(path)).await;
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
