//! The message itself: exactly the four members that AWS's agents know.

use std::sync::Arc;

use adit_proto::{AccessToken, ServiceId, TunnelId};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::tunnels::ThingName;

/// A tunnel that waits for its destination. `Debug` does not print the token.
#[derive(Clone, Debug)]
pub struct Notification {
    /// The tunnel; not part of the message.
    pub tunnel: TunnelId,
    /// For the destination.
    pub token: AccessToken,
    /// The region's label.
    pub region: Arc<str>,
    /// The services of the tunnel.
    pub services: Arc<[ServiceId]>,
}

impl Notification {
    /// UTF-8 JSON with the four members of section 9, and no other.
    pub fn payload(&self) -> Zeroizing<Vec<u8>> {
        let body = Body {
            client_access_token: self.token.expose(),
            client_mode: "destination",
            region: &self.region,
            services: self.services.iter().map(ServiceId::as_str).collect(),
        };
        // Never grown, so that no copy of the token stays in memory. JSON takes at most six characters
        // for one byte of a text.
        let services = self.services.iter().map(|service| service.as_str().len());
        let texts = body.client_access_token.len() + self.region.len() + services.sum::<usize>();
        let capacity = 6 * texts + 4 * self.services.len() + 100;
        let mut payload = Zeroizing::new(Vec::with_capacity(capacity));
        serde_json::to_writer(&mut *payload, &body).expect("texts become JSON");
        debug_assert!(payload.len() <= capacity);
        payload
    }
}

/// Where a device waits for its notifications. Nobody but the service publishes there.
pub fn notify_topic(thing: &ThingName) -> String {
    format!("$aws/things/{}/tunnels/notify", thing.as_str())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    client_access_token: &'a str,
    client_mode: &'static str,
    region: &'a str,
    services: Vec<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_exactly_the_four_members() {
        let notification = Notification {
            tunnel: "t-1".parse().unwrap(),
            token: AccessToken::new("to\"ken".to_owned()).unwrap(),
            region: "us-east-1".into(),
            services: ["SSH", "HTTP"].map(|name| name.parse().unwrap()).into(),
        };
        let payload = notification.payload();
        assert_eq!(
            std::str::from_utf8(&payload).unwrap(),
            r#"{"clientAccessToken":"to\"ken","clientMode":"destination","region":"us-east-1","services":["SSH","HTTP"]}"#
        );
        assert!(!format!("{notification:?}").contains("ken\""));
    }

    #[test]
    fn the_topic_is_that_of_the_thing() {
        let thing = ThingName::new("lamp:1").unwrap();
        assert_eq!(notify_topic(&thing), "$aws/things/lamp:1/tunnels/notify");
    }
}
