"""What a well-shaped conversation may still get wrong. Each rule is one function; the first broken one answers."""

from typing import Any

from tests.claude import markers, pairing
from tests.claude.errors import bad
from tests.claude.prompt import Block, Message, Prompt, blocks_of

NEW_VERSION = "2026-10-21"
_LIMIT = 100_000
_CLEAR_AT = "mid-conversation-system-clear-at-2026-08-21"
_OUTPUT_CONFIG = ("mid-conversation-output-config-2026-07-01", "per-turn-control-2026-07-01")
"""The package's name of the beta, and Claude Code's."""
_TOOL_CHANGES = ("mid-conversation-tool-changes-2026-07-01", "inline-tools-2026-09-15")
_THINKS = ("thinking", "redacted_thinking")


def check(prompt: Prompt) -> None:
    """Raise the API's 400 for the first rule a prompt breaks."""
    _parameters(prompt)
    _thinking_config(prompt)
    _tools(prompt)
    _beginning(prompt)
    _system_messages(prompt)
    _texts(prompt)
    _version(prompt)
    _ending(prompt)
    pairing.check(prompt)
    _kept_thinking(prompt)
    markers.check(prompt)


def _parameters(prompt: Prompt) -> None:
    params = prompt.params
    limit = params.get("max_tokens", 1)
    if limit < 0:
        raise bad("max_tokens: Input should be greater than or equal to 0", rule="max_tokens")
    if limit > prompt.model.max_tokens:
        raise bad(
            f"max_tokens: {limit} > {prompt.model.max_tokens}, which is the maximum allowed number of output tokens "
            f"for {prompt.model.id}",
            rule="max_tokens",
        )
    if limit == 0 and prompt.stream:
        raise bad("max_tokens: 0 is not supported with `stream`", rule="max_tokens")
    if any(not sequence.strip() for sequence in params.get("stop_sequences") or []):
        raise bad("stop_sequences: each stop sequence must contain non-whitespace", rule="stop_sequences")
    if "task_budget" in (params.get("output_config") or {}) and "task-budgets-2026-03-13" not in prompt.betas:
        raise bad("output_config.task_budget: Extra inputs are not permitted", rule="beta_field")


def _thinking_config(prompt: Prompt) -> None:
    thinking = prompt.thinking
    kind = thinking.get("type")
    if "block_binding" in thinking and "thinking-binding-controls-2026-08-01" not in prompt.betas:
        raise bad(f"thinking.{kind}.block_binding: Extra inputs are not permitted", rule="beta_field")
    if kind != "enabled":
        return
    budget = thinking["budget_tokens"]
    if budget < 1024:
        raise bad(
            "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024", rule="thinking_budget"
        )
    if budget >= prompt.params.get("max_tokens", budget + 1):
        raise bad("`max_tokens` must be greater than `thinking.budget_tokens`.", rule="thinking_budget")
    if (prompt.params.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise bad("Thinking may not be enabled when tool_choice forces tool use.", rule="thinking_tool_choice")


def _tools(prompt: Prompt) -> None:
    names = [tool["name"] for tool in prompt.tools if "name" in tool]
    if len(set(names)) != len(names):
        raise bad("tools: Tool names must be unique.", rule="tool_names")
    choice: dict[str, Any] = prompt.params.get("tool_choice") or {}
    if choice and not prompt.tools and choice["type"] != "none":
        raise bad("tool_choice: may only be specified while providing `tools`", rule="tool_choice")
    if choice.get("type") == "tool" and choice["name"] not in names:
        raise bad(f"Tool '{choice['name']}' not found in provided tools", rule="tool_choice")


def _beginning(prompt: Prompt) -> None:
    if not prompt.messages[prompt.held :]:
        raise bad("messages: at least one message is required", rule="no_messages")
    if len(prompt.messages) > _LIMIT:
        raise bad(f"messages: at most {_LIMIT} messages are allowed", rule="too_many_messages")
    if prompt.messages[0]["role"] != "user":
        raise bad('messages: first message must use the "user" role', rule="first_role")


def _system_messages(prompt: Prompt) -> None:
    for n, message in enumerate(prompt.messages):
        if message["role"] != "system":
            continue
        at = prompt.at(n)
        if not prompt.model.mid_system:
            raise bad(f"{at}: role 'system' is not supported on this model", rule="system_model")
        before = prompt.messages[n - 1]
        if before["role"] != "user" and not _awaits_server(before):
            raise bad(
                f"{at}: a `system` message must follow a `user` message or an `assistant` message that ends in server "
                "tool use",
                rule="system_placement",
            )
        if n + 1 < len(prompt.messages) and prompt.messages[n + 1]["role"] != "assistant":
            raise bad(
                f"{at}: a `system` message must be the last message or be followed by an `assistant` message",
                rule="system_placement",
            )
        _system_message(prompt, at, message)


def _system_message(prompt: Prompt, at: str, message: Message) -> None:
    blocks = blocks_of(message.get("content"))
    for m, block in enumerate(blocks):
        if block["type"] in ("tool_addition", "tool_removal") and prompt.betas.intersection(_TOOL_CHANGES):
            continue
        if block["type"] != "text":
            raise bad(f"{at}.content.{m}: `system` messages may hold only text", rule="system_text_only")
    if message.get("clear_at") is not None:
        if _CLEAR_AT not in prompt.betas:
            raise bad(f"{at}.clear_at: Extra inputs are not permitted", rule="beta_field")
        if any(block.get("cache_control") for block in blocks):
            raise bad(f"{at}: cache_control is not permitted together with `clear_at`", rule="clear_at_marker")
    if message.get("output_config") and not prompt.betas.intersection(_OUTPUT_CONFIG):
        raise bad(f"{at}.output_config: Extra inputs are not permitted", rule="beta_field")
    if not blocks and not message.get("output_config"):
        raise bad(f"{at}: a `system` message needs content or output_config", rule="empty_content")


def _texts(prompt: Prompt) -> None:
    """No empty text block anywhere, and no message of nothing (but an assistant's at the very end)."""
    for m, block in enumerate(prompt.system):
        if not block["text"]:
            raise bad(f"system.{m}: text content blocks must be non-empty", rule="empty_text")
    last = len(prompt.messages) - 1
    for n, message in enumerate(prompt.messages):
        blocks = blocks_of(message.get("content"))
        if message["role"] == "system" and not blocks:
            continue
        if (not blocks or message["content"] == "") and not (n == last and message["role"] == "assistant"):
            raise bad(
                f"{prompt.at(n)}: all messages must have non-empty content except for the optional final assistant "
                "message",
                rule="empty_content",
            )
        texts = [block for block in blocks if block["type"] == "text"]
        inner = [part for block in blocks for part in _inside(block) if part.get("type") == "text"]
        if message["content"] and any(not block["text"] for block in (*texts, *inner)):
            raise bad("messages: text content blocks must be non-empty", rule="empty_text")
        if texts and len(texts) == len(blocks) and message["content"] and not any(b["text"].strip() for b in texts):
            raise bad("messages: text content blocks must contain non-whitespace text", rule="blank_text")


def _inside(block: Block) -> list[Block]:
    """A tool result's own blocks. Its content may be an empty string."""
    content = block.get("content") if block["type"] == "tool_result" else None
    return content if isinstance(content, list) else []


def _version(prompt: Prompt) -> None:
    if prompt.version != NEW_VERSION:
        return
    for n, message in enumerate(prompt.messages):
        for m, block in enumerate(blocks_of(message["content"])):
            if message["role"] == "assistant" and block["type"] == "document":
                raise bad(
                    f"{prompt.at(n)}.content.{m}: `document` blocks are not permitted in `assistant` messages",
                    rule="assistant_document",
                )
            if message["role"] == "user" and block["type"] == "text" and block.get("citations"):
                raise bad(
                    f"{prompt.at(n)}.content.{m}.text.citations: not permitted in `user` messages",
                    rule="user_citations",
                )


def _ending(prompt: Prompt) -> None:
    last = prompt.messages[-1]
    if last["role"] != "assistant" or _awaits_server(last):
        return
    if not prompt.model.prefill:
        raise bad(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
            rule="prefill",
        )
    texts = [block["text"] for block in blocks_of(last["content"]) if block["type"] == "text"]
    if texts and texts[-1] != texts[-1].rstrip():
        raise bad("messages: final assistant content cannot end with trailing whitespace", rule="prefill_whitespace")


def _awaits_server(message: Message) -> bool:
    """Whether an assistant message ends in server tool use, so that it may be sent back to be gone on with."""
    blocks = blocks_of(message.get("content"))
    kind = str(blocks[-1]["type"]) if blocks else ""
    return message["role"] == "assistant" and (
        kind in ("server_tool_use", "mcp_tool_use") or (kind.endswith("_tool_result") and kind != "tool_result")
    )


def _kept_thinking(prompt: Prompt) -> None:
    """With thinking ``enabled``, an assistant message whose tools are being answered must still begin with it."""
    if prompt.thinking.get("type") != "enabled":
        return
    n = len(prompt.messages) - 1
    if not any(b["type"] == "tool_result" for b in blocks_of(prompt.messages[n]["content"])):
        return
    while n >= 0 and prompt.messages[n]["role"] != "assistant":
        n -= 1
    blocks = blocks_of(prompt.messages[n]["content"]) if n >= 0 else []
    if blocks and blocks[0]["type"] not in _THINKS:
        raise bad(
            f"{prompt.at(n)}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
            f"`{blocks[0]['type']}`. When `thinking` is enabled, a final `assistant` message must start with a "
            "thinking block.",
            rule="thinking_kept",
        )
