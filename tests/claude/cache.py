"""The prompt cache: which prefix a request reads, which it writes, and the usage that results."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from tests.claude.canonical import THINKING, rendered
from tests.claude.options import Options
from tests.claude.prompt import Block, Prompt, blocks_of
from tests.claude.tokens import tokens

TTL = {"5m": 300.0, "1h": 3600.0}
LOOKBACK = 20


@dataclass
class Position:
    """The prompt up to the end of one tool, system block or content block."""

    digest: bytes
    chars: int
    """Characters up to here."""
    place: int
    """Place in the lookback's counting: a run of tool_use, or of tool_result, is one."""
    ttl: str = ""
    """``5m`` or ``1h`` where a breakpoint stands, else empty."""

    @property
    def tokens(self) -> int:
        return tokens(self.chars)


@dataclass(frozen=True)
class Plan:
    """What one request does to the cache. ``writes`` are (digest, lifetime in s), valid once the reply has started."""

    usage: dict[str, Any]
    writes: list[tuple[bytes, float]]
    began: float


class Cache:
    """Entries by digest of the prefix, with their expiry."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._entries: dict[bytes, tuple[float, float]] = {}
        """digest: (expiry, lifetime), both in seconds."""

    def total(self, prompt: Prompt) -> int:
        """All tokens of a prompt."""
        placed = positions(prompt)
        return placed[-1].tokens if placed else 0

    def plan(self, prompt: Prompt) -> Plan:
        """Decide reads (which refresh what they read) and writes (left to :meth:`commit`)."""
        now = self._options.clock()
        placed = positions(prompt)
        minimum = self._options.minimum_cache_tokens
        minimum = prompt.model.minimum if minimum is None else minimum
        marked = [n for n, one in enumerate(placed) if one.ttl and one.tokens >= minimum]
        hit = max((self._hit(placed, n, now) for n in marked), default=-1)
        read = placed[hit].tokens if hit >= 0 else 0
        created = dict.fromkeys(TTL, 0)
        upto = read
        for n in marked:
            if n > hit:
                created[placed[n].ttl] += placed[n].tokens - upto
                upto = placed[n].tokens
        total = placed[-1].tokens if placed else 0
        usage = {
            "input_tokens": total - upto,
            "cache_creation_input_tokens": sum(created.values()),
            "cache_read_input_tokens": read,
            "cache_creation": {f"ephemeral_{ttl}_input_tokens": count for ttl, count in created.items()},
        }
        return Plan(usage, [(placed[n].digest, TTL[placed[n].ttl]) for n in marked], now)

    def commit(self, plan: Plan) -> None:
        """The reply has started: what the request wrote can be read. Lifetimes count from the request's start."""
        for digest, lifetime in plan.writes:
            held = max(lifetime, self._entries.get(digest, (0.0, 0.0))[1])
            self._entries[digest] = (plan.began + held, held)

    def _hit(self, placed: list[Position], at: int, now: float) -> int:
        """The longest readable prefix within the lookback of the breakpoint ``at``; -1 for none."""
        for n in range(at, -1, -1):
            if placed[n].place <= placed[at].place - LOOKBACK:
                return -1
            expiry, lifetime = self._entries.get(placed[n].digest, (0.0, 0.0))
            if expiry > now:
                self._entries[placed[n].digest] = (now + lifetime, lifetime)
                return n
        return -1


def positions(prompt: Prompt) -> list[Position]:
    """Every position of a prompt in the order tools, system, messages."""
    placed: list[Position] = []
    digest = hashlib.sha256(f"{prompt.workspace}|{prompt.model.id}".encode()).digest()
    chars, place, last = 0, 0, ""

    def add(kind: str, block: Block) -> None:
        nonlocal digest, chars, place, last
        data = rendered(block)
        digest = hashlib.sha256(digest + kind.encode() + data).digest()
        chars += len(data.decode())
        run = block.get("type") if block.get("type") in ("tool_use", "tool_result") else ""
        place += not (run and run == last)
        last = run or ""
        placed.append(Position(digest, chars, place, _ttl(block)))

    params = prompt.params
    for tool in prompt.tools:
        add("tool", tool)
    digest = _mixed(digest, params.get("speed"))
    for block in prompt.system:
        add("system", block)
    thinking = {k: v for k, v in prompt.thinking.items() if k not in ("block_binding", "display")}
    digest = _mixed(digest, [params.get("tool_choice"), thinking])
    automatic = -1
    users = [n for n, message in enumerate(prompt.messages) if message["role"] == "user"]
    for n, message in enumerate(prompt.messages):
        if message.get("clear_at") == "next_user_message" and users and n < users[-1]:
            continue
        for block in blocks_of(message["content"]):
            add(message["role"], block)
            if block.get("type") not in THINKING and message.get("clear_at") != "next_user_message":
                automatic = len(placed) - 1
    if (top := params.get("cache_control")) and placed:
        target = placed[automatic]
        target.ttl = target.ttl or top.get("ttl") or "5m"
    return placed


def _mixed(digest: bytes, value: Any) -> bytes:
    return hashlib.sha256(digest + json.dumps(value).encode()).digest()


def _ttl(block: Block) -> str:
    """The lifetime asked for at a block, or within a tool result's content."""
    marker = block.get("cache_control")
    if not marker and block.get("type") == "tool_result":
        inner = [part["cache_control"] for part in blocks_of(block.get("content")) if part.get("cache_control")]
        marker = inner[-1] if inner else None
    return (marker.get("ttl") or "5m") if marker else ""
