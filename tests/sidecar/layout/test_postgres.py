"""The migrations, without a server; with one they run in tests of the sidecar's store and of the operator."""

from agentmemory_sidecar.layout.postgres import NEEDED, SCHEMA, migrations


def test_the_migrations_come_with_the_package() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, NEEDED + 1))
    assert NEEDED >= 2


def test_migrations_name_the_schema_and_only_add() -> None:
    for migration in migrations():
        statements = migration.sql.upper()
        assert f"{SCHEMA}." in migration.sql
        assert not any(word in statements for word in ("DROP TABLE", "DROP COLUMN", "RENAME TO", "RENAME COLUMN"))
