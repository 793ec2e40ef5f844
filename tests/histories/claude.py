"""A small Claude: it signs its thinking over the exact prefix, refuses thinking whose prefix has changed, and answers as the
question's directive says, with values that no other reply has."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agentmemory_sidecar.step.exchange import Headers, UpstreamFailed
from tests.histories.client import Attempt

DIRECTIVE = "do:"
"""Begins the text of a question; the rest is JSON of a :class:`Directive`."""
TOOLS = ("note", "put_a", "put_b", "put_c", "todo")
_json = msgspec.json.encode


class Directive(msgspec.Struct):
    """What a question asks for: a reply a step, each a list of tools to call; then one without tools."""

    name: str
    steps: list[list[str]]


@dataclass(frozen=True, slots=True)
class Made:
    """A reply that was made, whether or not anybody saw it."""

    id: str
    attempt: int
    session: str
    user: str
    writes: tuple[tuple[str, str], ...]
    """(tool, value) of its calls; no value comes twice."""


class _Response:
    def __init__(self, status: int, content_type: str, chunks: list[bytes], cut: bool, pause_s: float) -> None:
        self.status, self.content_type, self._chunks, self._cut, self._pause_s = (
            status,
            content_type,
            chunks,
            cut,
            pause_s,
        )
        self.headers: Headers = [("content-type", content_type)]

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            if self._pause_s:
                await asyncio.sleep(self._pause_s)
            yield chunk
        if self._cut:
            raise UpstreamFailed("cut", answered=True)

    async def read(self) -> bytes:
        if self._cut:
            raise UpstreamFailed("cut", answered=True)
        return b"".join(self._chunks)


@dataclass
class Claude:
    """Stands where the sidecar has its connections to Claude."""

    rng: random.Random
    pace: float = 1.0
    """Seconds that pass for each of a plan."""
    made: dict[str, Made] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    """What was answered with a 400, and why."""
    dropped: int = 0
    """Thinking blocks that were left out because the request said so."""
    asked: dict[int, Attempt] = field(default_factory=dict)
    """Attempts by number."""
    _count: int = 0

    @asynccontextmanager
    async def send(
        self,
        method: str,
        path: str,
        query: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes],
        *,
        plain: bool,
    ) -> AsyncIterator[_Response]:
        assert isinstance(body, bytes)
        lower = {name.lower(): value for name, value in headers}
        self.asked[int(lower["x-test-attempt"])].asked = True
        fault = lower.get("x-test-fault", "")
        await asyncio.sleep(self.pace * (8.0 if fault == "slow" else 0.1 + self.rng.random()))
        if fault == "unreachable":
            raise UpstreamFailed("refused")
        if fault == "overloaded":
            error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
            yield _Response(529, "application/json", [_json(error)], False, 0)
            return
        yield self._answer(lower, msgspec.json.decode(body), cut=fault == "cut")

    def _answer(self, headers: Mapping[str, str], request: Any, *, cut: bool) -> _Response:
        messages = request["messages"]
        digest, wrong = self._check(request)
        if wrong:
            self.refused.append(f"attempt {headers.get('x-test-attempt')}: {wrong}")
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": wrong}}
            return _Response(400, "application/json", [_json(error)], False, 0)
        content = self._content(headers, messages, digest, thinks="thinking" in request)
        calls = any(block["type"] == "tool_use" for block in content)
        message = {
            "id": f"msg_{self._count}", "type": "message", "role": "assistant", "model": request["model"],
            "content": content, "stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip
        if not request.get("stream"):
            return _Response(200, "application/json", [_json(message)], cut, 0)
        chunks = _stream(message)
        if cut:
            chunks = chunks[: self.rng.randrange(1, len(chunks))]
        return _Response(200, "text/event-stream", chunks, cut, 0.02)

    def _check(self, request: Any) -> tuple[bytes, str]:
        """The digest of the whole prompt, and what is wrong with it."""
        drop = (request.get("thinking") or {}).get("block_binding", {}).get("prefix_mismatch_behavior") == "drop_block"
        digest = _start(request)
        calls: set[str] = set()
        for number, message in enumerate(request["messages"]):
            blocks = message["content"]
            if isinstance(blocks, str):
                blocks = [{"type": "text", "text": blocks}]
            if message["role"] == "user":
                results = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
                if results != calls:
                    return digest, f"messages.{number}: the results are not those of the calls before"
            calls = {block["id"] for block in blocks if block["type"] == "tool_use"}
            plain = []
            for block in blocks:
                if block["type"] != "thinking":
                    plain.append(block)
                elif block["signature"] != _sign(block["thinking"], digest):
                    if not drop:
                        return digest, f"messages.{number}: a thinking block is bound to another prefix"
                    self.dropped += 1
            digest = hashlib.sha256(
                digest + _json({"role": message["role"], "content": plain}, order="sorted")
            ).digest()
        return digest, ""

    def _content(self, headers: Mapping[str, str], messages: list[Any], digest: bytes, *, thinks: bool) -> list[Any]:
        self._count += 1
        directive, step = _directive(messages)
        tools = directive.steps[step] if directive is not None and step < len(directive.steps) else []
        writes = []
        content: list[dict[str, Any]] = []
        if thinks:
            thought = f"Thought {self._count}."
            content.append({"type": "thinking", "thinking": thought, "signature": _sign(thought, digest)})
        for place, tool in enumerate(tools):
            value = f"v{self._count}.{place}"
            writes.append((tool, value))
            given = {"todos": [{"content": value, "status": "pending"}]} if tool == "todo" else {"value": value}
            name = "TodoWrite" if tool == "todo" else tool
            content.append({"type": "tool_use", "id": f"toolu_{self._count}_{place}", "name": name, "input": given})
        if not tools:
            content.append({"type": "text", "text": f"Answer {self._count}."})
        who, attempt = (headers["x-agent-session"], headers["x-user"]), int(headers["x-test-attempt"])
        made = Made(f"msg_{self._count}", attempt, *who, tuple(writes))
        self.made[made.id] = made
        return content


def _start(request: Any) -> bytes:
    return hashlib.sha256(_json([request.get("system"), request.get("tools")])).digest()


def _sign(thought: str, digest: bytes) -> str:
    return hashlib.sha256(thought.encode() + digest).hexdigest()[:32]


def _directive(messages: list[Any]) -> tuple[Directive | None, int]:
    """The newest question's, and how many replies it has had."""
    step = 0
    for message in reversed(messages):
        if message["role"] == "assistant":
            step += 1
            continue
        content = message["content"]
        first = content if isinstance(content, str) else next((b["text"] for b in content if b["type"] == "text"), "")
        if first.startswith(DIRECTIVE) and not (isinstance(content, list) and content[0]["type"] == "tool_result"):
            return msgspec.json.decode(first[len(DIRECTIVE) :], type=Directive), step
    return None, 0


def _frame(event: dict[str, Any]) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + _json(event) + b"\n\n"


def _stream(message: dict[str, Any]) -> list[bytes]:
    begin = {**message, "content": [], "stop_reason": None}
    chunks = [_frame({"type": "message_start", "message": begin}) + _frame({"type": "ping"})]
    for index, block in enumerate(message["content"]):
        start: dict[str, Any]
        match block["type"]:
            case "thinking":
                start = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            case "text":
                start = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": block["text"]}]
            case _:
                start = {**block, "input": {}}
                deltas = [{"type": "input_json_delta", "partial_json": _json(block["input"]).decode()}]
        frames = [{"type": "content_block_start", "index": index, "content_block": start}]
        frames += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        frames.append({"type": "content_block_stop", "index": index})
        chunks.append(b"".join(map(_frame, frames)))
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    end = [{"type": "message_delta", "delta": delta, "usage": message["usage"]}, {"type": "message_stop"}]
    return [*chunks, b"".join(map(_frame, end))]
