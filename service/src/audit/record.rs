//! What a record says, and how it is written down.

use std::net::SocketAddr;
use std::sync::Arc;

use adit_proto::TunnelId;
use adit_proto::escape::Escaped;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use uuid::Uuid;

use super::{Change, ClosedBy};
use crate::clock::Timestamp;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, by the wall clock.
    pub time: Timestamp,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request to the API, answered or refused.
    Call(ApiCall),
    /// A tunnel is not as it was.
    Tunnel {
        /// Which.
        id: TunnelId,
        /// What changed.
        change: Change,
    },
}

/// A request to the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiCall {
    /// As in the answer.
    pub request_id: Uuid,
    /// Who called; `None` when that is not certain, as after a wrong signature.
    pub user: Option<Arc<str>>,
    /// With which access key.
    pub access_key_id: Option<Arc<str>>,
    /// From where.
    pub source: SocketAddr,
    /// What the client calls itself. At most 256 characters are written.
    pub user_agent: Option<String>,
    /// Like `iot:OpenTunnel`; empty when the request did not get so far.
    pub action: String,
    /// ARNs.
    pub resources: Vec<String>,
    /// `Success`, or the error's code.
    pub outcome: &'static str,
    /// Requests before this one that were refused as nobody's, or as too many of one key, and have no
    /// record of their own, because there were too many in a second.
    pub unrecorded: u64,
}

impl Record {
    /// One line of JSON, without the line feed, and without any character that a terminal would obey.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers become JSON")
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &date_time(self.time))?;
        match &self.event {
            Event::Call(call) => call.write(&mut map)?,
            Event::Tunnel { id, change } => {
                map.serialize_entry("event", change.name())?;
                map.serialize_entry("tunnelId", id.as_str())?;
                change.write(&mut map)?;
            }
        }
        map.end()
    }
}

impl ApiCall {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("event", "ApiCall")?;
        map.serialize_entry("requestId", &self.request_id.to_string())?;
        if let Some(user) = &self.user {
            map.serialize_entry("user", &clean(user))?;
        }
        if let Some(id) = &self.access_key_id {
            map.serialize_entry("accessKeyId", &clean(id))?;
        }
        map.serialize_entry("source", &plain(self.source))?;
        if let Some(agent) = &self.user_agent {
            let agent: String = agent.chars().take(USER_AGENT_SIZE_MAX).collect();
            map.serialize_entry("userAgent", &clean(&agent))?;
        }
        if !self.action.is_empty() {
            map.serialize_entry("action", &clean(&self.action))?;
        }
        let resources: Vec<_> = self.resources.iter().map(|arn| clean(arn)).collect();
        if !resources.is_empty() {
            map.serialize_entry("resources", &resources)?;
        }
        map.serialize_entry("outcome", self.outcome)?;
        if self.unrecorded > 0 {
            map.serialize_entry("unrecorded", &self.unrecorded)?;
        }
        Ok(())
    }
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Self::Opened => "TunnelOpened",
            Self::Admitted { .. } => "SideAdmitted",
            Self::Connected { .. } => "SideConnected",
            Self::Disconnected { .. } => "SideDisconnected",
            Self::TokenRotated { .. } => "TokenRotated",
            Self::Closed { .. } => "TunnelClosed",
            Self::Deleted => "TunnelDeleted",
        }
    }

    fn write<M: SerializeMap>(self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Self::Opened | Self::Deleted => Ok(()),
            Self::Admitted {
                side,
                session,
                peer,
            }
            | Self::Connected {
                side,
                session,
                peer,
            }
            | Self::Disconnected {
                side,
                session,
                peer,
            } => {
                map.serialize_entry("side", &side.to_string())?;
                map.serialize_entry("session", &session)?;
                map.serialize_entry("peer", &plain(peer.address))?;
                map.serialize_entry("channelId", &peer.channel_id.to_string())
            }
            Self::TokenRotated { side } => map.serialize_entry("side", &side.to_string()),
            Self::Closed { by } => map.serialize_entry(
                "by",
                match by {
                    ClosedBy::Call => "call",
                    ClosedBy::Deletion => "deletion",
                    ClosedBy::Timeout => "timeout",
                },
            ),
        }
    }
}

/// As whoever searches for it writes it: a listener for both families gives IPv4 addresses as `[::ffff:192.0.2.1]`.
fn plain(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

fn clean(text: &str) -> String {
    Escaped(text).to_string()
}

/// `2026-11-23T15:18:13.042Z`.
fn date_time(time: Timestamp) -> String {
    let seconds = time.to_date_time();
    let (year, month, day) = seconds.to_calendar_date();
    let (hour, minute, second) = seconds.to_hms();
    let (month, millis) = (u8::from(month), time.millis() % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

const USER_AGENT_SIZE_MAX: usize = 256;
