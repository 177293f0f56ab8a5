//! Which resources and circumstances each operation on tunnels asks leave for (control-plane
//! specification, section 11).
//!
//! | action | resources | condition keys |
//! | --- | --- | --- |
//! | OpenTunnel | `tunnel/*`, `thing/<name>` | services, request's tags |
//! | RotateTunnelAccessToken | `tunnel/<id>`, `thing/<name>` of request and tunnel | services, `iot:ClientMode`, tunnel's tags |
//! | DescribeTunnel, ListTagsForResource | `tunnel/<id>` | tunnel's tags |
//! | ListTunnels | `tunnel/*`, `thing/<name>` | |
//! | CloseTunnel | `tunnel/<id>` | `iot:Delete`, tunnel's tags |
//! | TagResource, UntagResource | `tunnel/<id>` | request's tags or keys, tunnel's tags |
//!
//! Every resource has to be allowed, so one who may open tunnels needs `tunnel/*`, and for a device its
//! `thing/<name>` besides. Services are `iot:TunnelDestinationService`, request's tags
//! `aws:RequestTag/<key>` and `aws:TagKeys`, tunnel's tags `aws:ResourceTag/<key>`.

use adit_proto::{Mode, TunnelId};

use super::call::Call;
use super::error::ApiError;
use super::naming::Naming;
use crate::access::policy::Conditions;
use crate::control::{ControlError, ControlPlane, RotatedSides};
use crate::store::Store;
use crate::tunnels::{DestinationConfig, Seen, Tags, TunnelError, TunnelView};

/// Asks for leave in the name of one call.
pub(super) struct Leave<'a> {
    pub(super) call: &'a Call,
    pub(super) naming: &'a Naming,
    /// Like `iot:OpenTunnel`.
    pub(super) action: &'static str,
}

impl Leave<'_> {
    pub(super) fn open(
        &self,
        config: Option<&DestinationConfig>,
        tags: &Tags,
    ) -> Result<(), ApiError> {
        let mut resources = vec![self.naming.arn("tunnel", "*")];
        let mut conditions = with_request_tags(tags);
        if let Some(config) = config {
            self.add_thing(&mut resources, config);
            add_services(&mut conditions, [config]);
        }
        self.call.authorize(self.action, &resources, &conditions)
    }

    pub(super) fn list(&self, thing: Option<&str>) -> Result<(), ApiError> {
        let mut resources = vec![self.naming.arn("tunnel", "*")];
        resources.extend(thing.map(|thing| self.naming.arn("thing", thing)));
        self.call
            .authorize(self.action, &resources, &Conditions::new())
    }

    /// For what is done to one tunnel.
    pub(super) async fn on<S: Store>(
        &self,
        control: &ControlPlane<S>,
        id: &TunnelId,
        conditions: Conditions,
    ) -> Result<(), ApiError> {
        let resources = [self.naming.tunnel_arn(id)];
        let mut conditions = conditions;
        if self.call.caller.policy.asks_for(RESOURCE_TAG) {
            add_resource_tags(&mut conditions, look_up(control, id).await?.as_ref());
        }
        self.call.authorize(self.action, &resources, &conditions)
    }

    /// New tokens give access to the device that the tunnel is for, so the tunnel's own thing and
    /// services count as well as the request's. The leave is for what was seen, and for nothing else.
    pub(super) async fn rotate<S: Store>(
        &self,
        control: &ControlPlane<S>,
        id: &TunnelId,
        sides: RotatedSides,
        config: Option<&DestinationConfig>,
    ) -> Result<Seen, ApiError> {
        let view = look_up(control, id).await?;
        let stored = view.as_ref().and_then(|view| view.config.as_ref());
        let configs: Vec<_> = config.into_iter().chain(stored).collect();
        let mut resources = vec![self.naming.tunnel_arn(id)];
        for config in &configs {
            self.add_thing(&mut resources, config);
        }
        let mode = match sides {
            RotatedSides::One(Mode::Source) => "SOURCE",
            RotatedSides::One(Mode::Destination) => "DESTINATION",
            RotatedSides::All => "ALL",
        };
        let mut conditions = Conditions::new().with("iot:ClientMode", mode);
        add_services(&mut conditions, configs);
        add_resource_tags(&mut conditions, view.as_ref());
        self.call.authorize(self.action, &resources, &conditions)?;
        Ok(view.map_or(Seen::Anything, |view| Seen::Config(view.config)))
    }

    fn add_thing(&self, resources: &mut Vec<String>, config: &DestinationConfig) {
        let thing = config.thing.as_ref();
        let arn = thing.map(|thing| self.naming.arn("thing", thing.as_str()));
        resources.extend(arn.filter(|arn| !resources.contains(arn)));
    }
}

/// For an operation that brings tags.
pub(super) fn with_request_tags(tags: &Tags) -> Conditions {
    let mut conditions = with_tag_keys(tags.keys());
    for (key, value) in tags {
        conditions.insert_all(&format!("aws:RequestTag/{key}"), [value]);
    }
    conditions
}

/// For an operation that names keys of tags.
pub(super) fn with_tag_keys<'a>(keys: impl IntoIterator<Item = &'a String>) -> Conditions {
    Conditions::new().with_all("aws:TagKeys", keys)
}

fn add_services<'a>(
    conditions: &mut Conditions,
    configs: impl IntoIterator<Item = &'a DestinationConfig>,
) {
    let services = configs
        .into_iter()
        .flat_map(|config| config.services.iter());
    conditions.insert_all(
        "iot:TunnelDestinationService",
        services.map(ToString::to_string),
    );
}

fn add_resource_tags(conditions: &mut Conditions, view: Option<&TunnelView>) {
    for (key, value) in view.into_iter().flat_map(|view| &view.tags) {
        conditions.insert_all(&format!("{RESOURCE_TAG}{key}"), [value]);
    }
}

/// A tunnel that does not exist has no tags and no thing; that it does not exist is for the operation to
/// say, to those who may ask.
async fn look_up<S: Store>(
    control: &ControlPlane<S>,
    id: &TunnelId,
) -> Result<Option<TunnelView>, ApiError> {
    match control.describe(id).await {
        Ok(view) => Ok(Some(view)),
        Err(ControlError::Tunnel(TunnelError::NotFound(_))) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

const RESOURCE_TAG: &str = "aws:ResourceTag/";
