//! A tunnel as a row of a table: the same columns in every database.
//!
//! Moments are milliseconds since the Unix epoch; `deadline_ms` is steady time, the others are only
//! shown. Services and tags are JSON. Tokens are there as SHA-256 only.

use std::collections::BTreeMap;
use std::sync::Arc;

use adit_proto::ServiceId;

use crate::clock::Timestamp;
use crate::token::{ClientTokenHash, RoutingKey, TokenHash};
use crate::tunnels::{
    DestinationConfig, Lifetime, Link, NodeId, Record, Side, State, ThingName, TokenUse,
};

/// Makes a struct whose fields are columns, with what both database libraries need of it.
macro_rules! row {
    ($(#[$doc:meta])* $row:ident { fixed { $($fixed:ident: $fixed_type:ty,)* } moving { $($moving:ident: $moving_type:ty,)* } }) => {
        $(#[$doc])*
        pub(super) struct $row {
            pub(super) sequence: i64,
            $(pub(super) $fixed: $fixed_type,)*
            $(pub(super) $moving: $moving_type,)*
        }

        impl $row {
            /// Columns that are written once. The place in the order of creation is the database's.
            pub(super) const FIXED: &[&str] = &[$(stringify!($fixed)),*];
            /// Columns that change.
            pub(super) const MOVING: &[&str] = &[$(stringify!($moving)),*];

            pub(super) fn from_sqlite(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
                Ok(Self {
                    sequence: row.get("sequence")?,
                    $($fixed: row.get(stringify!($fixed))?,)*
                    $($moving: row.get(stringify!($moving))?,)*
                })
            }

            pub(super) fn from_postgres(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
                Ok(Self {
                    sequence: row.try_get("sequence")?,
                    $($fixed: row.try_get(stringify!($fixed))?,)*
                    $($moving: row.try_get(stringify!($moving))?,)*
                })
            }

            pub(super) fn fixed_sqlite(&self) -> impl Iterator<Item = &dyn rusqlite::ToSql> {
                [$(&self.$fixed as &dyn rusqlite::ToSql),*].into_iter()
            }

            pub(super) fn moving_sqlite(&self) -> impl Iterator<Item = &dyn rusqlite::ToSql> {
                [$(&self.$moving as &dyn rusqlite::ToSql),*].into_iter()
            }

            pub(super) fn fixed_postgres(&self) -> impl Iterator<Item = &(dyn tokio_postgres::types::ToSql + Sync)> {
                [$(&self.$fixed as &(dyn tokio_postgres::types::ToSql + Sync)),*].into_iter()
            }

            pub(super) fn moving_postgres(&self) -> impl Iterator<Item = &(dyn tokio_postgres::types::ToSql + Sync)> {
                [$(&self.$moving as &(dyn tokio_postgres::types::ToSql + Sync)),*].into_iter()
            }
        }
    };
}

row! {
    /// One tunnel with both its sides.
    TunnelRow {
        fixed {
            id: String,
            routing_key: String,
            created_ms: i64,
            lifetime_minutes: i64,
            description: Option<String>,
            owner: Option<String>,
        }
        moving {
            is_open: bool,
            deadline_ms: i64,
            updated_ms: i64,
            next_session: i64,
            thing: Option<String>,
            services: Option<String>,
            tags: String,
            source_token: Vec<u8>,
            source_use: i64,
            source_client: Option<Vec<u8>>,
            source_first_session: i64,
            source_session: Option<i64>,
            source_node: Option<i64>,
            source_updated_ms: Option<i64>,
            destination_token: Vec<u8>,
            destination_use: i64,
            destination_client: Option<Vec<u8>>,
            destination_first_session: i64,
            destination_session: Option<i64>,
            destination_node: Option<i64>,
            destination_updated_ms: Option<i64>,
        }
    }
}

/// One side, before its columns have the side's name in front.
struct SideRow {
    token: Vec<u8>,
    token_use: i64,
    client: Option<Vec<u8>>,
    first_session: i64,
    session: Option<i64>,
    node: Option<i64>,
    updated_ms: Option<i64>,
}

impl TunnelRow {
    pub(super) fn of(record: &Record) -> Self {
        let (source, destination) = (side_row(&record.source), side_row(&record.destination));
        let services = record.config.as_ref().map(|config| {
            let names: Vec<_> = config.services.iter().map(ServiceId::as_str).collect();
            serde_json::to_string(&names).expect("texts become JSON")
        });
        Self {
            sequence: number(record.sequence),
            id: record.id.as_str().to_owned(),
            routing_key: record.routing_key.as_str().to_owned(),
            created_ms: number(record.created.millis()),
            lifetime_minutes: record.lifetime.minutes().into(),
            description: record.description.as_deref().map(str::to_owned),
            owner: record.owner.as_deref().map(str::to_owned),
            is_open: matches!(record.state, State::Open { .. }),
            deadline_ms: number(record.deadline().millis()),
            updated_ms: number(record.updated.millis()),
            next_session: number(record.next_session),
            thing: record.thing().map(|thing| thing.as_str().to_owned()),
            services,
            tags: serde_json::to_string(&record.tags).expect("texts become JSON"),
            source_token: source.token,
            source_use: source.token_use,
            source_client: source.client,
            source_first_session: source.first_session,
            source_session: source.session,
            source_node: source.node,
            source_updated_ms: source.updated_ms,
            destination_token: destination.token,
            destination_use: destination.token_use,
            destination_client: destination.client,
            destination_first_session: destination.first_session,
            destination_session: destination.session,
            destination_node: destination.node,
            destination_updated_ms: destination.updated_ms,
        }
    }

    /// # Errors
    /// What contradicts the rules; says nothing of the content.
    pub(super) fn into_record(self) -> Result<Record, &'static str> {
        let deadline = timestamp(self.deadline_ms);
        let lifetime = Lifetime::from_minutes(self.lifetime_minutes);
        let routing_key = RoutingKey::from_text(&self.routing_key);
        let tags: BTreeMap<String, String> =
            serde_json::from_str(&self.tags).map_err(|_| "tags are malformed")?;
        Ok(Record {
            id: self.id.parse().map_err(|_| "an id is malformed")?,
            routing_key: routing_key.ok_or("a routing key is malformed")?,
            sequence: unsigned(self.sequence),
            state: if self.is_open {
                State::Open { ends: deadline }
            } else {
                State::Closed { purge: deadline }
            },
            next_session: unsigned(self.next_session),
            config: config(self.thing, self.services.as_deref())?,
            tags,
            updated: timestamp(self.updated_ms),
            source: side(&SideRow {
                token: self.source_token,
                token_use: self.source_use,
                client: self.source_client,
                first_session: self.source_first_session,
                session: self.source_session,
                node: self.source_node,
                updated_ms: self.source_updated_ms,
            })?,
            destination: side(&SideRow {
                token: self.destination_token,
                token_use: self.destination_use,
                client: self.destination_client,
                first_session: self.destination_first_session,
                session: self.destination_session,
                node: self.destination_node,
                updated_ms: self.destination_updated_ms,
            })?,
            description: self.description.map(Arc::from),
            lifetime: lifetime.ok_or("a lifetime is out of range")?,
            owner: self.owner.map(Into::into),
            created: timestamp(self.created_ms),
        })
    }
}

fn side_row(side: &Side) -> SideRow {
    let (token_use, client) = match side.token_use {
        TokenUse::Unused => (UNUSED, None),
        TokenUse::Spent => (SPENT, None),
        TokenUse::Bound(client) => (BOUND, Some(client.as_bytes().to_vec())),
    };
    SideRow {
        token: side.token.as_bytes().to_vec(),
        token_use,
        client,
        first_session: number(side.first_session),
        session: side.connected.map(|link| number(link.session)),
        node: side.connected.map(|link| link.node.0),
        updated_ms: side.updated.map(|updated| number(updated.millis())),
    }
}

fn side(row: &SideRow) -> Result<Side, &'static str> {
    let client = row.client.as_deref().and_then(ClientTokenHash::from_bytes);
    let token_use = match (row.token_use, client) {
        (UNUSED, None) => TokenUse::Unused,
        (SPENT, None) => TokenUse::Spent,
        (BOUND, Some(client)) => TokenUse::Bound(client),
        _ => return Err("the use of a token is malformed"),
    };
    let link = row.session.zip(row.node);
    Ok(Side {
        token: TokenHash::from_bytes(&row.token).ok_or("a hash is malformed")?,
        token_use,
        first_session: unsigned(row.first_session),
        connected: link.map(|(session, node)| Link {
            session: unsigned(session),
            node: NodeId(node),
        }),
        updated: row.updated_ms.map(timestamp),
    })
}

fn config(
    thing: Option<String>,
    services: Option<&str>,
) -> Result<Option<DestinationConfig>, &'static str> {
    const MALFORMED: &str = "a service is malformed";
    let Some(services) = services else {
        return Ok(None);
    };
    let names: Vec<String> = serde_json::from_str(services).map_err(|_| MALFORMED)?;
    let services = names.iter().map(|name| name.parse::<ServiceId>());
    let thing = thing.map(|name| ThingName::new(&name).ok_or("a thing name is malformed"));
    Ok(Some(DestinationConfig {
        thing: thing.transpose()?,
        services: services.collect::<Result<_, _>>().map_err(|_| MALFORMED)?,
    }))
}

/// The counters and moments of a record are far below 2^63.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(super) fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(unsigned(millis))
}

/// Values of the columns `source_use` and `destination_use`.
const UNUSED: i64 = 0;
const SPENT: i64 = 1;
const BOUND: i64 = 2;
