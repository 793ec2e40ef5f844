"""A client as agents have them: it keeps its own history, sends a request again as it was, and may keep half a reply."""

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import aiohttp
import msgspec

SESSION_HEADER = "X-Agent-Session"
ATTEMPT_HEADER = "x-test-attempt"
"""Travels on to Claude, so that its record says which attempt a request was."""
MODEL = "claude-opus-5-5"
"""Its thinking is bound to the exact prefix."""


def _tool(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": f"The tool {name}.", "input_schema": {"type": "object", "properties": schema}}


TOOLS = [
    _tool("TodoWrite", {"todos": {"type": "array", "items": {"type": "object"}}}),
    _tool("note", {"text": {"type": "string"}}),
    _tool("sub_note", {"text": {"type": "string"}}),
]
_numbers = itertools.count(1)


class Outcome(Enum):
    """What a client knows of an attempt."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    """An error that says that nothing was saved."""
    UNKNOWN = "unknown"
    """Cut, left, or an error after which the reply may or may not be saved."""


@dataclass
class Attempt:
    """One request and what came back."""

    number: int
    agent: str
    outcome: Outcome = Outcome.UNKNOWN
    status: int = 0
    code: str = ""
    """Error code, or error type where there is none."""
    error: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)
    message: dict[str, Any] = field(default_factory=dict)
    """The reply; of a failed stream what had arrived."""
    least_version: int = 0
    """The item's version just before the request went out."""

    @property
    def id(self) -> str:
        return str(self.message.get("id", ""))

    @property
    def acknowledged(self) -> bool:
        return self.outcome is Outcome.ACKNOWLEDGED

    @property
    def tier(self) -> str:
        return self.headers.get("x-agentmemory-tier", "")

    @property
    def commit(self) -> str:
        """What the receipt says of the commit."""
        said = [word for line in self.comments for word in line.split() if word.startswith("commit=")]
        return self.headers.get("x-agentmemory-commit") or (said[-1].removeprefix("commit=") if said else "")

    @property
    def kept_blocks(self) -> list[dict[str, Any]]:
        """What a client that keeps half a reply keeps of it: whole thinking blocks and text."""
        blocks = self.message.get("content", [])
        kept = [b for b in blocks if (b["type"] == "thinking" and b["signature"]) or b.get("text", "").strip()]
        return copy.deepcopy(kept)


class Agent:
    """One agent's conversation. ``messages`` is what it would send now."""

    def __init__(self, http: aiohttp.ClientSession, session: str, agent: str = "", *, thinking: bool = True) -> None:
        self._http, self.session, self.agent = http, session, agent
        self._thinking = thinking
        self.messages: list[dict[str, Any]] = []
        self.attempts: list[Attempt] = []

    def twin(self, *, remembers: bool = True) -> "Agent":
        """Another client of the same conversation, with the same history or none."""
        other = Agent(self._http, self.session, self.agent, thinking=self._thinking)
        other.messages = copy.deepcopy(self.messages) if remembers else []
        other.attempts = self.attempts
        return other

    def ask(self, text: str | list[dict[str, Any]]) -> None:
        self.messages.append({"role": "user", "content": text})

    def give_up(self) -> None:
        """Take the unanswered question back."""
        assert self.messages.pop()["role"] == "user"

    def keep_half(self, attempt: Attempt, text: str) -> bool:
        """Go on from what arrived of a failed attempt; False where nothing worth keeping did."""
        if not (blocks := attempt.kept_blocks):
            return False
        self.messages += [{"role": "assistant", "content": blocks}, {"role": "user", "content": text}]
        return True

    def take(self, attempt: Attempt) -> bool:
        """Put an acknowledged reply, and the results of its tools, into the history; True while the turn goes on."""
        content = attempt.message["content"]
        self.messages.append({"role": "assistant", "content": copy.deepcopy(content)})
        calls = [block for block in content if block["type"] == "tool_use"]
        if calls:
            results = [{"type": "tool_result", "tool_use_id": call["id"], "content": "Done."} for call in calls]
            self.messages.append({"role": "user", "content": results})
        return bool(calls)

    async def send(
        self,
        url: str,
        killed: asyncio.Event | None = None,
        *,
        stream: bool = True,
        fault: str = "",
        leave_after: int | None = None,
        least_version: int = 0,
    ) -> Attempt:
        """One attempt. ``killed``: the sidecar's end, from which on nothing arrives any more. ``leave_after``: hang up
        after so many frames (or at once, without waiting for the head, when negative)."""
        attempt = Attempt(next(_numbers), self.agent, least_version=least_version)
        self.attempts.append(attempt)
        exchange = asyncio.ensure_future(self._exchange(url, attempt, stream, fault, leave_after))  # noqa: TID251
        died = asyncio.ensure_future((killed or asyncio.Event()).wait())  # noqa: TID251
        waiting: set[asyncio.Future[Any]] = {exchange, died}
        try:
            timeout = 0.02 if leave_after is not None and leave_after < 0 else None
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if died.done() or not exchange.done():
                attempt.outcome = Outcome.UNKNOWN
                exchange.cancel()
            await asyncio.gather(exchange, return_exceptions=False)
        except (asyncio.CancelledError, aiohttp.ClientError, OSError):
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            attempt.outcome = Outcome.UNKNOWN
        finally:
            died.cancel()
        return attempt

    async def _exchange(self, url: str, attempt: Attempt, stream: bool, fault: str, leave_after: int | None) -> None:
        headers = {
            SESSION_HEADER: self.session,
            ATTEMPT_HEADER: str(attempt.number),
            "x-api-key": "test",
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
        }
        if self.agent:
            headers["x-claude-code-agent-id"] = self.agent
        if fault:
            headers["x-claude-fault"] = fault
        body = {"model": MODEL, "max_tokens": 4096, "system": f"Session {self.session}.", "tools": TOOLS}
        if self._thinking:
            body["thinking"] = {"type": "adaptive"}
        body |= {"messages": self.messages, "stream": stream}
        response = await self._http.post(f"{url}/v1/messages", data=msgspec.json.encode(body), headers=headers)
        try:
            attempt.status = response.status
            attempt.headers = {name.lower(): value for name, value in response.headers.items()}
            if response.content_type != "text/event-stream":
                _read_whole(attempt, await response.read())
                return
            count = 0
            async for frame in _frames(response):
                if leave_after is not None and count >= leave_after:
                    return
                count += 1
                if _read_frame(attempt, frame):
                    return
        finally:
            response.close()


async def _frames(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.content.iter_any():
        *frames, rest = (rest + chunk).split(b"\n\n")
        for frame in frames:
            yield frame


def _read_whole(attempt: Attempt, body: bytes) -> None:
    value = msgspec.json.decode(body) if body else {}
    if attempt.status == 200:
        attempt.message, attempt.outcome = value, Outcome.ACKNOWLEDGED
    else:
        _refused(attempt, value)


def _refused(attempt: Attempt, value: dict[str, Any]) -> None:
    attempt.error = value.get("error", {})
    attempt.code = attempt.error.get("details", {}).get("error_code") or attempt.error.get("type", "")
    unsure = "could not be saved" in attempt.error.get("message", "")
    attempt.outcome = Outcome.UNKNOWN if unsure else Outcome.FAILED


def _read_frame(attempt: Attempt, frame: bytes) -> bool:
    """Take one frame in; True at the end of the reply."""
    if frame.startswith(b":"):
        attempt.comments.append(frame[1:].decode().strip())
    data = b"".join(line[5:] for line in frame.splitlines() if line.startswith(b"data:"))
    if not data:
        return False
    event = msgspec.json.decode(data)
    content = attempt.message.get("content", [])
    match event["type"]:
        case "message_start":
            attempt.message = {**event["message"], "content": []}
        case "content_block_start":
            content.append({**event["content_block"]})
        case "content_block_delta":
            _delta(content[-1], event["delta"])
        case "content_block_stop":
            if "partial" in content[-1]:
                content[-1]["input"] = msgspec.json.decode(content[-1].pop("partial") or "{}")
        case "message_delta":
            attempt.message |= event["delta"]
        case "message_stop":
            attempt.outcome = Outcome.ACKNOWLEDGED
            return True
        case "error":
            _refused(attempt, event)
            return True
    return False


def _delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "input_json_delta":
            block["partial"] = block.get("partial", "") + delta["partial_json"]
