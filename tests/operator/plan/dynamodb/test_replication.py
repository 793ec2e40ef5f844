from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.heartbeats import EVERY_S, PAUSES_S
from agentmemory_operator.plan.aws import CLUSTER, RESOURCE, TENANT, Owner
from agentmemory_operator.plan.dynamodb.replication import (
    HEALTHY_S,
    Findings,
    Pair,
    Track,
    concluded,
    lag_s,
    outstanding,
    tracked,
    where,
)
from agentmemory_operator.plan.dynamodb.values import Place, Seen, Wanted
from agentmemory_operator.plan.values import Condition

EAST, WEST, SOUTH = "us-east-1", "us-west-2", "us-east-2"
ROUNDS = 30


def rounds(lags: list[float]) -> list[float | None]:
    """What is measured at the end of each round, where the link has these lags, round by round. Delivery is in order."""
    sent: dict[int, float] = {}
    arrives: dict[int, float] = {}
    track, found, last_s = Track(), [], 0.0
    for number, lag in enumerate(lags, start=1):
        begun_s = number * EVERY_S
        sent[number] = begun_s
        arrives[number] = last_s = max(last_s, begun_s + lag)
        now_s = begun_s
        for pause_s in accumulate(PAUSES_S):
            now_s = begun_s + pause_s
            track = tracked(track, sent, max((n for n, at_s in arrives.items() if at_s <= now_s), default=0), now_s)
            if not outstanding(track, sent):
                break
        found.append(lag_s(track, sent, now_s))
    return found


@given(st.floats(0, 600))
@example(0)
@example(28)
@example(29.9)
@example(30)
def test_steady_lag_is_found_and_never_made_smaller(lag: float) -> None:
    found = rounds([lag] * ROUNDS)[-1]
    assert found is not None
    assert lag <= found <= lag + max(PAUSES_S)
    if lag <= sum(PAUSES_S):
        assert found < HEALTHY_S
    if lag >= HEALTHY_S:
        assert found >= HEALTHY_S


@given(st.lists(st.floats(0, 200), min_size=1, max_size=20))
def test_a_link_that_was_healed_is_healthy_again(lags: list[float]) -> None:
    found = rounds([*lags, *[0.5] * 12])
    assert found[-1] is not None
    assert found[-1] < HEALTHY_S


@given(st.integers(2, 20), st.integers(1, 20))
def test_a_link_that_is_cut_lags_more_and_more(before: int, after: int) -> None:
    found = rounds([1.0] * before + [1e6] * after)
    cut = found[before:]
    assert all(one is not None and other is not None and one < other for one, other in pairwise(cut))
    assert cut[-1] == pytest.approx(EVERY_S * (after - 1) + sum(PAUSES_S))


def test_a_link_that_never_delivered_is_not_called_healthy() -> None:
    assert rounds([1e6, 1e6]) == [None, pytest.approx(EVERY_S + sum(PAUSES_S))]


def test_what_arrived_though_its_write_was_not_acknowledged_tells_no_time() -> None:
    track = tracked(Track(3, 1.5), {3: 90.0}, 4, 500.0)
    assert (track, lag_s(track, {3: 90.0}, 500.0)) == (Track(4, 1.5), 1.5)
    assert tracked(track, {3: 90.0}, 2, 600.0) is track  # another replica's older answer


# ---------------------------------------------------------------------------------------------------------- condition

WELL: dict[Pair, float | None] = {(EAST, WEST): 1.0, (WEST, EAST): 2.0}


def test_the_largest_lag_is_what_a_loss_may_take() -> None:
    assert Findings(WELL).rpo_s == 2.0
    assert Findings({(EAST, WEST): None}).rpo_s is None


@pytest.mark.parametrize(
    ("findings", "missing", "status", "reason", "words"),
    [
        (Findings(WELL), (), True, Reason.READY, ()),
        (Findings(), (), None, Reason.PROGRESSING, ()),
        (Findings(WELL | {(EAST, WEST): None}), (), None, Reason.PROGRESSING, ()),
        (Findings(WELL), (SOUTH,), None, Reason.WAITING, (SOUTH,)),
        (
            Findings(WELL | {(EAST, WEST): 31.0}),
            (SOUTH,),
            False,
            Reason.REPLICATION_LAGGING,
            (f"from {EAST} to {WEST} (more than 30 seconds)", f"{EAST} were lost", "docs/regions.md"),
        ),
        (
            Findings(WELL | {(EAST, WEST): 900.0}, frozenset({WEST})),
            (),
            False,
            Reason.REGION_UNREACHABLE,
            (WEST, "docs/regions.md"),
        ),
        (
            Findings(WELL, frozenset({WEST}), {EAST: (True, "grant it")}),
            (),
            False,
            Reason.ACCESS_DENIED,
            (EAST, "grant"),
        ),
        (Findings(WELL, frozenset(), {EAST: (False, "no table")}), (), False, Reason.FAILED, (EAST, "no table")),
    ],
)
def test_condition(
    findings: Findings, missing: tuple[str, ...], status: bool | None, reason: Reason, words: tuple[str, ...]
) -> None:
    found = concluded(findings, missing)
    assert (found.type, found.status, found.reason) == (ConditionType.REPLICATION_HEALTHY, status, reason)
    assert all(word in found.message for word in words)


@given(st.floats(HEALTHY_S, 7 * 86400))
def test_the_text_does_not_follow_the_lag(lag: float) -> None:
    texts = {concluded(Findings({(EAST, WEST): each})).message for each in (30.0, 300.0, 3600.0, 86400.0)}
    assert concluded(Findings({(EAST, WEST): lag})).message in texts


OWNER = Owner("agents", "one", "agents/support")
OURS = {TENANT: "agents", CLUSTER: "one", RESOURCE: "agents/support"}


def between(*seen: Seen, observe_only: bool = False) -> Any:
    places = tuple(Place(region, region) for region in (EAST, WEST, SOUTH))
    tables = {place.aws_region: table for place, table in zip(places, seen, strict=True)}
    found = where(Wanted("memory", places, OWNER), tables, observe_only=observe_only)
    return found.reason if isinstance(found, Condition) else found and tuple(place.region for place in found)


def test_heartbeats_go_where_the_table_is_ours_and_serves() -> None:
    def table(tags: Mapping[str, str] = OURS, **replicas: str) -> Seen:
        return Seen(
            status="ACTIVE", tags=tags, replicas={name.replace("_", "-"): each for name, each in replicas.items()}
        )

    others = {"us_east_1": "ACTIVE", "us_east_2": "ACTIVE"}
    away = Seen(away="no answer")
    assert between(table(us_west_2="ACTIVE"), table(us_east_1="ACTIVE"), Seen()) == (EAST, WEST)
    assert between(table(us_west_2="ACTIVE"), away, Seen()) == (EAST, WEST)
    assert between(away, table(**others), table(us_east_1="ACTIVE", us_west_2="ACTIVE")) == (EAST, WEST, SOUTH)
    assert between(away, away, away) is None
    assert between(table(), Seen(), Seen()) is Reason.WAITING
    assert between(table(us_west_2="CREATING"), Seen(), Seen()) is Reason.WAITING
    assert between(Seen(), Seen(), Seen()) is Reason.WAITING
    other = OURS | {CLUSTER: "two"}
    assert between(table(other, us_west_2="ACTIVE"), table(other), Seen()) is Reason.MANAGED_ELSEWHERE
    assert between(away, table(other), table(other)) is Reason.MANAGED_ELSEWHERE
    assert between(table({}, us_west_2="ACTIVE"), table({}), Seen()) is Reason.WAITING
    assert between(table(us_west_2="ACTIVE"), table(), Seen(), observe_only=True) is Reason.OBSERVE_ONLY
