//! What a device may do (control-plane specification, section 14.3).
//!
//! The one thing that can be granted is its own notify topic. A policy can take that away; it cannot
//! grant anything else, because nothing else is ever published here.

use tracing::warn;

use crate::access::policy::{Conditions, Policy};
use crate::api::naming::arn_prefix;
use crate::notify::notify_topic;
use crate::registry::{CertificateStatus, Device};
use crate::tunnels::ThingName;

/// The prefix of ARNs of this installation: `arn:<partition>:iot:<region>:<account>:`.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    prefix: String,
}

impl Rules {
    pub(super) fn new(region: &str, account: &str) -> Self {
        Self {
            prefix: arn_prefix(region, account),
        }
    }

    /// Whether the certificate counts at all.
    pub(super) fn is_active(device: &Device) -> bool {
        device.status == CertificateStatus::Active
    }

    /// Whether a device that is connected as this thing may stay.
    pub(super) fn may_stay(&self, device: &Device, thing: &ThingName) -> bool {
        self.connect(device, thing.as_str()).is_some()
    }

    /// Whether this certificate may connect with this client id, and as which thing.
    ///
    /// `iot:Connection.Thing.ThingName` resolves only when the client id is the name of an attached thing;
    /// without it there is no notify topic, so nobody else has any business here.
    pub(super) fn connect(&self, device: &Device, client_id: &str) -> Option<ThingName> {
        let thing = device.things.iter().find(|t| t.as_str() == client_id)?;
        let may = Self::is_active(device)
            && self.allows(device, thing, "iot:Connect", "client/", client_id);
        may.then(|| thing.clone())
    }

    /// Whether the device may subscribe with this filter. `+` and `#` are ordinary characters here, and
    /// in no thing's name.
    pub(super) fn subscribe(&self, device: &Device, thing: &ThingName, filter: &str) -> bool {
        filter == notify_topic(thing)
            && self.allows(device, thing, "iot:Subscribe", "topicfilter/", filter)
    }

    /// Whether its notifications may be delivered to the device.
    pub(super) fn receive(&self, device: &Device, thing: &ThingName) -> bool {
        Self::is_active(device)
            && device.things.contains(thing)
            && self.allows(device, thing, "iot:Receive", "topic/", &notify_topic(thing))
    }

    fn allows(
        &self,
        device: &Device,
        thing: &ThingName,
        action: &str,
        kind: &str,
        name: &str,
    ) -> bool {
        if device.policies.is_empty() {
            return true;
        }
        let conditions = Conditions::new()
            .with("iot:ClientId", thing.as_str())
            .with("iot:Connection.Thing.ThingName", thing.as_str())
            .with("iot:Connection.Thing.IsAttached", "true");
        let resource = format!("{}{kind}{name}", self.prefix);
        let mut policies = Vec::with_capacity(device.policies.len());
        for document in &device.policies {
            match Policy::parse(document) {
                Ok(policy) => policies.push(policy),
                // It may have been meant to deny; nothing can be granted past it.
                Err(error) => {
                    warn!(thing = thing.as_str(), %error, "a device's policy cannot be used");
                    return false;
                }
            }
        }
        Policy::union(&policies).allows(action, &resource, &conditions)
    }
}
