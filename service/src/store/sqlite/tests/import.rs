//! The file of tunnels that older versions kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::token::{ClientTokenHash, TokenHash, sha256};

fn side(token: &adit_proto::AccessToken, use_: Value) -> Value {
    let hash = URL_SAFE_NO_PAD.encode(TokenHash::of(token).as_bytes());
    json!({"token_sha256": hash, "token_use": use_, "first_session": 3, "updated_ms": null})
}

fn client_hash(name: &str) -> String {
    let token = adit_proto::ClientToken::strict(format!("{name:0>32}")).unwrap();
    URL_SAFE_NO_PAD.encode(ClientTokenHash::of(&token).as_bytes())
}

/// The file as version 0.1 wrote it.
fn file(rig: &Rig, open: &Opened, closed: &Opened) -> String {
    let now = rig.now().wall.millis();
    let tunnel = |opened: &Opened, sequence: u64, state: Value, source: Value| {
        let key = crate::token::RoutingKey::of(&opened.id);
        json!({
            "id": opened.id.as_str(), "routing_key": key.as_str(), "sequence": sequence, "state": state,
            "created_ms": now - 60_000, "updated_ms": now - 30_000, "lifetime_minutes": 60,
            "description": "d", "config": {"thing": "press-7", "services": ["SSH"]}, "tags": {"k": "v"},
            "source": source, "destination": side(&opened.destination, json!("spent")),
        })
    };
    let bound = json!({"bound": {"client_token_sha256": client_hash("c")}});
    let ends = json!({"open": {"ends_ms": now + 59 * 60_000}});
    let forget = json!({"closed": {"forget_ms": now + 60_000}});
    let table = json!({
        "next_sequence": 9, "sessions_until": 1000,
        "tunnels": [
            tunnel(closed, 4, forget, side(&closed.source, json!("unused"))),
            tunnel(open, 7, ends, side(&open.source, bound)),
        ],
    });
    let table = table.to_string();
    let hash = URL_SAFE_NO_PAD.encode(sha256(&[table.as_bytes()]));
    format!("{{\"version\":1,\"sha256\":\"{hash}\",\"table\":\n{table}\n}}\n")
}

fn write(rig: &Rig, text: &str) {
    let dir = DataDir::open(rig.parent.path()).unwrap();
    dir.write("tunnels.json", text.as_bytes(), 0o600).unwrap();
}

#[tokio::test]
async fn the_tunnels_of_older_versions_are_taken_over_once() {
    let rig = Rig::new();
    let ((open, _), (closed, _)) = (prepare("open"), prepare("closed"));
    let text = file(&rig, &open, &closed);
    // The second time is what a crash before the old file's removal leaves.
    for _ in 0..2 {
        write(&rig, &text);
        let store = rig.start();
        assert!(!rig.parent.path().join("tunnels.json").exists());
        assert_eq!(store.number("SELECT count(*) FROM tunnels").await, 2);
        assert_eq!(store.is_open(rig.now(), "open").await, Some(true));
        assert_eq!(store.is_open(rig.now(), "closed").await, Some(false));
        let back = spend(&store, rig.now(), &open, Mode::Source, Some("c")).await;
        assert!(back.unwrap().session >= 1000);
        let other = spend(&store, rig.now(), &open, Mode::Source, Some("d")).await;
        assert_eq!(other.unwrap_err(), Refusal::OtherClientToken);
        let spent = spend(&store, rig.now(), &open, Mode::Destination, None).await;
        assert_eq!(spent.unwrap_err(), Refusal::Used);
        let view = store.describe(rig.now(), &open.id).await.unwrap();
        assert_eq!(view.tags["k"], "v");
        assert_eq!(view.config.unwrap().services.len(), 1);
    }
    let now = rig.clock.advance(std::time::Duration::from_secs(59 * 60));
    let store = rig.start();
    assert_eq!(store.is_open(now, "open").await, Some(false));
}

#[tokio::test]
async fn a_damaged_old_file_is_refused_and_left_as_it_is() {
    let rig = Rig::new();
    let text = file(&rig, &prepare("open").0, &prepare("closed").0);
    for bad in [
        &text[..text.len() / 2],
        "{}",
        &text.replace("press-7", "press-8"),
    ] {
        write(&rig, bad);
        let error = rig.try_start().err().unwrap().to_string();
        assert!(error.contains("/tunnels.json is damaged: "), "{error}");
        assert!(error.contains("move it away"), "{error}");
        assert!(!error.contains("press"), "{error}");
        let path = rig.parent.path().join("tunnels.json");
        assert_eq!(std::fs::read_to_string(path).unwrap(), bad);
    }
}
