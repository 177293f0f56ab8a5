//! `tunnels.json` of older data directories, read once and put into the database.
//!
//! ```text
//! {"version":1,"sha256":"…43 characters…","table":
//! {…}
//! }
//! ```
//!
//! One JSON document whose first line is read by itself. The hash is that of the table's line, so that a
//! flipped bit is never taken for a tunnel.

use std::time::Duration;

use adit_proto::ServiceId;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::clock::{Now, Timestamp};
use crate::data_dir::{DataDir, DataDirError};
use crate::token::{ClientTokenHash, RoutingKey, TokenHash, sha256};
use crate::tunnels::{DestinationConfig, Lifetime, Record, Side, State, Tags, ThingName, TokenUse};

/// The tunnels of the old file, the oldest first; none when there is no such file.
///
/// # Errors
/// A file that is damaged, or that others may read. It is never taken for an empty one.
pub(super) fn read(
    dir: &DataDir,
    retention: Duration,
    now: Now,
) -> Result<Vec<Record>, DataDirError> {
    dir.remove_leftover(FILE)?;
    let Some(text) = dir.read_large_secret(FILE, SIZE_MAX)? else {
        return Ok(Vec::new());
    };
    let records = decode(&text).and_then(|table| {
        let records = table.tunnels.iter();
        let records = records.map(|tunnel| record(tunnel, table.sessions_until, retention, now));
        records.collect()
    });
    records.map_err(|what: &str| {
        let reason = format!(
            "{what}; restore the file from a backup, or move it away to start without its tunnels"
        );
        DataDirError::damaged(&dir.file(FILE), reason)
    })
}

/// Removes the old file, whose tunnels are durable elsewhere by now.
pub(super) fn finish(dir: &DataDir) -> Result<(), DataDirError> {
    dir.remove(FILE)
}

fn decode(text: &str) -> Result<Table, &'static str> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let table = rest.strip_suffix("\n}\n").ok_or("its end is missing")?;
    let hash = URL_SAFE_NO_PAD.encode(sha256(&[table.as_bytes()]));
    if first != format!("{{\"version\":1,\"sha256\":\"{hash}\",\"table\":") {
        return Err("its content does not have the hash that it had");
    }
    // Not the error's own text: it may quote.
    serde_json::from_str(table).map_err(|_| "its second line makes no sense")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(rename = "next_sequence")]
    _next_sequence: u64,
    sessions_until: u64,
    tunnels: Vec<Tunnel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tunnel {
    id: String,
    routing_key: String,
    #[serde(rename = "sequence")]
    _sequence: u64,
    state: OldState,
    created_ms: u64,
    updated_ms: u64,
    lifetime_minutes: u16,
    description: Option<String>,
    config: Option<Config>,
    tags: Tags,
    source: OldSide,
    destination: OldSide,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OldState {
    Open { ends_ms: u64 },
    Closed { forget_ms: u64 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    thing: Option<String>,
    services: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldSide {
    token_sha256: String,
    token_use: Use,
    first_session: u64,
    updated_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Use {
    Unused,
    Spent,
    Bound { client_token_sha256: String },
}

fn record(
    old: &Tunnel,
    next_session: u64,
    retention: Duration,
    now: Now,
) -> Result<Record, &'static str> {
    let lifetime = Lifetime::from_minutes(old.lifetime_minutes.into());
    let mut record = Record {
        id: old.id.parse().map_err(|_| "an id is malformed")?,
        routing_key: RoutingKey::from_text(&old.routing_key).ok_or("a routing key is malformed")?,
        // The database numbers them anew, in this order.
        sequence: 0,
        state: match old.state {
            OldState::Open { ends_ms } => State::Open {
                ends: Timestamp::from_millis(ends_ms),
            },
            OldState::Closed { forget_ms } => State::Closed {
                purge: Timestamp::from_millis(forget_ms),
            },
        },
        next_session,
        config: old.config.as_ref().map(config).transpose()?,
        tags: old.tags.clone(),
        updated: Timestamp::from_millis(old.updated_ms),
        source: side(&old.source)?,
        destination: side(&old.destination)?,
        description: old.description.as_deref().map(Into::into),
        lifetime: lifetime.ok_or("a lifetime is out of range")?,
        created: Timestamp::from_millis(old.created_ms),
        owner: None,
    };
    record.clamp(now, retention);
    Ok(record)
}

fn config(old: &Config) -> Result<DestinationConfig, &'static str> {
    let thing = old.thing.as_deref();
    let thing = thing.map(|name| ThingName::new(name).ok_or("a thing name is malformed"));
    let services = old.services.iter().map(|name| name.parse::<ServiceId>());
    let services: Result<_, _> = services.collect();
    Ok(DestinationConfig {
        thing: thing.transpose()?,
        services: services.map_err(|_| "a service is malformed")?,
    })
}

fn side(old: &OldSide) -> Result<Side, &'static str> {
    const MALFORMED: &str = "a hash is malformed";
    let token = TokenHash::from_text(&old.token_sha256).ok_or(MALFORMED)?;
    let mut side = Side::new(token, old.first_session);
    side.token_use = match &old.token_use {
        Use::Unused => TokenUse::Unused,
        Use::Spent => TokenUse::Spent,
        Use::Bound {
            client_token_sha256,
        } => {
            let hash = ClientTokenHash::from_text(client_token_sha256);
            TokenUse::Bound(hash.ok_or(MALFORMED)?)
        }
    };
    side.updated = old.updated_ms.map(Timestamp::from_millis);
    Ok(side)
}

const FILE: &str = "tunnels.json";

/// The bound of the program that wrote it.
const SIZE_MAX: u64 = 1 << 30;
