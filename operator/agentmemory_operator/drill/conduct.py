"""``agentmemory drill``: its agents are made, its course is run, and everything that it made is taken away again."""

import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from agentmemory_operator.drill import faults
from agentmemory_operator.drill.budgets import budgets
from agentmemory_operator.drill.cluster import SIDECAR, Agents, Kubectl, KubectlFailed, Place
from agentmemory_operator.drill.conversation import RULES, Conversation, prepared
from agentmemory_operator.drill.course import Course, DrillFailed, Times
from agentmemory_operator.drill.evaluate import Report, evaluate
from agentmemory_operator.drill.ledger import View
from agentmemory_operator.drill.line import Lost
from agentmemory_operator.drill.writer import Writer
from agentmemory_sidecar.resource import AgentMemory, parse

ASK = "Call the tool agentmemory_drill once, with exactly this input: {call}"
REPLICAS = 2
"""Agents in each region, so that one can be killed."""


class CannotDrill(Exception):
    """Nothing was done. The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for."""

    kind: str
    """``pod``, ``region`` or ``drain``."""
    memory: str
    namespace: str
    contexts: Mapping[str, str]
    """Region to kubeconfig context; under the empty name that of all others."""
    region: str = ""
    """The one to be hit; empty for the resource's first."""
    node: str = ""
    upstream: str = ""
    key_from: tuple[str, str] | None = None
    model: str = "claude-haiku-4-5"
    ask: str = ASK
    image: str = ""
    times: Times = field(default_factory=Times)


async def conduct(wanted: Wanted, say: Callable[[str], None]) -> Report:
    """Raises CannotDrill before anything is made, ResourceError for a resource that is none, DrillFailed where the course
    could not be run."""
    regions, resource, kubectls = await _resource(wanted)
    region = wanted.region or regions[0]
    if region not in regions:
        raise CannotDrill(f"{region} is no region of {wanted.memory}: it has {', '.join(regions)}")
    if wanted.kind == "region" and len(regions) < 2:
        raise CannotDrill(f"{wanted.memory} has the one region {region}: there is no other where a session could go on")
    run = f"drill-{secrets.token_hex(3)}"
    places = {each: Place(each, kubectls[each], wanted.namespace, f"{run}-{each}") for each in regions}
    shared = len(regions) > 1 and len({kubectl.prefix for kubectl in kubectls.values()}) == 1
    agents = {
        each: Agents(
            f"{run}-{each}", wanted.namespace, wanted.memory, wanted.image, REPLICAS, each if shared else "",
            wanted.upstream, wanted.key_from,
        )
        for each in regions
    }  # fmt: skip
    agents = {each: replace(those, image=await _image(places[each], those)) for each, those in agents.items()}
    async with AsyncExitStack() as stack:
        say(f"starting agents in {', '.join(regions)}: {run}")
        await stack.enter_async_context(_started(places, agents))
        limits = budgets(resource)
        order = [region, *(each for each in regions if each != region)] if wanted.kind == "region" else [region]
        writers = []
        for number in (1, 2):
            lines = {each: places[each].line() for each in order}
            for each, line in lines.items():
                stack.push_async_callback(line.close)
                try:
                    await line.open()
                except Lost as error:
                    raise DrillFailed(f"{each}: {error}") from None
            talk = Conversation(wanted.model, wanted.ask)
            writers.append(
                Writer(f"w{number}", f"{run}-{number}", order, lines, talk, patience_s=limits.patience_s, pause_s=0.5)
            )

        async def look(at: str, session: str) -> View:
            return await places[at].look(session)

        say(f"writing; then the {wanted.kind} of {region} is hit")
        course = Course(
            wanted.kind, region, tuple(regions), writers, look, _fault(wanted, places[region]), wanted.times
        )
        return evaluate(await course.run(), limits)


def _fault(wanted: Wanted, place: Place) -> faults.Fault:
    if wanted.kind == "pod":
        return faults.pod(place)
    return faults.region(place, REPLICAS) if wanted.kind == "region" else faults.drain(place, wanted.node)


async def _resource(wanted: Wanted) -> tuple[list[str], AgentMemory, dict[str, Kubectl]]:
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
    return regions, resource, {each: kubectl(wanted.contexts.get(each, first)) for each in regions}


def kubectl(context: str) -> Kubectl:
    """That of a context; of the current one where it is empty."""
    return Kubectl(("kubectl", *(("--context", context) if context else ())))


async def _image(place: Place, agents: Agents) -> str:
    """Python is in the sidecar's image; which one that is, the webhook says when it is asked for a pod."""
    template: dict[str, Any] = replace(agents, image=agents.image or "none").manifest()["spec"]["template"]
    meta = {**template["metadata"], "name": agents.name, "namespace": agents.namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
    try:
        made = await place.kubectl.json("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    except KubectlFailed as error:
        raise CannotDrill(f"{place.region}: {error}") from None
    images = [each["image"] for each in made["spec"].get("initContainers", ()) if each["name"] == SIDECAR]
    if not images:
        raise CannotDrill(f"{place.region}: pods get no sidecar here: is the operator's webhook installed and running?")
    return agents.image or str(images[0])


@asynccontextmanager
async def _started(places: Mapping[str, Place], agents: Mapping[str, Agents]) -> AsyncIterator[None]:
    try:
        for each, place in places.items():
            await _tried(place, "apply", "-f", "-", stdin=json.dumps(agents[each].manifest()))
        for place in places.values():
            status = ("rollout", "status", f"deployment/{place.name}", "--timeout=300s")
            await _tried(place, "-n", place.namespace, *status, timeout_s=310)
        yield
    finally:
        left = []
        for place in places.values():
            try:
                await _tried(
                    place,
                    "-n",
                    place.namespace,
                    "delete",
                    "deployment",
                    place.name,
                    "--ignore-not-found",
                    "--wait=false",
                )
            except DrillFailed as error:
                left.append(f"{error}: delete Deployment {place.namespace}/{place.name} there")
        if left:
            raise DrillFailed("; ".join(left))


async def _tried(place: Place, *arguments: str, stdin: str = "", timeout_s: float = 60.0) -> None:
    try:
        await place.kubectl.run(*arguments, stdin=stdin, timeout_s=timeout_s)
    except KubectlFailed as error:
        raise DrillFailed(f"{place.region}: {error}") from None
