"""An API server that has Secrets and nothing else, for the operator's own client."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import kubernetes.client
from aiohttp import web

from agentmemory_operator.kube import Cluster

Secrets = dict[str, dict[str, str]]
"""Keys and values by name, all in one namespace."""


@asynccontextmanager
async def cluster(secrets: Secrets) -> AsyncIterator[Cluster]:
    """The client of an API server with these Secrets, which may be changed meanwhile."""

    async def read(request: web.Request) -> web.Response:
        found = secrets.get(request.match_info["name"])
        if found is None:
            return web.json_response({"reason": "NotFound", "message": "not found"}, status=404)
        data = {key: base64.b64encode(value.encode()).decode() for key, value in found.items()}
        return web.json_response({"metadata": {"name": request.match_info["name"]}, "data": data})

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/{namespace}/secrets/{name}", read)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = kubernetes.client.Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    client = Cluster(kubernetes.client.ApiClient(configuration))
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()
