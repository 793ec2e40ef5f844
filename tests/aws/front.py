"""The front: takes every request, finds out for which region it is signed, and lets nothing through that AWS refuses."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Literal, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.aws.buckets import Buckets
from tests.aws.items import Items
from tests.aws.links import Links
from tests.aws.tables import Tables
from tests.aws.wire import Call, Refused, Reply, passed_on, scope

Mode = Literal["ok", "refuse", "hang", "error"]
READING = ("Get", "List", "Describe", "Head", "Query", "Scan", "BatchGet", "TransactGet")
MAX_BODY = 1 << 26


class Front:
    """``async with Front({"us-east-1": "http://…", …}) as aws: aws.url``.

    What a test sets: ``links`` (lag and cuts), ``tables.creating_s``, ``tables.fail_next``, ``tables.force``,
    ``buckets.foreign``, :meth:`reach`. ``changes`` is every request that was meant to change something of a store itself,
    ``written`` counts those that write a single item, by table.
    """

    def __init__(self, processes: Mapping[str, str], *, host: str = "127.0.0.1", port: int = 0) -> None:
        """:param processes: the URL of the process that plays each region."""
        self.regions = tuple(processes)
        self.links = Links(self.regions)
        self.items = Items(self.send, self.links)
        self.tables = Tables(self.regions, self.send, self.items.copy)
        self.buckets = Buckets(self.send, self.links)
        self.changes: list[str] = []
        self.written: Counter[str] = Counter()
        self.assumed: list[str] = []
        self._processes = dict(processes)
        self._modes: dict[str, Mode] = {}
        self._hanging = asyncio.Event()
        self._host, self._port = host, port
        self._stack = AsyncExitStack()
        self._client: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    def reach(self, region: str, mode: Mode) -> None:
        """How a region's endpoint behaves: ``refuse`` cuts each connection, ``hang`` never answers, ``error`` says 503.
        Replication goes on: it is the way to the region that is away."""
        self._modes[region] = mode
        self._hanging.set()
        self._hanging = asyncio.Event()

    async def reset(self) -> None:
        """Forget everything, in the processes too."""
        self._modes.clear()
        self.links.set(lag_s=0, cut=False)
        await self.links.settle()
        for url in self._processes.values():
            async with self._client.post(f"{url}/_ministack/reset") as reply:
                reply.raise_for_status()
        self.items.clear()
        self.tables.clear()
        self.buckets.clear()
        self.changes.clear()
        self.written.clear()
        self.assumed.clear()

    # ------------------------------------------------------------------------------------------------------- serving

    async def __aenter__(self) -> Self:
        from tests.aws.admin import routes

        timeout = aiohttp.ClientTimeout(total=60)
        session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        self._client = await self._stack.enter_async_context(session)
        app = web.Application(client_max_size=MAX_BODY)
        app.add_routes(routes(self))
        app.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, self._host, self._port)
        await site.start()
        self._port = self._port or runner.addresses[0][1]
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        for carry in self.links.carriers():
            self._stack.callback(group.create_task(carry()).cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._hanging.set()
        await self._stack.aclose()

    async def send(self, call: Call) -> Reply:
        """Pass a call on to the process of the region it is signed for. Raises OSError where that does not answer."""
        url = URL(self._processes[call.region] + call.path, encoded=True)
        try:
            async with self._client.request(
                call.method, url, headers=passed_on(call.headers), data=call.body, allow_redirects=False
            ) as reply:
                return Reply(reply.status, CIMultiDict(reply.headers), await reply.read())
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from error

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        signed = scope(CIMultiDict(request.headers), request.query_string)
        if signed is None and b"Action=AssumeRoleWithWebIdentity" in await request.read():
            signed = self.regions[0], "sts"  # the one call that is not signed: a token stands for a key
        if signed is None:
            return web.Response(status=403, text="the request is not signed")
        region, service = signed
        if region not in self._processes:
            return web.Response(status=400, text=f"this stand-in plays {', '.join(self.regions)}, not {region}")
        call = Call(
            request.method, request.raw_path, CIMultiDict(request.headers), await request.read(), region, service
        )
        mode = self._modes.get(region, "ok")
        if mode == "hang":
            await self._hanging.wait()
        if mode == "error":
            return web.Response(status=503)
        if mode in ("refuse", "hang"):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        self._note(call)
        try:
            reply = await self._answer(call)
        except Refused as refused:
            reply = refused.reply(service, head=call.method == "HEAD")
        except OSError:
            return web.Response(status=503)
        return web.Response(status=reply.status, headers=_returned(reply.headers, call.method), body=reply.body)

    async def _answer(self, call: Call) -> Reply:
        answer: Reply | None = None
        if call.service == "dynamodb" and call.operation:
            answer = await self.items.handle(call, self.tables) or await self.tables.handle(call)
        elif call.service == "s3":
            answer = await self.buckets.handle(call)
        return answer or await self.send(call)

    def _note(self, call: Call) -> None:
        if call.service == "sts" and b"AssumeRole" in call.body:
            self.assumed.append(call.body.decode())
        if call.service == "dynamodb" and not call.operation.startswith((*READING, *_ITEM_WRITES)):
            self.changes.append(f"{call.region} {call.operation}")
        if call.service == "dynamodb" and call.operation in ("PutItem", "UpdateItem", "DeleteItem"):
            self.written[json.loads(call.body)["TableName"]] += 1
        path, _, query = call.path.partition("?")
        about_bucket = path.strip("/").count("/") == 0
        if call.service == "s3" and call.method in ("PUT", "DELETE", "POST") and about_bucket:
            self.changes.append(f"{call.region} {call.method} {path}{'?' if query else ''}{query}")


_ITEM_WRITES = ("PutItem", "UpdateItem", "DeleteItem", "BatchWrite", "TransactWrite")


def _returned(headers: CIMultiDict[str], method: str) -> CIMultiDict[str]:
    kept = passed_on(headers)
    if method == "HEAD" and "Content-Length" in headers:
        kept["Content-Length"] = headers["Content-Length"]
    kept.pop("Date", None)
    kept.pop("Server", None)
    return kept
