//! The table as it lies on the disk, and back.
//!
//! Moments are stored as time of day, because monotonic time ends with the machine's run. Left out is
//! who is connected: after a restart nobody is.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_proto::{Mode, ServiceId};
use serde::{Deserialize, Serialize};

use super::Tunnels;
use super::record::{Record, Side, State, TokenUse};
use super::types::{DestinationConfig, Lifetime, Limits, Tags, ThingName};
use crate::clock::{Now, Timestamp};
use crate::token::{ClientTokenHash, RoutingKey, TokenHash};

/// Everything that outlives the process; milliseconds are since the Unix epoch. Holds hashes of
/// tokens, and no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableImage<'a> {
    next_sequence: u64,
    /// Sessions below this number may have been given out.
    sessions_until: u64,
    /// The oldest first.
    tunnels: Vec<TunnelImage<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TunnelImage<'a> {
    id: Cow<'a, str>,
    routing_key: Cow<'a, str>,
    sequence: u64,
    state: StateImage,
    created_ms: u64,
    updated_ms: u64,
    lifetime_minutes: u16,
    description: Option<Cow<'a, str>>,
    config: Option<ConfigImage<'a>>,
    tags: Cow<'a, Tags>,
    source: SideImage,
    destination: SideImage,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateImage {
    Open { ends_ms: u64 },
    Closed { forget_ms: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigImage<'a> {
    thing: Option<Cow<'a, str>>,
    services: Vec<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SideImage {
    token_sha256: String,
    token_use: UseImage,
    first_session: u64,
    updated_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UseImage {
    Unused,
    Spent,
    Bound { client_token_sha256: String },
}

/// The table as it is now. Sessions below `sessions_until` need not be stored one by one.
pub(crate) fn image(tunnels: &Tunnels, now: Now, sessions_until: u64) -> TableImage<'_> {
    let ids = tunnels.by_sequence.values();
    TableImage {
        next_sequence: tunnels.next_sequence,
        sessions_until,
        tunnels: ids
            .map(|id| tunnel_image(&tunnels.records[id], now))
            .collect(),
    }
}

/// The table that an image shows. Lifetimes have gone on meanwhile: what is over by now is closed, as
/// of the moment it was over. A time of day that was set back cannot lengthen a lifetime or retention
/// beyond its full length from now.
///
/// # Errors
/// What contradicts the rules of the table; says nothing of its content.
pub(crate) fn restore(
    image: &TableImage<'_>,
    limits: Limits,
    now: Now,
) -> Result<Tunnels, &'static str> {
    let mut tunnels = Tunnels::new(limits);
    tunnels.next_sequence = image.next_sequence;
    tunnels.next_session = image.sessions_until;
    for tunnel in &image.tunnels {
        let record = record(tunnel, tunnels.limits.retention, now)?;
        let newest = record
            .source
            .first_session
            .max(record.destination.first_session);
        if newest > image.sessions_until || record.sequence >= image.next_sequence {
            return Err("a number is beyond its counter");
        }
        let known = tunnels.records.contains_key(&record.id)
            || tunnels.by_routing_key.contains_key(&record.routing_key)
            || tunnels.by_sequence.contains_key(&record.sequence);
        if known {
            return Err("a tunnel is there twice");
        }
        bind_clients(&mut tunnels, &record)?;
        tunnels.insert(record);
    }
    tunnels.expire(now);
    Ok(tunnels)
}

fn bind_clients(tunnels: &mut Tunnels, record: &Record) -> Result<(), &'static str> {
    if matches!(record.state, State::Closed { .. }) {
        return Ok(());
    }
    for mode in [Mode::Source, Mode::Destination] {
        if let TokenUse::Bound(client_token) = record.side(mode).token_use {
            let owner = (record.id.clone(), mode);
            let other = tunnels.client_tokens.insert(client_token, owner);
            if other.is_some() {
                return Err("a client token is bound twice");
            }
        }
    }
    Ok(())
}

fn tunnel_image(record: &Record, now: Now) -> TunnelImage<'_> {
    TunnelImage {
        id: record.id.as_str().into(),
        routing_key: record.routing_key.as_str().into(),
        sequence: record.sequence,
        state: match record.state {
            State::Open { ends } => StateImage::Open {
                ends_ms: wall(now, ends),
            },
            State::Closed { purge } => StateImage::Closed {
                forget_ms: wall(now, purge),
            },
        },
        created_ms: record.created.millis(),
        updated_ms: record.updated.millis(),
        lifetime_minutes: record.lifetime.minutes(),
        description: record.description.as_deref().map(Cow::from),
        config: record.config.as_ref().map(|config| ConfigImage {
            thing: config.thing.as_ref().map(|thing| thing.as_str().into()),
            services: config.services.iter().map(|s| s.as_str().into()).collect(),
        }),
        tags: Cow::Borrowed(&record.tags),
        source: side_image(&record.source),
        destination: side_image(&record.destination),
    }
}

fn side_image(side: &Side) -> SideImage {
    SideImage {
        token_sha256: side.token.to_text(),
        token_use: match side.token_use {
            TokenUse::Unused => UseImage::Unused,
            TokenUse::Spent => UseImage::Spent,
            TokenUse::Bound(client_token) => UseImage::Bound {
                client_token_sha256: client_token.to_text(),
            },
        },
        first_session: side.first_session,
        updated_ms: side.updated.map(Timestamp::millis),
    }
}

fn record(image: &TunnelImage<'_>, retention: Duration, now: Now) -> Result<Record, &'static str> {
    let lifetime = Lifetime::from_minutes(image.lifetime_minutes.into());
    let lifetime = lifetime.ok_or("a lifetime is out of range")?;
    let created = Timestamp::from_millis(image.created_ms);
    let mut updated = Timestamp::from_millis(image.updated_ms);
    let state = match image.state {
        StateImage::Open { ends_ms } if ends_ms <= now.wall.millis() => {
            updated = Timestamp::from_millis(ends_ms);
            let forget_ms = ends_ms.saturating_add(millis(retention));
            closed(now, forget_ms, retention)
        }
        StateImage::Open { ends_ms } => State::Open {
            ends: instant(now, ends_ms, lifetime.duration()),
        },
        StateImage::Closed { forget_ms } => closed(now, forget_ms, retention),
    };
    Ok(Record {
        id: image.id.parse().map_err(|_| "an id is malformed")?,
        routing_key: RoutingKey::from_text(&image.routing_key)
            .ok_or("a routing key is malformed")?,
        sequence: image.sequence,
        state,
        config: image.config.as_ref().map(config).transpose()?,
        tags: image.tags.as_ref().clone(),
        updated,
        source: side(&image.source)?,
        destination: side(&image.destination)?,
        description: image.description.as_deref().map(Arc::from),
        lifetime,
        created,
    })
}

fn closed(now: Now, forget_ms: u64, retention: Duration) -> State {
    State::Closed {
        purge: instant(now, forget_ms, retention),
    }
}

fn config(image: &ConfigImage<'_>) -> Result<DestinationConfig, &'static str> {
    let thing = image.thing.as_deref();
    let thing = thing.map(|name| ThingName::new(name).ok_or("a thing name is malformed"));
    let services = image.services.iter().map(|name| name.parse::<ServiceId>());
    let services: Result<_, _> = services.collect();
    Ok(DestinationConfig {
        thing: thing.transpose()?,
        services: services.map_err(|_| "a service is malformed")?,
    })
}

fn side(image: &SideImage) -> Result<Side, &'static str> {
    const MALFORMED: &str = "a hash is malformed";
    Ok(Side {
        token: TokenHash::from_text(&image.token_sha256).ok_or(MALFORMED)?,
        token_use: match &image.token_use {
            UseImage::Unused => TokenUse::Unused,
            UseImage::Spent => TokenUse::Spent,
            UseImage::Bound {
                client_token_sha256,
            } => {
                let hash = ClientTokenHash::from_text(client_token_sha256);
                TokenUse::Bound(hash.ok_or(MALFORMED)?)
            }
        },
        first_session: image.first_session,
        connected: None,
        updated: image.updated_ms.map(Timestamp::from_millis),
    })
}

/// The time of day at this moment.
fn wall(now: Now, at: Instant) -> u64 {
    match at.checked_duration_since(now.instant) {
        Some(ahead) => now.wall.millis().saturating_add(millis(ahead)),
        None => (now.wall.millis()).saturating_sub(millis(now.instant - at)),
    }
}

/// The moment of this time of day: at the earliest now, at the latest when `most` has passed.
fn instant(now: Now, wall_ms: u64, most: Duration) -> Instant {
    let ahead = wall_ms.saturating_sub(now.wall.millis());
    now.instant + Duration::from_millis(ahead).min(most)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
