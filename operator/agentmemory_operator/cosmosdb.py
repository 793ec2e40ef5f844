"""CosmosDB as the operator uses it: an account's databases and containers, through Azure's own client.

Azure lets nobody make a database with a workload identity on the data plane: the account's key is needed.
"""

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from agentmemory_operator.tiers import TierFailed

TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Account:
    """Where an account is, and its key."""

    endpoint: str
    key: str = field(repr=False)
    ca_pem: str = field(default="", repr=False)
    """Authorities to trust; empty for the system's."""


class CosmosFailed(TierFailed):
    """The account cannot be used. ``refused``: it says no, and waiting changes nothing."""

    def __init__(self, message: str, *, refused: bool, status: int = 0) -> None:
        super().__init__(message)
        self.refused = refused
        self.status = status


@asynccontextmanager
async def opened(account: Account) -> AsyncIterator[Any]:
    """A client of the account (azure.cosmos.aio.CosmosClient). Raises CosmosFailed, also for what goes wrong later."""
    try:
        from azure.core.exceptions import AzureError
        from azure.core.pipeline.transport import AioHttpTransport
        from azure.cosmos.aio import CosmosClient
    except ImportError:
        raise CosmosFailed(
            "this operator was installed without CosmosDB: pip install agentmemory-operator[cosmosdb]", refused=True
        ) from None
    # Python reads authorities from a file alone, when the first connection is made.
    with tempfile.NamedTemporaryFile("w", prefix="agentmemory-", suffix=".pem") as file:
        file.write(account.ca_pem)
        file.flush()
        verify: str | bool = os.fspath(file.name) if account.ca_pem else True
        # The client leaves its session open where its first question goes unanswered; ours is closed in any case.
        session = aiohttp.ClientSession()
        try:
            client = CosmosClient(
                account.endpoint,
                credential=account.key,
                transport=AioHttpTransport(session=session, session_owner=False),
                connection_verify=verify,
                connection_timeout=TIMEOUT_S,
                timeout=TIMEOUT_S,
                retry_total=1,
                retry_connect=1,
                retry_read=1,
            )
            async with client:
                yield client
        except AzureError as error:
            raise failed(error, account.endpoint) from error
        except ValueError as error:  # a key that is not base64, whose text must not be shown
            text = f"{account.endpoint}: the key is not one of CosmosDB's: check keyFrom"
            raise CosmosFailed(text, refused=True) from error
        finally:
            await session.close()


def failed(error: Exception, endpoint: str) -> CosmosFailed:
    """What an error of Azure's client means. Its text may quote requests, so only its status is kept."""
    status = int(getattr(error, "status_code", 0) or 0)
    if status in (401, 403):
        text = f"{endpoint}: Azure refuses the key or this address ({status}): check keyFrom and the account's firewall"
        return CosmosFailed(text, refused=True, status=status)
    if 400 <= status < 500 and status not in (408, 429, 449):
        return CosmosFailed(f"{endpoint}: Azure refuses ({status})", refused=True, status=status)
    detail = str(status or type(error).__name__)
    return CosmosFailed(f"{endpoint}: no answer from CosmosDB ({detail})", refused=False, status=status)
