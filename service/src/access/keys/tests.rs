use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::access::policy::Conditions;

const KEY: &str = r#"{"accessKeyId": "ADITKEY", "secretAccessKey": "canary-canary-canary",
    "user": "ops", "policy": {"Statement": {"Effect": "Allow", "Action": "iot:List*", "Resource": "*"}}}"#;

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    (dir, file)
}

#[test]
fn a_first_start_makes_one_key_and_tells_clients() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let dir = DataDir::open(&path).unwrap();
    let (keys, made) = AccessKeys::in_dir(&dir).unwrap();
    let made = made.unwrap();
    assert_eq!(
        (made.access_key_id.len(), &made.access_key_id[..4]),
        (20, "ADIT")
    );
    let secret = made.secret_access_key.expose();
    assert_eq!(secret.len(), 40);
    let table = keys.table();
    let key = table.find(&made.access_key_id).unwrap();
    assert_eq!(key.credentials, made);
    let policy = &key.caller.policy;
    assert!(policy.allows("iot:OpenTunnel", "arn:x", &Conditions::new()));
    let expected = format!(
        "[adit]\naws_access_key_id = {}\naws_secret_access_key = {secret}\n",
        made.access_key_id
    );
    assert_eq!(
        fs::read_to_string(path.join("credentials")).unwrap(),
        expected
    );
    for name in ["credentials", "access-keys.json"] {
        assert_eq!(
            fs::metadata(path.join(name)).unwrap().mode() & 0o7777,
            0o600
        );
    }
    // A second start keeps the key, and does not bring back what somebody removed.
    fs::remove_file(path.join("credentials")).unwrap();
    let (keys, again) = AccessKeys::in_dir(&dir).unwrap();
    assert!(again.is_none() && keys.table().find(&made.access_key_id).is_some());
    assert!(!path.join("credentials").exists());
}

#[test]
fn credentials_that_others_may_read_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let dir = DataDir::open(&parent.path().join("data")).unwrap();
    AccessKeys::in_dir(&dir).unwrap();
    let file = dir.file("credentials");
    for (mode, good) in [(0o600, true), (0o400, true), (0o644, false), (0o620, false)] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let opened = AccessKeys::in_dir(&dir);
        assert_eq!(opened.is_ok(), good, "{mode:o}");
        if let Err(error) = opened {
            let text = error.to_string();
            assert!(text.contains("/credentials has mode 0"), "{text}");
            assert!(text.contains("run: chmod 600 /"), "{text}");
        }
    }
}

#[test]
fn a_broken_file_is_refused_and_the_old_keys_stay() {
    let (_dir, file) = written(&format!("[{KEY}]"));
    let keys = AccessKeys::open(&file).unwrap();
    fs::write(&file, "[").unwrap();
    let error = keys.reload().unwrap_err().to_string();
    assert!(error.contains("/keys: not JSON: "), "{error}");
    assert!(keys.table().find("ADITKEY").is_some());
    let two = format!("[{KEY}, {}]", KEY.replace("ADITKEY", "SECOND"));
    fs::write(&file, two).unwrap();
    assert_eq!(keys.reload().unwrap(), 2);
    fs::write(&file, "[]").unwrap();
    assert_eq!(keys.reload().unwrap(), 0);
    assert!(keys.table().find("ADITKEY").is_none());
    fs::remove_file(&file).unwrap();
    let error = keys.reload().unwrap_err();
    assert!(matches!(error, KeysError::Missing(_)));
    // What to do about it at a start is not what to do now.
    assert!(
        error.to_string().ends_with("/keys does not exist"),
        "{error}"
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_without_the_secret() {
    for (from, to, expected) in [
        (
            "\"user\": \"ops\"",
            "\"user\": 1",
            "[1].user: must be a text",
        ),
        ("\"ops\"", "\"a b\"", "[1].user: must be 1 to 64"),
        ("ADITKEY", "A-K", "[1].accessKeyId: must be 4 to 128"),
        (
            "-canary-canary",
            "",
            "[1].secretAccessKey: must be 16 to 256",
        ),
        (
            "canary-canary",
            "canary canary",
            "[1].secretAccessKey: must be",
        ),
        (
            "secretAccessKey",
            "secretaccesskey",
            "[1].secretaccesskey: is not known",
        ),
        ("\"user\": \"ops\", ", "", "[1].user: is missing"),
        ("Allow", "allow", "[1].policy: Statement[0].Effect: must be"),
        (
            "\"policy\"",
            "\"expires\": \"2027-01-31\", \"policy\"",
            "[1].expires: must be like",
        ),
        (
            "\"policy\"",
            "\"sessionToken\": \"\", \"policy\"",
            "[1].sessionToken: must be",
        ),
        ("ADITKEY", "FIRST", "[1].accessKeyId: is there already"),
        ("\"policy\"", "\"user\": \"ops\", \"policy\"", "comes twice"),
    ] {
        assert!(KEY.contains(from), "{from}");
        let text = format!(
            "[{}, {}]",
            KEY.replace("ADITKEY", "FIRST"),
            KEY.replace(from, to)
        );
        let error = document::parse(&text).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
    assert!(document::parse("{}").unwrap_err().contains("list"));
    let printed = format!("{:?}", document::parse(&format!("[{KEY}]")).unwrap());
    assert!(
        printed.contains("ADITKEY") && !printed.contains("canary"),
        "{printed}"
    );
}

#[test]
fn a_thousand_keys_and_no_more() {
    let keys = |count: usize| {
        let keys: Vec<_> = (0..count)
            .map(|n| KEY.replace("ADITKEY", &format!("KEY{n}")))
            .collect();
        document::parse(&format!("[{}]", keys.join(",")))
    };
    assert_eq!(keys(KEYS_MAX).unwrap().0.len(), 1_000);
    let error = keys(KEYS_MAX + 1).unwrap_err();
    assert_eq!(error, "has 1001 access keys; the limit is 1000");
}

#[test]
fn a_key_may_have_an_end_and_a_session_token() {
    let more = r#""expires": "2027-01-31T00:00:00Z", "sessionToken": "t", "policy""#;
    let table = document::parse(&format!("[{}]", KEY.replace("\"policy\"", more))).unwrap();
    let key = table.find("ADITKEY").unwrap();
    assert_eq!(key.expires, Moment::parse("20270131T000000Z"));
    assert!(key.credentials.session_token.is_some());
}

/// T-26 of the reliability plan: each mode of the file and of its directory, and the verdict.
#[test]
fn files_that_others_may_read_or_replace_are_refused() {
    let (dir, file) = written(&format!("[{KEY}]"));
    let chmod = |path: &Path, mode: u32| {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    for (mode, good) in [
        (0o600, true),
        (0o400, true),
        (0o700, true),
        (0o640, false),
        (0o620, false),
        (0o610, false),
        (0o604, false),
        (0o602, false),
        (0o601, false),
        (0o644, false),
        (0o666, false),
        (0o777, false),
    ] {
        chmod(&file, mode);
        let verdict = AccessKeys::open(&file);
        assert_eq!(verdict.is_ok(), good, "file {mode:o}");
        if let Err(error) = verdict {
            assert!(error.to_string().contains("run: chmod 600 "), "{error}");
        }
    }
    chmod(&file, 0o600);
    for (mode, good) in [
        (0o700, true),
        (0o500, true),
        (0o750, true),
        (0o755, true),
        (0o711, true),
        (0o1777, true),
        (0o1770, true),
        (0o770, false),
        (0o720, false),
        (0o702, false),
        (0o707, false),
        (0o777, false),
    ] {
        chmod(dir.path(), mode);
        let verdict = AccessKeys::open(&file);
        assert_eq!(verdict.is_ok(), good, "directory {mode:o}");
        if let Err(error) = verdict {
            assert!(error.to_string().contains("run: chmod go-w "), "{error}");
        }
    }
    chmod(dir.path(), 0o700);
}
