//! A service with the engine's relay is killed; the next one takes up its tunnels: who was let in with
//! a client token comes back, a spent token stays spent, an unused one is still good.

use std::fs;
use std::path::Path;

use adit_engine::link::{Relay, ServeConfig};
use adit_engine::ring::IoChoice;
use adit_engine::tls::server_config_from;
use adit_service::{ApiSettings, Running, Service, Settings};
use serde_json::{Value, json};

mod support;
use support::Client;

async fn start(dir: &Path) -> (Running<Relay>, Client) {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut settings = Settings::new(ApiSettings::unsigned(any).unwrap(), any);
    settings.data_dir = Some(dir.to_owned());
    let started = Service::start(settings, async |listener, identity, gate| {
        let config = ServeConfig {
            tls: Some(server_config_from(identity.chain, identity.key)?),
            ..ServeConfig::default()
        };
        let one = Some(1.try_into()?);
        Ok(Relay::start(listener, config, gate, IoChoice::Epoll, one)?)
    });
    let running = started.await.unwrap_or_else(|error| panic!("{error}"));
    let client = Client {
        ca_pem: running.ca_pem.clone(),
        api: running.api_address,
        tunnel: running.tunnel_address,
    };
    (running, client)
}

/// What `kill -9` at this moment would leave on the disk.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

async fn status(client: &Client, id: &Value) -> (Value, Value) {
    let described = client.api("DescribeTunnel", json!({"tunnelId": id})).await;
    let tunnel = &described["tunnel"];
    let side = tunnel["destinationConnectionState"]["status"].clone();
    (tunnel["status"].clone(), side)
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_outlive_a_killed_service() {
    const CLIENT: Option<&str> = Some("0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f");
    let (first_dir, second_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, client) = start(first_dir.path()).await;
    let config = json!({"destinationConfig": {"services": ["SSH"]}, "description": "d"});
    let opened = client.api("OpenTunnel", config).await;
    let spent = client.api("OpenTunnel", json!({})).await;
    let (destination, source) = (
        &opened["destinationAccessToken"],
        &opened["sourceAccessToken"],
    );
    let (_bound, answer) = client.shake_hands("destination", destination, CLIENT).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let used = &spent["sourceAccessToken"];
    let (_spent, answer) = client.shake_hands("source", used, None).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");

    copy(first_dir.path(), second_dir.path());
    let (second, client) = start(second_dir.path()).await;
    let found = status(&client, &opened["tunnelId"]).await;
    assert_eq!(found, (json!("OPEN"), json!("DISCONNECTED")));
    let (_back, answer) = client.shake_hands("destination", destination, CLIENT).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let (_new, answer) = client.shake_hands("source", source, None).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let (_, answer) = client.shake_hands("source", used, None).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("previously used"), "{answer}");

    // After an orderly stop the same holds, in the same directory.
    drop(first);
    drop(second.stop().await.unwrap());
    let (_third, client) = start(second_dir.path()).await;
    let (_back, answer) = client.shake_hands("destination", destination, CLIENT).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let (_, answer) = client.shake_hands("source", source, None).await;
    assert!(answer.contains("previously used"), "{answer}");
}
