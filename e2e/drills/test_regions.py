"""Regions cut off, and cut from each other, under writers: nothing that was acknowledged is lost, nothing is there twice.

The writers stand on this machine and speak through agents in both regions; Claude and what stands for AWS are on the control
plane. Neither is cut. A region that is cut takes its DynamoDB endpoint, its bucket and its replication with it.
"""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentmemory_operator.drill.budgets import budgets
from agentmemory_operator.drill.cluster import Agents, Place
from agentmemory_operator.drill.conversation import RULES, Conversation
from agentmemory_operator.drill.course import Course, Times
from agentmemory_operator.drill.evaluate import Report, evaluate
from agentmemory_operator.drill.render import as_json, as_markdown
from agentmemory_operator.drill.writer import Writer
from agentmemory_sidecar.resource import parse
from e2e.cluster.agents import CLAUDE, IMAGE, apply, ready, rolled_out
from e2e.cluster.aws import stand_in
from e2e.cluster.drill import ASK, KUBECTL, REPORTS, command, contexts, refusals
from e2e.cluster.nodes import all_ready, cut_off, nodes, paused
from e2e.cluster.shell import kubectl, kubectl_json

EXAMPLE = Path("examples/two-regions.yaml")
NAME = "regions"
EAST, WEST = REGIONS = ("us-east-1", "us-west-2")
PAUSE_S = 0.3
RTO_S = 15
"""What is promised for agents that live in the other region already, whatever the resource's own budget is."""


class Drill:
    """The resource, its places, and writers with lines that are open before anything is hit."""

    def __init__(self, namespace: str, manifest: dict[str, Any]) -> None:
        self.namespace = namespace
        self.budgets = budgets(parse(manifest))
        self.places = {region: Place(region, KUBECTL, namespace, f"agent-{region}") for region in REGIONS}

    async def run(
        self, stack: AsyncExitStack, kind: str, region: str, homes: dict[str, tuple[str, ...]], **more: Any
    ) -> Report:
        """``homes``: a writer's name to its session and the regions that it may write in, its home first."""
        writers = []
        for name, (session, *regions) in homes.items():
            lines = {each: self.places[each].line() for each in regions}
            for line in lines.values():
                stack.push_async_callback(line.close)
                await line.open()
            talk = Conversation("claude-haiku-4-5", ASK, thinking=True)
            writers.append(
                Writer(name, session, regions, lines, talk, patience_s=self.budgets.patience_s, pause_s=PAUSE_S)
            )
        look = lambda region, session: self.places[region].look(session)  # noqa: E731
        refused = await refusals()
        course = Course(kind, region, REGIONS, writers, look, more.pop("fault"), more.pop("times"), **more)
        run = await course.run()
        report = evaluate(run, self.budgets)
        REPORTS.mkdir(parents=True, exist_ok=True)
        (REPORTS / f"drill-{kind}-record.json").write_text(json.dumps(asdict(run), indent=1))
        (REPORTS / f"drill-{kind}.md").write_text(as_markdown(report))
        (REPORTS / f"drill-{kind}.json").write_text(as_json(report))
        assert await refusals() == refused, "Claude refused a request, such as thinking that does not fit its prompt"
        return report


@pytest.fixture(scope="module")
async def drill() -> AsyncIterator[Drill]:
    namespace = f"regions-{secrets.token_hex(3)}"
    await kubectl("create", "namespace", namespace)
    manifest = yaml.safe_load(EXAMPLE.read_text())
    spec = manifest["spec"]
    manifest["metadata"] = {"name": NAME, "namespace": namespace}
    spec["state"]["dynamodb"]["table"] = f"{namespace}-state"
    spec["archive"]["s3"]["bucketPrefix"] = f"acme-{namespace}"
    spec["extraction"] = {"rules": RULES}
    await apply(manifest)
    await ready(namespace, NAME, timeout_s=400)
    for region in REGIONS:
        agents = Agents(f"agent-{region}", namespace, NAME, IMAGE, 1, region, CLAUDE).manifest()
        await apply(agents)
    for region in REGIONS:
        await rolled_out(namespace, f"deployment/agent-{region}")
    yield Drill(namespace, manifest)
    await stand_in("heal")
    await kubectl("-n", namespace, "delete", "agentmemory", NAME, "--wait=false", check=False)
    await kubectl("delete", "namespace", namespace, "--wait=false")


@asynccontextmanager
async def region_cut() -> AsyncIterator[None]:
    """The east is gone: its replication first, so that it takes turns with it, then its endpoints and its nodes."""
    try:
        await stand_in("isolate", region=EAST)
        await stand_in("reach", region=EAST, mode="hang")
        async with cut_off(await nodes(EAST)):
            yield
    finally:
        await stand_in("reach", region=EAST, mode="ok")
        await stand_in("heal")


@asynccontextmanager
async def region_paused() -> AsyncIterator[None]:
    """The east stands still: its replication, its endpoints, and every process on its nodes, which then go on as if nothing
    had been."""
    try:
        await stand_in("isolate", region=EAST)
        await stand_in("reach", region=EAST, mode="hang")
        async with paused(await nodes(EAST)):
            yield
    finally:
        await stand_in("reach", region=EAST, mode="ok")
        await stand_in("heal")


@asynccontextmanager
async def link_cut() -> AsyncIterator[None]:
    await stand_in("isolate", region=EAST)
    try:
        yield
    finally:
        await stand_in("heal")


async def test_a_region_is_cut_off_and_comes_back(drill: Drill) -> None:
    session = f"s-{secrets.token_hex(4)}"
    homes = {"a": (f"{session}-a", EAST, WEST), "b": (f"{session}-b", EAST, WEST), "c": (f"{session}-c", WEST, EAST)}
    # What is under way between the regions when the cut comes is what a moving session may lack.
    await stand_in("links", lag=0.5)
    try:
        async with AsyncExitStack() as stack:
            times = Times(hold_s=20, turns=5, wait_s=90)
            report = await drill.run(stack, "region", EAST, homes, fault=region_cut, times=times)
    finally:
        await stand_in("links", lag=0)
        await all_ready()
    assert report.passed, as_markdown(report)
    assert max(line.recovery_s or RTO_S for line in report.lines) < RTO_S, as_markdown(report)
    assert report.lost, "nobody noticed the cut"
    assert report.unseen, "the region took nothing with it"


@pytest.mark.all
async def test_a_region_is_paused_and_goes_on(drill: Drill) -> None:
    session = f"s-{secrets.token_hex(4)}"
    homes = {"a": (f"{session}-a", EAST, WEST), "b": (f"{session}-b", EAST, WEST), "c": (f"{session}-c", WEST, EAST)}
    try:
        async with AsyncExitStack() as stack:
            times = Times(hold_s=20, turns=5, wait_s=90)
            report = await drill.run(stack, "pause", EAST, homes, fault=region_paused, times=times)
    finally:
        await all_ready()
    assert report.passed, as_markdown(report)
    assert report.lost, "nobody noticed the pause"


@pytest.mark.all
async def test_only_the_link_between_the_regions_is_cut_with_writers_on_both_sides(drill: Drill) -> None:
    session = f"s-{secrets.token_hex(4)}"
    homes = {"a": (session, EAST), "b": (session, WEST), "c": (f"{session}-own", EAST)}
    async with AsyncExitStack() as stack:
        times = Times(hold_s=10, turns=5, wait_s=90)
        report = await drill.run(stack, "link", "", homes, fault=link_cut, times=times, marking=True)
    assert report.passed, as_markdown(report)
    assert report.conflicting, "both sides set the same place, and no conflict says so"


@pytest.mark.all
@pytest.mark.parametrize("kind", ["pod", "region", "pause", "clock"])
async def test_the_command_drills_its_own_agents_and_takes_them_away(drill: Drill, kind: str) -> None:
    refused = await refusals()
    report = await command(kind, drill.namespace, NAME, "--region", EAST)
    assert report["passed"], report
    assert await refusals() == refused
    left = await kubectl_json("-n", drill.namespace, "get", "deployments", "-l", "agentmemory.io/drill")
    assert {item["metadata"]["name"] for item in left["items"]} == {f"agent-{region}" for region in REGIONS}


@pytest.mark.all
async def test_the_command_drains_a_node_with_a_context_for_each_region(drill: Drill) -> None:
    found = await nodes(EAST)
    assert len(found) == 2, f"this drill needs two nodes in {EAST}, as e2e/kind-all.yaml makes them: there are {found}"
    async with contexts(*REGIONS):
        given = [part for region in REGIONS for part in ("--context", f"{region}={region}")]
        report = await command(
            "drain", drill.namespace, NAME, "--region", EAST, "--node", found[0], "--allow-privileged", *given
        )
    await all_ready()
    assert report["passed"], report
