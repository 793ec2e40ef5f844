-- Every text key is compared by its bytes (COLLATE "C"): the order of keys is then the same on every server, and
-- never depends on the version of a locale library.
--
-- Bytes are stored EXTERNAL, out of line and uncompressed: most are sealed and do not compress, and for the rest the
-- compression of a 20 kB item takes more of the server's time than everything else in its write.

CREATE TABLE agentmemory.items (
    tenant     text COLLATE "C" NOT NULL,
    session    text COLLATE "C" NOT NULL,
    agent      text COLLATE "C" NOT NULL,
    head       text COLLATE "C" NOT NULL,
    turn       bigint  NOT NULL,
    version    bigint  NOT NULL,
    body       bytea   NOT NULL,   -- empty: the item exists only because it was locked
    pending    boolean NOT NULL DEFAULT false,
    lock_token text,
    lock_until timestamptz,
    expires_at timestamptz,        -- from here on the item counts as absent
    PRIMARY KEY (tenant, session, agent, head)
) WITH (
    -- An item is rewritten by every step: leave room for the new row in the same page, and vacuum early, so that the
    -- bodies of old versions do not pile up.
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 200,
    toast.autovacuum_vacuum_scale_factor = 0.05,
    toast.autovacuum_vacuum_threshold = 2000
);
ALTER TABLE agentmemory.items ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX items_pending ON agentmemory.items (tenant, head, session, agent) WHERE pending;

-- What was injected into a conversation: frozen at its first send.
CREATE TABLE agentmemory.ledger (
    tenant  text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    agent   text COLLATE "C" NOT NULL,
    head    text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    entry   bytea NOT NULL,
    PRIMARY KEY (tenant, session, agent, head, key)
);
ALTER TABLE agentmemory.ledger ALTER COLUMN entry SET STORAGE EXTERNAL;

-- Values that wait here while the blob store is down.
CREATE TABLE agentmemory.chunks (
    tenant  text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    agent   text COLLATE "C" NOT NULL,
    head    text COLLATE "C" NOT NULL,
    name    text COLLATE "C" NOT NULL,
    data    bytea NOT NULL,
    PRIMARY KEY (tenant, session, agent, head, name)
);
ALTER TABLE agentmemory.chunks ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE agentmemory.subjects (
    tenant  text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, subject, session)
);

-- Archive records and blobs.
CREATE TABLE agentmemory.objects (
    namespace  text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    data       bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, key)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
ALTER TABLE agentmemory.objects ALTER COLUMN data SET STORAGE EXTERNAL;
