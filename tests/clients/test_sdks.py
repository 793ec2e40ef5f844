"""SDKs and LangChain hold a conversation through the sidecar as they hold it without."""

import uuid

import pytest

from tests.clients.comparing import compare
from tests.clients.conftest import Twice
from tests.clients.driving import Scenario, drive

pytestmark = [pytest.mark.client, pytest.mark.xdist_group("clients")]

TURNS = (
    'Where do we start? [[tool: lookup {"key": "Oslo"}]] [[then]] '
    '[[say: Two more things to look up.]] [[tool: lookup {"key": "Bergen"}]] [[tool: lookup {"key": "Flåm railway"}]] '
    "[[then]] [[think: The railway it is.]] [[say: We start in Oslo and take the Flåm railway.]]",
    'Where do we sleep? [[tool: lookup {"key": "night train"}]] [[then]] [[say: On the night train.]]',
    "Thank you. [[say: You are welcome.]]",
    "One last thing: how long is it? [[long: 300]]",
)
STOPS = ("tool_use", "tool_use", "end_turn", "tool_use", "end_turn", "end_turn", "end_turn")
"""How the requests of these turns end."""

WAYS = {
    "anthropic-2": ("json", "stream", "runner", "runner-stream"),
    "anthropic-1": ("json", "stream", "runner"),
    "anthropic-0": ("json", "stream"),
    "typescript": ("json", "stream", "runner", "runner-stream"),
    "langchain": ("json", "stream"),
}


@pytest.mark.parametrize("client", WAYS)
def test_conversations_are_the_same_through_the_sidecar(client: str, twice: Twice) -> None:
    scenarios = [Scenario(session=str(uuid.uuid4()), turns=TURNS, way=way) for way in WAYS[client]]

    direct, through = twice(lambda base_url, home: drive(client, base_url, home, *scenarios))

    for scenario, one, other in zip(scenarios, direct.seen, through.seen, strict=True):
        assert one.errors == [], scenario.way
        assert tuple(reply["stop_reason"] for reply in one.replies) == STOPS, scenario.way
        assert all(reply["thinking"] for reply in one.replies), scenario.way
        assert one.usage["cache_read_input_tokens"] > 0, scenario.way
        runs = [
            way.run(scenario.session, [summary.replies, summary.errors], summary.usage)
            for way, summary in ((direct, one), (through, other))
        ]
        compare(*runs).assert_same("Flåm railway", "night train")
