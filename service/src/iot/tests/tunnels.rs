//! What tunnels know of the registry.

use super::*;

fn to(thing: &str) -> Value {
    json!({"destinationConfig": {"thingName": thing, "services": ["SSH"]}})
}

#[tokio::test]
async fn a_tunnel_is_opened_to_a_registered_thing_only() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    let refused = client.refused("OpenTunnel", to("t")).await;
    let (status, code, message) = &refused;
    assert_eq!((*status, &**code), (400, "ResourceNotFoundException"));
    assert!(message.contains("create it"), "{message}");
    let listed = client.ok("ListTunnels", json!({})).await;
    assert_eq!(listed, json!({"tunnelSummaries": []}));
    client.ok("OpenTunnel", json!({})).await;

    fixture.thing("t").await;
    let opened = fixture.client.ok("OpenTunnel", to("t")).await;
    let mut rotation = to("u");
    rotation["tunnelId"] = opened["tunnelId"].clone();
    rotation["clientMode"] = json!("DESTINATION");
    let client = &mut fixture.client;
    let refused = client
        .refused("RotateTunnelAccessToken", rotation.clone())
        .await;
    assert_eq!(refused.1, "ResourceNotFoundException");
    fixture.thing("u").await;
    let client = &mut fixture.client;
    client.ok("RotateTunnelAccessToken", rotation).await;
}

#[tokio::test]
async fn an_installation_without_a_registry_switches_the_check_off() {
    let mut settings = settings();
    settings.unregistered_things = true;
    let running = start(settings).await;
    let mut client = Client::new(&running).await;
    client.ok("OpenTunnel", to("t")).await;
}
