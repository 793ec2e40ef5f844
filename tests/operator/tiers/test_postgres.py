"""The real tier against a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from agentmemory_operator.kube import Cluster
from agentmemory_operator.plan.postgres import Tier
from agentmemory_operator.tiers import TierFailed
from agentmemory_operator.tiers.postgres import PostgresTier
from agentmemory_sidecar.layout.postgres import NEEDED
from agentmemory_sidecar.stores.postgres import PostgresOptions, PostgresStateStore
from tests.operator.tiers.driving import Driver, Killed, manifest
from tests.operator.tiers.secrets import Secrets, cluster
from tests.servers import fresh_database

FROM = {"secretKeyRef": {"name": "db", "key": "dsn"}}


@pytest.fixture
def secrets(database: str) -> Secrets:
    return {"db": {"dsn": database}}


@pytest.fixture
async def kube(secrets: Secrets) -> AsyncIterator[Cluster]:
    async with cluster(secrets) as client:
        yield client


def driver(kube: Cluster, *regions: str, tier: Tier = "state", **postgres: Any) -> Driver:
    spec: dict[str, Any] = {tier: {"postgres": postgres or {"dsnFrom": FROM}}}
    spec |= {"regions": list(regions)} if regions else {}
    return Driver(lambda: PostgresTier(kube, tier), manifest(spec))


async def sql(dsn: str, statement: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def with_user(dsn: str, user: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(parts.username or "", user, 1)))


async def role(dsn: str, name: str) -> str:
    """The DSN of a role that may log in and nothing more."""
    create = f"DO $$ BEGIN CREATE ROLE {name} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    await sql(dsn, create)
    return with_user(dsn, name)


async def test_the_tables_are_made_and_a_sidecar_can_use_them(kube: Cluster, database: str) -> None:
    operator = driver(kube)
    await operator.settle()
    assert (operator.condition.status, operator.condition.reason) == (True, "Ready")
    assert operator.effects == [f"make the tables of state in local, at version {NEEDED}"]
    store = PostgresStateStore(PostgresOptions(database))
    await store.ping()
    await store.close()
    assert (await operator.cycle()).actions == ()


async def test_older_tables_are_migrated_and_newer_ones_serve(kube: Cluster, database: str) -> None:
    operator = driver(kube)
    await operator.settle()
    await sql(database, f"INSERT INTO agentmemory.schema_version (version, name) VALUES ({NEEDED + 7}, 'later')")
    await operator.settle()
    assert operator.condition.status is True
    assert len(operator.effects) == 1


async def test_killed_after_the_migration_the_next_operator_finds_it_done(kube: Cluster) -> None:
    with pytest.raises(Killed):
        await driver(kube).settle(kill_after=0)
    second = driver(kube)
    await second.settle()
    assert (second.effects, second.condition.status) == ([], True)


async def test_two_regions_of_one_database_are_one_state_and_said_to_be(kube: Cluster) -> None:
    operator = driver(kube, "us-east-1", "us-west-2")
    archiving = driver(kube, "us-east-1", "us-west-2", tier="archive")
    await asyncio.gather(operator.settle(), archiving.settle())  # side by side, as in one cycle
    assert len(operator.effects) == 1
    assert (operator.condition.status, operator.condition.reason) == (True, "SingleRegionState")
    assert "a region that cannot reach it has no memory" in operator.condition.message
    assert (archiving.condition.type, archiving.condition.reason) == ("ArchiveReady", "Ready")


async def test_each_region_may_have_a_database(kube: Cluster, secrets: Secrets, postgres_dsn: str) -> None:
    async with fresh_database(postgres_dsn) as other:
        own = {"secretKeyRef": {"name": "west", "key": "dsn"}}
        secrets["west"] = {"dsn": other}
        west = [{"region": "us-west-2", "dsnFrom": own}]
        operator = driver(kube, "us-east-1", "us-west-2", dsnFrom=FROM, perRegion=west)
        await operator.settle()
        assert operator.effects == [
            f"make the tables of state in us-east-1, at version {NEEDED}",
            f"make the tables of state in us-west-2, at version {NEEDED}",
        ]
        assert await sql(other, "SELECT max(version) FROM agentmemory.schema_version") == NEEDED


async def test_an_admin_makes_the_tables_and_the_sidecars_role_is_tried(
    kube: Cluster, secrets: Secrets, database: str
) -> None:
    secrets["admin"] = {"dsn": database}
    secrets["db"] = {"dsn": await role(database, "memory_app")}
    operator = driver(kube, dsnFrom=FROM, adminDsnFrom={"secretKeyRef": {"name": "admin", "key": "dsn"}})
    await operator.settle()
    assert (operator.condition.status, operator.condition.reason) == (False, "AccessDenied")
    assert "the sidecars' role cannot use the tables" in operator.condition.message
    await sql(database, "GRANT USAGE ON SCHEMA agentmemory TO memory_app")
    await sql(database, "GRANT SELECT ON agentmemory.schema_version TO memory_app")
    await operator.settle()
    assert operator.condition.status is True


async def test_a_role_that_may_not_make_them_is_told_so(kube: Cluster, secrets: Secrets, database: str) -> None:
    secrets["db"] = {"dsn": await role(database, "weak")}
    with pytest.raises(TierFailed, match=r"permission denied.*grant the role CREATE.*adminDsnFrom"):
        await driver(kube).settle()


@pytest.mark.parametrize(
    ("dsn", "reason", "text"),
    [
        ("postgresql://u:secret-word@127.0.0.1:1/d", "Unreachable", "no connection to Postgres"),
        ("{base}/no_such_database", "AccessDenied", "does not exist"),
        ("postgresql://u:secret-word@127.0.0.1:port/d", "AccessDenied", "check the DSN"),
    ],
)
async def test_a_database_that_cannot_be_used_says_why_and_no_password(
    kube: Cluster, secrets: Secrets, database: str, dsn: str, reason: str, text: str
) -> None:
    parts = urlsplit(database)
    secrets["db"] = {
        "dsn": dsn.replace("{base}/no_such_database", urlunsplit(parts._replace(path="/no_such_database")))
    }
    operator = driver(kube)
    await operator.settle()
    assert (operator.condition.status, operator.condition.reason) == (False, reason)
    assert text in operator.condition.message
    assert "secret-word" not in operator.condition.message
    assert operator.last.again_s is not None


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        (None, r"spec.state.postgres.dsnFrom: there is no Secret db"),
        ({"other": "x"}, r"spec.state.postgres.dsnFrom: the Secret db has no key dsn"),
        ({"dsn": "mysql://x"}, r"spec.state.postgres.dsnFrom: what it names must be a DSN"),
    ],
)
async def test_a_secret_that_is_wrong_is_named_with_its_field(
    kube: Cluster, secrets: Secrets, secret: dict[str, str] | None, text: str
) -> None:
    secrets.pop("db")
    if secret is not None:
        secrets["db"] = secret
    with pytest.raises(TierFailed, match=text):
        await driver(kube).cycle()


async def test_a_cloudnativepg_cluster_is_named_by_its_secrets(kube: Cluster, secrets: Secrets, database: str) -> None:
    # Its servers have TLS, which this one has not: that the login is taken and TLS is asked for is what shows here.
    parts = urlsplit(database)
    secrets["pg-app"] = {"uri": urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:1", query=""))}
    secrets["pg-ca"] = {"ca.crt": "no PEM"}
    operator = driver(kube, clusterRef={"name": "pg"})
    await operator.settle()
    assert operator.condition.reason == "AccessDenied"
    assert "no TLS to Postgres" in operator.condition.message
    secrets.pop("pg-app")
    with pytest.raises(TierFailed, match=r"spec.state.postgres.clusterRef: .*Secret pg-app"):
        await operator.cycle()


async def test_deleting_the_resource_leaves_the_tables(kube: Cluster, database: str) -> None:
    operator = driver(kube)
    await operator.settle()
    await operator.settle(leaving=True)
    assert await sql(database, "SELECT max(version) FROM agentmemory.schema_version") == NEEDED
