"""Who may hold which block, and that every tool call has its result, at the right place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.claude.errors import bad
from tests.claude.prompt import Block, Prompt, blocks_of

_ID = re.compile(r"[a-zA-Z0-9_-]+")
_ASSISTANT_ONLY = frozenset({"thinking", "redacted_thinking", "tool_use", "server_tool_use", "mcp_tool_use"})


@dataclass
class _Turn:
    """Consecutive messages of one role, which the API takes as one. Blocks come with (message, block) indexes."""

    role: str
    index: int
    """Of its first message."""
    blocks: list[tuple[int, int, Block]]


def check(prompt: Prompt) -> None:
    """Raise the API's 400 for a block in the wrong place or a call without its result."""
    turns = list(_turns(prompt))
    seen: set[str] = set()
    open_calls: list[str] = []
    for number, turn in enumerate(turns):
        _roles(prompt, turn)
        if turn.role == "user":
            _results(prompt, turn, open_calls)
            open_calls = []
        elif turn.role == "assistant":
            open_calls = _calls(prompt, turn, seen)
            follower = turns[number + 1] if number + 1 < len(turns) else None
            if open_calls and (follower is None or follower.role != "user"):
                raise _unanswered(prompt, turn, open_calls)
            _server_results(prompt, turn)


def _turns(prompt: Prompt) -> Iterator[_Turn]:
    turn: _Turn | None = None
    for n, message in enumerate(prompt.messages):
        if turn is None or turn.role != message["role"]:
            if turn:
                yield turn
            turn = _Turn(message["role"], n, [])
        turn.blocks += [(n, m, block) for m, block in enumerate(blocks_of(message.get("content")))]
    if turn:
        yield turn


def _roles(prompt: Prompt, turn: _Turn) -> None:
    for n, m, block in turn.blocks:
        kind = block["type"]
        if turn.role != "assistant" and kind in _ASSISTANT_ONLY:
            raise bad(
                f"{prompt.at(n)}.content.{m}: `{kind}` blocks can only be in `assistant` messages", rule="block_role"
            )
        if turn.role != "user" and kind == "tool_result":
            raise bad(
                f"{prompt.at(n)}.content.{m}: `tool_result` blocks can only be in `user` messages", rule="block_role"
            )


def _calls(prompt: Prompt, turn: _Turn, seen: set[str]) -> list[str]:
    """Ids of the turn's client tool calls, in order."""
    ids = []
    for n, m, block in turn.blocks:
        if block["type"] != "tool_use":
            continue
        identifier = block["id"]
        if not _ID.fullmatch(identifier):
            raise bad(
                f"{prompt.at(n)}.content.{m}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
                rule="tool_use_id",
            )
        if identifier in seen:
            raise bad(f"{prompt.at(n)}.content.{m}: `tool_use` ids must be unique", rule="tool_use_unique")
        seen.add(identifier)
        ids.append(identifier)
    return ids


def _results(prompt: Prompt, turn: _Turn, calls: list[str]) -> None:
    """The user turn behind these calls: results first, one for each call, none for anything else."""
    answered: set[str] = set()
    leading = True
    for n, m, block in turn.blocks:
        if block["type"] != "tool_result":
            leading = False
            continue
        identifier = block["tool_use_id"]
        if identifier not in calls:
            raise bad(
                f"{prompt.at(n)}.content.{m}: unexpected `tool_use_id` found in `tool_result` blocks: {identifier}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message.",
                rule="tool_result_orphan",
            )
        if identifier in answered:
            raise bad(
                f"{prompt.at(n)}.content.{m}: each tool_use must have a single result. Found multiple `tool_result` "
                f"blocks with id: {identifier}",
                rule="tool_result_twice",
            )
        if not leading:
            raise _unanswered(prompt, turn, [identifier], rule="tool_result_first", back=1)
        answered.add(identifier)
    missing = [identifier for identifier in calls if identifier not in answered]
    if missing:
        raise _unanswered(prompt, turn, missing, back=1)


def _unanswered(
    prompt: Prompt, turn: _Turn, ids: list[str], *, rule: str = "tool_use_unanswered", back: int = 0
) -> Exception:
    return bad(
        f"{prompt.at(turn.index - back)}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
        rule=rule,
    )


def _server_results(prompt: Prompt, turn: _Turn) -> None:
    """A server tool's result stays in the assistant message of its call, behind it."""
    called: set[str] = set()
    for n, m, block in turn.blocks:
        kind = block["type"]
        if kind in ("server_tool_use", "mcp_tool_use"):
            called.add(block["id"])
        elif kind.endswith("_tool_result") and kind != "tool_result" and block["tool_use_id"] not in called:
            raise bad(
                f"{prompt.at(n)}.content.{m}: unexpected `tool_use_id` found in `{kind}` blocks: "
                f"{block['tool_use_id']}. Each `{kind}` block must have a corresponding `server_tool_use` block before "
                "it.",
                rule="server_tool_pair",
            )
