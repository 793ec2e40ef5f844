"""Big values: to Claude as they are, in the archive whole, in the item as links."""

from collections.abc import Callable

import msgspec

from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import Agent, injections, todos, unharmed
from tests.sidecar.stand import Stand


async def test_big_tool_result_reaches_claude_and_the_archive_but_not_the_item(
    stand: Stand, agent: Agent, claude: StrictClaude
) -> None:
    big = "".join(f"line {number}: ünïcode\n" for number in range(230_000))
    assert len(big.encode()) > 5_000_000
    claude.script(Reply(blocks=[{"type": "tool_use", "name": "look", "input": {}}]))
    asked = await agent.good("Look.")
    claude.script("I see.", "Gladly.")
    await agent.results(asked, big)
    body = claude.requests[-1].body
    assert body == msgspec.json.encode(agent.body(messages=agent.messages[:-1]))
    await agent.good("Go on.")
    await stand.settled()

    stored = await stand.stored(agent.session)
    assert len(stored.body) < 50_000
    records = await stand.records(agent.session, export=True)
    (result,) = records[1]["payload"]["messages"][0]["content"]
    assert result["content"] == big
    assert len(records[1]["blobs"]) == 1
    assert unharmed(claude)


async def test_big_reply_and_big_state_value_are_linked_and_read_back(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = connect(stand, extra={"max_tokens": 60_000})
    essay, plan = "An essay on keys. " * 3_000, "A plan of the hall. " * 2_000
    claude.script(Reply(blocks=[essay, todos(plan)]))
    written = await agent.good("Write.")

    item = await stand.item(agent.session)
    _, _, body = await stand.admin("GET", f"/v1/sessions/{agent.session}/state")

    assert len((await stand.stored(agent.session)).body) < 50_000
    assert len(item.state) < 2_000
    assert b"$blob" in item.state
    assert msgspec.json.decode(body)["active_mission"]["sub_tasks"] == [plan.strip()]
    # The lost reply is told again whole.
    await stand.acknowledged(agent.session)
    await stand.forget_hot()
    again = await agent.send(messages=[{"role": "user", "content": "Write."}])
    assert (again.commit, again.content[1]["text"]) == ("repeated", essay)
    # The model is told of it by its beginning.
    await agent.results(written)
    await agent.good("What of the plan of the hall?")
    (block,) = injections(claude.requests[-1].messages)
    assert "A plan of the hall." in block
    assert len(block) < 5_000


async def test_many_big_turns_keep_the_item_small(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    for number in range(8):
        claude.script(Reply(blocks=[f"{number} " + "word " * 2_500]))
        await agent.good(f"Write, {number}. " + "please " * 2_000)
        assert len((await stand.stored(agent.session)).body) < 50_000
    await stand.settled()

    records = await stand.records(agent.session, export=True)

    assert [record["payload"]["response"]["content"][-1]["text"][0] for record in records] == list("01234567")
    assert [record["seq"] for record in records] == list(range(1, 9))
