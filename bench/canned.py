"""What the canned upstream answers: known to the load generator too, which checks every reply against it.

Two answers, each with an id of its own: a text (``end_turn``) and a to-do list (``tool_use``), both as one JSON message
or as the same number of stream events.
"""

import json
from collections.abc import Sequence
from typing import Any

MODEL = "claude-sonnet-4-5"
DELTAS = 40
"""Deltas in each stream; with the events of block and message and a ping a stream has ``DELTAS + 6`` events."""
PACE = 0.005
"""Seconds between two events of a paced stream."""

OUTPUT_TOKENS = 160

PACED = b"[bench:paced]"
"""In the system prompt: stream with :data:`PACE` between events."""
PLAN = b"[bench:plan]"
"""In the first user message of a session: answer with the to-do list."""
PLANNED = b"[bench:planned]"
"""In the tool result that follows: from here on answer with text."""

AREAS = ("billing", "search", "login", "export", "webhook", "cache", "invoice", "report", "upload", "audit")
TASKS = ("write a failing test for the {}", "fix the {} time-out", "measure the {} path again", "document the {} flags")
TODOS: Sequence[dict[str, str]] = tuple(
    {"content": task.format(area), "status": "pending", "activeForm": "Working on the " + area}
    for task in TASKS
    for area in AREAS
)
"""The to-do list that becomes the session's state: 40 tasks, more than the benchmark's filter budget lets through."""

_WORDS = "the change is in place and its test passes; next comes the slow query of the report page, which reads twice"
_PIECES = tuple(f" {word} ({n:02d})" for n, word in enumerate(f"{_WORDS} {_WORDS}".split()[: DELTAS - 1]))
_USAGE = {"input_tokens": 5210, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
_ID = "msg_bench_0000000000"
_ID_BYTES = _ID.encode()


def message_id(number: int) -> str:
    """The id of the ``number``-th reply; all ids are equally long."""
    return f"msg_bench_{number:010d}"


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def content(identifier: str, *, plan: bool) -> list[dict[str, Any]]:
    """The content blocks of the reply with this id."""
    if plan:
        tool = "toolu_" + identifier[4:]
        return [{"type": "tool_use", "id": tool, "name": "TodoWrite", "input": {"todos": list(TODOS)}}]
    return [{"type": "text", "text": identifier + "".join(_PIECES)}]


def stop_reason(*, plan: bool) -> str:
    """Why the reply ends."""
    return "tool_use" if plan else "end_turn"


def _message(blocks: list[dict[str, Any]], reason: str | None, output_tokens: int) -> dict[str, Any]:
    usage = _USAGE | {"output_tokens": output_tokens}
    head = {"id": _ID, "type": "message", "role": "assistant", "model": MODEL}
    return head | {"content": blocks, "stop_reason": reason, "stop_sequence": None, "usage": usage}


def _frame(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {_dump(event)}\n\n".encode()


def _stream_template(*, plan: bool) -> list[bytes]:
    block = content(_ID, plan=plan)[0]
    if plan:
        whole = _dump(block["input"])
        step = -(-len(whole) // DELTAS)
        pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        start = block | {"input": {}}
    else:
        deltas = [{"type": "text_delta", "text": piece} for piece in (_ID, *_PIECES)]
        start = block | {"text": ""}
    end = {"stop_reason": stop_reason(plan=plan), "stop_sequence": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": _message([], None, 1)},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": _USAGE | {"output_tokens": OUTPUT_TOKENS}},
        {"type": "message_stop"},
    ]
    return [_frame(event) for event in events]


def _json_template(*, plan: bool) -> bytes:
    return _dump(_message(content(_ID, plan=plan), stop_reason(plan=plan), OUTPUT_TOKENS)).encode()


_JSON = {plan: _json_template(plan=plan) for plan in (False, True)}
_STREAM = {plan: _stream_template(plan=plan) for plan in (False, True)}


def as_json(identifier: str, *, plan: bool) -> bytes:
    """The reply as the body of a JSON response."""
    return _JSON[plan].replace(_ID_BYTES[4:], identifier[4:].encode())


def as_frames(identifier: str, *, plan: bool) -> list[bytes]:
    """The reply as server-sent events, one frame each."""
    mark, own = _ID_BYTES[4:], identifier[4:].encode()
    frames = list(_STREAM[plan])
    for at in range(4):  # the id stands in message_start, content_block_start and the first delta alone
        frames[at] = frames[at].replace(mark, own)
    return frames
