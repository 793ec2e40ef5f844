"""Accounts as they are."""

from typing import Any

from agentmemory_operator.cosmosdb import Account, CosmosFailed, opened
from agentmemory_operator.plan.cosmosdb import Seen


async def account_at(account: Account, database: str, container: str) -> Seen:
    """Database and container in an account. Raises nothing that Azure says or does not say."""
    try:
        if not await _read(account, database, ""):
            return Seen()
        found = await _read(account, database, container)
    except CosmosFailed as error:
        return Seen(away=str(error), refused=error.refused)
    if not found:
        return Seen(database=True)
    paths = (found.get("partitionKey") or {}).get("paths", ())
    return Seen(database=True, container=True, partition_key=tuple(paths), default_ttl=found.get("defaultTtl"))


async def _read(account: Account, database: str, container: str) -> dict[str, Any]:
    """The properties of a container, or of a database where none is named; empty if it is not there."""
    try:
        async with opened(account) as client:
            place = client.get_database_client(database)
            place = place.get_container_client(container) if container else place
            found: dict[str, Any] = dict(await place.read())
            return found
    except CosmosFailed as error:
        if error.status == 404:
            return {}
        raise
