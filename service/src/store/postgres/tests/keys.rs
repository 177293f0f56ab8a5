//! Nodes that seal notifications with one key or with two.

use std::fs;
use std::path::Path;

use serde_json::json;
use tokio::task::{JoinSet, LocalSet};

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

    /// Starts them in the same moment. Those that run, and what the others are refused with.
    async fn start_together(
        &self,
        names: &[&str],
    ) -> (Vec<(String, Running<FakeRelay>)>, Vec<String>) {
        let (local, mut starts) = (LocalSet::new(), JoinSet::new());
        for name in names {
            let (name, settings) = ((*name).to_owned(), self.settings(name));
            let start = async move {
                let relay = async |_, _, _| Ok(FakeRelay::default());
                (name, Service::start(settings, relay).await)
            };
            starts.spawn_local_on(start, &local);
        }
        let (mut running, mut refused) = (Vec::new(), Vec::new());
        for (name, started) in local.run_until(starts.join_all()).await {
            match started {
                Ok(node) => running.push((name, node)),
                Err(error) => refused.push(error.to_string()),
            }
        }
        (running, refused)
    }

    /// Gives a new key to all of them.
    fn agree(&self, names: &[&str]) {
        let [first, others @ ..] = names else { return };
        drop(sealer_in(&self.parent.path().join(first)));
        for name in others {
            drop(DataDir::open(&self.parent.path().join(name)).unwrap());
            fs::copy(self.key(first), self.key(name)).unwrap();
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

/// A database where nodes with a key that none of the others will have ran before.
async fn after_others(database: &Database) -> Nodes {
    let nodes = Nodes {
        url: database.url().await,
        parent: tempfile::tempdir().unwrap(),
    };
    nodes.start("before").await.stop().await.unwrap();
    nodes
}

#[tokio::test]
async fn nodes_that_start_together_with_one_new_key_all_run() {
    let Some(database) = Database::new() else {
        return;
    };
    let nodes = after_others(&database).await;
    for names in [&["a", "b"][..], &["c", "d", "e", "f"]] {
        nodes.agree(names);
        let (running, refused) = nodes.start_together(names).await;
        assert_eq!(refused, [""; 0]);
        for (_, node) in running {
            node.stop().await.unwrap();
        }
    }
}

#[tokio::test]
async fn of_nodes_that_start_together_with_two_new_keys_those_with_one_run() {
    let Some(database) = Database::new() else {
        return;
    };
    let nodes = after_others(&database).await;
    let keys = [["a", "b"], ["c", "d"]];
    keys.iter().for_each(|names| nodes.agree(names));
    let (running, refused) = nodes.start_together(&["a", "c", "b", "d"]).await;
    let mut names: Vec<_> = running.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert!(keys.iter().any(|those| names == *those), "{names:?} run");
    assert_eq!(refused.len(), 2);
    let mut texts = refused.iter();
    assert!(
        texts.all(|text| text.contains("copy notify.key")),
        "{refused:?}"
    );
    // They left nothing that keeps anybody out.
    let entered = database.number("SELECT count(*) FROM nodes").await;
    assert_eq!(entered, names.len() as i64);
}

fn sealer_in(path: &Path) -> Sealer {
    Sealer::in_dir(&DataDir::open(path).unwrap()).unwrap()
}
