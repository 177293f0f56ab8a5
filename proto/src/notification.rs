//! The message that tells a device of a tunnel (control-plane specification, section 9).
//!
//! ```text
//! topic    $aws/things/<thing name>/tunnels/notify
//! payload  {"clientAccessToken": "…", "clientMode": "destination", "region": "…", "services": ["SSH"]}
//! ```
//!
//! The order of the members does not matter, and members beyond the four are ignored: services may
//! come to say more than today's devices know.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;
use serde_json::error::Category;

use crate::ids::{InvalidId, Mode, ServiceId};
use crate::limits::{MAX_NOTIFICATION_SIZE, MAX_REGION_SIZE, MAX_SERVICE_IDS};
use crate::secret::{AccessToken, InvalidToken};

/// The topic on which a thing hears of its tunnels. A reserved topic: only the service publishes there.
pub fn topic(thing: &str) -> String {
    format!("$aws/things/{thing}/tunnels/notify")
}

/// One tunnel that waits for this device, which is always its destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The destination's credential.
    pub access_token: AccessToken,
    /// Where the tunnel was opened. With AWS it names the endpoint.
    pub region: Region,
    /// What the tunnel is for: 1 to [`MAX_SERVICE_IDS`], each once, in the order of the message.
    pub services: Vec<ServiceId>,
}

impl Notification {
    /// Reads a payload.
    ///
    /// # Errors
    ///
    /// [`NotificationError`], which names the member at fault and never repeats a value of it.
    pub fn parse(payload: &[u8]) -> Result<Self, NotificationError> {
        let size = payload.len();
        if size > MAX_NOTIFICATION_SIZE {
            return Err(NotificationError::TooLarge { size });
        }
        // The derived reader would take a list for the members in their order.
        if payload.trim_ascii_start().starts_with(b"[") {
            return Err(NotificationError::NotAnObject);
        }
        let members: Members = serde_json::from_slice(payload).map_err(|error| {
            // The library's own words may repeat a piece of the payload.
            match error.classify() {
                Category::Data => NotificationError::NotAnObject,
                Category::Io | Category::Syntax | Category::Eof => NotificationError::NotJson {
                    line: error.line(),
                    column: error.column(),
                },
            }
        })?;
        check_mode(&text(members.client_mode, "clientMode")?)?;
        let token = text(members.client_access_token, "clientAccessToken")?;
        Ok(Self {
            access_token: AccessToken::new(token)?,
            region: text(members.region, "region")?.parse()?,
            services: services(members.services)?,
        })
    }
}

/// As they come, each of any type; a member that is there twice is an error of the library's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    client_access_token: Option<Value>,
    client_mode: Option<Value>,
    region: Option<Value>,
    services: Option<Value>,
}

fn text(member: Option<Value>, name: &'static str) -> Result<String, NotificationError> {
    match member {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(NotificationError::Type {
            member: name,
            wanted: "a text",
        }),
        None => Err(NotificationError::Missing { member: name }),
    }
}

fn check_mode(mode: &str) -> Result<(), NotificationError> {
    match mode.parse() {
        Ok(Mode::Destination) => Ok(()),
        Ok(Mode::Source) | Err(_) => Err(NotificationError::Mode),
    }
}

fn services(member: Option<Value>) -> Result<Vec<ServiceId>, NotificationError> {
    let not_a_list = NotificationError::Type {
        member: "services",
        wanted: "a list of texts",
    };
    let items = match member {
        Some(Value::Array(items)) => items,
        Some(_) => return Err(not_a_list),
        None => return Err(NotificationError::Missing { member: "services" }),
    };
    let count = items.len();
    if !(1..=MAX_SERVICE_IDS).contains(&count) {
        return Err(NotificationError::ServiceCount { count });
    }
    let mut services: Vec<ServiceId> = Vec::with_capacity(count);
    for (index, item) in items.iter().enumerate() {
        let Value::String(name) = item else {
            return Err(not_a_list);
        };
        let service: ServiceId = name
            .parse()
            .map_err(|source| NotificationError::Service { index, source })?;
        if !services.contains(&service) {
            services.push(service);
        }
    }
    Ok(services)
}

/// Name of a region: 1 to 64 lower-case letters, digits and hyphens, so that it can be a part of a
/// host name and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region(String);

impl Region {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Region {
    type Err = NotificationError;

    fn from_str(text: &str) -> Result<Self, NotificationError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=MAX_REGION_SIZE).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(NotificationError::Region { size: text.len() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a payload is no notification. Whoever sent it is at fault; the same payload never gets better.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotificationError {
    /// More than any notification can have.
    #[error("{size} bytes, the limit is {MAX_NOTIFICATION_SIZE}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// No JSON at all.
    #[error("not JSON: line {line}, column {column}")]
    NotJson {
        /// Where reading ended, from 1.
        line: usize,
        /// In bytes, from 1; 0 at the start of a line.
        column: usize,
    },
    /// JSON, but not one object whose known members are there once.
    #[error("not an object with each of its members once")]
    NotAnObject,
    /// One of the four members is absent or null.
    #[error("{member} is missing")]
    Missing {
        /// Which.
        member: &'static str,
    },
    /// A member of another type.
    #[error("{member} is not {wanted}")]
    Type {
        /// Which.
        member: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A device is never a source.
    #[error("clientMode is not `destination`")]
    Mode,
    /// The token cannot be one.
    #[error("clientAccessToken: {0}")]
    Token(#[from] InvalidToken),
    /// The region cannot be part of a host name.
    #[error(
        "region of {size} bytes: allowed are 1 to {MAX_REGION_SIZE} lower-case letters, digits and hyphens"
    )]
    Region {
        /// Its size in bytes.
        size: usize,
    },
    /// No service, or more than any tunnel has.
    #[error("services: {count} of them, allowed are 1 to {MAX_SERVICE_IDS}")]
    ServiceCount {
        /// Number of entries.
        count: usize,
    },
    /// An entry that cannot be a service.
    #[error("services[{index}]: {source}")]
    Service {
        /// Which, from 0.
        index: usize,
        /// What is wrong with it.
        source: InvalidId,
    },
}

/// Reads any bytes; what was read fits its bounds.
#[doc(hidden)]
pub fn fuzz_notification(bytes: &[u8]) {
    if let Ok(notification) = Notification::parse(bytes) {
        assert!((1..=MAX_SERVICE_IDS).contains(&notification.services.len()));
        assert!(!notification.access_token.expose().is_empty());
        assert!(bytes.len() <= MAX_NOTIFICATION_SIZE);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({
            "clientAccessToken": "token-1",
            "clientMode": "destination",
            "region": "eu-west-1",
            "services": ["SSH", "DB:2"],
        })
    }

    fn parse(value: &Value) -> Result<Notification, NotificationError> {
        Notification::parse(value.to_string().as_bytes())
    }

    fn with(member: &str, value: Value) -> NotificationError {
        let mut payload = good();
        payload[member] = value;
        parse(&payload).unwrap_err()
    }

    #[test]
    fn a_notification_has_token_region_and_services() {
        let notification = parse(&good()).unwrap();
        assert_eq!(notification.access_token.expose(), "token-1");
        assert_eq!(notification.region.as_str(), "eu-west-1");
        assert_eq!(notification.region.to_string(), "eu-west-1");
        let names: Vec<&str> = notification.services.iter().map(|it| it.as_str()).collect();
        assert_eq!(names, ["SSH", "DB:2"]);
        assert_eq!(topic("lamp"), "$aws/things/lamp/tunnels/notify");
    }

    #[test]
    fn members_beyond_the_four_are_ignored() {
        let mut payload = good();
        payload["tunnelId"] = json!({"deep": [1, null, {"er": true}]});
        assert!(parse(&payload).is_ok());
    }

    #[test]
    fn a_service_named_twice_counts_once() {
        let mut payload = good();
        payload["services"] = json!(["SSH", "VNC", "SSH"]);
        assert_eq!(parse(&payload).unwrap().services.len(), 2);
    }

    #[test]
    fn each_absent_member_is_named() {
        for member in ["clientAccessToken", "clientMode", "region", "services"] {
            let mut payload = good();
            payload.as_object_mut().unwrap().remove(member);
            for payload in [payload, {
                let mut payload = good();
                payload[member] = Value::Null;
                payload
            }] {
                let error = parse(&payload).unwrap_err();
                assert_eq!(error, NotificationError::Missing { member });
            }
            let error = with(member, json!(7));
            assert!(error.to_string().starts_with(member), "{error}");
        }
    }

    #[test]
    fn values_that_cannot_be_used_name_their_member() {
        for (member, value, text) in [
            (
                "clientMode",
                json!("source"),
                "clientMode is not `destination`",
            ),
            ("clientMode", json!("DESTINATION"), "clientMode is not"),
            ("clientMode", json!(""), "clientMode is not"),
            (
                "clientAccessToken",
                json!(""),
                "clientAccessToken: access token of 0 bytes",
            ),
            (
                "clientAccessToken",
                json!("a\r\nb"),
                "clientAccessToken: access token has a character",
            ),
            (
                "clientAccessToken",
                json!("t".repeat(4_097)),
                "of 4097 bytes",
            ),
            ("region", json!(""), "region of 0 bytes"),
            ("region", json!("evil.example/"), "region of 13 bytes"),
            ("region", json!("r".repeat(65)), "region of 65 bytes"),
            ("services", json!([]), "services: 0 of them"),
            ("services", json!(vec!["S"; 129]), "services: 129 of them"),
            (
                "services",
                json!(["SSH", 22]),
                "services is not a list of texts",
            ),
            ("services", json!("SSH"), "services is not a list of texts"),
            ("services", json!(["SSH", "../x"]), "services[1]: "),
        ] {
            let error = with(member, value).to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused_without_a_word_of_it() {
        for (payload, text) in [
            ("", "line 1"),
            ("{", "not JSON"),
            ("\"a-token\"", "not an object"),
            (
                r#"["a-token","destination","eu-west-1",["SSH"]]"#,
                "not an object",
            ),
            ("{} a-token", "not JSON"),
            (
                r#"{"clientAccessToken":"a-token","clientAccessToken":"b"}"#,
                "not an object with each of its members once",
            ),
        ] {
            let error = Notification::parse(payload.as_bytes()).unwrap_err();
            let error = format!("{error} {error:?}");
            assert!(error.contains(text), "{error}");
            assert!(!error.contains("a-token"), "{error}");
        }
        let nested = [b"[".repeat(5_000), b"]".repeat(5_000)].concat();
        assert!(Notification::parse(&nested).is_err());
    }

    #[test]
    fn the_size_is_looked_at_before_the_content() {
        let mut payload = good().to_string().into_bytes();
        payload.resize(MAX_NOTIFICATION_SIZE, b' ');
        assert!(Notification::parse(&payload).is_ok());
        payload.push(b' ');
        let size = MAX_NOTIFICATION_SIZE + 1;
        assert_eq!(
            Notification::parse(&payload),
            Err(NotificationError::TooLarge { size })
        );
    }

    #[test]
    fn the_largest_notification_fits() {
        let mut payload = good();
        payload["clientAccessToken"] = json!("\\".repeat(4_096));
        let names = (0..MAX_SERVICE_IDS).map(|index| format!("{index:0>128}"));
        payload["services"] = json!(names.collect::<Vec<_>>());
        assert_eq!(parse(&payload).unwrap().services.len(), MAX_SERVICE_IDS);
    }

    #[test]
    fn the_token_is_never_shown() {
        let notification = parse(&good()).unwrap();
        assert!(!format!("{notification:?}").contains("token-1"));
    }

    fn member() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,40}".prop_map(Value::from),
            Just(json!("destination")),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop::collection::vec(inner, 0..4).prop_map(Value::from)
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz_notification(&bytes);
        }

        #[test]
        fn no_members_make_it_panic(
            token in member(), mode in member(), region in member(), services in member()
        ) {
            let payload = json!({
                "clientAccessToken": token, "clientMode": mode,
                "region": region, "services": services,
            });
            fuzz_notification(payload.to_string().as_bytes());
        }

        #[test]
        fn a_damaged_notification_does_not_make_it_panic(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), length in any::<prop::sample::Index>()
        ) {
            let mut payload = good().to_string().into_bytes();
            let index = at.index(payload.len());
            payload[index] = byte;
            fuzz_notification(&payload);
            payload.truncate(length.index(payload.len()));
            fuzz_notification(&payload);
        }

        #[test]
        fn what_is_well_formed_is_read_as_it_is(
            token in "[!-~]{1,200}", region in "[a-z0-9-]{1,64}",
            services in prop::collection::btree_set("[a-zA-Z0-9:_-]{1,128}", 1..20)
        ) {
            let notification = parse(&json!({
                "services": services, "region": region,
                "clientMode": "destination", "clientAccessToken": token,
            })).unwrap();
            prop_assert_eq!(notification.access_token.expose(), token);
            prop_assert_eq!(notification.region.as_str(), region);
            let read: std::collections::BTreeSet<String> =
                notification.services.iter().map(|it| it.as_str().to_owned()).collect();
            prop_assert_eq!(read, services);
        }
    }
}
