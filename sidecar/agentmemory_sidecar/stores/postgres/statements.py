# ruff: noqa: S608 - put together from the constants of this file alone; every value is a parameter
"""The statements of the stores, one for each call of the hot path.

In those on items, ``$1`` to ``$4`` are the address. Locks are compared with ``clock_timestamp()``, not with the
statement's beginning: it may have waited for another one. Expiry uses ``now()``, which is the same all through a
statement.
"""

_HERE = "tenant = $1 AND session = $2 AND agent = $3 AND head = $4"
_ALIVE = "(expires_at IS NULL OR expires_at > now())"
_KEY = "(tenant, session, agent, head)"
_RELEASE = """
    lock_token = CASE WHEN i.lock_token = $10 THEN NULL ELSE i.lock_token END,
    lock_until = CASE WHEN i.lock_token = $10 THEN NULL ELSE i.lock_until END"""

VERSIONS = f"SELECT turn, version FROM agentmemory.items WHERE {_HERE} AND {_ALIVE}"

VERSIONS_OF_SEVERAL = """
SELECT asked.at, i.turn, i.version
FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS asked (tenant, session, agent, at)
JOIN agentmemory.items AS i
    ON i.tenant = asked.tenant AND i.session = asked.session AND i.agent = asked.agent AND i.head = $1
WHERE i.expires_at IS NULL OR i.expires_at > now()"""

READ = f"""
SELECT NULL AS key, turn, version, body FROM agentmemory.items WHERE {_HERE} AND {_ALIVE}
UNION ALL
SELECT key, 0, 0, entry FROM agentmemory.ledger WHERE {_HERE}"""
"""One snapshot for both, so that the item is never newer than the ledger. The item is the row without a key."""

CREATE = f"""
INSERT INTO agentmemory.items AS i (tenant, session, agent, head, turn, version, body, pending, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(secs => $9::float8))
ON CONFLICT {_KEY} DO UPDATE SET
    turn = excluded.turn, version = excluded.version, body = excluded.body, pending = excluded.pending,
    expires_at = excluded.expires_at, {_RELEASE}
WHERE i.expires_at <= now()
    OR (i.turn = 0 AND i.body = '' AND (i.turn, i.version) <> (excluded.turn, excluded.version))
RETURNING 1"""
"""An item that is absent, expired, or only locked. The last condition: the lock's holder will expect the versions that
the lock gave it; if somebody else's write had the same ones, the holder's would pass and undo it."""

UPDATE = f"""
UPDATE agentmemory.items AS i SET
    turn = $5, version = $6, body = $7, pending = $8,
    expires_at = now() + make_interval(secs => $9::float8), {_RELEASE}
WHERE {_HERE} AND turn = $11 AND version = $12 AND {_ALIVE}
RETURNING 1"""

UPDATE_SEVERAL = """
WITH kept AS (
    INSERT INTO agentmemory.ledger (tenant, session, agent, head, key, entry)
    SELECT new.tenant, new.session, new.agent, $1, new.key, new.entry
    FROM unnest($13::text[], $14::text[], $15::text[], $16::text[], $17::bytea[])
        AS new (tenant, session, agent, key, entry)
    ORDER BY 1, 2, 3, 5
    ON CONFLICT DO NOTHING
)
UPDATE agentmemory.items AS i SET
    turn = new.turn, version = new.version, body = new.body, pending = new.pending,
    expires_at = now() + make_interval(secs => new.ttl),
    lock_token = CASE WHEN i.lock_token = new.token THEN NULL ELSE i.lock_token END,
    lock_until = CASE WHEN i.lock_token = new.token THEN NULL ELSE i.lock_until END
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::int8[], $6::int8[], $7::bytea[], $8::bool[], $9::float8[], $10::text[],
    $11::int8[], $12::int8[]
) WITH ORDINALITY AS new (
    tenant, session, agent, turn, version, body, pending, ttl, token, expected_turn, expected_version, at
)
WHERE i.tenant = new.tenant AND i.session = new.session AND i.agent = new.agent AND i.head = $1
    AND i.turn = new.expected_turn AND i.version = new.expected_version
    AND (i.expires_at IS NULL OR i.expires_at > now())
RETURNING new.at"""
"""``UPDATE`` for several items, each under its own condition: those that it held for are returned by their places."""


def with_entries(statement: str, keys: int) -> str:
    """The statement with ledger entries stored in the same transaction, given as parameters ``keys`` and the next."""
    return f"""
WITH kept AS (
    INSERT INTO agentmemory.ledger (tenant, session, agent, head, key, entry)
    SELECT $1, $2, $3, $4, new.key, new.entry FROM unnest(${keys}::text[], ${keys + 1}::bytea[]) AS new (key, entry)
    ON CONFLICT DO NOTHING
){statement}"""


CREATE_WITH_ENTRIES = with_entries(CREATE, 11)
UPDATE_WITH_ENTRIES = with_entries(UPDATE, 13)

ADD_ENTRIES = """
INSERT INTO agentmemory.ledger (tenant, session, agent, head, key, entry)
SELECT $1, $2, $3, $4, new.key, new.entry FROM unnest($5::text[], $6::bytea[]) AS new (key, entry)
ON CONFLICT DO NOTHING RETURNING key"""

ENTRIES = f"SELECT key, entry FROM agentmemory.ledger WHERE {_HERE} AND key = ANY ($5::text[])"

LEDGER = f"SELECT key, entry FROM agentmemory.ledger WHERE {_HERE}"

LOCK = f"""
WITH claim AS (
    INSERT INTO agentmemory.items AS i (tenant, session, agent, head, turn, version, body, lock_token, lock_until)
    VALUES ($1, $2, $3, $4, 0, 1, '', $5, clock_timestamp() + make_interval(secs => $6::float8))
    ON CONFLICT {_KEY} DO UPDATE SET
        version = i.version + 1, lock_token = excluded.lock_token, lock_until = excluded.lock_until,
        turn = CASE WHEN i.expires_at <= now() THEN 0 ELSE i.turn END,
        body = CASE WHEN i.expires_at <= now() THEN '' ELSE i.body END,
        pending = i.pending AND (i.expires_at > now() OR i.expires_at IS NULL),
        expires_at = CASE WHEN i.expires_at <= now() THEN NULL ELSE i.expires_at END
    WHERE i.lock_token IS NULL OR i.lock_until <= clock_timestamp() OR i.lock_token = excluded.lock_token
    RETURNING turn, version, body
), kept AS (
    INSERT INTO agentmemory.ledger (tenant, session, agent, head, key, entry)
    SELECT $1, $2, $3, $4, new.key, new.entry FROM claim, unnest($7::text[], $8::bytea[]) AS new (key, entry)
    ON CONFLICT DO NOTHING
)
SELECT turn, version, body FROM claim"""

HOLDER = f"""
SELECT lock_token, extract(epoch FROM lock_until - clock_timestamp())::float8 FROM agentmemory.items
WHERE {_HERE} AND lock_token IS NOT NULL AND lock_until > clock_timestamp()"""

UNLOCK = f"UPDATE agentmemory.items SET lock_token = NULL, lock_until = NULL WHERE {_HERE} AND lock_token = $5"

PUT_CHUNK = """
INSERT INTO agentmemory.chunks (tenant, session, agent, head, name, data) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING RETURNING 1"""

CHUNK_DIGEST = f"SELECT sha256(data) FROM agentmemory.chunks WHERE {_HERE} AND name = $5"

GET_CHUNK = f"SELECT data FROM agentmemory.chunks WHERE {_HERE} AND name = $5"

DELETE_CHUNK = f"DELETE FROM agentmemory.chunks WHERE {_HERE} AND name = $5"

INDEX = "INSERT INTO agentmemory.subjects (tenant, subject, session) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"

SESSIONS = """
SELECT subject, session FROM agentmemory.subjects
WHERE tenant = $1 AND ($2 = '' OR subject = $2) AND (subject, session) > ($3, $4)
ORDER BY subject, session LIMIT $5"""

AGENTS = f"""
SELECT agent FROM agentmemory.items
WHERE tenant = $1 AND session = $2 AND head = $3 AND body <> '' AND {_ALIVE}
ORDER BY agent <> 'root', agent"""

PENDING = f"""
SELECT session, agent FROM agentmemory.items
WHERE tenant = $1 AND head = $2 AND pending AND {_ALIVE}
ORDER BY session, agent LIMIT $3"""

PUT_OBJECTS = """
INSERT INTO agentmemory.objects (namespace, key, data)
SELECT $1, new.key, new.data FROM unnest($2::text[], $3::bytea[]) AS new (key, data)
ON CONFLICT DO NOTHING RETURNING key"""

OBJECT_DIGESTS = "SELECT key, sha256(data) FROM agentmemory.objects WHERE namespace = $1 AND key = ANY ($2::text[])"

GET_OBJECT = "SELECT data FROM agentmemory.objects WHERE namespace = $1 AND key = $2"

OBJECT_KEYS = """
SELECT key FROM agentmemory.objects WHERE namespace = $1 AND key >= $2 AND key > $3 ORDER BY key LIMIT $4"""

KEYS = "SELECT generation, data FROM agentmemory.keys WHERE tenant = $1 AND subject = $2 ORDER BY generation"

PUT_KEY = """
INSERT INTO agentmemory.keys (tenant, subject, generation, data) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING 1"""

KEY = "SELECT data FROM agentmemory.keys WHERE tenant = $1 AND subject = $2 AND generation = $3"

WRITABLE = "SELECT current_setting('transaction_read_only')"
