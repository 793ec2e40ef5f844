"""Why a prompt held what it held, from the records of its conversation."""

from collections.abc import Sequence
from typing import Any

import msgspec

from agentmemory_sidecar.archive.reader import Record
from agentmemory_sidecar.archive.record import Payload
from agentmemory_sidecar.memory.together import origin

LAST = "last"
_FACT = ("pointer", "tokens", "score", "reason")
_MANY = "whose"


class NoSuchTurn(Exception):
    """No record of this conversation is of that turn, or it cannot be read. The text says which and what to do."""


def explained(records: Sequence[Record], turn: str) -> dict[str, Any]:
    """What the prompt of a turn was given, what stayed out and why.

    ``turn`` is a number as ``session history`` shows it, the id of a turn or a step, or ``last``. What is put in, is put in
    with a turn's first step; for a later one that step is told of. Raises NoSuchTurn.
    """
    found = [record for record in records if record.header.kind == "step" and _is(record, turn)]
    if turn == LAST:
        found = [record for record in records if record.header.kind == "step"]
    if not found:
        raise NoSuchTurn(f"no step {turn} is on record: see agentmemory session history")
    asked = found[-1]
    if asked.payload is None:
        raise NoSuchTurn(f"the record of step {turn} cannot be read: its person was erased")
    payload, first = asked.payload, _first(records, asked)
    given = first.payload.injected if first.payload else {}
    receipt = payload.injected.get("receipt", {})
    return {
        "session": asked.header.session,
        "agent": asked.header.agent,
        "turn": asked.header.turn,
        "turn_id": payload.turn_id,
        "step": payload.step,
        "at": asked.header.at,
        "question": _question(first.payload),
        "filter": given.get("receipt", {}).get("filter", ""),
        "fallback": given.get("receipt", {}).get("filter-fallback", ""),
        "flags": receipt.get("flags", ""),
        "tokens": {
            "state": _number(receipt, "state-tokens"),
            "injected": _number(receipt, "injected-tokens"),
            "replayed": _number(receipt, "replayed-tokens"),
        },
        "put_in_with_step": first.payload.step if first.payload else "",
        "in": [_fact(fact, given) for fact in given.get("in", ())],
        "out": [_fact(fact, given) for fact in given.get("out", ())],
        "text": "\n".join(_text(text) for text in given.get("texts", ())),
    }


def _fact(fact: Sequence[Any], given: dict[str, Any]) -> dict[str, Any]:
    """A fact; where the state has several owners, with the one it is of."""
    told = dict(zip(_FACT, fact, strict=False))
    return told | ({"of": origin(str(told["pointer"]), given[_MANY])} if _MANY in given else {})


def _is(record: Record, turn: str) -> bool:
    payload = record.payload
    return str(record.header.turn) == turn or (payload is not None and turn in (payload.turn_id, payload.step))


def _first(records: Sequence[Record], asked: Record) -> Record:
    """The step of the same turn in which the filter was asked; the one that was asked about where there is none."""
    assert asked.payload is not None
    of_turn = (
        record
        for record in records
        if record.payload is not None
        and record.header.kind == "step"
        and record.payload.turn_id == asked.payload.turn_id
        and record.header.seq <= asked.header.seq
        and "in" in record.payload.injected
    )
    return next(of_turn, asked)


def _question(payload: Payload | None) -> str:
    """The text of the last user message."""
    for message in reversed(payload.messages if payload else []):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            parts = [block for block in content or () if isinstance(block, dict) and block.get("type") == "text"]
            return "\n".join(str(part.get("text", "")) for part in parts)
    return ""


def _text(text: str) -> str:
    """What was put in, as Claude reads it: an entry is kept as the JSON of its block, history as JSON messages."""
    try:
        block = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return str(block["text"]) if isinstance(block, dict) and "text" in block else text


def _number(receipt: dict[str, Any], name: str) -> int:
    value = str(receipt.get(name, ""))
    return int(value) if value.isdigit() else 0
