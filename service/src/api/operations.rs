//! The eight operations: a JSON object in, a JSON object out (control-plane specification, section 3).

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use adit_proto::{Mode, ServiceId, TunnelId};
use axum::http::Method;

use super::call::Call;
use super::constraints::{
    DESCRIPTION, LIFETIME_MINUTES, MAX_RESULTS, NEXT_TOKEN, RESOURCE_NAME, SERVICE, SERVICE_LIST,
    TAG_KEY, TAG_KEY_LIST, TAG_LIST, TAG_VALUE, THING_NAME, TUNNEL_ID,
};
use super::error::ApiError;
use super::input::{Element, Input};
use super::leave::{self, Leave};
use super::naming::Naming;
use super::outcome::{self, Handler, Outcome};
use super::output::{
    DescribeOutput, Empty, ListOutput, OpenTunnelOutput, RotateOutput, SummaryOutput, TagsOutput,
    TunnelOutput, tags,
};
use super::page_token;
use crate::access::policy::Conditions;
use crate::control::{ControlError, ControlPlane, OpenTunnel, RotatedSides, RotatedTokens};
use crate::store::Store;
use crate::tunnels::{DestinationConfig, Lifetime, ListRequest, Tags, ThingName, TunnelError};

/// What `X-Amz-Target` can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    OpenTunnel,
    DescribeTunnel,
    ListTunnels,
    CloseTunnel,
    RotateTunnelAccessToken,
    TagResource,
    UntagResource,
    ListTagsForResource,
}

impl Operation {
    /// From the value of the header, like `IoTSecuredTunneling.OpenTunnel`.
    pub(super) fn parse(target: &str) -> Option<Self> {
        Some(match target.strip_prefix("IoTSecuredTunneling.")? {
            "OpenTunnel" => Self::OpenTunnel,
            "DescribeTunnel" => Self::DescribeTunnel,
            "ListTunnels" => Self::ListTunnels,
            "CloseTunnel" => Self::CloseTunnel,
            "RotateTunnelAccessToken" => Self::RotateTunnelAccessToken,
            "TagResource" => Self::TagResource,
            "UntagResource" => Self::UntagResource,
            "ListTagsForResource" => Self::ListTagsForResource,
            _ => return None,
        })
    }

    /// What the call asks for; `None` for what is no operation of this service.
    pub(super) fn of(call: &Call) -> Option<Self> {
        call.header("x-amz-target").and_then(Self::parse)
    }

    /// As policies and the audit call it.
    pub(super) fn action(self) -> &'static str {
        match self {
            Self::OpenTunnel => "iot:OpenTunnel",
            Self::DescribeTunnel => "iot:DescribeTunnel",
            Self::ListTunnels => "iot:ListTunnels",
            Self::CloseTunnel => "iot:CloseTunnel",
            Self::RotateTunnelAccessToken => "iot:RotateTunnelAccessToken",
            Self::TagResource => "iot:TagResource",
            Self::UntagResource => "iot:UntagResource",
            Self::ListTagsForResource => "iot:ListTagsForResource",
        }
    }
}

type Answer = Result<Outcome, ApiError>;

/// The operations over a control plane.
pub(crate) struct Tunnelling<S> {
    control: Arc<ControlPlane<S>>,
    naming: Naming,
}

impl<S: Store> Handler for Tunnelling<S> {
    fn handle<'a>(&'a self, call: &'a Call) -> outcome::Answer<'a> {
        Box::pin(self.answer(call))
    }
}

impl<S: Store> Tunnelling<S> {
    pub(crate) fn new(control: Arc<ControlPlane<S>>, naming: Naming) -> Self {
        Self { control, naming }
    }

    async fn answer(&self, call: &Call) -> Answer {
        if call.method != Method::POST {
            return Err(ApiError::method_not_allowed());
        }
        let operation = Operation::of(call).ok_or_else(|| {
            let text = "the X-Amz-Target header names no operation of IoTSecuredTunneling";
            ApiError::unknown_operation(text)
        })?;
        // Known to the audit from here on, whatever becomes of the call.
        call.note(operation.action(), &[]);
        let body = call.json()?;
        let input = Input::new(&body);
        let leave = Leave {
            call,
            naming: &self.naming,
            action: operation.action(),
        };
        match operation {
            Operation::OpenTunnel => self.open_tunnel(leave, input).await,
            Operation::DescribeTunnel => self.describe_tunnel(leave, input).await,
            Operation::ListTunnels => self.list_tunnels(leave, input).await,
            Operation::CloseTunnel => self.close_tunnel(leave, input).await,
            Operation::RotateTunnelAccessToken => {
                self.rotate_tunnel_access_token(leave, input).await
            }
            Operation::TagResource => self.tag_resource(leave, input).await,
            Operation::UntagResource => self.untag_resource(leave, input).await,
            Operation::ListTagsForResource => self.list_tags_for_resource(leave, input).await,
        }
    }

    async fn open_tunnel(&self, leave: Leave<'_>, input: Input<'_>) -> Answer {
        let timeout = input.structure("timeoutConfig")?;
        let minutes = match &timeout {
            Some(timeout) => timeout.integer("maxLifetimeTimeoutMinutes", &LIFETIME_MINUTES)?,
            None => None,
        };
        let tags = input.list("tags", &TAG_LIST)?;
        let request = OpenTunnel {
            description: input.text("description", &DESCRIPTION)?.map(Arc::from),
            tags: read_tags(&tags.unwrap_or_default())?,
            config: destination_config(&input)?,
            lifetime: minutes
                .and_then(Lifetime::from_minutes)
                .unwrap_or(Lifetime::MAX),
            owner: leave.call.caller.access_key_id.clone(),
        };
        leave.open(request.config.as_ref(), &request.tags)?;
        let opened = self.control.open(request).await?;
        leave.call.note_resource(self.naming.tunnel_arn(&opened.id));
        Ok(Outcome::json(&OpenTunnelOutput {
            tunnel_id: opened.id.as_str(),
            tunnel_arn: self.naming.tunnel_arn(&opened.id),
            source_access_token: opened.source.expose(),
            destination_access_token: opened.destination.expose(),
        }))
    }

    async fn describe_tunnel(&self, leave: Leave<'_>, input: Input<'_>) -> Answer {
        let id = tunnel_id(&input)?;
        leave.on(&self.control, &id, Conditions::new()).await?;
        let view = self.control.describe(&id).await?;
        Ok(Outcome::json(&DescribeOutput {
            tunnel: TunnelOutput::new(&self.naming, view),
        }))
    }

    async fn list_tunnels(&self, leave: Leave<'_>, input: Input<'_>) -> Answer {
        let thing = input.text("thingName", &THING_NAME)?;
        let count = input.integer("maxResults", &MAX_RESULTS)?;
        let after = input.text("nextToken", &NEXT_TOKEN)?;
        let request = ListRequest {
            thing: thing.and_then(ThingName::new),
            after: after.map(page_token::decode).transpose()?,
            count: count
                .and_then(|count| NonZeroUsize::new(count.try_into().ok()?))
                .unwrap_or(DEFAULT_PAGE),
        };
        leave.list(thing)?;
        let page = self.control.list(request).await?;
        let summary = |tunnel| SummaryOutput::new(&self.naming, tunnel);
        Ok(Outcome::json(&ListOutput {
            tunnel_summaries: page.tunnels.into_iter().map(summary).collect(),
            next_token: page.next.map(page_token::encode),
        }))
    }

    async fn close_tunnel(&self, leave: Leave<'_>, input: Input<'_>) -> Answer {
        let id = tunnel_id(&input)?;
        let delete = input.boolean("delete")?.unwrap_or(false);
        let conditions = Conditions::new().with("iot:Delete", delete.to_string());
        leave.on(&self.control, &id, conditions).await?;
        self.control.close(&id, delete).await?;
        Ok(Outcome::json(&Empty {}))
    }

    async fn rotate_tunnel_access_token(&self, leave: Leave<'_>, input: Input<'_>) -> Answer {
        let id = tunnel_id(&input)?;
        let sides = input.required_word("clientMode", &CLIENT_MODES)?;
        let config = destination_config(&input)?;
        if config.is_some() && sides == RotatedSides::One(Mode::Source) {
            return Err(ApiError::validation(
                "destinationConfig cannot be combined with clientMode SOURCE",
            ));
        }
        let tokens = self.rotate(&leave, &id, sides, config).await?;
        Ok(Outcome::json(&RotateOutput {
            tunnel_arn: self.naming.tunnel_arn(&id),
            source_access_token: tokens.source.as_ref().map(|token| token.expose()),
            destination_access_token: tokens.destination.as_ref().map(|token| token.expose()),
        }))
    }

    /// What the tunnel is for can change between the look at the policies and the rotation: then they are looked
    /// at again, three times in all.
    async fn rotate(
        &self,
        leave: &Leave<'_>,
        id: &TunnelId,
        sides: RotatedSides,
        config: Option<DestinationConfig>,
    ) -> Result<RotatedTokens, ApiError> {
        let mut looks = 1;
        loop {
            let seen = leave
                .rotate(&self.control, id, sides, config.as_ref())
                .await?;
            let rotated = self.control.rotate(id, sides, config.clone(), seen).await;
            match rotated {
                Err(ControlError::Tunnel(TunnelError::Moved)) if looks < LOOKS_MAX => looks += 1,
                rotated => return Ok(rotated?),
            }
        }
    }

    async fn tag_resource(&self, leave: Leave<'_>, input: Input<'_>) -> Answer {
        let id = self.resource(&input)?;
        let tags = read_tags(&input.required_list("tags", &TAG_LIST)?)?;
        let id = id?;
        let conditions = leave::with_request_tags(&tags);
        leave.on(&self.control, &id, conditions).await?;
        self.control.tag(&id, tags).await?;
        Ok(Outcome::json(&Empty {}))
    }

    async fn untag_resource(&self, leave: Leave<'_>, input: Input<'_>) -> Answer {
        let id = self.resource(&input)?;
        let keys = input.required_list("tagKeys", &TAG_KEY_LIST)?;
        let keys: Result<Vec<_>, _> = keys
            .iter()
            .map(|key| key.text(&TAG_KEY).map(str::to_owned))
            .collect();
        let (keys, id) = (keys?, id?);
        let conditions = leave::with_tag_keys(&keys);
        leave.on(&self.control, &id, conditions).await?;
        self.control.untag(&id, keys).await?;
        Ok(Outcome::json(&Empty {}))
    }

    async fn list_tags_for_resource(&self, leave: Leave<'_>, input: Input<'_>) -> Answer {
        let id = self.resource(&input)??;
        leave.on(&self.control, &id, Conditions::new()).await?;
        Ok(Outcome::json(&TagsOutput {
            tags: tags(self.control.tags(&id).await?),
        }))
    }

    /// The tunnel of `resourceArn`: the outer error is the member's, the inner one says that there is no
    /// such resource, which is said only when all other members are in order.
    fn resource(&self, input: &Input<'_>) -> Result<Result<TunnelId, ApiError>, ApiError> {
        let arn = input.required_text("resourceArn", &RESOURCE_NAME)?;
        let id = self.naming.tunnel_of(arn);
        Ok(id.ok_or_else(|| ApiError::not_found("resourceArn names no tunnel of this service")))
    }
}

fn tunnel_id(input: &Input<'_>) -> Result<TunnelId, ApiError> {
    let id = input.required_text("tunnelId", &TUNNEL_ID)?;
    id.parse()
        .map_err(|_| ApiError::validation("not a tunnel id"))
}

fn destination_config(input: &Input<'_>) -> Result<Option<DestinationConfig>, ApiError> {
    let Some(config) = input.structure("destinationConfig")? else {
        return Ok(None);
    };
    let thing = config.text("thingName", &THING_NAME)?;
    let mut seen = BTreeSet::new();
    let mut services = Vec::new();
    for element in config.required_list("services", &SERVICE_LIST)? {
        let service: ServiceId = element
            .text(&SERVICE)?
            .parse()
            .map_err(|_| element.refused("Member must be a service id"))?;
        if !seen.insert(service.clone()) {
            return Err(element.refused("Member must be unique"));
        }
        services.push(service);
    }
    Ok(Some(DestinationConfig {
        thing: thing.and_then(ThingName::new),
        services: services.into(),
    }))
}

fn read_tags(elements: &[Element<'_>]) -> Result<Tags, ApiError> {
    let (mut tags, mut seen) = (Tags::new(), BTreeSet::new());
    for element in elements {
        let tag = element.structure()?;
        let key = tag.required_text("key", &TAG_KEY)?;
        let value = tag.required_text("value", &TAG_VALUE)?;
        if key
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
        {
            return Err(element.refused("Member must not have a key that begins with aws:"));
        }
        // As policies compare them: IAM's rule for tags.
        if !seen.insert(key.to_lowercase()) {
            let problem = "Member must not have the key of another one, in whatever case";
            return Err(element.refused(problem));
        }
        tags.insert(key.to_owned(), value.to_owned());
    }
    Ok(tags)
}

/// At what a tunnel is for, before a rotation.
const LOOKS_MAX: usize = 3;

const CLIENT_MODES: [(&str, RotatedSides); 3] = [
    ("SOURCE", RotatedSides::One(Mode::Source)),
    ("DESTINATION", RotatedSides::One(Mode::Destination)),
    ("ALL", RotatedSides::All),
];

/// Well-known clients look at the first page only, so it is as long as a page may be.
const DEFAULT_PAGE: NonZeroUsize = NonZeroUsize::new(100).expect("100 > 0");
