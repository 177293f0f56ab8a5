use super::*;
use crate::world::testing::world;

fn parsed(text: &str) -> (JsonSettings, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("s.json"), text).unwrap();
    read(&world(directory.path()), "s.json").unwrap()
}

fn proxy(body: &str) -> (JsonSettings, Vec<String>) {
    parsed(&format!(r#"{{"tunneling": {{"proxy": {body}}}}}"#))
}

fn fault(text: &str) -> BadInput {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("s.json"), text).unwrap();
    read(&world(directory.path()), "s.json").unwrap_err()
}

/// The whole file, so that a changed default is seen.
#[test]
fn the_exported_defaults_are_these() {
    let expected = r#"{
  "tunneling": {
    "proxy": {
      "default_bind_address": "localhost",
      "endpoint_format": "data.tunneling.iot.%s.amazonaws.com",
      "message": {
        "data_frame_max_size": 65538,
        "data_length_size": 2,
        "max_payload_size": 64512,
        "max_size": 65536
      },
      "region_endpoint_overrides": {
        "cn-north-1": "data.tunneling.iot.cn-north-1.amazonaws.com.cn",
        "cn-northwest-1": "data.tunneling.iot.cn-northwest-1.amazonaws.com.cn"
      },
      "tcp": {
        "connection_retry_count": 5,
        "connection_retry_delay_ms": 2500,
        "max_active_connections": 16384,
        "read_buffer_size": 131076
      },
      "websocket": {
        "connect_retry_count": -1,
        "max_frame_size": 131076,
        "ping_period_ms": 20000,
        "read_buffer_size": 131076,
        "reconnect_on_data_error": true,
        "retry_delay_ms": 2500,
        "subprotocol": "aws.iot.securetunneling-3.0",
        "write_buffer_size": 131076
      }
    }
  }
}
"#;
    assert_eq!(export(), expected);
}

#[test]
fn the_exported_file_reads_back_without_a_warning() {
    let (settings, warnings) = parsed(&export());
    assert_eq!(warnings, Vec::<String>::new());
    let limits = Limits::default();
    let expected = JsonSettings {
        service_connections_max: Some(limits.connections_max),
        ping_interval: Some(limits.ping_interval),
        ..JsonSettings::default()
    };
    assert_eq!(settings, expected);
}

#[test]
fn every_key_is_taken_as_number_and_as_text() {
    let as_numbers = r#"{
        "default_bind_address": "0.0.0.0",
        "endpoint_format": "%s.example.org",
        "region_endpoint_overrides": {"x": "x.example.org:1"},
        "message": {"max_payload_size": 1000},
        "tcp": {"connection_retry_count": -1, "connection_retry_delay_ms": 10,
                "max_active_connections": 9, "write_buffer_size": 70000},
        "websocket": {"ping_period_ms": 200, "retry_delay_ms": 30, "connect_retry_count": 2,
                      "reconnect_on_data_error": false, "subprotocol": "aws.iot.securetunneling-2.0"}
    }"#;
    // The same with every number and switch quoted, as the reference exports them.
    let as_texts = as_numbers
        .replace("1000}", "\"1000\"}")
        .replace("-1,", "\"-1\",")
        .replace(": 10,", ": \"10\",")
        .replace(": 9,", ": \"9\",")
        .replace("70000", "\"70000\"")
        .replace("200", "\"200\"")
        .replace("30,", "\"30\",")
        .replace(": 2,", ": \"2\",")
        .replace("false", "\"false\"");
    for text in [as_numbers, &as_texts] {
        let (settings, warnings) = proxy(text);
        assert_eq!(warnings, Vec::<String>::new(), "{text}");
        assert_eq!(settings.default_bind_address, "0.0.0.0");
        assert_eq!(settings.endpoint_format, "%s.example.org");
        assert_eq!(settings.region_endpoint_overrides["x"], "x.example.org:1");
        assert_eq!(settings.payload_size_max, 1000);
        assert_eq!(settings.local_retries_max, None);
        assert_eq!(settings.local_retry_delay, Duration::from_millis(10));
        assert_eq!(settings.service_connections_max, Some(9));
        let dials = DialRetries {
            count: None,
            delay: Duration::from_millis(10),
        };
        assert_eq!(settings.dials, Some(dials));
        assert_eq!(settings.connection_buffer_size, Some(70_000));
        assert_eq!(settings.ping_interval, Some(Duration::from_millis(200)));
        assert_eq!(settings.service_retry_delay, Duration::from_millis(30));
        assert_eq!(settings.service_retries_max, Some(2));
        assert!(!settings.reconnect_on_data_error);
        assert_eq!(settings.subprotocol, Subprotocol::V2);
    }
}

/// Q-27: the reference loses them as soon as there is a settings file.
#[test]
fn the_endpoints_of_china_survive_a_settings_file() {
    let (settings, _) =
        proxy(r#"{"region_endpoint_overrides": {"cn-north-1": "own.example.org"}}"#);
    assert_eq!(
        settings.region_endpoint_overrides["cn-north-1"],
        "own.example.org"
    );
    assert!(
        settings
            .region_endpoint_overrides
            .contains_key("cn-northwest-1")
    );
}

#[test]
fn what_cannot_be_used_keeps_its_default_and_is_named() {
    for (body, key) in [
        (r#"{"default_bind_address": []}"#, "default_bind_address"),
        (r#"{"default_bind_address": "a b"}"#, "default_bind_address"),
        (r#"{"endpoint_format": {}}"#, "endpoint_format"),
        (
            r#"{"region_endpoint_overrides": 5}"#,
            "region_endpoint_overrides",
        ),
        (
            r#"{"region_endpoint_overrides": {"x": 5}}"#,
            "region_endpoint_overrides.x",
        ),
        (
            r#"{"message": {"max_payload_size": 0}}"#,
            "message.max_payload_size",
        ),
        (
            r#"{"message": {"max_payload_size": 64513}}"#,
            "message.max_payload_size",
        ),
        (
            r#"{"message": {"data_length_size": "two"}}"#,
            "message.data_length_size",
        ),
        (
            r#"{"tcp": {"connection_retry_count": "five"}}"#,
            "tcp.connection_retry_count",
        ),
        (
            r#"{"tcp": {"connection_retry_count": -2}}"#,
            "tcp.connection_retry_count",
        ),
        (
            r#"{"tcp": {"connection_retry_delay_ms": 2.5}}"#,
            "tcp.connection_retry_delay_ms",
        ),
        (
            r#"{"tcp": {"max_active_connections": 0}}"#,
            "tcp.max_active_connections",
        ),
        (
            r#"{"tcp": {"write_buffer_size": 1}}"#,
            "tcp.write_buffer_size",
        ),
        (
            r#"{"websocket": {"ping_period_ms": true}}"#,
            "websocket.ping_period_ms",
        ),
        (
            r#"{"websocket": {"retry_delay_ms": -1}}"#,
            "websocket.retry_delay_ms",
        ),
        (
            r#"{"websocket": {"connect_retry_count": null}}"#,
            "websocket.connect_retry_count",
        ),
        (
            r#"{"websocket": {"reconnect_on_data_error": "yes"}}"#,
            "websocket.reconnect_on_data_error",
        ),
        (
            r#"{"websocket": {"subprotocol": "chat"}}"#,
            "websocket.subprotocol",
        ),
        (
            r#"{"websocket": {"max_frame_size": 1}}"#,
            "websocket.max_frame_size",
        ),
        (r#"{"websockets": {}}"#, "websockets"),
        (
            r#"{"websocket": {"ping_period": 5}}"#,
            "websocket.ping_period",
        ),
        (r#"{"websocket": 5}"#, "websocket"),
        (r#"{"a\u001b[2J": 5}"#, "a\\u{1b}[2J"),
    ] {
        let (settings, warnings) = proxy(body);
        assert_eq!(settings, JsonSettings::default(), "{body}");
        let key = format!("settings file s.json: tunneling.proxy.{key} ");
        assert!(
            warnings.len() == 1 && warnings[0].starts_with(&key),
            "{body}: {warnings:?}"
        );
    }
}

#[test]
fn a_file_without_the_object_says_so() {
    for text in ["{}", "[]", "5", r#"{"tunneling": {"proxy": []}}"#] {
        let (settings, warnings) = parsed(text);
        assert_eq!(settings, JsonSettings::default());
        assert!(
            warnings[0].contains("no object `tunneling.proxy`"),
            "{warnings:?}"
        );
    }
}

#[test]
fn broken_json_is_named_with_its_place() {
    let fault = fault("{\n  \"tunneling\": {,}\n}");
    assert!(fault.message().contains("s.json:2:17"), "{fault:?}");
    assert!(
        fault.reference_text().starts_with("s.json(2): "),
        "{fault:?}"
    );
    let directory = tempfile::tempdir().unwrap();
    let fault = read(&world(directory.path()), "none.json").unwrap_err();
    assert_eq!(fault.reference_text(), "none.json: cannot open file");
}
