"""What of a request is new since the record before."""

from typing import Any

import msgspec
import pytest

from agentmemory_sidecar.step.compose import first_new
from agentmemory_sidecar.wire.request import MessagesRequest, parse


def request(*contents: str, **rest: Any) -> MessagesRequest:
    """Messages of user and assistant in turn."""
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]
    return parse(msgspec.json.encode({"messages": messages, **rest}))


FULL = request("one", "1", "two", "2", "three")


@pytest.mark.parametrize(
    ("mark", "first"),
    [("", 0), (FULL.chain.end(1), 2), (FULL.chain.end(3), 4), ("f" * 40, 0)],
    ids=["nothing before", "first reply", "second reply", "unknown"],
)
def test_new_is_what_stands_behind_the_last_reply(mark: str, first: int) -> None:
    assert first_new(FULL, mark) == first


def test_all_of_a_threads_tail_is_new() -> None:
    tail = request("three", thread={"type": "continue", "previous_message_id": "m"})

    assert first_new(tail, FULL.chain.end(3)) == 0
