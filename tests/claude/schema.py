"""The shape of a request, judged by the ``anthropic`` package's own types."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_type_hints

import pydantic
from anthropic.types.beta import message_count_tokens_params, message_create_params
from anthropic.types.beta.beta_content_block_param import BetaContentBlockParam
from anthropic.types.beta.beta_text_block_param import BetaTextBlockParam
from anthropic.types.beta.beta_tool_param import BetaToolParam

from tests.claude import structured
from tests.claude.errors import bad
from tests.claude.prompt import blocks_of

_OLD = "2023-06-01"
_SAMPLING = ("temperature", "top_p", "top_k")
_TAKEN_TOO = frozenset({"tags", "safeguards", "anthropic_internal"})
"""Fields that Claude Code knows and the package does not."""

_NEEDS_BETA = {
    "context_management": ("context-management-2025-06-27", "compact-2026-01-12"),
    "compaction": ("compact-2026-09-04",),
    "mcp_servers": ("mcp-client-2025-04-04", "mcp-client-2025-11-20", "mcp-client-2026-09-15"),
    "fallbacks": ("server-side-fallback-2026-06-01", "server-side-fallback-2026-07-01"),
    "fallback_credit_token": ("fallback-credit-2026-06-01", "fallback-credit-2026-07-01"),
    "billing_policy": ("user-profiles-billing-2026-10-01",),
    "thread": ("message-threads-2026-08-12",),
    "output_format": ("structured-outputs-2025-11-13",),
}
"""Body fields that exist only with one of these betas."""

_MESSAGE_KEYS = {
    "user": {"role", "content"},
    "assistant": {"role", "content"},
    "system": {"role", "content", "clear_at", "output_config"},
}


@cache
def _adapters() -> dict[str, pydantic.TypeAdapter[Any]]:
    return {
        "stream": pydantic.TypeAdapter(message_create_params.MessageCreateParamsStreaming),
        "json": pydantic.TypeAdapter(message_create_params.MessageCreateParamsNonStreaming),
        "count": pydantic.TypeAdapter(message_count_tokens_params.MessageCountTokensParams),
    }


@cache
def _fields(kind: str) -> frozenset[str]:
    """Body fields, without those that are headers."""
    params: Any = {
        "stream": message_create_params.MessageCreateParamsStreaming,
        "json": message_create_params.MessageCreateParamsNonStreaming,
        "count": message_count_tokens_params.MessageCountTokensParams,
    }[kind]
    return frozenset(params.__annotations__) - {"betas", "user_profile_id", "workspace_id"}


@cache
def _tags() -> dict[str, dict[str, frozenset[str]]]:
    """Block type -> name of the type that describes it -> its keys."""
    tags: dict[str, dict[str, frozenset[str]]] = {}
    for member in _flat(BetaContentBlockParam):
        hints = _hints(member)
        for tag in _literals(hints.get("type")):
            tags.setdefault(tag, {})[member.__name__] = frozenset(hints)
    return tags


def _hints(member: Any) -> dict[str, Any]:
    if issubclass(member, pydantic.BaseModel):
        return {name: field.annotation for name, field in member.model_fields.items()}
    return get_type_hints(member)


def _flat(union: Any) -> Iterator[Any]:
    args = get_args(union)
    if not args:
        yield union
    elif hasattr(union, "__metadata__"):
        yield from _flat(args[0])
    else:
        for arg in args:
            yield from _flat(arg)


def _literals(hint: Any) -> list[str]:
    if hint is None:
        return []
    found = []
    for arg in get_args(hint):
        found += [arg] if isinstance(arg, str) else _literals(arg)
    return found


def check(params: dict[str, Any], betas: frozenset[str], version: str, *, counting: bool) -> None:
    """Raise the API's 400 for the first thing in a body that has the wrong shape."""
    kind = "count" if counting else "stream" if params.get("stream") is True else "json"
    for name in params:
        _known(name, kind, betas, version)
    if not counting:
        _sampling(params)
    _messages(params.get("messages"))
    _system_and_tools(params)
    try:
        _walk(_adapters()[kind].validate_python(params, strict=True), ())
    except pydantic.ValidationError as error:
        raise bad(_explained(error, (), params), rule="schema") from None
    except _At as found:
        raise bad(_explained(found.error, found.path, params), rule="schema") from None
    structured.check(params)


def _known(name: str, kind: str, betas: frozenset[str], version: str) -> None:
    if name in _SAMPLING and kind != "count":
        if version <= _OLD:
            return
        raise bad(f"{name}: Extra inputs are not permitted", rule="sampling_parameter")
    needed = _NEEDS_BETA.get(name)
    if needed and not betas.intersection(needed):
        raise bad(f"{name}: Extra inputs are not permitted", rule="beta_field")
    if not needed and name not in _fields(kind) and name not in _TAKEN_TOO:
        raise bad(f"{name}: Extra inputs are not permitted", rule="unknown_field")


def _sampling(params: dict[str, Any]) -> None:
    for name, low, high in (("temperature", 0, 1), ("top_p", 0, 1), ("top_k", 0, 10**9)):
        value = params.get(name, low)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise bad(f"{name}: Input should be a valid number", rule="schema")
        if value is not None and not low <= value <= high:
            raise bad(f"{name}: range: {low}..{high}", rule="schema")


def _messages(messages: Any) -> None:
    """Keys of messages and blocks, which the package's types leave open."""
    if not isinstance(messages, list):
        raise bad(
            "messages: " + ("Field required" if messages is None else "Input should be a valid array"), rule="schema"
        )
    for n, message in enumerate(messages):
        at = f"messages.{n}"
        if not isinstance(message, dict):
            raise bad(f"{at}: Input should be a valid dictionary", rule="schema")
        role = message.get("role")
        if role not in _MESSAGE_KEYS:
            raise bad(f"{at}.role: Input should be 'user', 'assistant' or 'system'", rule="schema")
        _only(at, message, _MESSAGE_KEYS[role])
        if role != "system" and "content" not in message:
            raise bad(f"{at}.content: Field required", rule="schema")
        for m, block in enumerate(blocks_of(message.get("content"))):
            _block(f"{at}.content.{m}", block)


def _system_and_tools(params: dict[str, Any]) -> None:
    """Keys of system blocks and client tools. Server tools are left to the package's types."""
    for n, block in enumerate(params["system"] if isinstance(params.get("system"), list) else []):
        if isinstance(block, dict):
            _only(f"system.{n}", block, frozenset(BetaTextBlockParam.__annotations__))
    for n, tool in enumerate(params["tools"] if isinstance(params.get("tools"), list) else []):
        if isinstance(tool, dict) and tool.get("type", "custom") in ("custom", None):
            _only(f"tools.{n}.custom", tool, frozenset(BetaToolParam.__annotations__))
            if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", str(tool.get("name", "x"))):
                raise bad(
                    f"tools.{n}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'", rule="schema"
                )


def _block(at: str, block: Any) -> None:
    if not isinstance(block, dict):
        raise bad(f"{at}: Input should be a valid dictionary", rule="schema")
    tag = block.get("type")
    if tag is None:
        raise bad(f"{at}.type: Field required", rule="schema")
    if tag not in _tags():
        known = ", ".join(f"'{one}'" for one in sorted(_tags()))
        raise bad(
            f"{at}: Input tag '{tag}' found using 'type' does not match any of the expected tags: {known}",
            rule="schema",
        )
    _only(f"{at}.{tag}", block, frozenset[str]().union(*_tags()[tag].values()))
    if tag == "tool_result":
        for k, part in enumerate(blocks_of(block.get("content"))):
            if isinstance(part, dict) and part.get("type") in ("text", "image"):
                _block(f"{at}.{tag}.content.{k}", part)


def _only(at: str, value: dict[str, Any], keys: set[str] | frozenset[str]) -> None:
    for name in value:
        if name not in keys:
            raise bad(f"{at}.{name}: Extra inputs are not permitted", rule="unknown_field")


class _At(Exception):
    """A validation error, with the path of the lazily validated part in which it came up."""

    def __init__(self, error: pydantic.ValidationError, path: tuple[str | int, ...]) -> None:
        super().__init__(str(path))
        self.error = error
        self.path = path


def _walk(value: Any, path: tuple[str | int, ...]) -> None:
    """Visit everything validated, so that iterables, which the package's types validate lazily, are validated too."""
    if isinstance(value, dict):
        for key, item in value.items():
            _walk(item, (*path, key))
    elif isinstance(value, str | bytes | int | float | bool | None | pydantic.BaseModel):
        return
    else:
        items = enumerate(value)
        while True:
            try:
                n, item = next(items)
            except StopIteration:
                return
            except pydantic.ValidationError as error:
                raise _At(error, path) from None
            _walk(item, (*path, n))


def _explained(error: pydantic.ValidationError, path: tuple[str | int, ...], params: Any) -> str:
    """``messages.0.content.1.text.text: Field required``: the branch of the union that the block's tag points to."""
    lines = error.errors(include_url=False, include_context=False, include_input=False)
    value: Any = params
    for part in (*path, *lines[0]["loc"][:1]):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            break
    names: set[str] = set()
    tag = value.get("type") if isinstance(value, dict) else None
    if isinstance(tag, str):
        names = set(_tags().get(tag, ()))
    chosen = next((line for line in lines if names.intersection(map(str, line["loc"]))), lines[0])
    loc = [str(part) for part in (*path, *chosen["loc"]) if not re.match(r"Beta[A-Z]|.*[\[\]]", str(part))]
    if tag and loc and names:
        loc.insert(len(path) + 1, str(tag))
    return f"{'.'.join(loc)}: {chosen['msg']}"
