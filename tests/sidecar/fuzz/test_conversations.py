"""Whatever a client sends: what Claude accepts from it directly, Claude accepts through the sidecar too.

``FUZZ=n`` runs so many conversations, ``SEED=n`` repeats one.
"""

import os
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.claude import StrictClaude
from tests.sidecar.agents import Agent, Answer
from tests.sidecar.conftest import Start
from tests.sidecar.fuzz.conversation import Move, Plan, Talk
from tests.sidecar.stand import Stand

SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else range(int(os.environ.get("FUZZ", "60")))


@pytest.fixture
async def direct() -> AsyncIterator[StrictClaude]:
    """Claude with nothing before it."""
    async with StrictClaude() as claude:
        yield claude


def accepted(answer: Answer, move: Move) -> bool:
    """Whether the client has a whole answer; one that Claude breaks off is none on either side."""
    if answer.status != 200 or answer.cut:
        return False
    return not move.path.endswith("messages") or bool(answer.message.get("stop_reason"))


async def ask(agent: Agent, talk: Talk, move: Move) -> Answer:
    agent.headers, agent.path = move.headers, move.path
    before = talk.messages, talk.calls
    move.do(talk)
    answer = await agent.send(talk.body(move))
    if accepted(answer, move) and move.path.endswith("messages"):
        while talk.messages and talk.messages[-1]["role"] in ("system", "assistant"):
            talk.messages = talk.messages[:-1]  # a prefill, and what a client says only once
        talk.took(answer.content)
    else:
        talk.messages, talk.calls = before
    return answer


async def play(seed: int, stand: Stand, claude: StrictClaude, direct: StrictClaude) -> Counter[str]:
    """Both sides of one plan, move by move; returns which moves were accepted and refused."""
    plan = Plan(seed)
    agent, alone = Agent(stand.url), Agent(direct.url)
    ours, theirs = plan.talk(), plan.talk()
    seen: Counter[str] = Counter()
    told = [f"{plan.model} {plan.thinking}"]
    async with agent.http, alone.http:
        for move in plan.moves:
            if move.learnt:
                await stand.remember(agent.session, move.learnt)
            before = ours.messages, ours.calls
            without, through = await ask(alone, theirs, move), await ask(agent, ours, move)
            refused = claude.requests[-1]
            told.append(f"{move.name}: {without.status} {through.status} {refused.rule} {refused.diagnosis}")
            if accepted(without, move):
                assert accepted(through, move), (f"SEED={seed}", told, through.body[:500])
            elif accepted(through, move):
                # A message of blanks is none to Claude; with a block of ours in it, it is one.
                assert direct.requests[-1].rule == "blank_text", (f"SEED={seed}", told)
                ours.messages, ours.calls = before
            seen[f"{move.name} {without.status}"] += 1
            lost = [each.counters.get("thinking_mismatches", 0) for each in (claude, direct)]
            assert lost[0] == lost[1], (f"SEED={seed}", told)  # neither refused nor dropped where it need not be
    return seen


async def test_what_claude_accepts_directly_it_accepts_through_a_sidecar(
    start: Start, claude: StrictClaude, direct: StrictClaude
) -> None:
    stand = await start({"filter": {"pinned": ["/active_mission/goal"]}})
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        seen += await play(seed, stand, claude, direct)
    if len(SEEDS) >= 60:
        kinds = {name.split()[0] for name in seen}
        assert kinds >= {"ask", "rewind", "compact", "again", "fresh", "count", "fault", "system", "wrong"}, seen
        assert sum(count for name, count in seen.items() if name.endswith(" 200")) > len(SEEDS) * 3, seen
