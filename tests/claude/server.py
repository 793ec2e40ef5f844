"""The HTTP server: routes, and the order in which a request is checked and answered."""

import asyncio
import json
from typing import Any

from aiohttp import web

from tests.claude import admission, faults, models, sending
from tests.claude.cache import Cache, Plan
from tests.claude.errors import ApiError, body, new_id
from tests.claude.faults import Fault
from tests.claude.options import Options
from tests.claude.prompt import Prompt, asked
from tests.claude.record import Record, Recorded
from tests.claude.replies import Reply, Script, content, directed, replies_from
from tests.claude.thinking import Thinking
from tests.claude.threads import Threads
from tests.claude.tokens import output_tokens, truncate

MAX_BODY = 32 * 1024 * 1024
_HEADERS = {
    "anthropic-organization-id": "00000000-0000-4000-8000-000000000000",
    "anthropic-ratelimit-requests-limit": "4000",
    "anthropic-ratelimit-requests-remaining": "3999",
    "anthropic-ratelimit-requests-reset": "2026-11-22T00:00:00Z",
}
"""What every good reply carries besides its ``request-id``."""


class StrictClaude:
    """The stand-in. ``async with StrictClaude() as claude:`` serves at ``claude.url`` until the block ends."""

    def __init__(self, options: Options | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.options = options or Options()
        self.url = ""
        """``http://HOST:PORT``, once started."""
        self._address = (host, port)
        self._runner: web.AppRunner | None = None
        self._arrived = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        """Forget everything: requests, counters, script, cache and threads."""
        self.record = Record(self.options.keep)
        self._script = Script()
        self._cache = Cache(self.options)
        self._threads = Threads(self.options)
        self._thinking = Thinking(self.options)
        self._faulted: dict[str, int] = {}

    @property
    def requests(self) -> list[Recorded]:
        """All requests since the last reset, oldest first."""
        return list(self.record.requests)

    @property
    def turns(self) -> list[Recorded]:
        """The requests to ``/v1/messages`` among them."""
        return [one for one in self.record.requests if one.is_messages]

    async def received(self, count: int) -> Recorded:
        """Wait until this many requests were read and judged since the last reset; returns the last of them."""
        while len(self.record.requests) < count or not self.record.requests[count - 1].judged:
            self._arrived.clear()
            await self._arrived.wait()
        return self.record.requests[count - 1]

    @property
    def counters(self) -> dict[str, int]:
        """``requests``, ``messages``, ``refused``, ``refused_<rule>``, ``thinking_mismatches``, ``*_tokens`` …"""
        return dict(self.record.counters)

    def script(self, *replies: Any) -> None:
        """Queue replies: :class:`Reply`, dicts of its fields, strings for plain text, or lists of these."""
        for one in replies:
            self._script.add(replies_from(one))

    def reset_script(self) -> None:
        """Forget the replies that no request has taken."""
        self._script = Script()

    @property
    def unused(self) -> list[Reply]:
        """Scripted replies that no request has taken yet."""
        return list(self._script.waiting)

    # ------------------------------------------------------------------------------------------------- lifecycle

    async def start(self) -> "StrictClaude":
        self._runner = web.AppRunner(
            self._application(), auto_decompress=False, handler_cancellation=True, shutdown_timeout=0.2, access_log=None
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, *self._address)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{'[' + host + ']' if ':' in host else host}:{port}"
        return self

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> "StrictClaude":
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=0)
        app.router.add_post("/__claude/script", self._post_script)
        app.router.add_get("/__claude/requests", self._get_requests)
        app.router.add_get("/__claude/counters", self._get_counters)
        app.router.add_post("/__claude/reset", self._post_reset)
        app.router.add_route("*", "/{path:.*}", self._api)
        return app

    # ---------------------------------------------------------------------------------------------------- control

    async def _post_script(self, request: web.Request) -> web.Response:
        try:
            self.script(await request.json())
        except (ValueError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"waiting": len(self._script.waiting)})

    async def _get_requests(self, request: web.Request) -> web.Response:
        wanted = request.query.get("session")
        rows = [one.as_json() for one in self.record.requests if wanted in (None, one.session)]
        return web.json_response({"requests": rows, "counters": self.counters}, dumps=_dumps)

    async def _get_counters(self, request: web.Request) -> web.Response:
        return web.json_response(self.counters)

    async def _post_reset(self, request: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})

    # -------------------------------------------------------------------------------------------------------- API

    async def _api(self, request: web.Request) -> web.StreamResponse:
        recorded = self.record.open(request.method, str(request.rel_url), request.headers)
        recorded.request_id = new_id("req")
        try:
            response = await self._route(request, recorded)
        except ApiError as error:
            self.record.refused(recorded, error.rule, error.message, error.diagnosis)
            response = web.Response(
                status=error.status,
                body=body(error.kind, error.message, recorded.request_id, error.details),
                content_type="application/json",
                headers={"request-id": recorded.request_id, **error.headers},
            )
            if error.status in (411, 413):
                response.force_close()
        except (asyncio.CancelledError, ConnectionError):
            recorded.verdict = "gone"
            self.record.counters["gone"] += 1
            raise
        except Exception:
            recorded.verdict = "broken"
            self.record.counters["broken"] += 1
            raise
        finally:
            self._judged(recorded)
        recorded.status = response.status
        if recorded.verdict == "pending":
            recorded.verdict = "ok"
        return response

    def _judged(self, recorded: Recorded) -> None:
        recorded.judged = True
        self._arrived.set()

    async def _route(self, request: web.Request, recorded: Recorded) -> web.StreamResponse:
        headers = {"request-id": recorded.request_id}
        match (request.method, request.path):
            case ("POST", "/v1/messages"):
                return await self._messages(request, recorded)
            case ("POST", "/v1/messages/count_tokens"):
                prompt = await self._prompt(request, recorded, counting=True)
                return web.json_response({"input_tokens": self._cache.total(prompt)}, headers=headers)
            case ("HEAD" | "GET", "/api/hello"):
                return web.Response(headers=headers)
            case ("GET", "/v1/models"):
                return web.json_response(_models(), headers=headers)
            case ("GET", path) if path.startswith("/v1/models/"):
                return web.json_response(_model(models.find(path.removeprefix("/v1/models/")).id), headers=headers)
            case (_, "/v1/messages" | "/v1/messages/count_tokens" | "/v1/models"):
                raise ApiError(405, "Method Not Allowed", rule="method")
        raise ApiError(404, "Not Found", rule="path")

    async def _prompt(self, request: web.Request, recorded: Recorded, *, counting: bool = False) -> Prompt:
        """Read and check a request; raises what the API would answer to a bad one."""
        admission.length(recorded.headers, MAX_BODY)
        raw = await request.content.read()
        recorded.body = raw if self.options.keep_bodies else b""
        admitted = admission.admit(recorded.headers, raw, MAX_BODY)
        recorded.parsed = admitted.params
        prompt = admission.understand(admitted, self._threads, counting=counting)
        recorded.prompt = prompt.messages
        mismatches = self._thinking.check(prompt)
        recorded.prompt = prompt.messages
        self.record.counters["thinking_mismatches"] += len(mismatches)
        if mismatches:
            recorded.diagnosis = mismatches[0].diagnosis
        self._judged(recorded)
        return prompt

    async def _messages(self, request: web.Request, recorded: Recorded) -> web.StreamResponse:
        prompt = await self._prompt(request, recorded)
        with self._threads.continuing(prompt):
            reply = self._script.take(recorded.headers, recorded.session, recorded.agent, prompt)
            reply = reply or directed(prompt) or Reply()
            fault = self._fault(recorded, reply, prompt)
            if fault:
                recorded.fault, recorded.verdict = fault.kind, "fault"
                self.record.counters["faults"] += 1
                if fault.kind in faults.BEFORE_REPLY:
                    return await sending.fail(request, fault, recorded.request_id)
            plan = self._cache.plan(prompt)
            message = self._message(prompt, reply, plan, recorded)
            manner = self._manner(reply, fault, plan)
            send = sending.stream if prompt.stream else sending.json
            response = await send(request, recorded, message, manner)
            if not fault or fault.kind.startswith("slow"):
                self._threads.keep(prompt, message)
                recorded.verdict = "ok"
            return response

    def _fault(self, recorded: Recorded, reply: Reply, prompt: Prompt) -> Fault | None:
        """The fault the header or the reply asks for, unless it has happened often enough to this very request."""
        asked_for = recorded.headers.get("x-claude-fault")
        try:
            fault = faults.parse(asked_for) if asked_for else reply.fault
        except ValueError as error:
            raise ApiError(400, f"x-claude-fault: {error}", rule="directive") from None
        if isinstance(fault, Fault) and fault.times:
            begin = max(asked(prompt.messages), 0)
            key = f"{fault} {recorded.session} {recorded.agent} {_dumps(prompt.messages[begin:])}"
            self._faulted[key] = self._faulted.get(key, 0) + 1
            if self._faulted[key] > fault.times:
                return None
        return fault if isinstance(fault, Fault) else None

    def _message(self, prompt: Prompt, reply: Reply, plan: Plan, recorded: Recorded) -> dict[str, Any]:
        blocks, reason, sequence = content(reply, prompt, self.options.thinking_text)
        limit = prompt.params["max_tokens"]
        if limit == 0:
            blocks, reason, sequence = [], "max_tokens", None
        elif reply.stop_reason is None and truncate(blocks, limit):
            reason, sequence = "max_tokens", None
        self._thinking.sign(prompt, blocks)
        recorded.message_id = new_id("msg")
        recorded.reply = blocks
        usage = {**plan.usage, "output_tokens": output_tokens(blocks), "service_tier": "standard"}
        self.record.used(recorded, usage)
        message: dict[str, Any] = {
            "id": recorded.message_id,
            "type": "message",
            "role": "assistant",
            "model": prompt.model.id,
            "content": blocks,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage,
        }
        if "thinking-binding-controls-2026-08-01" in prompt.betas:
            message["input_transformations"] = prompt.dropped
        if "context_management" in prompt.params:
            message["context_management"] = {"applied_edits": []}
        return message

    def _manner(self, reply: Reply, fault: Fault | None, plan: Plan) -> sending.Manner:
        options = self.options
        headers = _HEADERS | reply.headers
        return sending.Manner(
            started=lambda: self._cache.commit(plan),
            fault=fault,
            pace_ms=options.pace_ms if reply.pace_ms is None else reply.pace_ms,
            first_byte_ms=options.first_byte_ms if reply.first_byte_ms is None else reply.first_byte_ms,
            chunk_bytes=options.chunk_bytes if reply.chunk_bytes is None else reply.chunk_bytes,
            ping=options.pings,
            pings=reply.pings,
            extra_events=tuple(reply.extra_events),
            headers=tuple(headers.items()),
            compress=reply.compress,
        )


def _dumps(value: Any) -> str:
    return json.dumps(value, default=str)


def _models() -> dict[str, Any]:
    rows = [_model(name) for name in models.names()]
    return {"data": rows, "has_more": False, "first_id": rows[0]["id"], "last_id": rows[-1]["id"]}


def _model(name: str) -> dict[str, Any]:
    display = name.replace("-", " ").title()
    return {
        "type": "model",
        "id": name,
        "display_name": display,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
    }
