//! `--settings-json` and `--export-default-settings` (wire specification, section 14.3).
//!
//! The file is nested JSON under `tunneling.proxy`; numbers and switches may also be written as strings.
//! A value of the wrong type falls back to its default, as it does for the reference, but not silently.

use std::collections::BTreeMap;
use std::time::Duration;

use adit_engine::ring::DialRetries;
use adit_proto::Subprotocol;
use adit_proto::escape::Escaped;
use adit_proto::limits::MAX_PAYLOAD_SIZE;
use serde_json::{Map, Value, json};

use super::limits::{CONNECTION_BUFFER, CONNECTIONS, Limits, PING};
use super::service::is_address_byte;
use crate::fault::BadInput;
use crate::world::{FILE_SIZE_MAX, World, read_text};

/// What the settings file says, or the defaults where it is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonSettings {
    /// Where a source listens without `-b`.
    pub default_bind_address: String,
    /// Endpoint of a region; `%s` is the region.
    pub endpoint_format: String,
    /// Endpoints of single regions. The file's entries are put over the two of China.
    pub region_endpoint_overrides: BTreeMap<String, String>,
    /// Largest payload of a DATA message that we send, in bytes: 1 to 64,512.
    pub payload_size_max: usize,
    /// Retries of a local listen; `None` is for ever.
    pub local_retries_max: Option<u32>,
    /// Time between them.
    pub local_retry_delay: Duration,
    /// Retries of a local dial, when the file asks for any.
    ///
    /// By default there are none: the reference's own make a service that is down answer after
    /// 12.5 s (specification 9.2). Since every file that was exported has both keys, ours and the
    /// reference's alike, the two values of the reference together ask for nothing.
    pub dials: Option<DialRetries>,
    /// Limit of connections of one service at a source, when the file has one.
    pub service_connections_max: Option<u32>,
    /// Buffer of one connection in bytes, when the file has one.
    pub connection_buffer_size: Option<usize>,
    /// Time between WebSocket pings, when the file has one.
    pub ping_interval: Option<Duration>,
    /// First delay before the service is tried again.
    pub service_retry_delay: Duration,
    /// Retries of the connection to the service; `None` is for ever.
    pub service_retries_max: Option<u32>,
    /// Whether a tunnel that was lost is connected again.
    pub reconnect_on_data_error: bool,
    /// Offered in the handshake.
    pub subprotocol: Subprotocol,
}

impl Default for JsonSettings {
    fn default() -> Self {
        Self {
            default_bind_address: "localhost".to_owned(),
            endpoint_format: "data.tunneling.iot.%s.amazonaws.com".to_owned(),
            region_endpoint_overrides: ["cn-north-1", "cn-northwest-1"]
                .map(|region| {
                    let endpoint = format!("data.tunneling.iot.{region}.amazonaws.com.cn");
                    (region.to_owned(), endpoint)
                })
                .into(),
            payload_size_max: MAX_PAYLOAD_SIZE,
            local_retries_max: Some(5),
            local_retry_delay: Duration::from_millis(2_500),
            dials: None,
            service_connections_max: None,
            connection_buffer_size: None,
            ping_interval: None,
            service_retry_delay: Duration::from_millis(2_500),
            service_retries_max: None,
            reconnect_on_data_error: true,
            subprotocol: Subprotocol::V3,
        }
    }
}

/// Keys without effect here: the wire format fixes the first three, the rest are buffer sizes that the
/// kernel or the engine chooses. With the reference's defaults, which are exported.
const WITHOUT_EFFECT: [(&str, i64); 7] = [
    ("message.data_length_size", 2),
    ("message.max_size", 65_536),
    ("message.data_frame_max_size", 65_538),
    ("tcp.read_buffer_size", 131_076),
    ("websocket.max_frame_size", 131_076),
    ("websocket.read_buffer_size", 131_076),
    ("websocket.write_buffer_size", 131_076),
];

const OVERRIDES: &str = "region_endpoint_overrides";

/// Read, and not exported, as by the reference: its default would be half of ours.
const WRITE_BUFFER: &str = "tcp.write_buffer_size";

/// Reads the file; the second value is what to warn about.
pub fn read(world: &World, path: &str) -> Result<(JsonSettings, Vec<String>), BadInput> {
    let shown = Escaped(path);
    let text = read_text(&world.path(path), FILE_SIZE_MAX).map_err(|error| {
        BadInput::fatal(
            format!("--settings-json: cannot read `{shown}`: {error}"),
            "give the path of a readable JSON file; --export-default-settings writes one",
        )
        .reference(format!("{shown}: cannot open file"))
        .in_file()
    })?;
    parse(&text, path)
}

fn parse(text: &str, path: &str) -> Result<(JsonSettings, Vec<String>), BadInput> {
    let shown = Escaped(path);
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        BadInput::fatal(
            format!("--settings-json: {shown}:{line}:{column}: {what}"),
            "the file must be one JSON object, without comments and trailing commas",
        )
        .reference(format!("{shown}({line}): {what}"))
        .in_file()
    })?;
    let mut reader = Reader {
        proxy: value.pointer("/tunneling/proxy"),
        warnings: Vec::new(),
        path,
    };
    let settings = reader.settings();
    Ok((settings, reader.warnings))
}

/// Reads the settings from any bytes: what comes out is within its bounds, and what is said about the
/// rest can be shown.
pub fn fuzz_settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match parse(&text, "settings.json") {
        Ok((settings, warnings)) => {
            assert!((1..=MAX_PAYLOAD_SIZE).contains(&settings.payload_size_max));
            assert!(!settings.default_bind_address.is_empty());
            assert!(settings.region_endpoint_overrides.len() >= 2);
            if let Some(size) = settings.connection_buffer_size {
                assert!(CONNECTION_BUFFER.contains(&size));
            }
            if let Some(count) = settings.service_connections_max {
                assert!(CONNECTIONS.contains(&count));
            }
            if let Some(time) = settings.ping_interval {
                assert!(time >= *PING.start());
            }
            for warning in warnings {
                assert!(!warning.contains(char::is_control), "{warning:?}");
            }
        }
        Err(fault) => fault.assert_showable(),
    }
}

/// The default settings as the file that [`read`] takes, with the keys that the reference exports and
/// `endpoint_format`. Reading it changes nothing.
pub fn export() -> String {
    let settings = JsonSettings::default();
    let count = |count: Option<u32>| count.map_or(-1, i64::from);
    let milliseconds = |time: Duration| json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let mut proxy = Map::new();
    let mut put = |key: &str, value: Value| {
        let (section, key) = key.split_once('.').unwrap_or(("", key));
        let target = match section {
            "" => &mut proxy,
            section => proxy
                .entry(section)
                .or_insert_with(|| json!({}))
                .as_object_mut()
                .expect("a section is only ever inserted as an object, two lines up"),
        };
        target.insert(key.to_owned(), value);
    };
    for (key, value) in WITHOUT_EFFECT {
        put(key, json!(value));
    }
    put("default_bind_address", json!(settings.default_bind_address));
    put("endpoint_format", json!(settings.endpoint_format));
    put(OVERRIDES, json!(settings.region_endpoint_overrides));
    put("message.max_payload_size", json!(settings.payload_size_max));
    put(
        "tcp.connection_retry_count",
        json!(count(settings.local_retries_max)),
    );
    put(
        "tcp.connection_retry_delay_ms",
        milliseconds(settings.local_retry_delay),
    );
    let limits = Limits::default();
    put("tcp.max_active_connections", json!(limits.connections_max));
    put(
        "websocket.ping_period_ms",
        milliseconds(limits.ping_interval),
    );
    put(
        "websocket.retry_delay_ms",
        milliseconds(settings.service_retry_delay),
    );
    put(
        "websocket.connect_retry_count",
        json!(count(settings.service_retries_max)),
    );
    put(
        "websocket.reconnect_on_data_error",
        json!(settings.reconnect_on_data_error),
    );
    put("websocket.subprotocol", json!(settings.subprotocol.name()));
    format!("{:#}\n", json!({ "tunneling": { "proxy": proxy } }))
}

fn dials(settings: &JsonSettings) -> Option<DialRetries> {
    let asked = |settings: &JsonSettings| DialRetries {
        count: settings.local_retries_max,
        delay: settings.local_retry_delay,
    };
    let (dials, of_reference) = (asked(settings), asked(&JsonSettings::default()));
    (dials != of_reference).then_some(dials)
}

struct Reader<'a> {
    proxy: Option<&'a Value>,
    warnings: Vec<String>,
    path: &'a str,
}

impl Reader<'_> {
    fn settings(&mut self) -> JsonSettings {
        let mut settings = JsonSettings::default();
        let Some(Value::Object(_)) = self.proxy else {
            self.warn("it has no object `tunneling.proxy`, so every setting keeps its default");
            return settings;
        };
        self.warn_of_unknown_keys();
        self.address(&mut settings.default_bind_address);
        self.text(
            "endpoint_format",
            "a text",
            &mut settings.endpoint_format,
            |text| (!text.is_empty()).then(|| text.to_owned()),
        );
        self.overrides(&mut settings.region_endpoint_overrides);
        let payloads = 1..=MAX_PAYLOAD_SIZE as i64;
        if let Some(size) = self.number("message.max_payload_size", payloads) {
            settings.payload_size_max = usize::try_from(size).unwrap_or(MAX_PAYLOAD_SIZE);
        }
        self.retries(
            "tcp.connection_retry_count",
            &mut settings.local_retries_max,
        );
        if let Some(delay) = self.time("tcp.connection_retry_delay_ms", 0) {
            settings.local_retry_delay = delay;
        }
        settings.dials = dials(&settings);
        let counts = i64::from(*CONNECTIONS.start())..=i64::from(*CONNECTIONS.end());
        settings.service_connections_max = self
            .number("tcp.max_active_connections", counts)
            .and_then(|count| u32::try_from(count).ok());
        let sizes = *CONNECTION_BUFFER.start() as i64..=*CONNECTION_BUFFER.end() as i64;
        settings.connection_buffer_size = self
            .number(WRITE_BUFFER, sizes)
            .and_then(|size| usize::try_from(size).ok());
        let shortest = PING.start().as_millis() as i64;
        settings.ping_interval = self.time("websocket.ping_period_ms", shortest);
        if let Some(delay) = self.time("websocket.retry_delay_ms", 0) {
            settings.service_retry_delay = delay;
        }
        self.retries(
            "websocket.connect_retry_count",
            &mut settings.service_retries_max,
        );
        if let Some(value) = self.flag("websocket.reconnect_on_data_error") {
            settings.reconnect_on_data_error = value;
        }
        let names = "the name of a subprotocol, for example aws.iot.securetunneling-3.0";
        self.text(
            "websocket.subprotocol",
            names,
            &mut settings.subprotocol,
            Subprotocol::parse,
        );
        self.warn_of_keys_without_effect();
        settings
    }

    fn address(&mut self, target: &mut String) {
        self.text(
            "default_bind_address",
            "a host or an address",
            target,
            |text| {
                let usable =
                    !text.is_empty() && text.len() <= 253 && text.bytes().all(is_address_byte);
                usable.then(|| text.to_owned())
            },
        );
    }

    fn overrides(&mut self, target: &mut BTreeMap<String, String>) {
        let Some(value) = self.find(OVERRIDES) else {
            return;
        };
        let Value::Object(entries) = value else {
            self.warn_of_default(OVERRIDES, "an object of region: endpoint");
            return;
        };
        for (region, endpoint) in entries {
            match endpoint {
                Value::String(endpoint) => {
                    target.insert(region.clone(), endpoint.clone());
                }
                _ => self.warn_of_default(&format!("{OVERRIDES}.{region}"), "an endpoint"),
            }
        }
    }

    fn retries(&mut self, key: &str, target: &mut Option<u32>) {
        if let Some(count) = self.number(key, -1..=i64::from(i32::MAX)) {
            *target = u32::try_from(count).ok();
        }
    }

    fn time(&mut self, key: &str, shortest: i64) -> Option<Duration> {
        let number = self.number(key, shortest..=3_600_000)?;
        u64::try_from(number).ok().map(Duration::from_millis)
    }

    fn text<T>(
        &mut self,
        key: &str,
        allowed: &str,
        target: &mut T,
        read: impl Fn(&str) -> Option<T>,
    ) {
        let Some(value) = self.find(key) else {
            return;
        };
        let text = match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        match text.and_then(|text| read(&text)) {
            Some(value) => *target = value,
            None => self.warn_of_default(key, allowed),
        }
    }

    fn number(&mut self, key: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let number = match self.find(key)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let allowed = format!("a whole number, {} to {}", range.start(), range.end());
            self.warn_of_default(key, &allowed);
        }
        number
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.find(key)?;
        let flag = match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) if text == "true" || text == "1" => Some(true),
            Value::String(text) if text == "false" || text == "0" => Some(false),
            Value::Number(number) => match number.as_i64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            _ => None,
        };
        if flag.is_none() {
            self.warn_of_default(key, "true or false");
        }
        flag
    }
}

impl<'a> Reader<'a> {
    fn find(&self, key: &str) -> Option<&'a Value> {
        let mut value = self.proxy?;
        for part in key.split('.') {
            value = value.as_object()?.get(part)?;
        }
        Some(value)
    }

    fn warn(&mut self, text: &str) {
        self.warnings
            .push(format!("settings file {}: {text}", Escaped(self.path)));
    }

    fn warn_of_default(&mut self, key: &str, allowed: &str) {
        let key = Escaped(key);
        self.warn(&format!(
            "tunneling.proxy.{key} cannot be used and keeps its default; allowed is {allowed}"
        ));
    }

    fn warn_of_keys_without_effect(&mut self) {
        for (key, default) in WITHOUT_EFFECT {
            let Some(number) = self.number(key, 0..=i64::MAX) else {
                continue;
            };
            if number != default {
                self.warn(&format!("tunneling.proxy.{key} has no effect in adit"));
            }
        }
    }

    /// A typing error must not silently mean the default.
    fn warn_of_unknown_keys(&mut self) {
        let Some(Value::Object(proxy)) = self.proxy else {
            return;
        };
        let known = known_keys();
        for (name, value) in proxy {
            if name == OVERRIDES || known.iter().any(|key| key == name) {
                continue;
            }
            let is_section = known.iter().any(|key| {
                key.split_once('.')
                    .is_some_and(|(section, _)| section == name)
            });
            match value {
                Value::Object(entries) if is_section => {
                    for entry in entries.keys() {
                        let key = format!("{name}.{entry}");
                        if !known.contains(&key) {
                            self.warn_of_unknown(&key);
                        }
                    }
                }
                _ => self.warn_of_unknown(name),
            }
        }
    }

    fn warn_of_unknown(&mut self, key: &str) {
        let key = Escaped(key);
        self.warn(&format!("tunneling.proxy.{key} is not known and ignored"));
    }
}

fn known_keys() -> Vec<String> {
    let Ok(Value::Object(exported)) = serde_json::from_str(&export()) else {
        return Vec::new();
    };
    let mut keys = vec![WRITE_BUFFER.to_owned()];
    let Some(Value::Object(proxy)) = exported
        .get("tunneling")
        .and_then(|value| value.get("proxy"))
    else {
        return keys;
    };
    for (name, value) in proxy {
        match value {
            Value::Object(entries) => {
                keys.extend(entries.keys().map(|entry| format!("{name}.{entry}")));
            }
            _ => keys.push(name.clone()),
        }
    }
    keys
}

#[cfg(test)]
mod tests;
