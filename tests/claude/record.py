"""What the stand-in remembers of each request, and the counters tests compare."""

import base64
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SESSION_HEADERS = ("x-agent-session", "x-claude-code-session-id")

MISMATCHES = ("thinking_prefix", "thinking_signature", "thinking_window")
"""Rules that a thinking block in the history can break."""


@dataclass
class Recorded:
    """One request and what became of it. ``headers`` are lower-case; ``body`` is as it arrived, still encoded."""

    number: int
    method: str
    path: str
    """Path with query."""
    headers: Mapping[str, str]
    body: bytes = b""
    parsed: Any = None
    """The decoded JSON body, None if it was none."""
    session: str = ""
    agent: str = ""
    verdict: str = "pending"
    """``ok``, ``refused``, ``fault`` (misbehaved as asked), ``gone`` (the client left) or ``pending``."""
    judged: bool = False
    """Whether it was read whole and found good or bad."""
    rule: str = ""
    """Which rule a refused request broke."""
    message: str = ""
    """The error message of a refused request."""
    diagnosis: str = ""
    """For a thinking mismatch: where the prefix differs from the one that was signed."""
    status: int = 0
    request_id: str = ""
    message_id: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    reply: list[dict[str, Any]] = field(default_factory=list)
    """The content blocks that were (to be) sent."""
    events: int = 0
    """SSE events written."""
    fault: str = ""
    prompt: list[dict[str, Any]] = field(default_factory=list)
    """The whole conversation as understood, history held in a thread included."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages as sent; empty where the body held none."""
        found = self.parsed.get("messages") if isinstance(self.parsed, dict) else None
        return found if isinstance(found, list) else []

    @property
    def is_messages(self) -> bool:
        return self.path.partition("?")[0] == "/v1/messages"

    def as_json(self) -> dict[str, Any]:
        """For ``GET /__claude/requests``; ``body`` in base64."""
        plain = {k: v for k, v in vars(self).items() if k not in {"body", "headers"}}
        return {**plain, "headers": dict(self.headers), "body": base64.b64encode(self.body).decode()}


class Record:
    """All requests since the last reset."""

    def __init__(self, keep: int) -> None:
        self.requests: deque[Recorded] = deque(maxlen=keep)
        self.counters: Counter[str] = Counter()
        self._number = 0

    def open(self, method: str, path: str, headers: Mapping[str, str]) -> Recorded:
        self._number += 1
        lower = {name.lower(): value for name, value in headers.items()}
        session = next((lower[name] for name in SESSION_HEADERS if lower.get(name)), "")
        agent = lower.get("x-claude-code-agent-id", "")
        recorded = Recorded(self._number, method, path, lower, session=session, agent=agent)
        self.requests.append(recorded)
        self.counters["requests"] += 1
        if recorded.is_messages:
            self.counters["messages"] += 1
        return recorded

    def refused(self, recorded: Recorded, rule: str, message: str, diagnosis: str) -> None:
        recorded.verdict, recorded.rule, recorded.message, recorded.diagnosis = "refused", rule, message, diagnosis
        self.counters["refused"] += 1
        self.counters[f"refused_{rule}"] += 1
        self.counters["thinking_mismatches"] += rule in MISMATCHES

    def used(self, recorded: Recorded, usage: dict[str, Any]) -> None:
        recorded.usage = usage
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            self.counters[name] += usage.get(name) or 0

    def reset(self) -> None:
        self.requests.clear()
        self.counters.clear()
        self._number = 0
