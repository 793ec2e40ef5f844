"""When a prompt may lack what the client was answered with before."""

from typing import Any

import msgspec

from agentmemory_sidecar.memory.item import Item
from agentmemory_sidecar.memory.ledger import Entry, Made
from agentmemory_sidecar.resource import SidecarConfig
from agentmemory_sidecar.step.hydrate import Memory, Tier
from agentmemory_sidecar.step.inject import may_lack_entries
from agentmemory_sidecar.stores.protocols import Versions
from agentmemory_sidecar.wire.request import MessagesRequest, parse
from tests.histories.world import Setting, config_for

EVENTUAL = config_for(Setting(), "us-east-1")


def request(*contents: str) -> MessagesRequest:
    """Messages of user and assistant in turn."""
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]
    return parse(msgspec.json.encode({"messages": messages}))


ASKED = request("one", "1", "two", "2", "three")


def made(place: int, **how: Any) -> Made:
    """The reply that stands at a place."""
    return Made(f"m{place}", ASKED.chain.end(place), ASKED.chain.end(place - 1), **how)


def lacks(
    *replies: Made, entries: tuple[str, ...] = (), asked: MessagesRequest = ASKED, config: SidecarConfig = EVENTUAL
) -> bool:
    ledger = {key: Entry(key, "mark", number, "step") for number, key in enumerate(entries, 1)}
    memory = Memory(Item(replies=list(replies)), Versions(1, 1), (), ledger, Tier.STATE, {})
    return may_lack_entries(config, asked, memory)


def test_nothing_is_missing_where_all_replies_and_their_entries_are_known() -> None:
    assert not lacks(made(1, entry="e"), made(3), entries=("e",))


def test_a_conversation_that_begins_lacks_nothing() -> None:
    assert not lacks(asked=request("one"))


def test_newest_reply_of_another_region_has_not_come_over() -> None:
    assert lacks(made(1))


def test_entry_of_a_known_reply_has_not_come_over_though_others_have() -> None:
    assert lacks(made(1, entry="e"), made(3), entries=("f", "g"))


def test_what_came_later_does_not_fit_a_reply_that_was_made_without_it() -> None:
    assert lacks(made(1, entry="e"), made(3, lacking=True), entries=("e",))


def test_replies_of_another_branch_do_not_count() -> None:
    elsewhere = Made("x", "another", "place", "missing", lacking=True)
    assert not lacks(elsewhere, made(1), made(3))
