//! The tables of `adit.db`, and how older ones become them.

use std::borrow::Cow;

use super::sums;

/// Each entry makes the next version out of the one before; the first, out of nothing. What was
/// released is never edited, only added to.
pub(super) const MIGRATIONS: &[fn() -> Cow<'static, str>] = &[
    || VERSION_1.into(),
    || VERSION_2.into(),
    || VERSION_3.into(),
    || VERSION_4.into(),
    || VERSION_5.into(),
    || sums::migration().into(),
];

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

const VERSION_2: &str = "
CREATE TABLE things (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    type_name TEXT,
    attributes TEXT NOT NULL,
    version INTEGER NOT NULL
) STRICT;

CREATE TABLE certificates (
    id BLOB PRIMARY KEY,
    pem TEXT NOT NULL,
    status TEXT NOT NULL,
    origin TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL,
    not_after_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX certificates_by_age ON certificates (created_ms, id);

CREATE TABLE policies (
    name TEXT PRIMARY KEY,
    document TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX policies_by_age ON policies (created_ms, name);

-- What is attached to what.
CREATE TABLE thing_certificates (
    thing TEXT NOT NULL REFERENCES things,
    certificate BLOB NOT NULL REFERENCES certificates,
    PRIMARY KEY (thing, certificate)
) STRICT, WITHOUT ROWID;
CREATE INDEX thing_certificates_by_certificate ON thing_certificates (certificate, thing);
CREATE TABLE certificate_policies (
    policy TEXT NOT NULL REFERENCES policies,
    certificate BLOB NOT NULL REFERENCES certificates,
    PRIMARY KEY (policy, certificate)
) STRICT, WITHOUT ROWID;
CREATE INDEX certificate_policies_by_certificate ON certificate_policies (certificate, policy);

-- Of devices, by the names of their things. The end is steady time; it was life_ms away when it was
-- set, so that it is never further away after a restart.
CREATE TABLE sessions (
    thing TEXT PRIMARY KEY,
    connection INTEGER NOT NULL,
    connected INTEGER NOT NULL,
    resumable INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    life_ms INTEGER NOT NULL,
    subscription INTEGER
) STRICT;
CREATE INDEX sessions_by_end ON sessions (until_ms);

-- Notifications that wait, sealed: at most one about a tunnel.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    thing TEXT NOT NULL,
    tunnel TEXT NOT NULL UNIQUE,
    sent INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    life_ms INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
CREATE INDEX messages_by_thing ON messages (thing, id);
CREATE INDEX messages_by_end ON messages (expires_ms);

-- Lines of JSON.
CREATE TABLE audit (sequence INTEGER PRIMARY KEY AUTOINCREMENT, record TEXT NOT NULL) STRICT;

INSERT INTO counters VALUES
    ('things', 0), ('certificates', 0), ('policies', 0), ('sessions', 0), ('connection', 0);
";

/// The token that a message holds. Of one that waits already, it is the tunnel's.
const VERSION_3: &str = "
ALTER TABLE messages ADD COLUMN token BLOB NOT NULL DEFAULT x'';
UPDATE messages SET token = coalesce(
    (SELECT destination_token FROM tunnels WHERE tunnels.id = messages.tunnel), x'');
";

/// Who opened a tunnel, and what finds the open ones of one caller and to one thing.
const VERSION_4: &str = "
ALTER TABLE tunnels ADD COLUMN owner TEXT;
CREATE INDEX tunnels_open_by_owner ON tunnels (owner) WHERE is_open = 1 AND owner IS NOT NULL;
CREATE INDEX tunnels_open_by_thing ON tunnels (thing) WHERE is_open = 1 AND thing IS NOT NULL;
";

/// How many open tunnels each access key and each thing has, so that one more costs the same however many
/// there are. No row is none. Triggers, because a damaged tunnel is forgotten without being read.
const VERSION_5: &str = "
CREATE TABLE open_tunnels (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
INSERT INTO open_tunnels SELECT 'key', owner, count(*) FROM tunnels
    WHERE is_open = 1 AND owner IS NOT NULL GROUP BY owner;
INSERT INTO open_tunnels SELECT 'thing', thing, count(*) FROM tunnels
    WHERE is_open = 1 AND thing IS NOT NULL GROUP BY thing;
DROP INDEX tunnels_open_by_owner;
DROP INDEX tunnels_open_by_thing;

CREATE TRIGGER open_tunnels_insert AFTER INSERT ON tunnels WHEN NEW.is_open = 1 BEGIN
    INSERT INTO open_tunnels SELECT 'key', NEW.owner, 1 WHERE NEW.owner IS NOT NULL
        ON CONFLICT DO UPDATE SET count = count + 1;
    INSERT INTO open_tunnels SELECT 'thing', NEW.thing, 1 WHERE NEW.thing IS NOT NULL
        ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER open_tunnels_delete AFTER DELETE ON tunnels WHEN OLD.is_open = 1 BEGIN
    UPDATE open_tunnels SET count = count - 1 WHERE kind = 'key' AND name = OLD.owner;
    UPDATE open_tunnels SET count = count - 1 WHERE kind = 'thing' AND name = OLD.thing;
    DELETE FROM open_tunnels WHERE kind = 'key' AND name = OLD.owner AND count = 0;
    DELETE FROM open_tunnels WHERE kind = 'thing' AND name = OLD.thing AND count = 0;
END;
-- A tunnel never changes its owner, and is never opened again.
CREATE TRIGGER open_tunnels_close AFTER UPDATE ON tunnels
WHEN OLD.is_open = 1 AND NEW.is_open = 0 BEGIN
    UPDATE open_tunnels SET count = count - 1 WHERE kind = 'key' AND name = OLD.owner;
    UPDATE open_tunnels SET count = count - 1 WHERE kind = 'thing' AND name = OLD.thing;
    DELETE FROM open_tunnels WHERE kind = 'key' AND name = OLD.owner AND count = 0;
    DELETE FROM open_tunnels WHERE kind = 'thing' AND name = OLD.thing AND count = 0;
END;
CREATE TRIGGER open_tunnels_move AFTER UPDATE ON tunnels
WHEN OLD.is_open = 1 AND NEW.is_open = 1 AND OLD.thing IS NOT NEW.thing BEGIN
    UPDATE open_tunnels SET count = count - 1 WHERE kind = 'thing' AND name = OLD.thing;
    DELETE FROM open_tunnels WHERE kind = 'thing' AND name = OLD.thing AND count = 0;
    INSERT INTO open_tunnels SELECT 'thing', NEW.thing, 1 WHERE NEW.thing IS NOT NULL
        ON CONFLICT DO UPDATE SET count = count + 1;
END;
";
