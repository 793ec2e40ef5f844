"""Two regions on one tier that each of them writes, each with a Redis of its own: a session goes where its agent goes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from agentmemory_sidecar.resource import SidecarConfig
from agentmemory_sidecar.resource.store_config import RedisHot
from tests.claude import Match, Reply, StrictClaude
from tests.faults import FaultProxy
from tests.ministack import Ministack
from tests.sidecar.agents import Agent, injections, todos, unharmed
from tests.sidecar.conftest import Configure, Start
from tests.sidecar.regional import EAST, WEST, Regional, in_the_west, regional
from tests.sidecar.stand import Json, Stand
from tests.sidecar.stores.conformance.aws_backends import new_table

pytestmark = pytest.mark.xdist_group("ministack")


class Regions(NamedTuple):
    east: Stand
    west: Stand


@pytest.fixture(params=["dynamodb", "cosmosdb"])
async def tier(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Regional]:
    async with regional(request.param, request, tmp_path) as made:
        yield made


@pytest.fixture
async def regions(configure: Configure, start: Start, tier: Regional) -> Regions:
    east = configure({"regions": [EAST, WEST], "state": tier.spec})
    return Regions(await start(east), await start(elsewhere(east)))


async def spread(configure: Configure, start: Start, ministack: Ministack, spec: Json) -> Regions:
    """Likewise on a table, with more of a spec."""
    table = {"dynamodb": {"table": new_table(ministack), "endpoint": ministack.url}}
    east = configure({"regions": [EAST, WEST], **spec, "state": {**table, **spec.get("state", {})}})
    return Regions(await start(east), await start(elsewhere(east)))


def elsewhere(config: SidecarConfig) -> SidecarConfig:
    """The same resource seen from the other region, with a Redis of its own."""
    assert isinstance(config.hot, RedisHot)
    hot = config.hot.model_copy(update={"urls": (config.hot.urls[0] + "?db=1",)})
    return in_the_west(config).model_copy(update={"hot": hot})


async def test_session_that_moves_knows_what_it_knew_and_its_thinking_fits(
    regions: Regions, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = connect(regions.east)
    claude.script(Reply(blocks=[todos("open the gate")]))
    await agent.results(await agent.good("Begin."))
    for stand in (regions.west, regions.east, regions.west):
        agent.url = stand.url
        answer = await agent.good("What about the gate?")
        assert answer.receipt["tier"] == "state"
    assert "open the gate" in injections(claude.requests[-1].messages)[0]
    again = await agent.good("And now?")
    assert again.receipt["tier"] == "hot"
    assert await regions.east.state(agent.session) == await regions.west.state(agent.session)
    assert unharmed(claude)


async def test_memory_files_and_hidden_exchanges_go_with_the_session(
    regions: Regions, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    def call(command: str, **given: object) -> Json:
        return {"type": "tool_use", "name": "memory", "input": {"command": command, **given}}

    agent = connect(regions.east, extra={"tools": [{"type": "memory_20250818", "name": "memory"}]})
    claude.script(Reply(blocks=["I note it.", call("create", path="/memories/a.md", file_text="coffee")]), "Noted.")
    await agent.good("I like coffee.")
    agent.url = regions.west.url
    claude.script(Reply(blocks=[call("create", path="/memories/b.md", file_text="tea")]), "Noted.")
    await agent.good("And tea.")
    agent.url = regions.east.url
    claude.script(Reply(blocks=[call("view", path="/memories")]), "Both.")
    await agent.good("What do I like?")

    (result,) = claude.requests[-1].messages[-1]["content"]
    assert result["content"].endswith("\n6B\t/memories/a.md\n3B\t/memories/b.md")
    for stand in regions:
        assert (await stand.state(agent.session))["memories"] == {"a.md": "coffee", "b.md": "tea"}
    assert unharmed(claude)


async def test_files_that_two_regions_write_at_once_are_all_there(
    regions: Regions, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    def create(path: str, text: str) -> Reply:
        given = {"command": "create", "path": f"/memories/{path}", "file_text": text}
        return Reply(blocks=[{"type": "tool_use", "name": "memory", "input": given}])

    east = connect(regions.east, extra={"tools": [{"type": "memory_20250818", "name": "memory"}]})
    west = east.fresh(url=regions.west.url)
    claude.script(create("east/a.md", "one"), "Noted.", create("west/b.md", "two"), "Noted.")
    await east.good("I am in the east.")
    await west.good("I am in the west.")
    states = [await stand.state(east.session) for stand in regions]
    assert states[0]["memories"] == states[1]["memories"] == {"east/a.md": "one", "west/b.md": "two"}


async def test_hot_copy_that_the_other_region_has_outrun_is_not_used(
    regions: Regions, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = connect(regions.east)
    await agent.good("Begin.")
    elsewhere = agent.fresh(url=regions.west.url)
    claude.script(Reply(blocks=[todos("close the gate")]))
    await elsewhere.results(await elsewhere.good("I am on my phone."))

    back = await agent.good("What about the gate?")

    assert back.receipt["tier"] == "state"
    assert "close the gate" in injections(claude.requests[-1].messages)[-1]


async def test_turns_in_both_regions_at_once_both_stay(
    regions: Regions, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    east = connect(regions.east)
    await east.good("Begin.")
    west = east.fresh(url=regions.west.url, headers={"X-User": "west"})
    claude.script(Reply(blocks=[todos("by east")], match=Match(text="I am east."), first_byte_ms=150))
    claude.script(Reply(blocks=[todos("by west")], match=Match(text="I am west."), first_byte_ms=150))
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(east.good("I am east.")), group.create_task(west.good("I am west."))]
    assert [answer.result().status for answer in asked] == [200, 200]

    whole = [await stand.item(east.session) for stand in regions]
    assert whole[0].state == whole[1].state
    assert whole[0].clashes == whole[1].clashes
    (clash,) = whole[0].clashes
    said = {str(clash.stands.operation.value), str(clash.other.operation.value)}
    assert said == {"['by east']", "['by west']"}
    assert {line.text for turn in whole[0].window for line in turn.lines} >= {"I am east.", "I am west."}
    await east.results(asked[0].result())
    assert regions.east.metric("clashes") == 1  # it has seen both
    await east.good("Go on.")
    assert regions.east.metric("clashes") == 1
    assert unharmed(claude)


async def test_the_same_request_in_another_region_is_answered_and_not_paid_again(
    regions: Regions, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = connect(regions.east)
    messages = list(agent.messages)
    first = await agent.good("Begin.")
    elsewhere = agent.fresh(url=regions.west.url, messages=messages)
    before = len(claude.requests)
    again = await elsewhere.say("Begin.")
    assert len(claude.requests) == before
    assert again.receipt["commit"] == "repeated"
    assert first.status == again.status


async def test_change_by_hand_is_seen_in_every_region(
    regions: Regions, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = connect(regions.east)
    await agent.good("Begin.")
    await regions.east.remember(agent.session, {"extracted_context": {"city": "Rome"}})
    await regions.west.remember(agent.session, {"extracted_context": {"city": "Oslo"}})
    states = [await stand.state(agent.session) for stand in regions]
    assert states[0] == states[1]
    assert states[0]["extracted_context"] == {"city": "Oslo"}


async def test_clash_is_shown_and_settled_in_every_region(
    regions: Regions, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    east = connect(regions.east)
    await east.good("Begin.")
    west = east.fresh(url=regions.west.url)
    for name in ("east", "west"):
        claude.script(Reply(blocks=[todos(f"by {name}")], match=Match(text=f"I am {name}."), first_byte_ms=150))
    async with asyncio.TaskGroup() as group:
        for agent, text in ((east, "I am east."), (west, "I am west.")):
            group.create_task(agent.good(text))
    path = f"/v1/sessions/{east.session}/conflicts"
    _, _, body = await regions.west.admin("GET", path)
    (conflict,) = msgspec.json.decode(body)["conflicts"]
    assert conflict["pointer"] == "/active_mission/sub_tasks"
    assert {conflict[side]["region"] for side in ("stands", "other")} == {EAST, WEST}

    status, _, body = await regions.west.admin("POST", path, data={"settle": ["nonsense"]})
    assert (status, msgspec.json.decode(body)["error"]["details"]) == (404, {"error_code": "no_such_conflict"})
    assert (await regions.west.admin("POST", path, data={"settle": conflict["id"]}))[0] == 400
    status, _, body = await regions.west.admin("POST", path, data={"settle": [conflict["id"]]})
    assert (status, msgspec.json.decode(body)) == (200, {"conflicts": []})
    _, _, body = await regions.east.admin("GET", path)
    assert msgspec.json.decode(body) == {"conflicts": []}


# -------------------------------------------------------------------------------------------- an endpoint that is away


@pytest.fixture
async def failing(configure: Configure, start: Start, tier: Regional) -> tuple[Stand, FaultProxy]:
    """A sidecar in the east whose own endpoint can be made to fail, and who knows the west's."""
    config = configure({"regions": [EAST, WEST], "state": {**tier.spec, "timeout": "1s"}})
    return await start(tier.complete(config)), tier.proxy


@pytest.mark.parametrize("how", ["refuse", "blackhole"])
async def test_turns_go_on_through_the_other_regions_endpoint_and_come_back(
    failing: tuple[Stand, FaultProxy], connect: Callable[..., Agent], claude: StrictClaude, how: str
) -> None:
    stand, proxy = failing
    agent = connect(stand)
    claude.script(Reply(blocks=[todos("open the gate")]))
    await agent.results(await agent.good("Begin."))
    if how == "refuse":
        await proxy.refuse()
    else:
        proxy.blackhole()
    assert stand.metric("steps_elsewhere") == 0
    answer = await agent.good("What about the gate?")
    assert stand.metric("steps_elsewhere") == 1
    assert answer.receipt["turn"] == "1"  # the other head's first
    assert "open the gate" in injections(claude.requests[-1].messages)[0]
    claude.script(Reply(blocks=[todos("close the gate")]))
    await agent.results(await agent.good("Go on."))
    await proxy.heal()
    stand.services.state_health.worked()  # as it would after a while

    through = stand.metric("steps_elsewhere")
    assert through > 1
    back = await agent.good("And the gate?")

    assert stand.metric("steps_elsewhere") == through
    assert back.receipt["turn"] == "3"
    assert await stand.sub_tasks(agent.session) == ["close the gate"]
    assert not (await stand.item(agent.session)).clashes
    assert unharmed(claude)


async def test_request_that_no_endpoint_can_save_is_refused(
    failing: tuple[Stand, FaultProxy], connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand, proxy = failing
    agent = connect(stand)
    await agent.good("Begin.")
    await proxy.refuse()
    (other,) = stand.services.elsewhere
    other.state_health.failed()
    before = len(claude.requests)
    answer = await agent.say("Go on.")
    assert answer.status == 503
    assert len(claude.requests) == before


async def test_planned_move_waits_until_the_other_region_has_all(
    failing: tuple[Stand, FaultProxy], connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand, _ = failing
    agent = connect(stand)
    claude.script(Reply(blocks=[todos("open the gate")]))
    await agent.results(await agent.good("Begin."))
    path = f"/v1/sessions/{agent.session}/move"

    status, _, body = await stand.admin("POST", path, data={"to": WEST})
    assert (status, msgspec.json.decode(body)["conversations"]) == (200, 1)
    assert await stand.is_free(agent.session)
    again = await agent.good("Go on.")
    assert again.receipt["tier"] == "hot"  # the hot copy is as clean as before

    status, _, body = await stand.admin("POST", path, data={"to": "eu-west-1"})
    assert status == 400
    assert WEST in msgspec.json.decode(body)["error"]["message"]
    assert (await stand.admin("POST", "/v1/sessions/nobody/move", data={"to": WEST}))[0] == 404


async def test_move_that_does_not_come_through_says_so_and_lets_the_session_go(
    failing: tuple[Stand, FaultProxy], connect: Callable[..., Agent], claude: StrictClaude, tier: Regional
) -> None:
    stand, _ = failing
    agent = connect(stand)
    await agent.good("Begin.")
    (other,) = stand.services.elsewhere
    await other.state.close()
    other.state = tier.empty()

    status, _, body = await stand.admin(
        "POST", f"/v1/sessions/{agent.session}/move", data={"to": WEST, "timeout_s": 0.5}
    )
    assert status == 503
    assert msgspec.json.decode(body)["error"]["details"]["error_code"] == "not_replicated"
    assert await stand.is_free(agent.session)
    await other.state.close()


async def test_heads_that_another_region_has_not_merged_are_counted(
    regions: Regions, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = connect(regions.east)
    claude.script(Reply(blocks=[todos("open the gate")]))
    await agent.results(await agent.good("Begin."))
    assert regions.east.gauge("unmerged_heads") == 0
    agent.url = regions.west.url
    claude.script(Reply(blocks=[todos("close the gate")]))
    await agent.results(await agent.good("Go on."))
    assert regions.west.gauge("unmerged_heads") == 1, "the east has recorded nothing since"
    agent.url = regions.east.url
    await agent.good("And now?")
    assert regions.east.gauge("unmerged_heads") == 0
    agent.url = regions.west.url
    await agent.good("And here?")
    assert regions.west.gauge("unmerged_heads") == 0
