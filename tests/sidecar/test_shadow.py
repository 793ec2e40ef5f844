"""Shadow mode: nothing that passes is changed, and everything is computed beside it."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import Agent, busy, texts, todos, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.stand import Stand

Connect = Callable[..., Agent]
SPEC: dict[str, Any] = {"mode": "Shadow", "filter": {"pinned": ["/active_mission/sub_tasks"]}}


@pytest.fixture
async def stand(start: Start) -> Stand:
    return await start(SPEC)


async def told(stand: Stand, session: str) -> list[dict[str, Any]]:
    """The receipts of a session's records, oldest first."""
    await stand.settled()
    payloads = [record["payload"] for record in await stand.records(session)]
    return [
        payload.get("injected", {}).get("receipt", {}) | {"outcome": payload.get("outcome", "")} for payload in payloads
    ]


@pytest.mark.parametrize("stream", [True, False])
async def test_request_and_reply_are_as_without_a_sidecar(
    agent: Agent, connect: Connect, stand: Stand, claude: StrictClaude, *, stream: bool
) -> None:
    agent.stream = stream
    claude.script(Reply(blocks=[{"type": "thinking"}, todos("pack the red suitcase")]), Reply(blocks=["Done."]))
    first = await agent.say("Plan the journey.")
    assert first.status == 200
    assert not first.receipt
    await agent.say([{"type": "tool_result", "tool_use_id": first.content[-1]["id"], "content": "ok"}])
    asked = msgspec.json.encode(agent.body(messages=[*agent.messages, {"role": "user", "content": "What is to pack?"}]))
    assert (await agent.send(asked)).status == 200
    assert claude.requests[-1].body == asked
    assert unharmed(claude)
    await stand.settled()
    assert await stand.sub_tasks(agent.session) == ["pack the red suitcase"]
    receipts = await told(stand, agent.session)
    assert [int(receipt["injected-tokens"]) > 0 for receipt in receipts] == [False, False, True]


async def test_new_client_is_given_no_history(agent: Agent, stand: Stand, claude: StrictClaude) -> None:
    assert (await agent.say("My suitcase is red.")).status == 200
    await stand.settled()
    other = agent.fresh()
    assert (await other.say("Which colour?")).status == 200
    assert texts(claude.requests[-1].messages[0]) == ["Which colour?"]
    assert "fresh" in (await told(stand, agent.session))[-1]["flags"]


async def test_second_step_at_once_is_answered_and_counted(agent: Agent, stand: Stand, claude: StrictClaude) -> None:
    agent.messages = [{"role": "user", "content": "Go."}]
    async with busy(agent, claude):
        assert (await agent.send()).status == 200
        while not stand.metric("refused_steps"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await stand.settled()
    assert (await agent.say("On.")).status == 200  # records of steps without a commit go with the next one
    await stand.settled()
    assert await stand.is_free(agent.session)
    assert [receipt["outcome"] for receipt in await told(stand, agent.session)].count("refused") == 1


async def test_steps_one_after_another_are_not_taken_for_two_at_once(agent: Agent, stand: Stand) -> None:
    for number in range(12):
        assert (await agent.say(f"Number {number}.")).status == 200
    await stand.settled()
    assert stand.metric("refused_steps") == 0
    assert await stand.turn(agent.session) == 12


async def test_lost_stores_harm_nobody(configure: Callable[..., Any], start: Start, connect: Connect) -> None:
    stand = await start(configure(SPEC, redis="redis://127.0.0.1:1", postgres="postgresql://nobody@127.0.0.1:1/none"))
    agent = connect(stand)
    assert (await agent.say("Hello.")).status == 200
    await stand.settled()


@pytest.mark.parametrize("fault", ["529", "rst after=3", "fin after=2", "json_cut"])
async def test_failures_pass_as_they_are(agent: Agent, stand: Stand, claude: StrictClaude, fault: str) -> None:
    agent.stream = fault != "json_cut"
    claude.script(Reply(fault=fault))
    agent.messages = [{"role": "user", "content": "Go."}]
    answer = await agent.send()
    assert answer.cut or answer.status == 529
    await stand.settled()
    assert await stand.turn(agent.session) == 0
    assert await stand.is_free(agent.session)
    assert (await agent.say("Again.")).status == 200
    await stand.settled()
    assert await stand.turn(agent.session) == 1


async def test_nothing_of_a_shadow_is_known_once_it_is_active(
    configure: Callable[..., Any], start: Start, connect: Connect, claude: StrictClaude
) -> None:
    config = configure({**SPEC, "tenant": "switched"})
    assert config.tenant == "switched.shadow_"
    shadow = await start(config)
    agent = connect(shadow)
    claude.script(Reply(blocks=[{"type": "thinking"}, todos("pack the red suitcase")]))
    first = await agent.say("Plan.")
    await agent.say([{"type": "tool_result", "tool_use_id": first.content[-1]["id"], "content": "ok"}])
    await agent.say("And what is to pack?")
    await shadow.settled()
    active = await start(configure({"tenant": "switched"}))
    agent.url = active.url
    assert (await agent.good("Is it red?")).flags <= {"fresh"}
    assert unharmed(claude)
    assert await active.sub_tasks(agent.session) == []
