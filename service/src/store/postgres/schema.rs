//! The tables on the server, and how older ones become them.

/// Each entry makes the next version out of the one before; the first, out of nothing. What was
/// released is never edited, only added to. A node of the version before may still be running.
pub(super) const MIGRATIONS: &[&str] = &[
    VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7, VERSION_8,
];

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

const VERSION_2: &str = r#"
CREATE TABLE things (
    name text COLLATE "C" PRIMARY KEY,
    id text NOT NULL,
    type_name text COLLATE "C",
    attributes text NOT NULL,
    version bigint NOT NULL
);

CREATE TABLE certificates (
    id bytea PRIMARY KEY,
    pem text NOT NULL,
    status text COLLATE "C" NOT NULL,
    origin text NOT NULL,
    created_ms bigint NOT NULL,
    updated_ms bigint NOT NULL,
    not_before_ms bigint NOT NULL,
    not_after_ms bigint NOT NULL
);
CREATE INDEX certificates_by_age ON certificates (created_ms, id);

CREATE TABLE policies (
    name text COLLATE "C" PRIMARY KEY,
    document text NOT NULL,
    version bigint NOT NULL,
    created_ms bigint NOT NULL
);
CREATE INDEX policies_by_age ON policies (created_ms, name);

-- What is attached to what.
CREATE TABLE thing_certificates (
    thing text COLLATE "C" NOT NULL REFERENCES things,
    certificate bytea NOT NULL REFERENCES certificates,
    PRIMARY KEY (thing, certificate)
);
CREATE INDEX thing_certificates_by_certificate ON thing_certificates (certificate, thing);
CREATE TABLE certificate_policies (
    policy text COLLATE "C" NOT NULL REFERENCES policies,
    certificate bytea NOT NULL REFERENCES certificates,
    PRIMARY KEY (policy, certificate)
);
CREATE INDEX certificate_policies_by_certificate ON certificate_policies (certificate, policy);

-- Of devices, by the names of their things. The end is steady time; it was life_ms away when it was
-- set, so that it is never further away after a restart.
CREATE TABLE sessions (
    thing text COLLATE "C" PRIMARY KEY,
    connection bigint NOT NULL,
    connected bigint NOT NULL,
    resumable bigint NOT NULL,
    until_ms bigint NOT NULL,
    life_ms bigint NOT NULL,
    subscription bigint
);
CREATE INDEX sessions_by_end ON sessions (until_ms);
CREATE SEQUENCE connections;

-- Notifications that wait, sealed: at most one about a tunnel.
CREATE TABLE messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    thing text COLLATE "C" NOT NULL,
    tunnel text COLLATE "C" NOT NULL UNIQUE,
    sent bigint NOT NULL,
    expires_ms bigint NOT NULL,
    life_ms bigint NOT NULL,
    sealed bytea NOT NULL
);
CREATE INDEX messages_by_thing ON messages (thing, id);
CREATE INDEX messages_by_end ON messages (expires_ms);

-- Lines of JSON.
CREATE TABLE audit (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    record text NOT NULL
);

INSERT INTO counters VALUES ('things', 0), ('certificates', 0), ('policies', 0), ('sessions', 0);
"#;

/// The token that a message holds. Of one that waits already, it is the tunnel's; of one that a node of
/// the version before queues, none, and then it is not given out.
const VERSION_3: &str = r#"
ALTER TABLE messages ADD COLUMN token bytea NOT NULL DEFAULT '';
UPDATE messages SET token = tunnels.destination_token
    FROM tunnels WHERE tunnels.id = messages.tunnel COLLATE "default";
"#;

/// Who opened a tunnel, and what finds the open ones of one caller and to one thing.
const VERSION_4: &str = "
ALTER TABLE tunnels ADD COLUMN owner text;
CREATE INDEX tunnels_open_by_owner ON tunnels (owner) WHERE is_open AND owner IS NOT NULL;
CREATE INDEX tunnels_open_by_thing ON tunnels (thing) WHERE is_open AND thing IS NOT NULL;
";

/// How many open tunnels each access key and each thing has, so that one more costs the same however many
/// there are. No row is none.
///
/// Triggers, because a node of the version before does not know the table. They run at the commit: whoever
/// opens or closes holds the row of all open tunnels then, and so two cannot wait for each other here.
const VERSION_5: &str = "
-- At once the most that this takes: who has rows locked already would else wait for this, and this for it.
LOCK TABLE tunnels IN ACCESS EXCLUSIVE MODE;

CREATE TABLE open_tunnels (
    kind text NOT NULL,
    name text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE FUNCTION count_open_tunnels(kind text, name text, change bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO open_tunnels SELECT $1, $2, $3 WHERE $2 IS NOT NULL
        ON CONFLICT ON CONSTRAINT open_tunnels_pkey
        DO UPDATE SET count = open_tunnels.count + excluded.count;
    DELETE FROM open_tunnels WHERE open_tunnels.kind = $1 AND open_tunnels.name = $2 AND count = 0;
$$;
CREATE FUNCTION keep_open_tunnels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.is_open THEN
        PERFORM count_open_tunnels('key', OLD.owner, -1), count_open_tunnels('thing', OLD.thing, -1);
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.is_open THEN
        PERFORM count_open_tunnels('key', NEW.owner, 1), count_open_tunnels('thing', NEW.thing, 1);
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER open_tunnels_insert AFTER INSERT ON tunnels
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.is_open) EXECUTE FUNCTION keep_open_tunnels();
CREATE CONSTRAINT TRIGGER open_tunnels_update AFTER UPDATE ON tunnels
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.is_open <> NEW.is_open OR OLD.thing IS DISTINCT FROM NEW.thing)
    EXECUTE FUNCTION keep_open_tunnels();
CREATE CONSTRAINT TRIGGER open_tunnels_delete AFTER DELETE ON tunnels
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.is_open) EXECUTE FUNCTION keep_open_tunnels();

-- Nobody opens or closes meanwhile.
INSERT INTO open_tunnels SELECT 'key', owner, count(*) FROM tunnels
    WHERE is_open AND owner IS NOT NULL GROUP BY owner;
INSERT INTO open_tunnels SELECT 'thing', thing, count(*) FROM tunnels
    WHERE is_open AND thing IS NOT NULL GROUP BY thing;
DROP INDEX tunnels_open_by_owner;
DROP INDEX tunnels_open_by_thing;
";

/// The trigger finds its tables whatever the path of who changes a tunnel by hand, or restores the data.
const VERSION_6: &str = "ALTER FUNCTION keep_open_tunnels() SET search_path FROM CURRENT;";

/// Nodes of one machine find the time of all nodes again by its boot, although none ran meanwhile.
const VERSION_7: &str = "
CREATE TABLE boots (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    boot text NOT NULL UNIQUE,
    booted_ms bigint NOT NULL
);
";

/// By what nodes find out whether they have the same `notify.key`; none before the first one with a word for it.
const VERSION_8: &str = "ALTER TABLE adit_schema ADD COLUMN notify_key bytea;";
