"""The account as a process, which prints its endpoints and its key and runs until it is ended."""

import argparse
import asyncio
import json

from agentmemory_sidecar.layout.cosmosdb import container_definition
from tests.cosmos.account import CONSISTENCIES, CosmosAccount


async def serve(asked: argparse.Namespace) -> None:
    account = CosmosAccount(
        *asked.region,
        every_region_writes=asked.every_region_writes,
        consistency=asked.consistency,
        lag_s=asked.lag,
        port=asked.port,
    )
    async with account:
        for name in asked.container:
            database, _, container = name.partition("/")
            account.create(database, container, container_definition())
        told = {"endpoints": {place.name: place.url for place in account.places.values()}, "key": account.key}
        print(json.dumps(told), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cosmos", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="of the first region; the others follow (default: any)")
    parser.add_argument(
        "--region", action="append", default=[], help="such as 'East US', once for each; the first writes"
    )
    parser.add_argument("--every-region-writes", action="store_true", help="multi-region writes")
    parser.add_argument("--consistency", choices=CONSISTENCIES, default="Session", help="the account's default")
    parser.add_argument("--lag", type=float, default=0.0, help="seconds until a write is in the other regions")
    parser.add_argument(
        "--container", action="append", default=[], help="DATABASE/CONTAINER to make, as the operator would"
    )
    try:
        asyncio.run(serve(parser.parse_args()))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
