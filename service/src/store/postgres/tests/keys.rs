//! Nodes that seal notifications with one key or with two.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::data_dir::DataDir;
use crate::notify::{Mailbox, Qos, Sealer, SessionStart};
use crate::service::{Running, Service};
use crate::settings::Settings;
use crate::store::StoreChoice;
use crate::testing::{Client, FakeRelay, StartedRelay, settings, start};
use crate::tunnels::ThingName;

/// Services with data directories of their own.
struct Nodes {
    url: PostgresUrl,
    parent: tempfile::TempDir,
}

impl Nodes {
    fn settings(&self, name: &str) -> Settings {
        Settings {
            data_dir: Some(self.parent.path().join(name)),
            store: Some(StoreChoice::Postgres(Box::new(self.url.clone()))),
            unregistered_things: true,
            ..settings()
        }
    }

    async fn start(&self, name: &str) -> Running<StartedRelay> {
        start(self.settings(name)).await
    }

    /// What a start is refused with.
    async fn refusal(&self, name: &str) -> String {
        let relay = async |_, _, _| Ok(FakeRelay::default());
        match Service::start(self.settings(name), relay).await {
            Ok(_) => panic!("the start of {name} should have been refused"),
            Err(error) => error.to_string(),
        }
    }

    fn key(&self, name: &str) -> std::path::PathBuf {
        self.parent.path().join(name).join("notify.key")
    }
}

#[tokio::test]
async fn a_node_with_another_notification_key_is_refused_until_it_has_that_of_the_others() {
    let Some(database) = Database::new() else {
        return;
    };
    let nodes = Nodes {
        url: database.url().await,
        parent: tempfile::tempdir().unwrap(),
    };
    let a = nodes.start("a").await;
    let text = nodes.refusal("b").await;
    let path = nodes.key("b").display().to_string();
    assert!(text.starts_with(&path), "{text}");
    assert!(text.contains("copy notify.key"), "{text}");
    assert_eq!(database.number("SELECT count(*) FROM nodes").await, 1);
    fs::copy(nodes.key("a"), nodes.key("b")).unwrap();
    let b = nodes.start("b").await;

    // A device that is not at the node where the tunnel is opened.
    let clock = ManualClock::new();
    let elsewhere = database.node(&clock).await;
    let (now, thing) = (clock.now().steady, ThingName::new("press-7").unwrap());
    let session = SessionStart {
        clean: true,
        resumable: true,
        until: now.after(Duration::from_secs(3_600)),
    };
    let opened = Mailbox::open(&elsewhere, now, &thing, session).await;
    let (connection, qos) = (opened.unwrap().connection, Some(Qos::AtLeastOnce));
    let subscribed = elsewhere.subscribe(&thing, connection, qos).await;
    assert_eq!(subscribed, Ok(true));
    let destination = json!({"thingName": "press-7", "services": ["SSH"]});
    let body = json!({"destinationConfig": destination});
    let tunnel = Client::new(&a).await.ok("OpenTunnel", body).await;
    let queued = elsewhere.next(now, &thing, connection).await;
    let message = queued.unwrap().expect("it waits").message;
    elsewhere.shut_down().await;
    b.stop().await.unwrap();
    let sealer = sealer_in(&nodes.parent.path().join("b"));
    let payload = sealer.open(&thing, &message.tunnel, &message.sealed);
    let payload = payload.expect("what one node seals, the other opens");
    let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        payload["clientAccessToken"],
        tunnel["destinationAccessToken"]
    );

    // Whoever starts alone decides anew, so that a lost key keeps nobody out for ever.
    a.stop().await.unwrap();
    let c = nodes.start("c").await;
    let text = nodes.refusal("a").await;
    assert!(text.contains("copy notify.key"), "{text}");
    c.stop().await.unwrap();
    nodes.start("a").await.stop().await.unwrap();
}

fn sealer_in(path: &Path) -> Sealer {
    Sealer::in_dir(&DataDir::open(path).unwrap()).unwrap()
}
