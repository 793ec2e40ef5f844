"""Compares one scenario's run straight to Claude with its run through the sidecar, as Claude and the client saw them.

Everything must be the same but for one thing: text blocks added to user messages, which is how the sidecar injects.
They come last, but a client may later put text of its own behind them, by merging messages. Ids, signatures and other
things that differ between any two runs are left out of the comparison.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

CACHE_SHARE = 0.95
"""Of the cache-read tokens of a direct run, how much a run through the sidecar must have."""

HOP_HEADERS = frozenset({"host", "connection", "content-length", "accept-encoding", "keep-alive", "transfer-encoding"})
"""What a proxy may set for itself: it reads the replies, so it chooses their encoding."""

_IDS = re.compile(
    r"\b(?:toolu|msg|req)_[A-Za-z0-9]+|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{64}\b"
)
_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>\s*", re.DOTALL)
"""What Claude Code puts before a question: the same for all agents."""
_MEASURED = re.compile(r"\b(duration_ms|subagent_tokens): \d+")
"""What Claude Code tells the main agent of a subagent's cost."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what the client reported, and what the strict Claude recorded of it."""

    seen: Any
    """Replies, stop reasons and errors, in any form that can be compared."""
    requests: Sequence[Mapping[str, Any]]
    billed: Mapping[str, int] = field(default_factory=dict)
    """Usage as the client counted it; empty if it does not say."""
    own: Sequence[str] = ()
    """Strings that only this run has (its directories), left out of the comparison."""

    @property
    def turns(self) -> list[Mapping[str, Any]]:
        """The requests to ``/v1/messages``."""
        return [one for one in self.requests if one["path"].partition("?")[0] == "/v1/messages"]

    def tokens(self, name: str) -> int:
        """The sum of one field of the usage that the strict Claude reported."""
        return sum(row["usage"].get(name) or 0 for row in self.requests)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs of one scenario. ``differences`` is empty if the sidecar changed nothing but by injecting."""

    differences: list[str]
    injected: list[str]
    """The texts that were added on the way, in order, each as often as it was sent."""

    def assert_same(self, *facts: str) -> None:
        """Fail with every difference in full, and for each of ``facts`` that was not injected."""
        missing = [f"{fact!r} was not injected" for fact in facts if not any(fact in text for text in self.injected)]
        problems = [*self.differences, *missing]
        assert not problems, "through the sidecar it was not the same:\n" + "\n".join(problems)


def compare(direct: Run, through: Run) -> Comparison:
    """What the sidecar changed. Raises nothing: every difference is listed, so that one run shows them all."""
    differences = [*_outcome(direct, through)]
    injected: list[str] = []
    for name, (one, other) in _pairs(direct, through).items():
        if len(one) != len(other):
            differences.append(f"{name}: {len(one)} requests directly, {len(other)} through the sidecar")
        for number, (plain, passed) in enumerate(zip(one, other, strict=False), 1):
            found, added = _request(plain, passed, direct, through)
            differences += [f"{name}, request {number}: {text}" for text in found]
            injected += added
    return Comparison(differences, injected)


def _outcome(direct: Run, through: Run) -> Iterator[str]:
    one, other = _normal(direct.seen, direct), _normal(through.seen, through)
    if one != other:
        yield f"the client saw something else: {_first_difference(json.dumps(one), json.dumps(other))}"
    for request in (*direct.turns, *through.turns):
        if request["diagnosis"]:
            yield f"thinking mismatch in request {request['number']}: {request['diagnosis']}"
    known = {(row["rule"], row["path"]) for row in direct.requests if row["verdict"] == "refused"}
    for row in through.requests:
        if row["verdict"] == "refused" and (row["rule"], row["path"]) not in known:
            yield f"refused only through the sidecar: {row['path']} {row['rule']}: {row['message']}"
    paths = [Counter((row["method"], row["path"]) for row in run.requests) for run in (direct, through)]
    if paths[0] != paths[1]:
        yield f"requests directly {dict(paths[0])}, through the sidecar {dict(paths[1])}"
    read = [run.tokens("cache_read_input_tokens") for run in (direct, through)]
    if read[1] < CACHE_SHARE * read[0]:
        yield f"cache-read tokens {read[0]} directly, {read[1]} through the sidecar"
    # What was injected costs tokens, and the client is told so.
    reported = {name: through.tokens(name) for name in through.billed}
    if reported != through.billed:
        yield f"through the sidecar Claude reported {reported}, and the client was told {through.billed}"


def _pairs(direct: Run, through: Run) -> dict[str, tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]]:
    """The two runs' requests by conversation. An agent's id is new in each run, so its first question names it."""
    found: dict[str, tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]] = defaultdict(lambda: ([], []))
    for index, run in enumerate((direct, through)):
        names: dict[str, str] = {}
        for row in run.turns:
            question = f"{row['agent'] and 'agent'} {_normal(_last_texts(row), run)[:300]}"
            names.setdefault(row["agent"], question if row["agent"] else "root")
            found[names[row["agent"]]][index].append(row)
    return found


def _last_texts(row: Mapping[str, Any]) -> str:
    users = [message for message in _messages(row) if message["role"] == "user"]
    return _REMINDER.sub("", " ".join(block.get("text", "") for block in _blocks(users[0]))) if users else ""


def _request(
    plain: Mapping[str, Any], passed: Mapping[str, Any], direct: Run, through: Run
) -> tuple[list[str], list[str]]:
    """The differences between a request and its counterpart, and the texts added to it."""
    differences = []
    headers = [
        {k: v for k, v in _normal(row["headers"], run).items() if k not in HOP_HEADERS}
        for row, run in ((plain, direct), (passed, through))
    ]
    if headers[0] != headers[1]:
        changed = {k: (headers[0].get(k), headers[1].get(k)) for k in {*headers[0], *headers[1]}}
        differences.append(f"headers differ: { {k: v for k, v in changed.items() if v[0] != v[1]} }")
    bodies = [_normal(row["parsed"] or {}, run) for row, run in ((plain, direct), (passed, through))]
    rests = [json.dumps({k: v for k, v in body.items() if k != "messages"}) for body in bodies]
    if rests[0] != rests[1]:
        differences.append(f"the body besides messages differs: {_first_difference(*rests)}")
    added: list[str] = []
    for index, (one, other) in enumerate(zip_longest(*(body.get("messages", []) for body in bodies))):
        if one is None or other is None:
            differences.append(f"message {index} is missing {'through the sidecar' if one else 'directly'}")
            continue
        ours, theirs = _blocks(one), _blocks(other)
        kept, extra = _apart(ours, theirs)
        if one["role"] != other["role"] or json.dumps(ours) != json.dumps(kept):
            differences.append(f"message {index} differs: {_first_difference(json.dumps(ours), json.dumps(theirs))}")
        elif extra and (one["role"] != "user" or any(set(block) != {"type", "text"} for block in extra)):
            differences.append(f"message {index} ({one['role']}) has more than text added: {_short(extra)}")
        added += [block["text"] for block in extra if block.get("type") == "text"]
    return differences, added


def _apart(ours: Sequence[Any], theirs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Their blocks parted into those that are also ours, in our order, and those added between and behind them."""
    kept: list[Any] = []
    added: list[Any] = []
    for block in theirs:
        is_ours = len(kept) < len(ours) and json.dumps(block) == json.dumps(ours[len(kept)])
        (kept if is_ours else added).append(block)
    return kept, added


def _messages(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = (row["parsed"] or {}).get("messages")
    return found if isinstance(found, list) else []


def _blocks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The content as blocks. Results of tools that ran side by side come as they end, so they are put in order."""
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    results = [block for block in blocks if block["type"] == "tool_result"]
    if len(results) < 2:
        return blocks
    # The cache breakpoint stays at its place: it is on the last one, whichever that is.
    marks = [block.get("cache_control") for block in blocks]
    plain = [{key: value for key, value in block.items() if key != "cache_control"} for block in blocks]
    ordered = iter(sorted((block for block in plain if block["type"] == "tool_result"), key=json.dumps))
    placed = [next(ordered) if block["type"] == "tool_result" else block for block in plain]
    return [block | ({"cache_control": mark} if mark else {}) for block, mark in zip(placed, marks, strict=True)]


def _normal(value: Any, run: Run) -> Any:
    """The value without what differs between any two runs."""
    if isinstance(value, str):
        for text in run.own:
            value = value.replace(text, "(own)")
        for agent in {row["agent"] for row in run.requests} - {""}:
            value = value.replace(agent, "(agent)")
        return _MEASURED.sub(r"\1: (measured)", _IDS.sub("(id)", value))
    if isinstance(value, Mapping):
        return {key: "(bytes)" if key in ("signature", "data") else _normal(one, run) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(one, run) for one in value]
    return value


def _first_difference(one: str, other: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"directly …{one[max(0, at - 80) : at + 120]!r}, through the sidecar …{other[max(0, at - 80) : at + 120]!r}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) < 1500 else f"{text[:1500]}…"
