//! The tables of `adit.db`, and how older ones become them.

/// Each entry makes the next version out of the one before; the first, out of nothing. What was
/// released is never edited, only added to.
pub(super) const MIGRATIONS: &[&str] = &[VERSION_1];

const VERSION_1: &str = "
CREATE TABLE tunnels (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    routing_key TEXT NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    lifetime_minutes INTEGER NOT NULL,
    description TEXT,
    is_open INTEGER NOT NULL,
    deadline_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    next_session INTEGER NOT NULL,
    thing TEXT,
    services TEXT,
    tags TEXT NOT NULL,
    source_token BLOB NOT NULL,
    source_use INTEGER NOT NULL,
    source_client BLOB,
    source_first_session INTEGER NOT NULL,
    source_session INTEGER,
    source_node INTEGER,
    source_updated_ms INTEGER,
    destination_token BLOB NOT NULL,
    destination_use INTEGER NOT NULL,
    destination_client BLOB,
    destination_first_session INTEGER NOT NULL,
    destination_session INTEGER,
    destination_node INTEGER,
    destination_updated_ms INTEGER
) STRICT;
CREATE INDEX tunnels_by_thing ON tunnels (thing, sequence) WHERE thing IS NOT NULL;
CREATE INDEX tunnels_by_deadline ON tunnels (is_open, deadline_ms);

-- Client tokens in use, each by one side of one open tunnel.
CREATE TABLE client_tokens (
    hash BLOB PRIMARY KEY,
    tunnel INTEGER NOT NULL REFERENCES tunnels ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX client_tokens_by_tunnel ON client_tokens (tunnel);

-- How many tunnels there are of each kind, and how often the file was opened.
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('open', 0), ('closed', 0), ('node', 0);
";
