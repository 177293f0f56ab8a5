//! Every operation when all is well: the members of the answers, and what they do.

use adit_engine::link::Admission;
use adit_proto::Mode;
use serde_json::json;

use super::*;
use crate::testing::{PEER, eventually, upgrade_request};

#[tokio::test]
async fn an_empty_request_opens_a_tunnel() {
    let mut fixture = Fixture::new().await;
    let opened = fixture.ok("OpenTunnel", json!({})).await;
    assert_eq!(
        members(&opened),
        [
            "destinationAccessToken",
            "sourceAccessToken",
            "tunnelArn",
            "tunnelId"
        ]
    );
    let id = text(&opened["tunnelId"]);
    id.parse::<uuid::Uuid>().unwrap();
    assert_eq!(
        opened["tunnelArn"],
        format!("arn:aws:iot:us-east-1:000000000000:tunnel/{id}")
    );
    let [source, destination] =
        ["sourceAccessToken", "destinationAccessToken"].map(|name| text(&opened[name]));
    assert_ne!(source, destination);
    assert_eq!(source[..17], destination[..17], "one routing key");
    assert!((60..=120).contains(&source.len()));

    let tunnel = fixture.describe(&id).await;
    assert_eq!(
        members(&tunnel),
        [
            "createdAt",
            "destinationConnectionState",
            "lastUpdatedAt",
            "sourceConnectionState",
            "status",
            "timeoutConfig",
            "tunnelArn",
            "tunnelId",
        ]
    );
    assert_eq!(tunnel["status"], "OPEN");
    assert_eq!(
        tunnel["timeoutConfig"],
        json!({"maxLifetimeTimeoutMinutes": 720})
    );
    assert_eq!(
        tunnel["sourceConnectionState"],
        json!({"status": "DISCONNECTED"})
    );
    assert_eq!(
        tunnel["destinationConnectionState"],
        json!({"status": "DISCONNECTED"})
    );
    assert!(tunnel["createdAt"].as_f64().unwrap() > 1.7e9);
    assert_eq!(tunnel["createdAt"], tunnel["lastUpdatedAt"]);
}

#[tokio::test]
async fn a_full_request_comes_back_in_the_description() {
    let mut fixture = Fixture::new().await;
    let config = json!({"thingName": "thing1", "services": ["SSH", "HTTP1"]});
    let tags = json!([{"key": "Owner", "value": "Admin"}, {"key": "Empty", "value": ""}]);
    let request = json!({
        "description": "demo \u{e9} 🚇",
        "tags": tags,
        "destinationConfig": config,
        "timeoutConfig": {"maxLifetimeTimeoutMinutes": 30},
        "unknownMember": {"is": "ignored"},
    });
    let (id, arn) = fixture.open(request).await;
    let tunnel = fixture.describe(&id).await;
    assert_eq!(tunnel["description"], "demo \u{e9} 🚇");
    assert_eq!(tunnel["destinationConfig"], config);
    assert_eq!(tunnel["timeoutConfig"]["maxLifetimeTimeoutMinutes"], 30);
    let sorted = json!([{"key": "Empty", "value": ""}, {"key": "Owner", "value": "Admin"}]);
    assert_eq!(tunnel["tags"], sorted);
    let listed = fixture
        .ok("ListTagsForResource", json!({"resourceArn": arn}))
        .await;
    assert_eq!(listed, json!({"tags": sorted}));
    let list = fixture
        .ok("ListTunnels", json!({"thingName": "thing1"}))
        .await;
    assert_eq!(
        members(&list["tunnelSummaries"][0]),
        [
            "createdAt",
            "description",
            "lastUpdatedAt",
            "status",
            "tunnelArn",
            "tunnelId"
        ]
    );
    assert_eq!(members(&list), ["tunnelSummaries"]);
}

#[tokio::test]
async fn null_members_are_absent_members() {
    let mut fixture = Fixture::new().await;
    let request = json!({
        "description": null,
        "tags": null,
        "destinationConfig": {"services": ["SSH"], "thingName": null},
        "timeoutConfig": {"maxLifetimeTimeoutMinutes": null},
    });
    let (id, _) = fixture.open(request).await;
    let tunnel = fixture.describe(&id).await;
    assert_eq!(tunnel["destinationConfig"], json!({"services": ["SSH"]}));
    assert_eq!(tunnel["timeoutConfig"]["maxLifetimeTimeoutMinutes"], 720);
    fixture
        .ok(
            "ListTunnels",
            json!({"nextToken": null, "maxResults": null}),
        )
        .await;
    fixture
        .ok("CloseTunnel", json!({"tunnelId": id, "delete": null}))
        .await;
    assert_eq!(fixture.describe(&id).await["status"], "CLOSED");
}

#[tokio::test]
async fn closing_can_be_repeated_and_delete_forgets() {
    let mut fixture = Fixture::new().await;
    let (id, _) = fixture.open(json!({})).await;
    for _ in 0..2 {
        assert_eq!(
            fixture.ok("CloseTunnel", json!({"tunnelId": id})).await,
            json!({})
        );
        assert_eq!(fixture.describe(&id).await["status"], "CLOSED");
    }
    let delete = json!({"tunnelId": id, "delete": true});
    assert_eq!(fixture.ok("CloseTunnel", delete.clone()).await, json!({}));
    for (operation, body) in [
        ("DescribeTunnel", json!({"tunnelId": id})),
        ("CloseTunnel", delete),
    ] {
        let (status, code, _) = fixture.refused(operation, body).await;
        assert_eq!((status, code.as_str()), (400, "ResourceNotFoundException"));
    }
    let list = fixture.ok("ListTunnels", json!({})).await;
    assert_eq!(list, json!({"tunnelSummaries": []}));
    let end = format!("end_tunnel {id}");
    let calls = fixture.running.relay.relay.take_calls();
    // Each time, also when it is gone: the call before may have ended before it cut anybody.
    assert_eq!(calls, [end.clone(), end.clone(), end.clone(), end]);
}

#[tokio::test]
async fn rotation_answers_with_the_rotated_tokens_only() {
    let mut fixture = Fixture::new().await;
    let (id, arn) = fixture.open(json!({})).await;
    let mut seen = std::collections::BTreeSet::new();
    for (mode, expected) in [
        ("SOURCE", &["sourceAccessToken", "tunnelArn"][..]),
        ("DESTINATION", &["destinationAccessToken", "tunnelArn"]),
        (
            "ALL",
            &["destinationAccessToken", "sourceAccessToken", "tunnelArn"],
        ),
    ] {
        let body = json!({"tunnelId": id, "clientMode": mode});
        let rotated = fixture.ok("RotateTunnelAccessToken", body).await;
        assert_eq!(members(&rotated), expected);
        assert_eq!(rotated["tunnelArn"], arn);
        for name in expected.iter().filter(|name| name.ends_with("Token")) {
            assert!(seen.insert(text(&rotated[name])), "a fresh token");
        }
    }
}

#[tokio::test]
async fn rotation_with_a_destination_config() {
    let mut fixture = Fixture::new().await;
    let (id, _) = fixture
        .open(json!({"destinationConfig": {"thingName": "a", "services": ["SSH", "VNC"]}}))
        .await;
    let rotate = |mode: &str, thing: &str, services: Value| {
        json!({
            "tunnelId": id,
            "clientMode": mode,
            "destinationConfig": {"thingName": thing, "services": services},
        })
    };
    for (body, part) in [
        (
            rotate("SOURCE", "b", json!(["SSH", "VNC"])),
            "clientMode SOURCE",
        ),
        (
            rotate("ALL", "b", json!(["SSH"])),
            "services of a tunnel are fixed",
        ),
    ] {
        let (status, code, message) = fixture.refused("RotateTunnelAccessToken", body).await;
        assert_eq!((status, code.as_str()), (400, "ValidationException"));
        assert!(message.contains(part), "{message}");
    }
    let body = rotate("DESTINATION", "b", json!(["VNC", "SSH"]));
    fixture.ok("RotateTunnelAccessToken", body).await;
    let config = &fixture.describe(&id).await["destinationConfig"];
    assert_eq!(
        config,
        &json!({"thingName": "b", "services": ["SSH", "VNC"]})
    );
}

#[tokio::test]
async fn a_closed_tunnel_can_be_tagged_but_not_rotated() {
    let mut fixture = Fixture::new().await;
    let (id, arn) = fixture.open(json!({})).await;
    fixture.ok("CloseTunnel", json!({"tunnelId": id})).await;
    let body = json!({"tunnelId": id, "clientMode": "ALL"});
    let (status, code, message) = fixture.refused("RotateTunnelAccessToken", body).await;
    assert_eq!((status, code.as_str()), (400, "ResourceNotFoundException"));
    assert!(message.contains("is closed"), "{message}");
    let tag = json!({"resourceArn": arn, "tags": [{"key": "a", "value": "b"}]});
    assert_eq!(fixture.ok("TagResource", tag).await, json!({}));
    let untag = json!({"resourceArn": arn, "tagKeys": ["a", "never there"]});
    assert_eq!(fixture.ok("UntagResource", untag).await, json!({}));
    let tags = fixture
        .ok("ListTagsForResource", json!({"resourceArn": arn}))
        .await;
    assert_eq!(tags, json!({"tags": []}));
}

#[tokio::test]
async fn connections_show_while_they_are_up() {
    let mut fixture = Fixture::new().await;
    let opened = fixture.ok("OpenTunnel", json!({})).await;
    let id = text(&opened["tunnelId"]);
    let token = text(&opened["destinationAccessToken"]);
    let gate = std::sync::Arc::clone(&fixture.running.relay.gate);
    let request = upgrade_request(Mode::Destination, &token, None);
    let grant = gate.admit(&request, PEER, "channel").await.unwrap();
    for (report, status) in [(true, "CONNECTED"), (false, "DISCONNECTED")] {
        if report {
            gate.connected(&grant);
        } else {
            gate.disconnected(&grant);
        }
        eventually(status, async || {
            let state = &fixture.describe(&id).await["destinationConnectionState"];
            state["status"] == status && state["lastUpdatedAt"].is_f64()
        })
        .await;
    }
    let tunnel = fixture.describe(&id).await;
    assert_eq!(
        tunnel["sourceConnectionState"],
        json!({"status": "DISCONNECTED"})
    );
}
