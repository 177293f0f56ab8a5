use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use adit_proto::{Mode, TunnelId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

fn call(user_agent: &str) -> Event {
    Event::Call(ApiCall {
        request_id: Uuid::nil(),
        user: Some("ops".into()),
        access_key_id: None,
        source: "192.0.2.1:5".parse().unwrap(),
        user_agent: Some(user_agent.to_owned()),
        action: "iot:OpenTunnel".to_owned(),
        resources: vec!["arn:aws:iot:r:0:thing/a".to_owned()],
        outcome: "Success",
        unrecorded: 0,
    })
}

fn record(event: Event) -> Arc<Record> {
    let time = Timestamp::from_millis(1_440_938_160_042);
    Arc::new(Record { time, event })
}

#[test]
fn a_record_is_one_line_of_json() {
    let id: TunnelId = "t-1".parse().unwrap();
    let change = Change::Admitted {
        side: Mode::Source,
        session: 7,
        peer: Peer {
            address: "[2001:db8::1]:40000".parse().unwrap(),
            channel_id: Uuid::nil(),
        },
    };
    let line = record(Event::Tunnel { id, change }).to_json();
    let expected = json!({
        "time": "2015-08-30T12:36:00.042Z",
        "event": "SideAdmitted",
        "tunnelId": "t-1",
        "side": "source",
        "session": 7,
        "peer": "[2001:db8::1]:40000",
        "channelId": "00000000-0000-0000-0000-000000000000",
    });
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
    let line = record(call("boto3")).to_json();
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["resources"], json!(["arn:aws:iot:r:0:thing/a"]));
    assert_eq!(
        (&value["outcome"], &value["unrecorded"]),
        (&json!("Success"), &Value::Null)
    );
}

/// As a listener for both families gives it.
#[test]
fn an_ipv4_address_is_written_as_one() {
    let mapped = "[::ffff:192.0.2.1]:5".parse().unwrap();
    let (Event::Call(call), id) = (call("boto3"), "t-1".parse().unwrap()) else {
        unreachable!("it is a call");
    };
    let change = Change::Connected {
        side: Mode::Source,
        session: 7,
        peer: Peer {
            address: mapped,
            channel_id: Uuid::nil(),
        },
    };
    let call = ApiCall {
        source: mapped,
        ..call
    };
    for (event, field) in [
        (Event::Call(call), "source"),
        (Event::Tunnel { id, change }, "peer"),
    ] {
        let value: Value = serde_json::from_str(&record(event).to_json()).unwrap();
        assert_eq!(value[field], "192.0.2.1:5");
    }
}

/// T-22 of the reliability plan.
#[test]
fn no_text_of_a_client_reaches_a_terminal_as_it_is() {
    let all: String = ('\0'..='\u{9f}').chain(['\u{202e}', '\u{2028}']).collect();
    let line = record(call(&all)).to_json();
    assert!(!line.chars().any(char::is_control), "{line:?}");
    assert!(!line.contains(['\u{202e}', '\u{2028}']), "{line:?}");
    let long = record(call(&"x".repeat(10_000))).to_json();
    assert!(long.len() < 1_000, "{} bytes", long.len());
}

/// What every log that can be asked must do.
pub(crate) async fn gives_the_newest_first<L: AuditLog>(log: &L) {
    for n in 0..10 {
        log.append(record(call(&format!("agent-{n}"))))
            .await
            .unwrap();
    }
    let latest = log.latest(3).await.unwrap();
    let agents: Vec<_> = latest
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["userAgent"].clone())
        .collect();
    assert_eq!(agents, ["agent-9", "agent-8", "agent-7"]);
}

#[tokio::test]
async fn the_memory_is_bounded() {
    let log = MemoryAudit::new(5);
    gives_the_newest_first(&log).await;
    assert_eq!(log.latest(100).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_file_keeps_every_line_and_ends_a_torn_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    fs::write(&path, "torn").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = Arc::new(AuditFile::open(path.clone(), FILE_SIZE_MAX).unwrap());
    let writers = (0..100).map(|n| {
        let file = Arc::clone(&file);
        tokio::spawn(async move { file.append(record(call(&format!("agent-{n}")))).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let (torn, lines) = text.split_once('\n').unwrap();
    assert_eq!(torn, "torn");
    let lines: std::collections::HashSet<_> = lines.lines().collect();
    assert_eq!(lines.len(), 100);
    assert!(
        lines
            .iter()
            .all(|l| serde_json::from_str::<Value>(l).is_ok())
    );
}

#[tokio::test]
async fn files_are_put_aside_and_few_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let file = AuditFile::open(path.clone(), 1_000).unwrap();
    for n in 0..100 {
        file.append(record(call(&format!("agent-{n}"))))
            .await
            .unwrap();
    }
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .inspect(|entry| assert!(entry.metadata().unwrap().len() <= 1_000))
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [".1", ".2", ".3", ".4"].map(|end| format!("audit.jsonl{end}"));
    assert_eq!((&names[0][..], &names[1..]), ("audit.jsonl", &expected[..]));
    assert!(fs::read_to_string(&path).unwrap().contains("agent-99"));
}

/// By somebody who keeps the lines elsewhere, say.
#[tokio::test]
async fn no_record_is_lost_when_the_file_was_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let file = AuditFile::open(path.clone(), 300).unwrap();
    file.append(record(call("first"))).await.unwrap();
    let taken = dir.path().join("elsewhere");
    fs::rename(&path, &taken).unwrap();
    file.append(record(call("second"))).await.unwrap();
    let [taken, left] = [taken, path].map(|path| fs::read_to_string(path).unwrap());
    assert!(taken.contains("first") && left.contains("second"), "{left}");
}

#[tokio::test]
async fn what_cannot_be_written_is_told_and_written_again_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let file = AuditFile::open(path.clone(), 300).unwrap();
    file.append(record(call("first"))).await.unwrap();
    // In the way of the rotation.
    fs::write(dir.path().join("audit.jsonl.3"), "").unwrap();
    let obstacle = dir.path().join("audit.jsonl.4");
    fs::create_dir(&obstacle).unwrap();
    let error = file.append(record(call("second"))).await.unwrap_err();
    assert!(error.to_string().contains("audit.jsonl: "), "{error}");
    fs::remove_dir(&obstacle).unwrap();
    file.append(record(call("third"))).await.unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("third"));
}
