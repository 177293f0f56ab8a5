//! A sum beside each row, so that a bit that has changed on the disk is never taken for what was written.
//!
//! SQLite finds broken structure, and the sums of its journal are its own; of what is inside a row it knows nothing.
//! Triggers write the column `sum` with every change of a row. The whole file is held to it before anything in it is
//! used: about a microsecond a row.

use std::fmt::Write as _;

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::schema::MIGRATIONS;
use crate::token::sha256;

/// A table whose rows have sums.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// What names a row.
    key: &'static [&'static str],
    /// Everything but the sum.
    columns: &'static [&'static str],
}

/// Gives a connection the function that triggers call. Any connection that writes has to have it.
pub(super) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("adit_sum", -1, flags, |values| Ok(sum(values)))
}

/// The first eight bytes of the SHA-256 over all values, each with its type and its size.
fn sum(values: &Context<'_>) -> i64 {
    let mut bytes = Vec::with_capacity(512);
    let mut add = |kind: u8, value: &[u8]| {
        bytes.push(kind);
        bytes.extend((value.len() as u64).to_be_bytes());
        bytes.extend(value);
    };
    for index in 0..values.len() {
        match values.get_raw(index) {
            ValueRef::Null => add(0, &[]),
            ValueRef::Integer(number) => add(1, &number.to_be_bytes()),
            ValueRef::Real(number) => add(2, &number.to_be_bytes()),
            ValueRef::Text(text) => add(3, text),
            ValueRef::Blob(blob) => add(4, blob),
        }
    }
    let digest = sha256(&[&bytes]);
    i64::from_be_bytes(*digest.first_chunk().expect("it has 32 bytes"))
}

/// What contradicts what was written, of a file of the current version.
pub(super) fn contradiction(connection: &Connection) -> rusqlite::Result<Option<String>> {
    if schema(connection)? != expected_schema()? {
        return Ok(Some(
            "its tables are not those that this program makes".to_owned(),
        ));
    }
    for table in TABLES {
        let sql = format!(
            "SELECT 1 FROM {} WHERE sum IS NOT {} LIMIT 1",
            table.name,
            table.sum()
        );
        let wrong = connection.query_row(&sql, [], |_| Ok(())).optional()?;
        if wrong.is_some() {
            let name = table.name;
            return Ok(Some(format!(
                "a record of its {name} does not have the sum that it had"
            )));
        }
    }
    Ok(None)
}

/// Everything that was ever said to make the tables, in the order of their names. What SQLite itself keeps of their
/// statistics has no part in what is in them, nor has what Litestream makes beside them to be alone with the journal.
fn schema(connection: &Connection) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    let mut select = connection.prepare(
        "SELECT name, sql FROM sqlite_schema
         WHERE name NOT GLOB 'sqlite_stat*' AND name NOT GLOB '_litestream_*' ORDER BY name",
    )?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn expected_schema() -> rusqlite::Result<Vec<(String, Option<String>)>> {
    let fresh = Connection::open_in_memory()?;
    register(&fresh)?;
    for migration in MIGRATIONS {
        fresh.execute_batch(&migration())?;
    }
    schema(&fresh)
}

impl Table {
    fn sum(&self) -> String {
        format!("adit_sum('{}', {})", self.name, self.columns.join(", "))
    }

    /// Statements that give each row its sum from now on.
    fn begin(&self, sql: &mut String) {
        let Self { name, key, columns } = self;
        let (key, columns) = (key.join(", "), columns.join(", "));
        let new = self.key.join(", NEW.");
        let sum = self.sum();
        let _ = write!(
            sql,
            "ALTER TABLE {name} ADD COLUMN sum INTEGER;
             UPDATE {name} SET sum = {sum};
             CREATE TRIGGER {name}_sum_insert AFTER INSERT ON {name} BEGIN
                 UPDATE {name} SET sum = {sum} WHERE ({key}) = (NEW.{new});
             END;
             CREATE TRIGGER {name}_sum_update AFTER UPDATE OF {columns} ON {name} BEGIN
                 UPDATE {name} SET sum = {sum} WHERE ({key}) = (NEW.{new});
             END;\n"
        );
    }
}

/// The migration that brings sums.
pub(super) fn migration() -> String {
    let mut sql = String::new();
    TABLES.iter().for_each(|table| table.begin(&mut sql));
    sql
}

/// Not those of counts that are counted again at each start. A column that is added has to be put in here, with the
/// triggers made anew.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "tunnels",
        key: &["sequence"],
        columns: &[
            "sequence",
            "id",
            "routing_key",
            "created_ms",
            "lifetime_minutes",
            "description",
            "owner",
            "is_open",
            "deadline_ms",
            "updated_ms",
            "next_session",
            "thing",
            "services",
            "tags",
            "source_token",
            "source_use",
            "source_client",
            "source_first_session",
            "source_session",
            "source_node",
            "source_updated_ms",
            "destination_token",
            "destination_use",
            "destination_client",
            "destination_first_session",
            "destination_session",
            "destination_node",
            "destination_updated_ms",
        ],
    },
    Table {
        name: "client_tokens",
        key: &["hash"],
        columns: &["hash", "tunnel"],
    },
    Table {
        name: "counters",
        key: &["name"],
        columns: &["name", "value"],
    },
    Table {
        name: "things",
        key: &["rowid"],
        columns: &["name", "id", "type_name", "attributes", "version"],
    },
    Table {
        name: "certificates",
        key: &["rowid"],
        columns: &[
            "id",
            "pem",
            "status",
            "origin",
            "created_ms",
            "updated_ms",
            "not_before_ms",
            "not_after_ms",
        ],
    },
    Table {
        name: "policies",
        key: &["rowid"],
        columns: &["name", "document", "version", "created_ms"],
    },
    Table {
        name: "thing_certificates",
        key: &["thing", "certificate"],
        columns: &["thing", "certificate"],
    },
    Table {
        name: "certificate_policies",
        key: &["policy", "certificate"],
        columns: &["policy", "certificate"],
    },
    Table {
        name: "sessions",
        key: &["rowid"],
        columns: &[
            "thing",
            "connection",
            "connected",
            "resumable",
            "until_ms",
            "life_ms",
            "subscription",
        ],
    },
    Table {
        name: "messages",
        key: &["id"],
        columns: &[
            "id",
            "thing",
            "tunnel",
            "sent",
            "expires_ms",
            "life_ms",
            "sealed",
            "token",
        ],
    },
    Table {
        name: "audit",
        key: &["sequence"],
        columns: &["sequence", "record"],
    },
];
