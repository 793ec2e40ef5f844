"""Two users on one project, one in each region, while the link between the regions comes and goes."""

from agentmemory_sidecar.resource.scopes import Scope
from tests.histories.history import run
from tests.histories.plan import REGIONS, Event, Plan, Who
from tests.histories.world import Setting, virtual

UPDATES = 1_000
TOOLS = ("note", "note", "put_a", "note", "put_b", "todo")
EVERY_S = 2.0
PARTED_S = 37.0
WHOLE_S = 23.0


def interleaved() -> Plan:
    """Each turn makes one change; the users take turns, and neither waits for the other."""
    regions = REGIONS[:2]
    turns = [
        Event(
            number * EVERY_S, "turn",
            {"client": number % 2, "tools": [[TOOLS[number // 2 % len(TOOLS)]]], "route": [(regions[number % 2], 0)],
             "wait_s": 1.0, "fresh": True},
        )
        for number in range(UPDATES)
    ]  # fmt: skip
    links = []
    at = 5.0
    while at < UPDATES * EVERY_S:
        pair = {"pair": list(regions)}
        links += [Event(at, "part", pair), Event(at + PARTED_S, "heal", pair)]
        at += PARTED_S + WHOLE_S
    users = (Who("anna", "anna", "p"), Who("ben", "ben", "p"))
    events = tuple(sorted([*turns, *links], key=lambda event: event.at))
    return Plan(1, Setting(regions, ((Scope.PROJECT, ()),)), 1, users, events)


def test_a_thousand_updates_under_partitions_are_all_there_and_converge() -> None:
    """None lost, none reverted, each once: what the checks of every history say."""
    with virtual():
        result = run(interleaved())
    assert result.problems == []
    assert result.acknowledged >= 2 * UPDATES
