"""The election: decisions on a clock of the test's own, and two candidates on a real API server."""

import asyncio

import pytest

from agentmemory_operator.kube import LEASE, Cluster
from agentmemory_operator.leader import LEASE_S, Election, Watched

HELD = {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": "2026-11-22T12:00:00.000000Z"}


def test_a_record_is_old_when_it_has_not_changed_for_a_lease_on_our_own_clock() -> None:
    watched = Watched().seen(HELD, 100.0)
    assert not watched.free("me", 100.0 + LEASE_S - 0.1)
    assert watched.free("me", 100.0 + LEASE_S)


def test_a_renewal_starts_the_wait_anew_whatever_time_it_claims() -> None:
    watched = Watched().seen(HELD, 100.0).seen(HELD | {"renewTime": "1999-01-01T00:00:00.000000Z"}, 110.0)
    assert not watched.free("me", 100.0 + LEASE_S)
    assert watched.free("me", 110.0 + LEASE_S)


def test_the_same_record_seen_again_does_not() -> None:
    watched = Watched().seen(HELD, 100.0).seen(dict(HELD), 110.0)
    assert watched.free("me", 100.0 + LEASE_S)


def test_a_released_or_own_lease_is_free_at_once() -> None:
    assert Watched().seen(HELD | {"holderIdentity": ""}, 100.0).free("me", 100.0)
    assert Watched().seen(HELD, 100.0).free("other", 100.0)


@pytest.mark.cluster
async def test_one_of_two_leads_and_the_other_follows_when_it_lets_go(kube: Cluster, namespace: str) -> None:
    first, second = (Election(kube, namespace, "lead", name) for name in ("first", "second"))
    await first.acquire()
    waiting = asyncio.ensure_future(second.acquire())  # noqa: TID251
    holding = asyncio.ensure_future(first.hold())  # noqa: TID251
    await asyncio.sleep(5)
    assert not waiting.done()
    assert not holding.done()
    holding.cancel()
    await first.release()
    await asyncio.wait_for(waiting, 10)
    lease = await kube.get(LEASE, namespace, "lead")
    assert lease
    assert lease["spec"]["holderIdentity"] == "second"
    assert lease["spec"]["leaseTransitions"] == 1


@pytest.mark.cluster
async def test_who_finds_another_in_its_place_stops_holding(kube: Cluster, namespace: str) -> None:
    first = Election(kube, namespace, "lead", "first")
    await first.acquire()
    lease = await kube.get(LEASE, namespace, "lead")
    assert lease
    await kube.replace(lease | {"spec": lease["spec"] | {"holderIdentity": "usurper"}})
    await asyncio.wait_for(first.hold(), 15)
