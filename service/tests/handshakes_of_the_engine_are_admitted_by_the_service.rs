//! The engine's listener and the service's gate together: an AWS client opens a tunnel, proxies shake
//! hands over TLS, and the answers are those that proxies know.

use std::sync::Arc;

use adit_engine::link::{Admission, Grant, Link, RelayControl, ServeConfig, serve};
use adit_engine::tls::server_config_from;
use adit_proto::{Mode, TunnelId};
use adit_service::{ApiSettings, Running, Service, Settings};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;

mod support;
use support::Client;

/// Keeps the links it is given, and lets go of them when told.
struct Relay {
    ended: mpsc::UnboundedSender<String>,
}

impl RelayControl for Relay {
    fn end_side(&self, tunnel: &TunnelId, mode: Mode, _: u64) {
        let _ = self.ended.send(format!("{tunnel} {mode}"));
    }

    fn end_tunnel(&self, tunnel: &TunnelId) {
        let _ = self.ended.send(tunnel.to_string());
    }
}

struct Fixture {
    running: Running<Relay>,
    links: mpsc::UnboundedReceiver<(Grant, Link)>,
    ended: mpsc::UnboundedReceiver<String>,
    gone: mpsc::UnboundedSender<Grant>,
}

impl Fixture {
    async fn new() -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let settings = Settings::new(ApiSettings::unsigned(any).unwrap(), any);
        let (sender, links) = mpsc::unbounded_channel();
        let (ended_sender, ended) = mpsc::unbounded_channel();
        let (gone, mut gone_receiver) = mpsc::unbounded_channel::<Grant>();
        let started = Service::start(settings, async |listener, identity, gate| {
            let config = ServeConfig {
                tls: Some(server_config_from(identity.chain, identity.key)?),
                ..ServeConfig::default()
            };
            let admission = Arc::clone(&gate);
            // As the relay does once the link is in its loop.
            let attached = Arc::clone(&gate);
            let on_link = move |grant: Grant, link| {
                attached.connected(&grant);
                drop(sender.send((grant, link)));
            };
            tokio::spawn(serve(
                listener,
                config,
                admission,
                on_link,
                std::future::pending(),
            ));
            tokio::spawn(async move {
                while let Some(grant) = gone_receiver.recv().await {
                    gate.disconnected(&grant);
                }
            });
            Ok(Relay {
                ended: ended_sender,
            })
        });
        Self {
            running: started.await.unwrap_or_else(|error| panic!("{error}")),
            links,
            ended,
            gone,
        }
    }

    fn client(&self) -> Client {
        Client {
            ca_pem: self.running.ca_pem.clone(),
            api: self.running.api_address,
            tunnel: self.running.tunnel_address,
        }
    }

    async fn api(&self, operation: &str, body: Value) -> Value {
        self.client().api(operation, body).await
    }

    async fn shake_hands(
        &self,
        mode: &str,
        token: &Value,
        client_token: Option<&str>,
    ) -> (TlsStream<TcpStream>, String) {
        self.client().shake_hands(mode, token, client_token).await
    }

    async fn is_connected(&self, id: &Value, side: &str) -> bool {
        let described = self.api("DescribeTunnel", json!({"tunnelId": id})).await;
        described["tunnel"][side]["status"] == "CONNECTED"
    }

    async fn becomes(&self, id: &Value, side: &str, connected: bool) {
        for _ in 0..500 {
            if self.is_connected(id, side).await == connected {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{side} did not become connected={connected}");
    }
}

#[tokio::test]
async fn a_tunnel_from_opening_to_closing() {
    const CLIENT: Option<&str> = Some("0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f");
    let mut fixture = Fixture::new().await;
    let config = json!({"destinationConfig": {"services": ["SSH", "HTTP"]}});
    let opened = fixture.api("OpenTunnel", config).await;
    let id = &opened["tunnelId"];
    let destination = &opened["destinationAccessToken"];

    let (_stream, answer) = fixture
        .shake_hands("destination", destination, CLIENT)
        .await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let (grant, _link) = fixture.links.recv().await.unwrap();
    let services: Vec<_> = grant.services.iter().map(|s| s.as_str()).collect();
    assert_eq!(
        (grant.mode, services),
        (Mode::Destination, vec!["SSH", "HTTP"])
    );
    fixture
        .becomes(id, "destinationConnectionState", true)
        .await;
    assert!(!fixture.is_connected(id, "sourceConnectionState").await);

    for (mode, client_token, text) in [
        (
            "source",
            CLIENT,
            "does not belong to the requested local proxy mode.",
        ),
        (
            "destination",
            None,
            "Invalid client token: The provided client token does not match the client token that \
             was previously set.",
        ),
    ] {
        let (_, answer) = fixture.shake_hands(mode, destination, client_token).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.trim_end().ends_with(text), "{answer}");
    }

    fixture.gone.send(grant).unwrap();
    fixture
        .becomes(id, "destinationConnectionState", false)
        .await;
    let (_stream, answer) = fixture
        .shake_hands("destination", destination, CLIENT)
        .await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "a reconnect: {answer}");

    let rotate = json!({"tunnelId": id, "clientMode": "DESTINATION"});
    fixture.api("RotateTunnelAccessToken", rotate).await;
    let id_text = id.as_str().unwrap();
    assert_eq!(
        fixture.ended.recv().await.unwrap(),
        format!("{id_text} destination")
    );
    let (_, answer) = fixture
        .shake_hands("destination", destination, CLIENT)
        .await;
    assert!(
        answer.trim_end().ends_with("Invalid access token"),
        "{answer}"
    );

    fixture.api("CloseTunnel", json!({"tunnelId": id})).await;
    assert_eq!(fixture.ended.recv().await.unwrap(), id_text);
    let source = &opened["sourceAccessToken"];
    let (_, answer) = fixture.shake_hands("source", source, None).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("Tunnel is closed"), "{answer}");
}
