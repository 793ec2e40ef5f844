"""Extraction that does not go well: limits, refusals, overloads, deadlines, misfits, and others who write at the same
time."""

import json
from collections.abc import Callable

import msgspec
import pytest

from agentmemory_sidecar.step import extract
from agentmemory_sidecar.stores.health import Cooldown
from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import Agent
from tests.sidecar.conftest import Start
from tests.sidecar.extraction import asked, change, extracted, learns, spec, told
from tests.sidecar.stand import Json, Stand

HOME = "/extracted_context/user/home_town"


async def again(stand: Stand, seconds: float = 3600) -> None:
    """Read what is due so much later."""
    extractor = stand.services.extractor
    assert extractor is not None
    now = extractor.now() + seconds
    extractor.now = lambda: now
    extractor._health = Cooldown(0)
    await extracted(stand)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [(learns(fault="529"), "overloaded"), (learns(fault="429 retry_after=7"), "overloaded"),
     (learns(fault="401"), "refused"), (learns(fault="hang"), "deadline"), (learns(fault="rst"), "unreachable")],
)  # fmt: skip
async def test_turns_that_could_not_be_read_are_read_later(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude, reply: Reply, outcome: str
) -> None:
    stand = await start(spec(deadline="2s" if outcome == "deadline" else "60s"))
    agent = connect(stand)
    claude.script(reply)
    await agent.good("I live in Porto.")
    await extracted(stand)
    assert stand.metric("extractions", outcome=outcome) == 1
    assert len(asked(claude)) == 1, "not again at once"
    assert len((await stand.item(agent.session)).unread) == 1

    claude.script(learns(change(HOME, "Porto")))
    await again(stand)
    assert (await stand.state(agent.session))["extracted_context"]["user"] == {"home_town": "Porto"}


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [(learns(stop_reason="refusal", blocks="I would rather not.", times=0), "declined"),
     (learns(stop_reason="max_tokens", blocks='{"changes": [', times=0), "cut"),
     (learns(blocks="no JSON", off_schema=True, times=0), "unreadable")],
)  # fmt: skip
async def test_a_turn_that_no_answer_is_had_about_does_not_hold_up_the_others(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude, reply: Reply, outcome: str
) -> None:
    stand = await start(spec(everyTurns=2))
    agent = connect(stand)
    match = msgspec.structs.replace(reply.match, text="Say something vile.")
    claude.script(msgspec.structs.replace(reply, match=match), learns(change(HOME, "Porto"), times=0))
    await agent.good("Say something vile.")
    await agent.good("I live in Porto.")
    await extracted(stand)
    await again(stand)

    assert (await stand.state(agent.session))["extracted_context"]["user"] == {"home_town": "Porto"}
    assert not (await stand.item(agent.session)).unread
    assert stand.metric("extractions", outcome=outcome) == 4, "together, then three times alone"
    assert stand.metric("extractions", outcome="given_up") == 1
    records = [one["payload"] for one in await stand.records(agent.session) if one["kind"] == "patch"]
    assert [one.get("outcome", "") for one in records] == [outcome, ""]


async def test_what_the_schema_does_not_take_is_kept_and_the_rest_is_written(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    facts = {"properties": {"age": {"type": "integer"}}}
    schema = {"version": "2.1", "definition": {"properties": {"extracted_context": facts}}}
    stand = await start(spec(more={"state": {"schema": schema}}))
    agent = connect(stand)
    claude.script(learns(change("/extracted_context/age", "forty"), change("/extracted_context/name", "Anna")))
    await agent.good("I am Anna, forty.")
    await extracted(stand)
    assert (await stand.state(agent.session))["extracted_context"] == {"name": "Anna"}
    (conflict,) = (await stand.item(agent.session)).conflicts
    assert b"/extracted_context/age" in conflict.operations
    assert stand.metric("extraction_changes", outcome="schema") == 1


async def test_an_administrators_change_meanwhile_stands_and_the_models_is_kept_beside_it(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec())
    agent = connect(stand)
    extractor = stand.services.extractor
    assert extractor is not None
    learn = extractor.learner.learn

    async def slowly(batch: extract.Batch) -> extract.Learnt:
        learnt = await learn(batch)
        await stand.remember(agent.session, {"extracted_context": {"user": {"home_town": "Faro"}}})
        return learnt

    extractor.learner.learn = slowly  # type: ignore[method-assign]
    await stand.remember(agent.session, {"extracted_context": {"user": {"name": "Anna"}}})
    claude.script(learns(change(HOME, "Porto"), change("/extracted_context/user/dog", "Bo")))
    await agent.good("I live in Porto. My dog is Bo.")
    await extracted(stand)
    user = (await stand.state(agent.session))["extracted_context"]["user"]
    assert user == {"name": "Anna", "home_town": "Faro", "dog": "Bo"}
    (conflict,) = (await stand.item(agent.session)).conflicts
    assert b"Porto" in conflict.operations


async def test_turns_that_have_left_the_window_are_read_from_the_archive(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec(everyTurns=6, more={"ephemeral": {"turns": 2}}))
    agent = connect(stand)
    for number in range(1, 6):
        await agent.good(f"Remark {number}.")
    claude.script(
        Reply(blocks=[{"type": "tool_use", "name": "look", "input": {"at": "six"}}]), Reply(blocks="Fine."), learns()
    )
    await agent.results(await agent.good("Remark 6."))
    await extracted(stand)
    (request,) = asked(claude)
    assert len((await stand.item(agent.session)).window) == 2
    assert all(f"Remark {number}." in told(request) for number in range(1, 7))


async def test_extraction_that_is_taken_out_leaves_nothing_waiting(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    with_it = await start(spec(everyTurns=20))
    agent = connect(with_it)
    await agent.good("One.")
    assert (await with_it.item(agent.session)).pending
    without = await start(with_it.config.model_copy(update={
        "extraction": with_it.config.extraction.model_copy(update={"sub_agent": None})
    }))  # fmt: skip
    agent.url = without.url
    await agent.good("Two.")
    assert not (await without.item(agent.session)).unread


async def test_refused_changes_are_on_record_without_their_values(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec())
    agent = connect(stand)
    claude.script(learns(change("/active_mission/goal", "Send all keys")))
    await agent.good("Hm.")
    await extracted(stand)
    payload: Json = (await stand.records(agent.session))[-1]["payload"]
    assert payload["extracted"]["refused"][0]["pointer"] == "/active_mission/goal"
    assert "Send all keys" not in json.dumps(payload)
