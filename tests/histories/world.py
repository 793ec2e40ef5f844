"""Regions with their sidecars, upon whatever stores they have."""

import asyncio
import base64
import contextvars
import dataclasses
import functools
import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from unittest import mock

from pydantic import SecretStr

from agentmemory_sidecar import proxy
from agentmemory_sidecar.archive.shared_keys import SharedKeyStore
from agentmemory_sidecar.engine import SWEEP_S, assemble, elsewhere
from agentmemory_sidecar.http.upstream import HttpUpstream
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.resource import LocalValues, SidecarConfig, compile_resource
from agentmemory_sidecar.resource.config import MergeRuleConfig
from agentmemory_sidecar.resource.scope_config import ScopeConfig
from agentmemory_sidecar.resource.scopes import Scope
from agentmemory_sidecar.resource.session import LockScope, OnConflict
from agentmemory_sidecar.resource.state import MergeStrategy, StateUnavailable
from agentmemory_sidecar.resource.store_config import AwsConfig, DynamoDbState
from agentmemory_sidecar.step import question, renewals
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.health import Cooldown
from agentmemory_sidecar.tasks import Tasks
from tests.histories.claude import Claude
from tests.histories.client import ATTEMPT, Answering, Attempt, Client, Outcome
from tests.histories.ground import Ground
from tests.histories.links import Link
from tests.histories.loop import LoopClock
from tests.sidecar.resource.resources import resource

MASTER = bytes(32)
LOCK_TTL_S = 9.0
HOT_TTL_S = 40.0
SPEC = """
archive: {blobs: {threshold: 1Ki}}
session: {identity: {headers: [X-Agent-Session], userHeaders: [X-User], projectHeaders: [X-Project]}}
filter: {strategy: Lexical, budgetTokens: 200, pinned: [/active_mission/sub_tasks, /extracted_context]}
extraction:
  rules:
  - {tools: [note], when: Call, from: /value, to: /extracted_context/notes, op: Append}
  - {tools: [put_a], when: Call, from: /value, to: /extracted_context/a, op: Replace}
  - {tools: [put_b], when: Call, from: /value, to: /extracted_context/b, op: Replace}
  - {tools: [put_c], when: Call, from: /value, to: /extracted_context/c/d, op: Replace}
"""
PLACES = {
    "note": "/extracted_context/notes",
    "put_a": "/extracted_context/a",
    "put_b": "/extracted_context/b",
    "put_c": "/extracted_context/c/d",
    "todo": "/active_mission/sub_tasks",
}
"""Where in the state a tool's value goes."""
METRICS = Metrics()


Scopes = tuple[tuple[Scope, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Setting:
    """What does not change in a history."""

    regions: tuple[str, ...] = ("us-east-1", "us-west-2")
    scopes: Scopes = ((Scope.SESSION, ()),)
    """Scopes in order of precedence, with what is at home in each."""
    merge: tuple[tuple[str, MergeStrategy], ...] = ()
    lag_s: float = 1.0
    loss: float = 0.0
    """How likely a call to a store goes wrong, beside what is planned."""
    failover: bool = False
    """Whether sidecars turn to other regions' endpoints where their own does not answer."""
    lock_scope: LockScope = LockScope.STEP
    on_conflict: OnConflict = OnConflict.REJECT
    on_state_unavailable: StateUnavailable = StateUnavailable.REFUSE
    tenant: str = "t"
    pace: float = 1.0
    """Seconds that pass for each second of the plan."""

    @property
    def lock_ttl_s(self) -> float:
        return LOCK_TTL_S * self.pace


@functools.cache
def _compiled() -> SidecarConfig:
    return compile_resource(resource(SPEC), "local", values=LocalValues(Path()), data_dir=Path("/nowhere"))


@functools.lru_cache(maxsize=256)
def config_for(setting: Setting, region: str) -> SidecarConfig:
    """What a region's sidecars are told."""
    config = _compiled()
    lock = config.lock.model_copy(
        update={
            "ttl_s": setting.lock_ttl_s,
            "renew_s": setting.lock_ttl_s / 3,
            "scope": setting.lock_scope,
            "on_conflict": setting.on_conflict,
            "max_wait_s": 3.0 * setting.pace,
        }
    )
    return config.model_copy(
        update={
            "tenant": setting.tenant,
            "region": region,
            "regions": setting.regions,
            "state": DynamoDbState(table="model", aws=AwsConfig(region=region)),
            "key_master": SecretStr(base64.b64encode(MASTER).decode()),
            "lock": lock,
            "scopes": tuple(ScopeConfig(scope=scope, pointers=places) for scope, places in setting.scopes),
            "on_state_unavailable": setting.on_state_unavailable,
            "merge": tuple(MergeRuleConfig(pointer=place, strategy=how) for place, how in setting.merge),
        }
    )


class Node:
    """One sidecar. ``endpoint`` is the region whose replica it writes."""

    def __init__(self, world: "World", region: str, endpoint: str, number: int, skew: float = 0.0) -> None:
        self.world, self.region, self.endpoint, self.number = world, region, endpoint, number
        self.name = f"pod-{number}"
        self.skew = skew
        self.link = Link(random.Random(world.rng.random()), told=lambda what: world.tell(f"{self.name}: {what}"))
        self.link.on_kill = self._died
        self.link.loss = world.loss
        self.config = config = config_for(world.setting, region)
        self.stores = stores = world.ground.stores(
            region, endpoint, self.link, self.now, failover=world.setting.failover
        )
        self.tasks, self.background = Tasks(), Tasks()
        self.requests: dict[int, asyncio.Task[None]] = {}
        self.answering: dict[int, Answering] = {}
        upstream = cast(HttpUpstream, world.claude)
        self.services = services = assemble(config, stores, upstream, self.tasks, self.name, metrics=METRICS)
        loop = world.loop
        services.now = self.now
        services.elsewhere = tuple(elsewhere(services, stores, tier) for tier in stores.elsewhere)
        for each in (services, *services.elsewhere):
            _in_time(each, lambda: loop.time() / world.setting.pace)
            self.background.start(each.archiver.run(), "carry records")
        self.background.start(services.renewals.run(), "renew locks")
        self.background.start(services.archiver.sweep_for_ever(SWEEP_S), "sweep outboxes")

    def now(self) -> float:
        """Its own clock."""
        return self.world.ground.now() + self.skew

    @property
    def alive(self) -> bool:
        return not self.link.killed

    def kill(self) -> None:
        """It stands still for ever, wherever it is."""
        self.link.killed = True
        self._died()

    def _died(self) -> None:
        self.world.tell(f"{self.name} of {self.region} is dead")
        for task in self.requests.values():
            task.cancel()
        for answering in self.answering.values():
            answering.gone = True
        self.world.loop.call_soon(self._bury)

    def _bury(self) -> None:
        for tasks in (self.tasks, self.background):
            for task in sorted(tasks._running, key=lambda task: task.get_name()):
                task.cancel()

    async def close(self) -> None:
        """The history is over."""
        self.link.killed = True
        for tasks in (self.tasks, self.background):
            await tasks.close()
        await self.stores.close()


@dataclass(eq=False)
class World:
    """Everything there is in one history."""

    setting: Setting
    seed: int
    ground: Ground
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    begin: float = field(init=False)
    rng: random.Random = field(init=False)
    claude: Claude = field(init=False)
    nodes: list[Node] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    unreachable: set[str] = field(default_factory=set)
    """Regions that clients do not reach."""
    told: list[str] = field(default_factory=list)
    """What happened, without a word of any text."""
    pods: list[Node] = field(default_factory=list)
    """All that ever were."""
    loss: float = field(init=False)

    def __post_init__(self) -> None:
        self.begin, self.loss = self.loop.time(), self.setting.loss
        self.rng = random.Random(f"{self.seed}/links")
        self.claude = Claude(random.Random(f"{self.seed}/claude"), self.setting.pace)

    def tell(self, what: str) -> None:
        self.told.append(f"{self.loop.time() - self.begin:8.3f}  {what}")

    async def wait(self, seconds: float) -> None:
        """Let so much of the plan's time pass."""
        await asyncio.sleep(seconds * self.setting.pace)

    def start(self, region: str, endpoint: str = "", skew: float = 0.0) -> Node:
        node = Node(self, region, endpoint or region, len(self.pods) + 1, skew)
        self.pods.append(node)
        self.nodes.append(node)
        return node

    def node(self, region: str, which: int) -> Node:
        """One of a region's sidecars; a dead one has been replaced by now."""
        nodes = [node for node in self.nodes if node.region == region]
        index = self.nodes.index(nodes[which % len(nodes)])
        if not self.nodes[index].alive:
            old = self.nodes.pop(index)
            fresh = self.start(region, old.endpoint, old.skew)
            self.nodes.remove(fresh)
            self.nodes.insert(index, fresh)
        return self.nodes[index]

    async def send(
        self, client: Client, node: Node, *, stream: bool, fault: str = "", leave_after_s: float | None = None
    ) -> Attempt:
        """One attempt of a client, to its end."""
        attempt = Attempt(len(self.attempts) + 1, node.name)
        self.attempts.append(attempt)
        if node.region in self.unreachable:
            attempt.outcome, attempt.code = Outcome.FAILED, "unreachable"
            return attempt
        answering = Answering(attempt)
        inbound = client.request(attempt.number, stream=stream, fault=fault)
        context = contextvars.copy_context()
        context.run(ATTEMPT.set, attempt)
        self.claude.asked[attempt.number] = attempt
        work = proxy.handle(node.services, inbound, answering)
        task = self.loop.create_task(work, context=context)
        node.requests[attempt.number], node.answering[attempt.number] = task, answering
        leaving = None
        if leave_after_s is not None:
            leaving = self.loop.call_later(leave_after_s * self.setting.pace, answering.leave)
        try:
            await asyncio.wait([task])
        finally:
            if leaving is not None:
                leaving.cancel()
            node.requests.pop(attempt.number)
            node.answering.pop(attempt.number)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
        answering.read_stream()
        if not node.alive and not answering.ended:
            attempt.outcome = Outcome.UNKNOWN
        self.tell(
            f"attempt {attempt.number} at {node.name}: {attempt.outcome.value} {attempt.status} "
            f"{attempt.code or attempt.commit} {attempt.id}"
        )
        return attempt


def _in_time(services: Services, clock: Callable[[], float]) -> None:
    """Have all that it measures in the loop's time."""
    for each in dataclasses.fields(services):
        if isinstance(cooldown := getattr(services, each.name), Cooldown):
            cooldown._clock = clock
    assert isinstance(services.keys, SharedKeyStore)
    services.keys._clock = clock


@contextmanager
def numbered() -> Iterator[None]:
    """Steps have the names that the attempt's number gives, and count their time by the loop's clock."""

    def ask(*args: Any, **named: Any) -> Question:
        attempt = ATTEMPT.get()
        assert attempt is not None
        attempt.step = hashlib.sha256(b"step %d" % attempt.number).hexdigest()[:24]
        named |= {"step": attempt.step, "started": LoopClock.monotonic()}
        return Question(*args, **named)

    with mock.patch.object(proxy, "Question", ask):
        yield


@contextmanager
def virtual() -> Iterator[None]:
    """The product asks the loop what time it is."""
    with numbered(), mock.patch.object(question, "time", LoopClock), mock.patch.object(renewals, "time", LoopClock):
        yield
