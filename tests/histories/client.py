"""Clients as agents have them: each keeps its own history, tries again, moves between regions, and may keep half a reply."""

import itertools
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgspec

from agentmemory_sidecar.step.exchange import ClientGone, Headers, Inbound
from agentmemory_sidecar.stores.protocols import Conversation

MODEL = "claude-opus-5-5"


class Outcome(Enum):
    """What a client knows of an attempt."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    """An error that says that nothing was saved."""
    UNKNOWN = "unknown"


@dataclass(eq=False)
class Attempt:
    """One request, what came back, and what its sidecar had looked at meanwhile."""

    number: int
    where: str
    step: str = ""
    outcome: Outcome = Outcome.UNKNOWN
    status: int = 0
    code: str = ""
    commit: str = ""
    message: dict[str, Any] = field(default_factory=dict)
    """The reply; of a broken stream what had arrived."""
    looked: dict[tuple[Conversation, str], dict[str, int]] = field(default_factory=dict)
    """Versions by head that the region's replica had when the sidecar first asked for a conversation's."""
    seen: dict[Conversation, dict[str, int]] = field(default_factory=dict)
    """Likewise when it last did, before it wrote."""
    turns: dict[tuple[Conversation, str], int] = field(default_factory=dict)
    """The turn of a head when its sidecar last looked before it asked Claude."""
    asked: bool = False
    """Whether Claude was asked."""
    saved: bool = False
    """Whether a write of it took effect."""
    place: tuple[Conversation, str, int] | None = None
    """Where: its conversation, the head and the version."""

    @property
    def id(self) -> str:
        return str(self.message.get("id", ""))


ATTEMPT: ContextVar[Attempt | None] = ContextVar("attempt", default=None)
"""Whose request the running task is about."""


class Answering:
    """The client's end of one exchange."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._parts: list[bytes] = []
        self.begun = False
        self.ended = False
        self.gone = False
        self._calls: list[Callable[[], object]] = []

    def when_gone(self, call: Callable[[], object]) -> None:
        self._calls.append(call)

    def leave(self) -> None:
        """The client hangs up."""
        if not self.ended and not self.gone:
            self.gone = True
            if self._calls:
                self._calls[-1]()

    def _check(self) -> None:
        if self.gone:
            raise ClientGone

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self._check()
        self.begun = self.ended = True
        attempt = self._attempt
        self._head(status, headers)
        value = msgspec.json.decode(body) if body else {}
        if status == 200:
            attempt.message, attempt.outcome = value, Outcome.ACKNOWLEDGED
        else:
            self._refused(value)

    async def begin(self, status: int, headers: Headers) -> None:
        self._check()
        self.begun = True
        self._head(status, headers)

    async def write(self, data: bytes) -> None:
        self._check()
        self._parts.append(data)

    async def end(self, data: bytes = b"") -> None:
        self._check()
        self._parts.append(data)
        self.ended = True

    def _head(self, status: int, headers: Headers) -> None:
        lower = {name.lower(): value for name, value in headers}
        self._attempt.status = status
        self._attempt.commit = lower.get("x-agentmemory-commit", "")

    def _refused(self, value: dict[str, Any]) -> None:
        error = value.get("error", {})
        self._attempt.code = error.get("details", {}).get("error_code") or error.get("type", "")
        unsure = "could not be saved" in error.get("message", "")
        self._attempt.outcome = Outcome.UNKNOWN if unsure else Outcome.FAILED

    def read_stream(self) -> None:
        """Take in what had arrived, at the end of the exchange."""
        for frame in b"".join(self._parts).split(b"\n\n"):
            self._frame(frame)

    def _frame(self, frame: bytes) -> None:
        attempt = self._attempt
        data = b""
        for line in frame.splitlines():
            if line.startswith(b": agentmemory"):
                said = (word for word in line.decode().split() if word.startswith("commit="))
                attempt.commit = next(said, "commit=").removeprefix("commit=")
            elif line.startswith(b"data:"):
                data += line[5:]
        if not data:
            return
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
                if self.ended:
                    attempt.outcome = Outcome.ACKNOWLEDGED
            case "error":
                self._refused(event)


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


@dataclass(eq=False)
class Client:
    """One agent's conversation. ``messages`` is what it would send now."""

    session: str
    user: str
    project: str
    agent: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def request(self, number: int, *, stream: bool, fault: str = "") -> Inbound:
        """What goes out."""
        headers = {
            "x-agent-session": self.session, "x-user": self.user, "x-project": self.project,
            "x-test-attempt": str(number), "content-type": "application/json",
        }  # fmt: skip
        if self.agent:
            headers["x-claude-code-agent-id"] = self.agent
        if fault:
            headers["x-test-fault"] = fault
        body = {
            "model": MODEL, "max_tokens": 4096, "system": "S", "thinking": {"type": "adaptive"},
            "messages": self.messages, "stream": stream,
        }  # fmt: skip
        raw = msgspec.json.encode(body)
        return Inbound("POST", "/v1/messages", "", headers, list(headers.items()), raw)

    def ask(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})

    def take(self, attempt: Attempt) -> bool:
        """Put an acknowledged reply, and the results of its tools, into the history; True while the turn goes on."""
        content = attempt.message["content"]
        self.messages.append({"role": "assistant", "content": content})
        calls = [block for block in content if block["type"] == "tool_use"]
        if calls:
            results = [{"type": "tool_result", "tool_use_id": call["id"], "content": "Done."} for call in calls]
            self.messages.append({"role": "user", "content": results})
        return bool(calls)

    def keep_half(self, attempt: Attempt, text: str) -> bool:
        """Go on from what arrived of a broken reply; False where nothing worth keeping did."""
        blocks = attempt.message.get("content", [])
        kept = [b for b in blocks if (b["type"] == "thinking" and b["signature"]) or b.get("text")]
        if not kept:
            return False
        self.messages += [{"role": "assistant", "content": kept}, {"role": "user", "content": text}]
        return True
