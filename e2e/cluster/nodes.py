"""A region's nodes, cut off and brought back."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from e2e.cluster.shell import kubectl_json, run
from e2e.cluster.wait import until

NETWORK = "kind"


async def nodes(region: str) -> list[str]:
    found = await kubectl_json("get", "nodes", "-l", f"topology.kubernetes.io/region={region}")
    return [node["metadata"]["name"] for node in found["items"]]


@asynccontextmanager
async def cut_off(names: list[str]) -> AsyncIterator[None]:
    """Nothing reaches these nodes, nor do they reach anything. They come back with the addresses that they had."""
    addresses = {}
    for name in names:
        found = json.loads((await run("docker", "inspect", name)).out)[0]
        addresses[name] = found["NetworkSettings"]["Networks"][NETWORK]["IPAddress"]
    try:
        for name in names:
            await run("docker", "network", "disconnect", NETWORK, name)
        yield
    finally:
        for name, address in addresses.items():
            await run("docker", "network", "connect", "--ip", address, NETWORK, name, check=False)


@asynccontextmanager
async def paused(names: list[str]) -> AsyncIterator[None]:
    """Every process on these nodes stops where it is, and goes on from there."""
    try:
        await run("docker", "pause", *names)
        yield
    finally:
        for name in names:
            await run("docker", "unpause", name, check=False)


async def all_ready(timeout_s: float = 120) -> None:
    async def look() -> bool:
        for node in (await kubectl_json("get", "nodes"))["items"]:
            states = {row["type"]: row["status"] for row in node["status"]["conditions"]}
            assert states["Ready"] == "True", node["metadata"]["name"]
        return True

    await until("all nodes", look, timeout_s=timeout_s)
