"""Calls made as one: who shares, who waits, and whose failure is whose."""

import asyncio
from collections.abc import Sequence

import pytest

from agentmemory_sidecar.stores.postgres import gather
from agentmemory_sidecar.stores.postgres.gather import Gathered
from agentmemory_sidecar.stores.protocols import StoreUnavailable
from agentmemory_sidecar.tasks import Tasks


class Maker:
    """Doubles numbers; remembers what came together, and waits where told to."""

    def __init__(self) -> None:
        self.made: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, calls: Sequence[int]) -> list[int]:
        self.made.append(list(calls))
        await self.gate.wait()
        if any(call == 13 for call in calls):
            raise ValueError("thirteen")
        if any(call == 99 for call in calls):
            raise StoreUnavailable("store", "away", definite=False)
        return [2 * call for call in calls]


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def gathered(maker: Maker) -> Gathered[int, int]:
    return Gathered(Tasks(), "test", maker)


async def test_calls_of_one_moment_are_one(gathered: Gathered[int, int], maker: Maker) -> None:
    assert await asyncio.gather(*map(gathered.ask, range(5))) == [0, 2, 4, 6, 8]
    assert await gathered.ask(7) == 14
    assert maker.made == [[0, 1, 2, 3, 4], [7]]


async def test_who_comes_while_one_is_under_way_goes_with_the_next(
    gathered: Gathered[int, int], maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "PATIENCE_S", 3600.0)
    maker.gate.clear()
    first = gathered.ask(1)
    while not maker.made:  # noqa: ASYNC110
        await asyncio.sleep(0)
    others = [gathered.ask(number) for number in (2, 3)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert maker.made == [[1]]
    maker.gate.set()
    assert [await first, *[await other for other in others]] == [2, 4, 6]
    assert maker.made == [[1], [2, 3]]


async def test_a_call_that_is_stuck_does_not_hold_up_the_others_for_ever(
    gathered: Gathered[int, int], maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "PATIENCE_S", 0.0)
    maker.gate.clear()
    stuck = gathered.ask(1)
    while not maker.made:  # noqa: ASYNC110
        await asyncio.sleep(0)
    other = gathered.ask(2)
    while len(maker.made) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    maker.gate.set()
    assert await asyncio.gather(stuck, other) == [2, 4]


async def test_a_value_that_cannot_be_held_is_its_callers_alone(gathered: Gathered[int, int], maker: Maker) -> None:
    answers = await asyncio.gather(*map(gathered.ask, (1, 13, 2)), return_exceptions=True)
    assert [answers[0], answers[2]] == [2, 4]
    assert isinstance(answers[1], ValueError)
    assert maker.made == [[1, 13, 2], [1], [13], [2]]


async def test_a_lost_answer_is_everybodys_and_nothing_is_made_twice(
    gathered: Gathered[int, int], maker: Maker
) -> None:
    answers = await asyncio.gather(*map(gathered.ask, (1, 99)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
    assert maker.made == [[1, 99]]
    assert await gathered.ask(3) == 6


async def test_a_caller_that_gives_up_takes_nobody_along(gathered: Gathered[int, int], maker: Maker) -> None:
    gone, stays = gathered.ask(1), gathered.ask(2)
    gone.cancel()
    assert await stays == 4
    assert maker.made == [[2]]


async def test_more_than_fit_into_one_go_one_after_another(gathered: Gathered[int, int], maker: Maker) -> None:
    count = gather.MOST + 3
    assert await asyncio.gather(*map(gathered.ask, range(100, 100 + count))) == [2 * n for n in range(100, 100 + count)]
    assert [len(calls) for calls in maker.made] == [gather.MOST, 3]


async def test_what_waits_at_the_end_is_refused(gathered: Gathered[int, int], maker: Maker) -> None:
    waiting = gathered.ask(1)
    gathered.close()
    for future in (waiting, gathered.ask(2)):
        with pytest.raises(StoreUnavailable) as refused:
            await future
        assert refused.value.definite
    assert maker.made == []
