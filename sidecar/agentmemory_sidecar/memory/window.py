"""The conversation window: the last whole turns, in words, for a client that comes back without them.

Not the archive: thinking is left out, a picture is one short line, and what the sidecar put in is not in it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from agentmemory_sidecar.memory.fence import is_whole_injection
from agentmemory_sidecar.memory.tokens import estimate

Kind = Literal["user", "assistant", "tool_use", "tool_result"]

_CALL_CHARACTERS = 300
"""How much of a tool call's input a history shows."""
_RESULT_CHARACTERS = 300
"""How much of a tool's result a window keeps: its record in the archive has the whole."""
_SILENT = {"thinking", "redacted_thinking", "compaction", "fallback", "tool_addition", "tool_removal"}


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something said or done. ``text`` is what was said, a call's input as JSON, or a result's text."""

    kind: Kind
    text: str = ""
    name: str = ""
    """The tool's name; for a call and, where the call is known, its result."""
    id: str = ""
    """The call's id."""
    blob: str = ""
    """Key of the blob with the whole text, where ``text`` is only its beginning."""


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """From a user's message to the end of Claude's answer, with the tool calls between."""

    id: str
    number: int
    """Counts the conversation's turns, from 1."""
    lines: tuple[Line, ...] = ()
    done: bool = False


def add_step(
    window: Sequence[Turn],
    messages: Iterable[Any],
    reply: Iterable[Any],
    *,
    starts: bool,
    ends: bool,
    hint: str,
    keep: int,
    injected: Iterable[str] = (),
) -> list[Turn]:
    """The window after a step: its new messages and its reply's content blocks, within the last ``keep`` turns.

    ``starts`` opens a turn with the id ``hint``, ``ends`` closes it. Texts in ``injected``, and all that looks like an
    injection, are left out. The old window is not changed.
    """
    names = {
        line.id: (line.name, None) for turn in window for line in turn.lines if line.kind == "tool_use" and line.id
    }
    own = set(injected)
    lines: list[Line] = []
    for message in messages:
        if isinstance(message, dict):
            role = message.get("role")
            if role in ("user", "assistant"):
                lines += _lines(role, message.get("content"), names, own)
    lines += _lines("assistant", list(reply), names, own)
    turns = list(window)
    if starts or not turns or turns[-1].done:
        number = turns[-1].number + 1 if turns else 1
        turns.append(Turn(hint, number, _kept(lines, ends=ends), ends))
    else:
        last = turns[-1]
        turns[-1] = Turn(last.id, last.number, _kept([*last.lines, *lines], ends=ends), ends)
    return turns[-keep:]


def _kept(lines: list[Line], *, ends: bool) -> tuple[Line, ...]:
    """A finished turn's lines: a result needs its call's input only while the turn goes on."""
    if not ends:
        return tuple(lines)
    return tuple(
        [
            msgspec.structs.replace(line, text=line.text[:_CALL_CHARACTERS] + "…")
            if line.kind == "tool_use" and len(line.text) > _CALL_CHARACTERS
            else line
            for line in lines
        ]
    )


def called(window: Iterable[Turn]) -> dict[str, tuple[str, Any]]:
    """Names and inputs of the window's tool calls by id. An input that was shortened is None."""
    found = {}
    for turn in window:
        for line in turn.lines:
            if line.kind == "tool_use" and line.id:
                found[line.id] = (line.name, None if line.blob else _json(line.text))
    return found


def shortened(turn: Turn, threshold: int, store: Callable[[str], str]) -> Turn:
    """The turn with each text over ``threshold`` (bytes of UTF-8) cut to its beginning, the whole kept by ``store``, which
    returns the blob's key."""
    if sum([len(line.text) for line in turn.lines]) * 4 <= threshold:
        return turn  # no text can be longer, in whatever alphabet
    if all(line.blob or _size(line.text) <= threshold for line in turn.lines):
        return turn
    lines = tuple(
        line
        if line.blob or _size(line.text) <= threshold
        else msgspec.structs.replace(line, text=line.text[: _beginning(threshold)] + "…", blob=store(line.text))
        for line in turn.lines
    )
    return msgspec.structs.replace(turn, lines=lines)


def as_history(turns: Iterable[Turn], max_tokens: int) -> list[dict[str, str]]:
    """Finished turns as messages for a client that has none of them: text only, user and assistant in turn.

    Begins with a user's message and ends with an assistant's; a tool call is one line, thinking and results are not told
    (a failed or cut turn neither). The newest turns that fit into ``max_tokens`` are kept, without a gap.
    """
    told: list[dict[str, str]] = []
    left = max_tokens
    for turn in reversed([turn for turn in turns if turn.done]):
        pair = _told(turn)
        if pair is None:
            continue
        cost = sum(estimate(message["content"]) for message in pair)
        if cost > left:
            break
        left -= cost
        told = pair + told
    return told


def _told(turn: Turn) -> list[dict[str, str]] | None:
    """The turn as one pair of messages; None where one side said nothing."""
    said = "\n\n".join(line.text for line in turn.lines if line.kind == "user")
    answered = "\n\n".join(_answer(line) for line in turn.lines if line.kind in ("assistant", "tool_use"))
    if not said.strip() or not answered.strip():
        return None
    return [{"role": "user", "content": said}, {"role": "assistant", "content": answered.rstrip()}]


def _answer(line: Line) -> str:
    return f"[called {line.name}: {_cut(line.text, _CALL_CHARACTERS)}]" if line.kind == "tool_use" else line.text


def _lines(
    role: Literal["user", "assistant"], content: Any, names: dict[str, tuple[str, Any]], own: set[str]
) -> list[Line]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    lines = []
    for block in content if isinstance(content, list) else ():
        line = _line(role, block, names) if isinstance(block, dict) else None
        if line is not None and line.text not in own and not (line.kind == "user" and is_whole_injection(line.text)):
            lines.append(line)
    return lines


def _line(
    role: Literal["user", "assistant"], block: Mapping[str, Any], names: dict[str, tuple[str, Any]]
) -> Line | None:
    """One content block in words; None for what is not told."""
    kind = block.get("type")
    if kind in _SILENT:
        return None
    if kind == "text":
        text = block.get("text")
        return Line(role, text) if isinstance(text, str) and text.strip() else None
    if kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        name, use = str(block.get("name", "")), str(block.get("id", ""))
        names[use] = (name, block.get("input"))
        return Line("tool_use", _dumped(block.get("input")), name, use)
    if isinstance(kind, str) and kind.endswith("tool_result"):
        use = str(block.get("tool_use_id", ""))
        text = _content_text(block.get("content"))
        name = names.get(use, ("", None))[0]
        if len(text) > _RESULT_CHARACTERS:
            text = text[:_RESULT_CHARACTERS] + "…"
        return Line("tool_result", f"[error] {text}" if block.get("is_error") is True else text, name, use)
    return Line(role, _named(kind, block))


def _named(kind: Any, block: Mapping[str, Any]) -> str:
    """What a block that is no text is called: ``[image image/png]``."""
    source = block.get("source")
    media = source.get("media_type") if isinstance(source, Mapping) else None
    title = block.get("title") or block.get("name")
    told = [str(kind or "block")[:64], *(str(part)[:120] for part in (media, title) if isinstance(part, str))]
    return f"[{' '.join(told)}]"


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return _named(content.get("type"), content)
    parts = []
    for block in content if isinstance(content, list) else ():
        if isinstance(block, Mapping):
            text = block.get("text") if block.get("type") == "text" else None
            parts.append(text if isinstance(text, str) else _named(block.get("type"), block))
    return "\n".join(parts)


def _dumped(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _beginning(threshold: int) -> int:
    """Characters that stay of a long text: few enough to be small in any alphabet, enough to know what it was."""
    return max(1, min(240, threshold // 4))


def _cut(text: str, characters: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1] + "…"
