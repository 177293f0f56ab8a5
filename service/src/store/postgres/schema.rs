//! The tables on the server, and how older ones become them.

/// Each entry makes the next version out of the one before; the first, out of nothing. What was
/// released is never edited, only added to. A node of the version before may still be running.
pub(super) const MIGRATIONS: &[&str] = &[VERSION_1];

const VERSION_1: &str = "
CREATE TABLE tunnels (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    routing_key text NOT NULL UNIQUE,
    created_ms bigint NOT NULL,
    lifetime_minutes bigint NOT NULL,
    description text,
    is_open boolean NOT NULL,
    deadline_ms bigint NOT NULL,
    updated_ms bigint NOT NULL,
    next_session bigint NOT NULL,
    thing text,
    services text,
    tags text NOT NULL,
    source_token bytea NOT NULL,
    source_use bigint NOT NULL,
    source_client bytea,
    source_first_session bigint NOT NULL,
    source_session bigint,
    source_node bigint,
    source_updated_ms bigint,
    destination_token bytea NOT NULL,
    destination_use bigint NOT NULL,
    destination_client bytea,
    destination_first_session bigint NOT NULL,
    destination_session bigint,
    destination_node bigint,
    destination_updated_ms bigint
);
CREATE INDEX tunnels_by_thing ON tunnels (thing, sequence) WHERE thing IS NOT NULL;
CREATE INDEX tunnels_open ON tunnels (deadline_ms) WHERE is_open;
CREATE INDEX tunnels_closed ON tunnels (deadline_ms) WHERE NOT is_open;

-- Client tokens in use, each by one side of one open tunnel.
CREATE TABLE client_tokens (
    hash bytea PRIMARY KEY,
    tunnel bigint NOT NULL REFERENCES tunnels ON DELETE CASCADE
);
CREATE INDEX client_tokens_by_tunnel ON client_tokens (tunnel);

-- How many tunnels there are of each kind.
CREATE TABLE counters (name text PRIMARY KEY, value bigint NOT NULL);
INSERT INTO counters VALUES ('open', 0), ('closed', 0);

-- Runs of services on this database. One that has not been heard of for a while is over.
CREATE TABLE nodes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    beat timestamptz NOT NULL,
    steady_ms bigint NOT NULL
);
";
