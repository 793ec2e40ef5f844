"""Databases as they are."""

from agentmemory_operator.plan.postgres import Seen
from agentmemory_operator.postgres import Login, PostgresFailed, connected
from agentmemory_sidecar.layout.postgres import THERE, VERSION

_GRANT = "grant it the use of schema agentmemory and its tables (docs/stores.md)"


async def database_at(admin: Login, sidecars: Login) -> Seen:
    """The tables as ``admin`` sees them, and whether ``sidecars`` may use them. Raises nothing a database says."""
    try:
        version = await version_at(admin)
    except PostgresFailed as error:
        return Seen(away=str(error), refused=error.refused)
    if admin == sidecars or not version:
        return Seen(version=version)
    try:
        await version_at(sidecars)
    except PostgresFailed as error:
        return Seen(version=version, unusable=f"the sidecars' role cannot use the tables: {error}; {_GRANT}")
    return Seen(version=version)


async def version_at(login: Login) -> int:
    """The version of the tables; 0 for none. Raises PostgresFailed."""
    async with connected(login) as connection:
        if await connection.fetchval(THERE) is None:
            return 0
        return int(await connection.fetchval(VERSION))
