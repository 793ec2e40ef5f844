"""Effects on accounts. Each may be done twice: what is done already is no error."""

from typing import Any

from agentmemory_operator.cosmosdb import Account, CosmosFailed, opened
from agentmemory_operator.plan.cosmosdb import CosmosAction, CreateContainer, CreateDatabase, SetExpiry
from agentmemory_sidecar.layout.cosmosdb import EXPIRY_PER_ITEM, container_definition


async def act(account: Account, action: CosmosAction) -> None:
    """Carry out an action. Raises CosmosFailed; TypeError for one that is unknown."""
    try:
        async with opened(account) as client:
            await _do(client, action)
    except CosmosFailed as error:
        if error.status != 409:  # an operator before this one has just made it
            raise


async def _do(client: Any, action: CosmosAction) -> None:
    from azure.cosmos import PartitionKey, ThroughputProperties

    wanted = container_definition()
    database = client.get_database_client(action.database)
    match action:
        case CreateDatabase():
            await client.create_database(action.database)
        case CreateContainer():
            key = PartitionKey(path=wanted["partitionKey"]["paths"][0])
            most = action.max_throughput
            await database.create_container(
                action.container,
                key,
                indexing_policy=wanted["indexingPolicy"],
                default_ttl=wanted["defaultTtl"],
                offer_throughput=ThroughputProperties(auto_scale_max_throughput=most) if most else None,
            )
        case SetExpiry():
            live = await database.get_container_client(action.container).read()
            key = PartitionKey(path=live["partitionKey"]["paths"][0])
            # Everything else is given back as it is: what is left out of a replacement is reset.
            kept = {
                argument: live[name]
                for argument, name in (
                    ("indexing_policy", "indexingPolicy"),
                    ("conflict_resolution_policy", "conflictResolutionPolicy"),
                )
                if name in live
            }
            await database.replace_container(action.container, key, default_ttl=EXPIRY_PER_ITEM, **kept)
        case _:
            raise TypeError(f"no effect on CosmosDB: {type(action).__name__}")
