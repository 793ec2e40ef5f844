-- What was written once stays as it is, for the table's owner too. ALWAYS: a session that plays the part of a replica
-- (session_replication_role) would otherwise pass by the triggers. FOR EACH STATEMENT: a statement that happens to
-- match no row is refused as well, so that a mistake is seen at its first run.

CREATE FUNCTION agentmemory.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of %.% is refused: it is append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON agentmemory.objects
    FOR EACH STATEMENT EXECUTE FUNCTION agentmemory.refuse_change();
ALTER TABLE agentmemory.objects ENABLE ALWAYS TRIGGER append_only;

-- A ledger entry leaves with its conversation, but is never another one.
CREATE TRIGGER immutable BEFORE UPDATE ON agentmemory.ledger
    FOR EACH STATEMENT EXECUTE FUNCTION agentmemory.refuse_change();
ALTER TABLE agentmemory.ledger ENABLE ALWAYS TRIGGER immutable;
