"""State tier, archive and blobs in PostgreSQL 14 or newer, through asyncpg."""

from agentmemory_sidecar.stores.postgres.errors import Misconfigured
from agentmemory_sidecar.stores.postgres.keys import PostgresKeyShelf
from agentmemory_sidecar.stores.postgres.objects import PostgresObjectStore
from agentmemory_sidecar.stores.postgres.options import PostgresOptions, PostgresTls
from agentmemory_sidecar.stores.postgres.schema import SchemaMismatch, migrate
from agentmemory_sidecar.stores.postgres.state import PostgresStateStore

__all__ = [
    "Misconfigured",
    "PostgresKeyShelf",
    "PostgresObjectStore",
    "PostgresOptions",
    "PostgresStateStore",
    "PostgresTls",
    "SchemaMismatch",
    "migrate",
]
