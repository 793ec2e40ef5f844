"""Effects on databases."""

from agentmemory_operator.postgres import Login, connected
from agentmemory_sidecar.layout.postgres import bring_up


async def migrate(login: Login) -> list[int]:
    """Bring the tables to this release's version; returns the versions that were applied. Raises PostgresFailed."""
    async with connected(login) as connection:
        # A migration may take long on a big table, and may wait for another one.
        await connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        async with connection.transaction():
            return await bring_up(connection)
