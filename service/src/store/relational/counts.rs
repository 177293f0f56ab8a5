//! What a store keeps counted, against what it holds.

/// How many of the kept counts are wrong or missing.
pub(in crate::store) const MISCOUNTED: &str = "
WITH counted AS (
    SELECT 'key' AS kind, owner AS name, count(*) AS count FROM tunnels
        WHERE is_open AND owner IS NOT NULL GROUP BY owner
    UNION ALL SELECT 'thing', thing, count(*) FROM tunnels
        WHERE is_open AND thing IS NOT NULL GROUP BY thing
    UNION ALL SELECT 'all', 'open', count(*) FROM tunnels WHERE is_open
    UNION ALL SELECT 'all', 'closed', count(*) FROM tunnels WHERE NOT is_open
), kept AS (
    SELECT kind, name, count FROM open_tunnels
    UNION ALL SELECT 'all', name, value FROM counters WHERE name IN ('open', 'closed')
)
SELECT count(*) FROM (
    SELECT kind, name FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept) AS missing
    UNION SELECT kind, name FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted) AS wrong
) AS miscounted";

/// Makes all of them right, while nobody changes a tunnel.
pub(in crate::store) const RECOUNT: &str = "
DELETE FROM open_tunnels;
INSERT INTO open_tunnels SELECT 'key', owner, count(*) FROM tunnels
    WHERE is_open AND owner IS NOT NULL GROUP BY owner;
INSERT INTO open_tunnels SELECT 'thing', thing, count(*) FROM tunnels
    WHERE is_open AND thing IS NOT NULL GROUP BY thing;
UPDATE counters SET value = (SELECT count(*) FROM tunnels WHERE is_open) WHERE name = 'open';
UPDATE counters SET value = (SELECT count(*) FROM tunnels WHERE NOT is_open) WHERE name = 'closed';
";
