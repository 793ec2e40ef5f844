"""What is put into a prompt stays in it: the strict Claude refuses thinking whose prefix changed by a byte."""

import copy
import itertools
from collections.abc import Callable

import msgspec
import pytest

from tests.claude import Fault, Reply, StrictClaude
from tests.sidecar.agents import Agent, injections, todos, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.stand import Json, Stand

FACTS = [f"the {thing} of room {number} is kept by the porter" for number, thing in enumerate(("key", "bell", "lamp"))]


async def told(agent: Agent, claude: StrictClaude, *facts: str) -> None:
    """One turn in which the agent writes these to-dos."""
    claude.script(Reply(blocks=[todos(*facts)]))
    await agent.results(await agent.good("Write this down."))


async def talk(agent: Agent, claude: StrictClaude, turns: int = 4) -> None:
    """Turns with tools, each of which makes something new to say in the next."""
    for number in range(turns):
        await told(agent, claude, *(f"{fact}, {number}" for fact in FACTS))
        await agent.good(f"Who keeps the key, question {number}?")


async def test_injection_is_repeated_byte_for_byte(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    await talk(agent, claude)

    assert unharmed(claude)
    blocks: list[bytes] = []
    for request in claude.requests:
        found = [_raw_block(request.body, text) for text in injections(request.messages)]
        assert found[: len(blocks)] == blocks
        blocks = found
    assert len(blocks) >= 4
    assert len(set(blocks)) == len(blocks)


def _raw_block(body: bytes, text: str) -> bytes:
    """The bytes of an injected block as they stand in a body."""
    block = msgspec.json.encode({"type": "text", "text": text})
    assert body.count(block) == 1
    return block


async def test_whole_prompts_grow_only_at_their_end(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    await talk(agent, claude)

    prompts = [request.messages for request in claude.requests]
    for before, after in itertools.pairwise(prompts):
        assert after[: len(before) - 1] == before[:-1]
        assert _blocks(after[len(before) - 1])[: len(_blocks(before[-1]))] == _blocks(before[-1])


def _blocks(message: Json) -> list[Json]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


async def test_new_text_stands_last_in_the_first_step_of_a_turn_only(
    stand: Stand, agent: Agent, claude: StrictClaude
) -> None:
    await told(agent, claude, *FACTS)
    claude.script(Reply(blocks=[{"type": "tool_use", "name": "look", "input": {}}]))
    await agent.results(await agent.good([{"type": "text", "text": "Who keeps the key?"}]))

    first, second = claude.requests[-2:]
    assert first.messages[-1]["content"][-1]["text"].startswith("<agentmemory-")
    assert "the porter" in first.messages[-1]["content"][-1]["text"]
    assert len(injections(second.messages)) == len(injections(first.messages))
    assert second.messages[-1]["content"][-1]["type"] == "tool_result"


async def test_nothing_is_said_twice(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    await told(agent, claude, *FACTS)
    for _ in range(3):
        await agent.good("Who keeps the key?")

    said = "".join(injections(claude.requests[-1].messages))
    assert [said.count(fact) for fact in FACTS] == [1, 1, 1]


async def test_changed_fact_is_said_again(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    await stand.remember(agent.session, {"extracted_context": {"porter": "Hugo keeps the key"}})
    await agent.good("Who keeps the key?")
    await stand.remember(agent.session, {"extracted_context": {"porter": "Ida keeps the key"}})
    await agent.good("Who keeps the key?")

    first, second = injections(claude.requests[-1].messages)
    assert "Hugo" in first
    assert "Ida" in second
    assert "Hugo" not in second


# ------------------------------------------------------------------------------------------- how clients write history


def as_blocks(messages: list[Json]) -> list[Json]:
    return [{**message, "content": _blocks(message)} for message in messages]


def as_strings(messages: list[Json]) -> list[Json]:
    """Single text blocks as strings, those in tool results as well."""
    changed = copy.deepcopy(messages)
    for message in changed:
        for block in message["content"] if isinstance(message["content"], list) else []:
            if block["type"] == "tool_result":
                block["content"] = _string(block["content"])
        message["content"] = _string(message["content"])
    return changed


def _string(content: object) -> object:
    match content:
        case [{"type": "text", "text": text, **rest}] if not rest:
            return text
    return content


def with_markers(messages: list[Json]) -> list[Json]:
    """Blocks, the last of the last two user messages marked for the cache, as many clients do."""
    changed = copy.deepcopy(as_blocks(messages))
    for message in [message for message in changed if message["role"] == "user"][-2:]:
        message["content"][-1]["cache_control"] = {"type": "ephemeral"}
        if message["content"][-1]["type"] == "tool_result":
            message["content"][-1]["content"] = [{"type": "text", "text": message["content"][-1]["content"]}]
    return changed


def with_white_space(messages: list[Json]) -> list[Json]:
    changed = copy.deepcopy(as_blocks(messages))
    for message in changed:
        for block in message["content"]:
            if block["type"] == "text" and message["role"] == "user":
                block["text"] = f"\n {block['text']} \n"
        if message["role"] == "user":
            message["content"].append({"type": "text", "text": "  \n"})
    return changed


def split(messages: list[Json]) -> list[Json]:
    """Each block of a user's message as a message of its own. The API puts them together again; the strict Claude does
    not, so to it another form is another prefix."""
    changed: list[Json] = []
    for message in as_blocks(messages):
        parts = [[block] for block in message["content"]] if message["role"] == "user" else [message["content"]]
        changed += [{"role": message["role"], "content": part} for part in parts]
    return changed


FORMS: dict[str, Callable[[list[Json]], list[Json]]] = {
    "blocks": as_blocks, "strings": as_strings, "markers": with_markers, "white-space": with_white_space, "split": split,
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(FORMS, 2), ("split", "split")])
async def test_same_history_in_another_form_is_the_same(
    stand: Stand, agent: Agent, claude: StrictClaude, one: str, other: str
) -> None:
    claude.options.enforce_thinking = (one == "split") == (other == "split")
    await told(agent, claude, *FACTS)
    for number in range(3):
        asked = [{"type": "text", "text": f"Look at this, {number}."}, {"type": "text", "text": "Who keeps the key?"}]
        await stand.remember(agent.session, {"extracted_context": {"porter": f"Hugo keeps the key, {number}"}})
        agent.messages.append({"role": "user", "content": asked})
        form = FORMS[one if number % 2 else other]
        answer = await agent.send(messages=form(agent.messages))
        assert answer.commit == "committed", answer.body
        agent.messages.append({"role": "assistant", "content": answer.content})

    assert not claude.options.enforce_thinking or unharmed(claude)
    assert len(injections(claude.requests[-1].messages)) == 3


async def test_edited_history_starts_clean(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    await told(agent, claude, *FACTS)
    await agent.good("Who keeps the key?")
    agent.messages = [
        {"role": "user", "content": "A summary of all that was said."},
        {"role": "assistant", "content": "Yes."},
    ]

    answer = await agent.good("Who keeps the bell?")

    assert unharmed(claude)
    assert answer.receipt["replayed-tokens"] == "0"
    assert len(injections(claude.requests[-1].messages)) == 1


# -------------------------------------------------------------------------------------------------- failed attempts


@pytest.mark.parametrize("knows", [True, False], ids=["injected", "nothing"])
@pytest.mark.parametrize("pause", [True, False], ids=["emptied-redis", "at-once"])
async def test_partial_thinking_of_a_failed_attempt_stays_valid(
    stand: Stand, agent: Agent, claude: StrictClaude, knows: bool, pause: bool
) -> None:
    if knows:
        await told(agent, claude, *FACTS)
    claude.script(Reply(blocks=[{"type": "thinking"}, "The porter, I"], fault=Fault("fin", after=10)))
    agent.messages.append({"role": "user", "content": "Who keeps the key?"})
    failed = await agent.send()
    assert failed.cut
    kept = [block for block in failed.content if block.get("signature") or block.get("text")]
    assert kept[0]["type"] == "thinking"
    # Meanwhile there is more to say, which must not change what stood there.
    await stand.remember(agent.session, {"extracted_context": {"porter": "Hugo, who keeps the key"}})
    if pause:
        await stand.settled()
        await stand.forget_hot()

    agent.messages.append({"role": "assistant", "content": kept})
    await agent.good("Go on: who keeps the key?")
    await agent.good("And who keeps the bell?")

    assert unharmed(claude)
    assert injections(claude.requests[-1].messages)[-1].count("Hugo") == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_retry_sends_the_frozen_entry(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, stream: bool
) -> None:
    agent = connect(stand, stream=stream)
    await told(agent, claude, *FACTS)
    claude.script(Reply(fault=Fault("fin")))
    question = [*agent.messages, {"role": "user", "content": "Who keeps the key?"}]
    await agent.send(messages=question)
    await stand.remember(agent.session, {"extracted_context": {"porter": "Hugo, who keeps the key"}})

    again = await agent.fresh(stream=not stream).send(messages=question, max_tokens=500)

    first, second = claude.requests[-2:]
    assert again.commit == "committed"
    assert second.messages == first.messages
    assert injections(second.messages)


# ---------------------------------------------------------------------------------------------------------- variants


async def test_same_first_words_again_are_another_conversation(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    old = connect(stand)
    await told(old, claude, *FACTS)
    await old.good("Who keeps the key?")

    new = old.fresh()
    await told(new, claude, "the rope of room 9 is new")  # begins with the very words that the old one began with
    third = old.fresh()
    await told(third, claude, "the rope of room 10 is old")
    for _ in range(2):
        await old.good("Who keeps the bell?")
        await new.good("Who keeps the lamp?")
        await third.good("Which rope?")

    assert unharmed(claude)
    # Each prefix carries its own variant: the first knew nothing, the others were told the turns before.
    assert claude.requests[-3].messages[0] == claude.requests[0].messages[0]
    for request in claude.requests[-2:]:
        assert len(request.messages) > len(claude.requests[-3].messages) - 2
        assert request.messages[0]["content"] == "Write this down."


# ------------------------------------------------------------------------------------------------------------- bounds


async def test_conversation_tokens_bound_all_that_is_put_in(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start({"injection": {"conversationTokens": 150}, "filter": {"budgetTokens": 100}})
    agent = connect(stand)
    seen = []
    for number in range(6):
        facts = {f"fact{i}": f"Hugo keeps the key number {number}{i} in the hall" for i in range(5)}
        await stand.remember(agent.session, {"extracted_context": facts})
        answer = await agent.good("Who keeps the key?")
        seen.append((int(answer.receipt["replayed-tokens"]), int(answer.receipt["injected-tokens"])))

    assert all(new <= 100 and old + new <= 150 for old, new in seen)
    assert seen[0][1] > 0
    assert seen[-1][1] == 0
    assert unharmed(claude)


async def test_filter_none_and_fields_that_never_go_in(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    state = {"active_mission": {"goal": "Open the hall"}, "extracted_context": {"pin": "the key is 1234"}}
    cases: list[tuple[Json, set[str]]] = [
        ({"strategy": "None"}, {"goal"}),  # pinned, so it goes in whatever the strategy
        ({"neverInPrompt": ["/extracted_context/pin"]}, {"goal"}),
        ({}, {"goal", "pin"}),
    ]
    for spec, expected in cases:
        stand = await start({"filter": spec})
        agent = connect(stand)
        await stand.remember(agent.session, state)
        await agent.good("What is the key?")
        said = "".join(injections(claude.requests[-1].messages))
        assert ("Open the hall" in said, "1234" in said) == ("goal" in expected, "pin" in expected), spec


async def test_system_role_puts_the_state_behind_the_message(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start({"injection": {"role": "System"}})
    agent = connect(stand)
    await told(agent, claude, *FACTS)
    await agent.good("Who keeps the key?")
    await agent.good("And who the bell?")
    # Where the client's own system message comes last, ours goes into the user's message.
    agent.messages += [{"role": "user", "content": "Who keeps the lamp?"}, {"role": "system", "content": "Be brief."}]
    await stand.remember(agent.session, {"extracted_context": {"lamp": "Hugo keeps the lamp"}})
    answer = await agent.send()

    assert answer.commit == "committed"
    assert unharmed(claude)
    messages = claude.requests[-1].messages
    roles = [message["role"] for message in messages if injections([message])]
    assert roles == ["system", "user"]
    assert [messages[n]["role"] for n in (-2, -1)] == ["user", "system"]
