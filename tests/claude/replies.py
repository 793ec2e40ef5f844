"""What the stand-in answers: from a script, from directives in the question, or from what it was told."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tests.claude import faults
from tests.claude.answer import answer
from tests.claude.errors import bad, new_id
from tests.claude.faults import Fault
from tests.claude.prompt import Block, Prompt, asked, blocks_of, step, texts_of
from tests.claude.structured import conforms, schema_of, smallest

_decoder = msgspec.json.Decoder()
_DIRECTIVE = re.compile(r"\[\[(tool|think|redacted|say|long|answer|stop|fault|then)\b:?\s*")


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which requests a scripted reply is for. Empty fields match all."""

    session: str = ""
    """Value of ``X-Agent-Session`` or ``X-Claude-Code-Session-Id``."""
    agent: str = ""
    """Value of ``X-Claude-Code-Agent-Id``; ``root`` for a request without it."""
    text: str = ""
    """Found in the text of the last message."""
    headers: dict[str, str] = {}
    """Exact values by lower-case name."""

    def fits(self, headers: Mapping[str, str], session: str, agent: str, text: str) -> bool:
        return (
            self.session in ("", session)
            and self.agent in ("", agent or "root")
            and self.text in text
            and all(headers.get(name.lower()) == value for name, value in self.headers.items())
        )


class Reply(msgspec.Struct, forbid_unknown_fields=True):
    """One scripted reply.

    ``blocks`` are content blocks as the API has them; ids and signatures are filled in where they are missing
    (``{"type": "thinking", "thinking": "…"}``, ``{"type": "tool_use", "name": …, "input": …}``). A string stands for
    one text block. No blocks: the default answer.
    """

    blocks: str | list[str | dict[str, Any]] | None = None
    think: bool | str | None = None
    """Put a thinking block first (True: the standard text; False: none, even where the request enables thinking)."""
    stop_reason: str | None = None
    """None: ``tool_use`` if there is a tool_use block, else ``end_turn``."""
    stop_sequence: str | None = None
    fault: Fault | str | None = None
    match: Match = msgspec.field(default_factory=Match)
    times: int = 1
    """How many requests it answers; 0 is all."""
    pace_ms: float | None = None
    first_byte_ms: float | None = None
    chunk_bytes: int | None = None
    pings: int = 0
    """Pings between the content's events, besides the one after ``message_start``."""
    extra_events: list[dict[str, Any]] = []
    """Further SSE events (unknown types, say) put after the ping; each needs a ``type``."""
    headers: dict[str, str] = {}
    off_schema: bool = False
    """Let an answer be what the schema that the request asks for does not allow. (The API never does.)"""
    compress: bool = False
    """Compress the reply if the client says it accepts that."""

    def __post_init__(self) -> None:
        if isinstance(self.fault, str):
            self.fault = faults.parse(self.fault)
        for block in self.blocks if isinstance(self.blocks, list) else []:
            if isinstance(block, dict) and not isinstance(block.get("type"), str):
                raise ValueError(f"a scripted block needs a type: {sorted(block)}")
            if isinstance(block, dict) and block["type"] == "tool_use" and not block.get("name"):
                raise ValueError("a scripted tool_use needs a name")


def replies_from(value: Any) -> list[Reply]:
    """Replies from what a test or ``POST /__claude/script`` gives: one or a list of replies, dicts or strings."""
    items = value.get("replies", [value]) if isinstance(value, dict) else value
    if isinstance(items, str | Reply):
        items = [items]
    return [_one(item) for item in items]


def _one(item: Any) -> Reply:
    if isinstance(item, Reply):
        return item
    return Reply(blocks=item) if isinstance(item, str) else msgspec.convert(item, Reply)


class Script:
    """Replies waiting for the requests they match."""

    def __init__(self) -> None:
        self.waiting: list[Reply] = []

    def add(self, replies: Iterable[Reply]) -> None:
        self.waiting.extend(replies)

    def take(self, headers: Mapping[str, str], session: str, agent: str, prompt: Prompt) -> Reply | None:
        """The first that matches; used up after its ``times``."""
        text = "\n".join(texts_of(prompt.messages[-1]["content"]))
        for index, reply in enumerate(self.waiting):
            if reply.match.fits(headers, session, agent, text):
                if reply.times == 1:
                    del self.waiting[index]
                elif reply.times > 1:
                    self.waiting[index] = msgspec.structs.replace(reply, times=reply.times - 1)
                return reply
        return None


def directed(prompt: Prompt) -> Reply | None:
    """The reply that directives in the question ask for, at this step of its turn; None without any.

    ``[[then]]`` parts the steps of a turn. Only the first text block that holds a directive counts: what comes behind
    it may be something a proxy injected, old questions included.
    """
    begin = asked(prompt.messages)
    if begin < 0:
        return None
    for block in blocks_of(prompt.messages[begin]["content"]):
        if block.get("type") == "text" and _DIRECTIVE.search(block["text"]):
            steps = _steps(block["text"])
            number = step(prompt.messages, begin)
            return steps[number] if number < len(steps) else None
    return None


def _steps(text: str) -> list[Reply]:
    """All steps' replies. Raises a 400 that names the directive that could not be read."""
    steps: list[Reply] = [Reply()]
    at = 0
    while found := _DIRECTIVE.search(text, at):
        name, start = found[1], found.end()
        raw, at = _argument(name, text, start)
        if name == "then":
            steps.append(Reply())
        else:
            try:
                _apply(steps[-1], name, raw)
            except ValueError as error:
                raise bad(f"[[{name}: {raw}]]: {error}", rule="directive") from None
    return steps


def _argument(name: str, text: str, start: int) -> tuple[str, int]:
    """A directive's argument and the offset behind its ``]]``; a tool's JSON may hold brackets of its own."""
    search_from = start
    if name == "tool" and (brace := text.find("{", start)) != -1 and brace < text.find("]]", start):
        search_from = _json_end(text, brace)
    end = text.find("]]", search_from)
    if end == -1:
        raise bad(f"[[{name}…: the directive is not closed by ]]", rule="directive")
    return text[start:end].strip(), end + 2


def _json_end(text: str, at: int) -> int:
    depth, quoted, escaped = 0, False, False
    for index in range(at, len(text)):
        char = text[index]
        if quoted:
            quoted, escaped = (char != '"' or escaped), (char == "\\" and not escaped)
        elif char == '"':
            quoted = True
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth == 0:
                return index + 1
    return len(text)


def _apply(reply: Reply, name: str, raw: str) -> None:
    blocks: list[Any] = reply.blocks if isinstance(reply.blocks, list) else []
    match name:
        case "tool":
            tool, _, given = raw.partition(" ")
            try:
                value = _decoder.decode(given or "{}")
            except msgspec.DecodeError as error:
                raise ValueError(f"the tool's input is not JSON: {error}") from None
            blocks.append({"type": "tool_use", "name": tool, "input": value})
        case "think":
            blocks.append({"type": "thinking"} | ({"thinking": raw} if raw else {}))
        case "redacted":
            blocks.append({"type": "redacted_thinking"})
        case "say":
            blocks.append(raw)
        case "long":
            blocks.append(" ".join(f"word{number}" for number in range(int(raw or 200))))
        case "answer":
            blocks.append({"type": "answer"})
        case "stop":
            reply.stop_reason = raw
            return
        case "fault":
            reply.fault = faults.parse(raw)
            return
    reply.blocks = blocks


def content(reply: Reply, prompt: Prompt, thinking_text: str) -> tuple[list[Block], str, str | None]:
    """A reply's content blocks (unsigned), stop reason and stop sequence."""
    given = [reply.blocks] if isinstance(reply.blocks, str) else reply.blocks
    blocks = [_filled(block, prompt, thinking_text) for block in (given or [{"type": "answer"}])]
    wanted = reply.think
    if wanted is None:
        wanted = prompt.thinking.get("type") in ("enabled", "adaptive")
    if wanted and not any("thinking" in block["type"] for block in blocks):
        blocks.insert(0, {"type": "thinking", "thinking": wanted if isinstance(wanted, str) else thinking_text})
    schema = schema_of(prompt.params)
    if schema is not None and reply.stop_reason in (None, "end_turn") and not reply.off_schema:
        conforms(schema, "".join(block["text"] for block in blocks if block["type"] == "text"))
    reason = reply.stop_reason or ("tool_use" if any(b["type"] == "tool_use" for b in blocks) else "end_turn")
    if reply.stop_reason is None and (stop := _stopped(blocks, prompt.params.get("stop_sequences") or [])):
        return blocks, "stop_sequence", stop
    return blocks, reason, reply.stop_sequence


def _stopped(blocks: list[Block], sequences: list[str]) -> str | None:
    """Cut the content at the first stop sequence in it, and say which."""
    for index, block in enumerate(blocks):
        text = block.get("text") or ""
        hits = [(text.index(one), one) for one in sequences if one in text]
        if hits:
            at, sequence = min(hits)
            block["text"] = text[:at]
            del blocks[index + (1 if at else 0) :]
            return sequence
    return None


def _filled(block: str | Block, prompt: Prompt, thinking_text: str) -> Block:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    match block.get("type"):
        case "answer" if (schema := schema_of(prompt.params)) is not None:
            return {"type": "text", "text": msgspec.json.encode(smallest(schema)).decode()}
        case "answer":
            return {"type": "text", "text": answer(prompt)}
        case "tool_use":
            return {"type": "tool_use", "id": new_id("toolu"), "input": {}, **block}
        case "thinking":
            return {"thinking": thinking_text, **block}
    return dict(block)
