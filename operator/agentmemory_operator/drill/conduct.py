"""``agentmemory drill``: its agents are made, its course is run, and everything that it made is taken away again."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from agentmemory_operator.drill import faults
from agentmemory_operator.drill.budgets import Budgets, budgets, skew_s
from agentmemory_operator.drill.cluster import Agents, Kubectl, KubectlFailed, Place
from agentmemory_operator.drill.conversation import RULES, Conversation, prepared
from agentmemory_operator.drill.course import Course, DrillFailed, Times
from agentmemory_operator.drill.evaluate import Report, evaluate
from agentmemory_operator.drill.ledger import AWAY, View
from agentmemory_operator.drill.line import Lost, Rotation
from agentmemory_operator.drill.stage import CannotDrill, injected, is_cache, node_region, probe_port, started, stores
from agentmemory_operator.drill.writer import Writer
from agentmemory_sidecar.resource import AgentMemory, parse
from agentmemory_sidecar.resource.ephemeral import HotUnavailable

ASK = "Call the tool agentmemory_drill once, with exactly this input: {call}"
REPLICAS = 2
"""Agents in each region, so that one can be killed."""
OPENING_S = 60.0
"""How long the way to an agent may take before anything is measured."""
PAUSE_S = 0.5
"""From a writer's turn to its next."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for."""

    kind: str
    """``pod``, ``drain``, ``pause``, ``region``, ``cold`` or ``clock``."""
    memory: str
    namespace: str
    contexts: Mapping[str, str]
    """Region to kubeconfig context; under the empty name that of all others."""
    region: str = ""
    """The one to be hit; empty for the resource's first."""
    node: str = ""
    also: tuple[str, ...] = ()
    """With ``cold``: label selectors of the namespace's pods that are stores, too."""
    skew_s: float | None = None
    """With ``clock``: how far clocks are off; None for what the resource makes of it."""
    privileged: bool = False
    """Whether pods that are not the drill's own may be hit."""
    upstream: str = ""
    key_from: tuple[str, str] | None = None
    model: str = "claude-haiku-4-5"
    ask: str = ASK
    image: str = ""
    times: Times = field(default_factory=Times)


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where a drill is played."""

    wanted: Wanted
    run: str
    resource: AgentMemory
    region: str
    """The one that is hit."""
    places: Mapping[str, Place]
    """By region, in the resource's order."""
    agents: Mapping[str, Agents]
    pods: Mapping[str, Mapping[str, Any]]
    """One of these agents' pods, as the webhook makes it."""


@dataclass(frozen=True, slots=True)
class _Hit:
    """A kind's own things."""

    fault: faults.Fault
    budgets: Budgets
    detail: str = ""
    more: tuple[tuple[Place, dict[str, Any]], ...] = ()
    """Deployments beside the agents that every drill has."""


async def conduct(wanted: Wanted, say: Callable[[str], None]) -> Report:
    """Raises CannotDrill before anything is made, ResourceError for a resource that is none, DrillFailed where the course
    could not be run."""
    stage = await _stage(wanted)
    region, regions = stage.region, tuple(stage.places)
    order = [region, *(each for each in regions if each != region)] if wanted.kind in AWAY else [region]
    ways = [{each: Rotation(stage.places[each].line()) for each in order} for _ in (1, 2)]
    hit = await _hit(stage, [lines[region] for lines in ways])
    async with AsyncExitStack() as stack:
        say(f"starting agents in {', '.join(regions)}: {stage.run}")
        made = [(place, stage.agents[each].manifest()) for each, place in stage.places.items()]
        await stack.enter_async_context(started([*made, *hit.more]))
        writers = []
        for number, lines in enumerate(ways, 1):
            for each, way in lines.items():
                stack.push_async_callback(way.close)
                try:
                    await way.open(OPENING_S)
                except Lost as error:
                    raise DrillFailed(f"{each}: {error}") from None
            talk = Conversation(wanted.model, wanted.ask)
            session, patience_s = f"{stage.run}-{number}", hit.budgets.patience_s
            writers.append(Writer(f"w{number}", session, order, lines, talk, patience_s=patience_s, pause_s=PAUSE_S))

        async def look(at: str, session: str) -> View:
            return await stage.places[at].look(session)

        say(f"writing; then {region} is hit: {wanted.kind}")
        # What may take its time by its budget is waited for.
        wait_s = max(wanted.times.wait_s, 2 * hit.budgets.outage_s(wanted.kind, 0.0))
        times = replace(wanted.times, wait_s=wait_s)
        course = Course(wanted.kind, region, regions, writers, look, hit.fault, times, detail=hit.detail)
        return evaluate(await course.run(), hit.budgets)


async def _stage(wanted: Wanted) -> _Stage:
    resource, kubectls = await _resource(wanted)
    regions = list(kubectls)
    region = wanted.region or regions[0]
    if region not in regions:
        raise CannotDrill(f"{region} is no region of {wanted.memory}: it has {', '.join(regions)}")
    if wanted.kind in AWAY and len(regions) < 2:
        raise CannotDrill(f"{wanted.memory} has the one region {region}: there is no other where a session could go on")
    run = f"drill-{secrets.token_hex(3)}"
    shared = len({each.prefix for each in kubectls.values()}) < len(regions)
    places, agents, pods = {}, {}, {}
    for each in regions:
        hit = each == region
        places[each] = Place(each, kubectls[each], wanted.namespace, f"{run}-{each}", wanted.node if hit else "")
        where = await node_region(kubectls[each], each, shared=shared)
        asked = Agents(
            f"{run}-{each}", wanted.namespace, wanted.memory, wanted.image, REPLICAS, where,
            wanted.upstream, wanted.key_from, one_process_space=hit and wanted.kind == "pause",
        )  # fmt: skip
        pods[each] = await injected(places[each], asked)
        agents[each] = replace(asked, image=pods[each]["spec"]["containers"][0]["image"])
    return _Stage(wanted, run, resource, region, places, agents, pods)


async def _hit(stage: _Stage, ways: Sequence[Rotation]) -> _Hit:
    """What is done, and what it may cost. Raises CannotDrill."""
    wanted, place, limits = stage.wanted, stage.places[stage.region], budgets(stage.resource)
    match wanted.kind:
        case "pod":
            return _Hit(faults.pod(place), limits)
        case "drain":
            return _Hit(faults.drain(place, wanted.node), limits, f"The node is {wanted.node}.")
        case "pause":
            # The others' patience is one wait for turns, and the hold.
            return _Hit(faults.pause(place, 2 * (wanted.times.hold_s + wanted.times.wait_s)), limits)
        case "region":
            return _Hit(faults.region(place, REPLICAS), limits)
        case "cold":
            return await _cold(stage)
        case "clock":
            return _clock(stage, ways, limits)
    raise CannotDrill(f"{wanted.kind}: no such drill")


async def _cold(stage: _Stage) -> _Hit:
    wanted = stage.wanted
    found = await stores(stage.places.values(), wanted.memory, wanted.also)
    pods = [pod for some in found.values() for pod in some]
    if pods and not wanted.privileged:
        told = ", ".join(sorted(pod["metadata"]["name"] for pod in pods))
        raise CannotDrill(f"cold ends pods that others may use, too: {told}: allow it with --allow-privileged")
    awaited = stage.resource.spec.ephemeral.on_unavailable is HotUnavailable.REFUSE
    first = tuple(pod for pod in pods if awaited or not is_cache(pod))
    limits = budgets(stage.resource, starting=[first, tuple(stage.pods.values())])
    fault = faults.cold(list(stage.places.values()), found)
    return _Hit(fault, limits, f"All agents of the drill and {len(pods)} pods of stores were ended at once.")


def _clock(stage: _Stage, ways: Sequence[Rotation], limits: Budgets) -> _Hit:
    """Two more agents, of which one's sidecar is ahead and the other's behind."""
    wanted, place, agents = stage.wanted, stage.places[stage.region], stage.agents[stage.region]
    by_s = skew_s(stage.resource) if wanted.skew_s is None else wanted.skew_s
    more, off = [], {}
    for word, skew in (("ahead", by_s), ("behind", -by_s)):
        its = replace(place, name=f"{place.name}-{word}")
        more.append((its, replace(agents, name=its.name, replicas=1).skewed(stage.pods[stage.region], skew)))
        off[its] = skew
    fault = faults.clock(off, ways, probe_port(stage.pods[stage.region]))
    return _Hit(
        fault, limits, f"Requests went by turns through sidecars {by_s:g} s ahead, right, and {by_s:g} s behind.",
        tuple(more),
    )  # fmt: skip


async def _resource(wanted: Wanted) -> tuple[AgentMemory, dict[str, Kubectl]]:
    """And each region's kubectl, in the resource's order."""
    first = next(iter(wanted.contexts.values()), "")
    try:
        found = await kubectl(first).json("-n", wanted.namespace, "get", "agentmemory", wanted.memory)
    except KubectlFailed as error:
        raise CannotDrill(str(error)) from None
    except OSError:
        raise CannotDrill("kubectl is not on PATH, and drills go through it: install it") from None
    resource = parse({key: value for key, value in found.items() if key != "status"}, source=wanted.memory)
    if not prepared(resource):
        raise CannotDrill(
            f"{wanted.memory} does not take the drill's notes into its state; add to spec.extraction:\n"
            + yaml.safe_dump({"rules": RULES}, sort_keys=False).rstrip()
        )
    regions = list(resource.spec.regions)
    if unknown := set(wanted.contexts) - {"", *regions}:
        raise CannotDrill(f"{', '.join(sorted(unknown))}: no region of {wanted.memory}, which has {', '.join(regions)}")
    if missing := [] if "" in wanted.contexts else [each for each in regions if each not in wanted.contexts]:
        raise CannotDrill(f"no context for {', '.join(missing)}: give --context REGION=CONTEXT for each region")
    return resource, {each: kubectl(wanted.contexts.get(each, wanted.contexts.get("", ""))) for each in regions}


def kubectl(context: str) -> Kubectl:
    """That of a context; of the current one where it is empty."""
    return Kubectl(("kubectl", *(("--context", context) if context else ())))
