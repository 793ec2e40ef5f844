"""What memory brought and cost, summed up from records: no input or output here.

Compared is with an agent that puts its whole state into each request. What it saves net of cache effects is weighed as
Claude charges it (facts on prompt caching in Anthropic's documentation): a token read from the cache is a tenth of an input
token, one written to it 1.25, or 2 where it is kept for an hour. A state that changes with each turn cannot be read from the
cache, so it counts as plain input. Of ours, a new entry stands behind the prompt's last breakpoint: it is plain input once,
is written to the cache when it is first repeated, and is read from then on.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from agentmemory_sidecar.archive.reader import Record

READ, WRITTEN, WRITTEN_FOR_AN_HOUR = 0.1, 1.25, 2.0


@dataclass(frozen=True, slots=True)
class Report:
    """Sums over records. Tokens of states and injections are estimates; the last four are Claude's own."""

    steps: int = 0
    """Steps that were answered and saved."""
    refused: int = 0
    """Steps refused because their session was busy; in shadow mode, those that would have been."""
    failed: int = 0
    """Steps that ended without a commit."""
    unreadable: int = 0
    """Records whose person was erased: nothing of them is in the other sums."""
    conflicts: int = 0
    """Conflicts that wait for somebody to settle them."""
    whole_tokens: int = 0
    """What the whole state would have taken, put into each request."""
    injected_tokens: int = 0
    """What was newly put in."""
    replayed_tokens: int = 0
    """What was repeated because it had been put in before."""
    weighed: float = 0.0
    """``injected_tokens`` and ``replayed_tokens`` as they are charged (input tokens)."""
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_written_tokens: int = 0
    output_tokens: int = 0

    @property
    def saved_tokens(self) -> int:
        """Fewer tokens in prompts than with the whole state in each; negative where memory took more."""
        return self.whole_tokens - self.injected_tokens - self.replayed_tokens

    @property
    def saved_net(self) -> float:
        """The same as it is charged (input tokens)."""
        return round(self.whole_tokens - self.weighed, 1)

    def __add__(self, other: "Report") -> "Report":
        return Report(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Report)})

    def shown(self) -> dict[str, Any]:
        """All sums by name, those that follow from others with them."""
        own = {one.name: getattr(self, one.name) for one in fields(Report)}
        return {
            **own,
            "weighed": round(self.weighed, 1),
            "saved_tokens": self.saved_tokens,
            "saved_net": self.saved_net,
        }


def report(records: Iterable[Record], *, since: float = 0.0, conflicts: int = 0) -> Report:
    """The sum of a conversation's records, in their order, that are not older than ``since`` (seconds since the epoch)."""
    whole, fresh = Report(conflicts=conflicts), 0
    for record in records:
        one = _of(record, fresh)
        if record.header.kind == "step":
            fresh = one.injected_tokens
        if record.header.at >= since:
            whole += one
    return whole


def _of(record: Record, fresh: int) -> Report:
    """``fresh``: the tokens that the step before put in behind its prompt's last breakpoint. The cache has them from now."""
    match record.header.kind:
        case "refused":
            return Report(refused=1)
        case "failed":
            return Report(failed=1)
        case "patch":
            return Report()
    if record.payload is None:
        return Report(steps=1, unreadable=1)
    said, usage = record.payload.injected.get("receipt") or {}, record.payload.usage
    injected, replayed = _number(said.get("injected-tokens")), _number(said.get("replayed-tokens"))
    read, written = _number(usage.get("cache_read_input_tokens")), _number(usage.get("cache_creation_input_tokens"))
    fresh = min(fresh, replayed)
    return Report(
        steps=1,
        whole_tokens=_number(said.get("state-tokens")),
        injected_tokens=injected,
        replayed_tokens=replayed,
        weighed=injected + fresh * _rate_of_writing(usage, written) + (replayed - fresh) * (READ if read else 1.0),
        input_tokens=_number(usage.get("input_tokens")),
        cache_read_tokens=read,
        cache_written_tokens=written,
        output_tokens=_number(usage.get("output_tokens")),
    )


def _rate_of_writing(usage: dict[str, Any], written: int) -> float:
    if not written:
        return 1.0
    kinds = usage.get("cache_creation")
    for_an_hour = isinstance(kinds, dict) and _number(kinds.get("ephemeral_1h_input_tokens"))
    return WRITTEN_FOR_AN_HOUR if for_an_hour else WRITTEN


def _number(value: Any) -> int:
    """A count as it stands in a receipt (text) or in usage; 0 for none."""
    return int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdigit()) else 0
