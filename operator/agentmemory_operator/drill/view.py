"""A session as a region's sidecar shows it: from ``agentmemory session show ID -o json``."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agentmemory_operator.drill.conversation import MARK, NOTES
from agentmemory_operator.drill.ledger import View

SHOW = ("agentmemory", "session", "show", "-o", "json")
"""To be run in the sidecar's container, with the session behind it."""


def view(region: str, session: str, shown: str) -> View:
    """Raises ValueError for what is no such text."""
    found = json.loads(shown)
    state = found["state"]
    notes = _at(state, NOTES)
    mark = _at(state, MARK)
    pointer = "/" + "/".join(MARK)
    kept = [
        side["value"]
        for conversation in found["conversations"]
        for conflict in conversation["conflicts"]
        if conflict.get("pointer") == pointer
        for side in (conflict["stands"], conflict["other"])
    ]
    marks = dict.fromkeys(each for each in (mark, *kept, *_clashed(found, pointer)) if isinstance(each, str))
    own = {**state, "metadata": {**state.get("metadata", {}), "region": ""}}
    return View(
        region, session, tuple(map(str, notes if isinstance(notes, list) else ())), tuple(marks),
        json.dumps(own, ensure_ascii=False),
    )  # fmt: skip


def _at(state: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        state = state.get(name) if isinstance(state, dict) else None
    return state


def _clashed(found: Mapping[str, Any], pointer: str) -> Iterator[Any]:
    """Conflicts between one region's own writers."""
    for conversation in found["conversations"]:
        for conflict in conversation["conflicts"]:
            operations = conflict.get("operations")
            for clash in operations.get("clashes", ()) if isinstance(operations, dict) else ():
                if clash["pointer"] == pointer:
                    yield clash.get("theirs")
                    yield clash["ours"].get("value")
