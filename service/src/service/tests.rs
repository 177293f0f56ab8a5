//! Starting, stopping and starting again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use adit_engine::link::Admission;
use adit_proto::Mode;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Client, FakeRelay, PEER, settings, start, upgrade_request};

fn settings_in(dir: &Path) -> Settings {
    Settings {
        data_dir: Some(dir.to_owned()),
        ..settings()
    }
}

async fn refusal(settings: Settings) -> StartError {
    let relay = async |_, _, _| Ok(FakeRelay::default());
    match Service::start(settings, relay).await {
        Ok(_) => panic!("the start should have been refused"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn endpoints_are_published_when_ready_and_taken_back_at_the_end() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let running = start(settings_in(&dir)).await;
    let path = dir.join("endpoints.json");
    let published: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let api = format!("https://localhost:{}", running.api_address.port());
    let tunnel = format!("localhost:{}", running.tunnel_address.port());
    assert_eq!(published, json!({"api": api, "tunnel": tunnel}));
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o700);
    assert_ne!(running.api_address.port(), running.tunnel_address.port());
    let relay = running.stop().await.unwrap();
    assert!(!path.exists());
    // The data plane is the caller's to end.
    assert!(relay.listener.local_addr().is_ok());
}

#[tokio::test]
async fn a_restart_keeps_the_authority_so_clients_need_nothing_new() {
    let parent = tempfile::tempdir().unwrap();
    let mut first = start(settings_in(parent.path())).await;
    let ca_pem = std::mem::take(&mut first.ca_pem);
    assert_eq!(
        fs::read_to_string(parent.path().join("ca.pem")).unwrap(),
        ca_pem
    );
    first.stop().await.unwrap();
    let mut second = start(settings_in(parent.path())).await;
    assert_eq!(second.ca_pem, ca_pem);
    second.ca_pem = ca_pem;
    Client::new(&second)
        .await
        .ok("ListTunnels", json!({}))
        .await;
}

#[tokio::test]
async fn what_a_crash_left_behind_is_not_believed() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("endpoints.json");
    fs::write(&path, "{}").unwrap();
    // This start fails, late; nobody may take the old file for the new one.
    let failing = Service::start(settings_in(parent.path()), async |_, _, _| {
        assert!(!path.exists());
        Err::<FakeRelay, _>(anyhow::anyhow!("no ring").context("cannot forward"))
    });
    let error = failing.await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "the relay did not start: cannot forward: no ring"
    );
    assert!(!path.exists());
}

#[tokio::test]
async fn the_relay_gets_the_listener_and_the_identity() {
    let running = start(settings()).await;
    let relay = &running.relay;
    assert_eq!(relay.listener.local_addr().unwrap(), running.tunnel_address);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(relay.identity.chain.clone(), relay.identity.key.clone_key());
    config.unwrap();
    let printed = format!("{:?}", relay.identity);
    assert!(!printed.contains("48, 129"), "no DER of the key: {printed}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut settings = settings();
    settings.tunnel_listen = address;
    let error = refusal(settings).await;
    assert!(matches!(error, StartError::Listen { address: a, .. } if a == address));
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on {address}: "))
    );
}

#[tokio::test]
async fn one_data_directory_serves_one_service() {
    let parent = tempfile::tempdir().unwrap();
    let first = start(settings_in(parent.path())).await;
    let error = refusal(settings_in(parent.path())).await;
    assert!(
        error
            .to_string()
            .contains("in use by another running service")
    );
    // The refused one has not taken the endpoints of the first away.
    assert!(parent.path().join("endpoints.json").exists());
    first.stop().await.unwrap();
    start(settings_in(parent.path()))
        .await
        .stop()
        .await
        .unwrap();
}

#[tokio::test]
async fn the_certificate_has_the_names_that_clients_use() {
    let mut settings = settings();
    settings.names = vec![
        ServerName::try_from("relay.example").unwrap(),
        ServerName::try_from("localhost").unwrap(),
    ];
    settings.tunnel_listen = "127.0.0.2:0".parse().unwrap();
    let names = certificate_names(&settings);
    let expected = [
        "localhost",
        "127.0.0.1",
        "::1",
        "127.0.0.2",
        "relay.example",
    ];
    let expected = expected.map(|name| ServerName::try_from(name).unwrap());
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_running_service_has_not_failed() {
    let mut running = start(settings()).await;
    let soon = Duration::from_millis(50);
    assert!(tokio::time::timeout(soon, running.failed()).await.is_err());
    running.background.abort_all();
    let error = running.failed().await;
    assert!(error.to_string().contains("a part of the service failed"));
}

#[tokio::test]
async fn a_damaged_store_is_not_started_with() {
    let parent = tempfile::tempdir().unwrap();
    start(settings_in(parent.path()))
        .await
        .stop()
        .await
        .unwrap();
    let path = parent.path().join("adit.db");
    fs::write(&path, "{}").unwrap();
    let error = refusal(settings_in(parent.path())).await;
    assert!(matches!(error, StartError::Store(_)));
    let text = error.to_string();
    assert!(text.contains("/adit.db is damaged: "), "{text}");
    assert!(!parent.path().join("endpoints.json").exists());
    // As the message says.
    fs::remove_file(&path).unwrap();
    start(settings_in(parent.path())).await;
}

#[tokio::test]
async fn a_store_that_takes_nothing_is_503_on_both_sides_until_it_does() {
    let parent = tempfile::tempdir().unwrap();
    let running = start(settings_in(parent.path())).await;
    let mut client = Client::new(&running).await;
    let opened = client.ok("OpenTunnel", json!({})).await;
    let token = opened["sourceAccessToken"].as_str().unwrap();
    let request = upgrade_request(Mode::Source, token, None);
    let gate = &running.relay.gate;
    // Somebody else writes, and does not end.
    let obstacle = rusqlite::Connection::open(parent.path().join("adit.db")).unwrap();
    obstacle.execute_batch("BEGIN IMMEDIATE").unwrap();

    let (status, code, message) = client.refused("OpenTunnel", json!({})).await;
    assert_eq!(
        (status, code.as_str()),
        (503, "ServiceUnavailableException")
    );
    assert_eq!(message, "the store is unavailable");
    let denial = gate.admit(&request, PEER, "channel").await.unwrap_err();
    assert_eq!(denial.status, 503);
    let listed = client.ok("ListTunnels", json!({})).await;
    assert_eq!(listed["tunnelSummaries"].as_array().unwrap().len(), 1);

    obstacle.execute_batch("ROLLBACK").unwrap();
    drop(obstacle);
    gate.admit(&request, PEER, "channel").await.unwrap();
    client.ok("OpenTunnel", json!({})).await;
    let gate = Arc::clone(gate);
    let _relay = running.stop().await.unwrap();
    // The directory belongs to the next service, although the relay still asks.
    let next = start(settings_in(parent.path())).await;
    let other = Client::new(&next).await.ok("OpenTunnel", json!({})).await;
    let token = other["sourceAccessToken"].as_str().unwrap();
    let request = upgrade_request(Mode::Source, token, None);
    assert!(gate.admit(&request, PEER, "channel").await.is_err());
    next.relay
        .gate
        .admit(&request, PEER, "channel")
        .await
        .unwrap();
}

/// A relay that has lost a loop.
struct Crippled;

impl RelayControl for Crippled {
    fn end_side(&self, _: &adit_proto::TunnelId, _: Mode, _: u64) {}

    fn end_tunnel(&self, _: &adit_proto::TunnelId) {}

    fn failed(&self) -> std::pin::Pin<Box<dyn Future<Output = &'static str> + Send + '_>> {
        Box::pin(std::future::ready("a loop"))
    }
}

/// Else nobody would start it again, and its tunnels would stay dead.
#[tokio::test]
async fn a_relay_that_fails_is_a_failure_of_the_service() {
    let mut running = Service::start(settings(), async |_, _, _| Ok(Crippled))
        .await
        .unwrap();
    let error = running.failed().await.to_string();
    assert!(error.contains("a loop of the relay"), "{error}");
}

/// One request to the registry's API that succeeds.
async fn registry_call(
    client: &mut Client,
    method: &str,
    path: &str,
    principal: &str,
    body: Value,
) -> Value {
    let request = axum::http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("x-amzn-principal", principal);
    let answered = client.send(request.body(body.to_string().into()).unwrap());
    let answered = answered.await;
    let (status, text) = (answered.head.status(), &answered.text);
    assert_eq!(status, 200, "{method} {path}: {text}");
    serde_json::from_str(text).unwrap_or_default()
}

#[tokio::test]
async fn devices_and_what_waits_for_them_outlive_a_restart() {
    use crate::audit::AuditLog;
    use crate::notify::{Mailbox, Qos, SessionStart};
    use crate::registry::{CertificateId, CertificateStatus};
    use crate::tunnels::ThingName;

    let parent = tempfile::tempdir().unwrap();
    let first = start(settings_in(parent.path())).await;
    let mut client = Client::new(&first).await;
    let call = registry_call;
    call(&mut client, "POST", "/things/press-7", "-", json!({})).await;
    let path = "/keys-and-certificate?setAsActive=true";
    let made = call(&mut client, "POST", path, "-", json!({})).await;
    let arn = made["certificateArn"].as_str().unwrap();
    let path = "/things/press-7/principals";
    call(&mut client, "PUT", path, arn, json!({})).await;
    let document = r#"{"Version":"2012-10-17","Statement":[]}"#;
    let document = document.replace(
        "[]",
        r#"[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]"#,
    );
    let body = json!({"policyDocument": document});
    call(&mut client, "POST", "/policies/p", "-", body).await;
    let target = json!({"target": arn});
    call(&mut client, "PUT", "/target-policies/p", "-", target).await;

    let thing = ThingName::new("press-7").unwrap();
    let now = Clock::system().now().steady;
    let session = SessionStart {
        clean: false,
        resumable: true,
        until: now.after(Duration::from_secs(3_600)),
    };
    let opened = Mailbox::open(&*first.store, now, &thing, session).await;
    let (connection, qos) = (opened.unwrap().connection, Some(Qos::AtLeastOnce));
    let subscribed = first.store.subscribe(&thing, connection, qos).await;
    assert!(subscribed.unwrap());
    let destination = json!({"thingName": "press-7", "services": ["SSH"]});
    let body = json!({"destinationConfig": destination});
    let tunnel = client.ok("OpenTunnel", body).await;
    first.stop().await.unwrap();

    let second = start(settings_in(parent.path())).await;
    let id = CertificateId::from_hex(made["certificateId"].as_str().unwrap()).unwrap();
    let device = second.store.device(&id).await.unwrap().unwrap();
    assert_eq!(device.status, CertificateStatus::Active);
    assert_eq!(device.things, std::slice::from_ref(&thing));
    assert_eq!(device.policies, [document.into()]);
    let mut client = Client::new(&second).await;
    let described = registry_call(&mut client, "GET", "/things/press-7", "-", json!({})).await;
    assert_eq!(described["thingName"], "press-7");

    let opened = Mailbox::open(&*second.store, now, &thing, session).await;
    let opened = opened.unwrap();
    assert!(opened.present);
    let queued = second.store.next(now, &thing, opened.connection).await;
    let about = queued.unwrap().unwrap().message.tunnel;
    assert_eq!(Some(about.as_str()), tunnel["tunnelId"].as_str());
    let records = second.store.latest(100).await.unwrap();
    let opened = records.iter().any(|line| line.contains("iot:OpenTunnel"));
    assert!(opened, "{records:?}");
}
