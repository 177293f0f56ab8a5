//! What the operations answer. Members that have no value are left out.

use serde::Serialize;

use super::naming::Naming;
use crate::clock::Timestamp;
use crate::tunnels::{DestinationConfig, SideView, Status, Tags, TunnelSummary, TunnelView};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OpenTunnelOutput<'a> {
    pub(super) tunnel_id: &'a str,
    pub(super) tunnel_arn: String,
    pub(super) source_access_token: &'a str,
    pub(super) destination_access_token: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RotateOutput<'a> {
    pub(super) tunnel_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source_access_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination_access_token: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct DescribeOutput {
    pub(super) tunnel: TunnelOutput,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListOutput {
    pub(super) tunnel_summaries: Vec<SummaryOutput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_token: Option<String>,
}

#[derive(Serialize)]
pub(super) struct TagsOutput {
    pub(super) tags: Vec<TagOutput>,
}

/// The answer of operations that have nothing to say.
#[derive(Serialize)]
pub(super) struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TunnelOutput {
    #[serde(flatten)]
    summary: SummaryOutput,
    source_connection_state: ConnectionOutput,
    destination_connection_state: ConnectionOutput,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_config: Option<DestinationOutput>,
    timeout_config: TimeoutOutput,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<TagOutput>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SummaryOutput {
    tunnel_id: String,
    tunnel_arn: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    created_at: Timestamp,
    last_updated_at: Timestamp,
}

#[derive(Serialize)]
pub(super) struct TagOutput {
    key: String,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionOutput {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_updated_at: Option<Timestamp>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DestinationOutput {
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_name: Option<String>,
    services: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TimeoutOutput {
    max_lifetime_timeout_minutes: u16,
}

impl TunnelOutput {
    pub(super) fn new(naming: &Naming, view: TunnelView) -> Self {
        Self {
            summary: SummaryOutput::new(naming, view.summary),
            source_connection_state: view.source.into(),
            destination_connection_state: view.destination.into(),
            destination_config: view.config.map(DestinationOutput::from),
            timeout_config: TimeoutOutput {
                max_lifetime_timeout_minutes: view.lifetime.minutes(),
            },
            tags: tags(view.tags),
        }
    }
}

impl SummaryOutput {
    pub(super) fn new(naming: &Naming, summary: TunnelSummary) -> Self {
        Self {
            tunnel_arn: naming.tunnel_arn(&summary.id),
            tunnel_id: summary.id.as_str().to_owned(),
            status: match summary.status {
                Status::Open => "OPEN",
                Status::Closed => "CLOSED",
            },
            description: summary.description.as_ref().map(ToString::to_string),
            created_at: summary.created,
            last_updated_at: summary.updated,
        }
    }
}

impl From<SideView> for ConnectionOutput {
    fn from(side: SideView) -> Self {
        Self {
            status: if side.connected {
                "CONNECTED"
            } else {
                "DISCONNECTED"
            },
            last_updated_at: side.updated,
        }
    }
}

impl From<DestinationConfig> for DestinationOutput {
    fn from(config: DestinationConfig) -> Self {
        Self {
            thing_name: config.thing.map(|thing| thing.as_str().to_owned()),
            services: config.services.iter().map(ToString::to_string).collect(),
        }
    }
}

pub(super) fn tags(tags: Tags) -> Vec<TagOutput> {
    tags.into_iter()
        .map(|(key, value)| TagOutput { key, value })
        .collect()
}
