"""An API server that has Secrets, and resources where asked, and nothing else, for the operator's own client."""

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import kubernetes.client
from aiohttp import web

from agentmemory_operator.kube import Cluster

Secrets = dict[str, dict[str, str]]
"""Keys and values by name, all in one namespace."""


@asynccontextmanager
async def cluster(secrets: Secrets) -> AsyncIterator[Cluster]:
    """The client of an API server with these Secrets, which may be changed meanwhile."""
    async with api_server(secrets) as url:
        configuration = kubernetes.client.Configuration()
        configuration.host = url
        client = Cluster(kubernetes.client.ApiClient(configuration))
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def api_server(secrets: Secrets, resources: Sequence[dict[str, Any]] = ()) -> AsyncIterator[str]:
    """The URL of an API server with these Secrets and AgentMemory resources."""

    async def resource(request: web.Request) -> web.Response:
        wanted = (request.match_info["namespace"], request.match_info["name"])
        for each in resources:
            if (each["metadata"]["namespace"], each["metadata"]["name"]) == wanted:
                return web.json_response(each)
        return web.json_response({"reason": "NotFound", "message": "not found"}, status=404)

    async def read(request: web.Request) -> web.Response:
        found = secrets.get(request.match_info["name"])
        if found is None:
            return web.json_response({"reason": "NotFound", "message": "not found"}, status=404)
        data = {key: base64.b64encode(value.encode()).decode() for key, value in found.items()}
        return web.json_response({"metadata": {"name": request.match_info["name"]}, "data": data})

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/{namespace}/secrets/{name}", read)
    app.router.add_get("/apis/agentmemory.io/v1alpha1/namespaces/{namespace}/agentmemories/{name}", resource)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
