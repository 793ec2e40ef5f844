"""Random conversations of an agent without code for the memory tool: whatever happens, Claude takes every later request,
for all that was hidden stands in it as it was."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.claude import Fault, Reply, StrictClaude
from tests.sidecar.agents import TOOLS, Agent, tool_results, unharmed
from tests.sidecar.memory_tool import MEMORY, files, memory
from tests.sidecar.stand import Json, Stand
from tests.sidecar.test_turn_ledger import FORMS

TURNS = 8
LOOK: Json = {"type": "tool_use", "name": "look", "input": {}}


def call(dice: random.Random) -> Json:
    path = f"/memories/{dice.choice('abc')}.md"
    return dice.choice(
        [
            memory("view", path="/memories"),
            memory("view", path=path),
            memory("create", path=path, file_text=f"text {dice.random()}"),
            memory("insert", path=path, insert_line=0, insert_text="more"),
            memory("delete", path=path),
            memory("rename", old_path=path, new_path=f"/memories/{dice.choice('abc')}/d.md"),
            memory("view", path="/memories/../etc"),
        ]
    )


def reply(dice: random.Random, *, calls: int, looks: int, ends: bool = False) -> Reply:
    said: list[str | Json] = [f"said {dice.random()}" for _ in range(dice.choice((0, 0, 1, 2)) or int(ends))]
    blocks = [*said, *(call(dice) for _ in range(calls)), *(LOOK for _ in range(looks))]
    dice.shuffle(blocks)
    return Reply(blocks=blocks, think=dice.random() < 0.7)


def turn(dice: random.Random) -> list[Reply]:
    """What Claude says from one shown reply to the next: hidden exchanges, and one that the client sees the end of."""
    rounds = [reply(dice, calls=dice.choice((1, 1, 2)), looks=0) for _ in range(dice.choice((0, 1, 1, 2, 3)))]
    if dice.random() < 0.4:
        return [*rounds, reply(dice, calls=dice.choice((0, 1, 2)), looks=dice.choice((1, 2)))]
    return [*rounds, reply(dice, calls=0, looks=0, ends=True)]


def whole_blocks(content: list[Json]) -> list[Json]:
    """What a client keeps of a reply that broke off: the blocks that are complete, up to the first that is not."""
    kept: list[Json] = []
    for block in content:
        if block["type"] == "tool_use" or (block["type"] == "thinking" and not block["signature"]):
            break
        if block["type"] == "text" and not block["text"]:
            break
        kept.append(block)
    return kept


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("seed", range(6))
async def test_hidden_exchanges_stay_whatever_happens(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, seed: int, stream: bool
) -> None:
    dice = random.Random(seed)
    agent = connect(stand, stream=stream, extra={"tools": [*TOOLS, MEMORY]})
    form = dice.choice(list(FORMS))
    told: list[list[Json]] = []
    for number in range(TURNS):
        if told and dice.random() < 0.2:
            agent.messages = dice.choice(told)  # rewound
        if told and dice.random() < 0.2:
            await stand.settled()
            await stand.forget_hot()
        content: Any = f"Question {number}?"
        while True:
            script = turn(dice)
            before = await files(stand, agent.session)
            fails = dice.random() < 0.2
            if fails:
                script[-1].fault = Fault("fin", after=dice.randrange(1, 12))
            claude.reset_script()
            claude.script(*script)
            asked = [*agent.messages, {"role": "user", "content": content}]
            answer = await agent.send(messages=FORMS[form](asked))
            if answer.status == 200 and answer.message.get("stop_reason"):
                agent.messages = [*asked, {"role": "assistant", "content": answer.content}]
                if answer.message["stop_reason"] == "tool_use":
                    content = tool_results(answer)
                    continue
                break
            assert fails, answer.body
            assert await files(stand, agent.session) == before
            kept = whole_blocks(answer.content) if stream and isinstance(content, str) else []
            if kept and dice.random() < 0.6:
                agent.messages = [*asked, {"role": "assistant", "content": kept}]
                content = "Go on."
        told.append(agent.messages)
        assert all(block.get("name") != "memory" for message in agent.messages for block in _blocks(message))
    assert unharmed(claude)


def _blocks(message: Json) -> list[Json]:
    return message["content"] if isinstance(message["content"], list) else []
