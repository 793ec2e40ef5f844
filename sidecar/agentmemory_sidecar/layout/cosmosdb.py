"""The CosmosDB container: what it is made with.

The partition key's path is of our own, and cannot change: by it a container that was made for us is told from another.
"""

from typing import Any

PARTITION_KEY = "/agentmemory"
EXPIRY_PER_ITEM = -1
"""The container's default time to live: items that name one of their own expire, the others never do."""


def container_definition() -> dict[str, Any]:
    """Partition key, expiry and index, as the REST API has them. Items are read by key; only those with an outbox that
    is not empty are searched for."""
    return {
        "partitionKey": {"paths": [PARTITION_KEY], "kind": "Hash", "version": 2},
        "defaultTtl": EXPIRY_PER_ITEM,
        "indexingPolicy": {
            "indexingMode": "consistent",
            "automatic": True,
            "includedPaths": [{"path": "/pending/?"}],
            "excludedPaths": [{"path": "/*"}],
        },
    }
