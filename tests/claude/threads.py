"""Message Threads: conversations the server holds, continued by the id of their last reply."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.claude.errors import ApiError, bad
from tests.claude.options import Options
from tests.claude.prompt import Block, Message, Prompt, blocks_of

BETA = "message-threads-2026-08-12"
FIXED = ("model", "tool_choice", "thinking", "context_management", "output_config", "inference_geo", "speed")


@dataclass
class Held:
    """A conversation up to and including one reply."""

    system: list[Block]
    tools: list[Block]
    messages: list[Message]
    fixed: dict[str, str]
    used: float
    continued: bool = False
    in_flight: bool = False


class Threads:
    """Held conversations by the message id that continues them."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._held: dict[str, Held] = {}

    def find(self, message_id: str, params: dict[str, Any]) -> Held:
        """The conversation to continue. Raises the API's errors: not found, in flight, already continued, changed."""
        held = self._held.get(message_id)
        if held is None or self._options.clock() > held.used + self._options.thread_idle_s:
            self._held.pop(message_id, None)
            raise ApiError(
                404, f"thread: no usable state for `{message_id}`", rule="thread_not_found", code="thread_not_found"
            )
        if held.in_flight:
            raise bad(
                "Another request is still continuing from the same `previous_message_id`. Wait for it to complete.",
                rule="thread_continue_in_flight",
                code="thread_continue_in_flight",
            )
        if held.continued:
            raise bad(
                "thread: `previous_message_id` has already been continued",
                rule="thread_already_continued",
                code="thread_already_continued",
            )
        changed = [name for name in FIXED if name in params and _fixed(params)[name] != held.fixed[name]]
        if changed:
            raise bad(
                f"thread: {', '.join(changed)} must stay the same across a thread's turns",
                rule="thread_fingerprint_mismatch",
                code="thread_fingerprint_mismatch",
            )
        return held

    @contextmanager
    def continuing(self, prompt: Prompt) -> Iterator[None]:
        """Mark the thread as being continued while a reply to it is under way."""
        held = self._held.get(prompt.previous)
        if held is None:
            yield
            return
        held.in_flight = True
        try:
            yield
        finally:
            held.in_flight = False

    def keep(self, prompt: Prompt, message: dict[str, Any]) -> None:
        """A reply went out whole: hold the conversation under its id, if the request asked for a thread."""
        if not prompt.params.get("thread"):
            return
        now = self._options.clock()
        previous = self._held.get(prompt.previous)
        if previous is not None:
            previous.continued, previous.used = True, now
        fixed = previous.fixed if previous else _fixed(prompt.params)
        sent = [_unmarked(one) for one in prompt.messages[prompt.held :]]
        reply = {"role": "assistant", "content": message["content"]}
        messages = [*prompt.messages[: prompt.held], *sent, reply]
        self._held[message["id"]] = Held(prompt.system, prompt.tools, messages, fixed, now)


def _unmarked(message: Message) -> Message:
    """Without cache markers: each was set for the request that sent it, and a request takes only a few."""
    blocks = [{k: v for k, v in block.items() if k != "cache_control"} for block in blocks_of(message.get("content"))]
    return {**message, "content": blocks}


def _fixed(params: dict[str, Any]) -> dict[str, str]:
    return {name: json.dumps(params.get(name), sort_keys=True) for name in FIXED}
