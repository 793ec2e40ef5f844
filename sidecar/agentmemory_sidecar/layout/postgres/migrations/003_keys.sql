-- The subjects' sealing keys, wrapped by a master key that is never here.
CREATE TABLE agentmemory.keys (
    tenant     text COLLATE "C" NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    generation bigint NOT NULL,
    data       bytea  NOT NULL,   -- empty: destroyed; the generation is never used again
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, subject, generation)
);

-- A key may be destroyed, and that is all that may become of it: another one in its place, or one that comes back,
-- would make bytes unreadable, or readable again.
CREATE TRIGGER immutable BEFORE UPDATE ON agentmemory.keys
    FOR EACH ROW WHEN (new.data <> ''
        OR (new.tenant, new.subject, new.generation) IS DISTINCT FROM (old.tenant, old.subject, old.generation))
    EXECUTE FUNCTION agentmemory.refuse_change();
ALTER TABLE agentmemory.keys ENABLE ALWAYS TRIGGER immutable;
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON agentmemory.keys
    FOR EACH STATEMENT EXECUTE FUNCTION agentmemory.refuse_change();
ALTER TABLE agentmemory.keys ENABLE ALWAYS TRIGGER kept;
