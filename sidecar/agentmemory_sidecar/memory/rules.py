"""Rules that turn an agent's tool calls and their results into changes of its state.

A tool's output is written by others: a rule only ever moves it to where the rule says, as data. What does not fit gives
no operation and a reason, never an error.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory import todos
from agentmemory_sidecar.memory.fence import is_injected
from agentmemory_sidecar.memory.state import Operation, Patch, PatchError, State, apply_one, empty

SOURCE = "rules"
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{((?:/(?:[^/~{}]|~[01])*)*)\}")


class RuleLike(Protocol):
    """What a rule says; the resource's own rules have this form."""

    @property
    def tools(self) -> Sequence[str]:
        """Names of the tools, exact."""

    @property
    def when(self) -> str:
        """``Call`` reads the input when the tool is called, ``Result`` the result when it is back."""

    @property
    def source(self) -> str:
        """JSON pointer into that; empty for all of it."""

    @property
    def target(self) -> str:
        """JSON pointer in the state."""

    @property
    def op(self) -> str:
        """``Replace``, ``Append``, ``Merge`` or ``Remove``."""

    @property
    def template(self) -> str:
        """What each element of a list (or a single value) becomes: text with ``{/pointer}``; empty for itself."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule; see ``RuleLike`` for what the fields mean."""

    tools: tuple[str, ...]
    target: str
    when: str = "Call"
    source: str = ""
    op: str = "Replace"
    template: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """The built-in rules for to-do tools, if they are on, and then the resource's own, in order."""

    own: tuple[RuleLike, ...] = ()
    builtin: bool = True


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool's result with the call that it answers."""

    id: str
    name: str
    given: Any
    """The call's input."""
    content: Any
    """A string or a list of blocks, as the API has it."""
    is_error: bool = False

    @property
    def text(self) -> str:
        """The text of the result; other blocks are left out."""
        return text_of(self.content)


class Derived(NamedTuple):
    """The patch, and why uses of tools that rules know gave nothing: (tool, reason)."""

    patch: Patch
    skipped: tuple[tuple[str, str], ...]


def patch_from(patch_id: str, calls: Iterable[Any], results: Iterable[ToolResult], rules: Rules, state: State) -> Patch:
    """The patch of ``derive``."""
    return derive(patch_id, calls, results, rules, state).patch


def derive(patch_id: str, calls: Iterable[Any], results: Iterable[ToolResult], rules: Rules, state: State) -> Derived:
    """What a step's tool use changes. ``results`` came with its request and go first; ``calls`` are the ``tool_use``
    blocks of its finished reply. Each operation sees what those before it did, and all apply to ``state``."""
    work = _Work(state or empty(), [], [])
    for result in results:
        if result.is_error or is_injected(result.text):
            continue
        if rules.builtin and (on_result := todos.ON_RESULT.get(result.name)):
            work.take(result.name, on_result(work.state, result.given, result.text))
        for rule in rules.own:
            if rule.when == "Result" and result.name in rule.tools:
                work.take(result.name, _ruled(rule, _parsed(result.text)))
    for call in calls:
        name, given = (call.get("name"), call.get("input")) if isinstance(call, dict) else (None, None)
        if not isinstance(name, str):
            continue
        if rules.builtin and (on_call := todos.ON_CALL.get(name)):
            work.take(name, on_call(work.state, given))
        for rule in rules.own:
            if rule.when == "Call" and name in rule.tools:
                work.take(name, _ruled(rule, given))
    return Derived(Patch(patch_id, SOURCE, tuple(work.operations)), tuple(work.skipped))


def results_of(
    new: Iterable[Any], messages: Iterable[Any], called: Mapping[str, tuple[str, Any]] | None = None
) -> list[ToolResult]:
    """The tool results in ``new`` messages, with names and inputs of their calls from ``messages``.

    ``called`` names calls that stand in neither (id: name, input): a thread's continuation carries only its results.
    """
    known = dict(called or {})
    for block in _blocks(messages):
        if block.get("type") == "tool_use" and isinstance(block.get("id"), str) and isinstance(block.get("name"), str):
            known[block["id"]] = (block["name"], block.get("input"))
    found = []
    for block in _blocks(new):
        if block.get("type") == "tool_result" and isinstance(use := block.get("tool_use_id"), str) and use in known:
            name, given = known[use]
            found.append(ToolResult(use, name, given, block.get("content"), block.get("is_error") is True))
    return found


def text_of(content: Any) -> str:
    """The text of a message's or a result's content."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text")
    return "\n".join(text for text in texts if isinstance(text, str))


@dataclass(slots=True)
class _Work:
    state: State
    operations: list[Operation]
    skipped: list[tuple[str, str]]

    def take(self, tool: str, read: list[Operation] | str) -> None:
        """All of one rule's operations, or none of them and the reason."""
        if isinstance(read, str):
            self.skipped.append((tool, read))
            return
        state = self.state
        try:
            for operation in read:
                state = apply_one(state, operation)
        except PatchError as error:
            self.skipped.append((tool, str(error)))
        else:
            self.state = state
            self.operations += read


def _blocks(messages: Iterable[Any]) -> Iterable[dict[str, Any]]:
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            yield from (block for block in content if isinstance(block, dict))


def _parsed(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return text


def _ruled(rule: RuleLike, document: Any) -> list[Operation] | str:
    value = ptr.get(document, rule.source)
    if value is ptr.ABSENT:
        return f"nothing at {rule.source}"
    if rule.op == "Remove":
        return [Operation("remove", rule.target)]
    if rule.template:
        value = (
            [_filled(rule.template, one) for one in value] if isinstance(value, list) else _filled(rule.template, value)
        )
    if rule.op == "Append":
        return [Operation("append", rule.target, value if isinstance(value, list) else [value])]
    if rule.op == "Merge":
        return [Operation("merge", rule.target, value)] if isinstance(value, dict) else "no object to merge"
    return [Operation("set", rule.target, value)]


def _filled(template: str, value: Any) -> str:
    def fill(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        found = ptr.get(value, match[1])
        if found is ptr.ABSENT or found is None:
            return ""
        return found if isinstance(found, str) else msgspec.json.encode(found).decode()

    return _PLACEHOLDER.sub(fill, template)
