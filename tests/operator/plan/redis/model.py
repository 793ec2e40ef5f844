"""A Redis Cluster as a model: what nodes do by themselves (gossip, elections), what commands do, who holds what.

Of a few slots it is known which nodes hold their content. Time goes in steps of two seconds, one for each look.
"""

from dataclasses import dataclass, field

from agentmemory_operator.plan.redis.rolling import roll
from agentmemory_operator.plan.redis.topology import decide
from agentmemory_operator.plan.redis.values import (
    NODE_TIMEOUT_S,
    AddSlots,
    Cluster,
    Decision,
    Failover,
    Forget,
    Meet,
    MoveSlots,
    Node,
    Peer,
    Pod,
    Replicate,
    SettleSlots,
    Shape,
    ranges_of,
    slots_of,
)
from agentmemory_operator.plan.values import Action, Remove

STEP_S = 2.0
SAMPLES = frozenset(range(0, 16384, 512))


class Refused(Exception):
    """What the real command would have been answered with."""


@dataclass(eq=False)
class Server:
    """A node: its volume survives its process."""

    id: str
    shard: int
    ordinal: int
    address: str
    primary: str = ""
    slots: set[int] = field(default_factory=set)
    epoch: int = 0
    holds: set[int] = field(default_factory=set)
    """Slots whose content it has."""
    knows: dict[str, str] = field(default_factory=dict)
    """Addresses by id."""
    dials: str = ""
    """Where a replica looks for its primary."""
    linked: bool = False
    synced: bool = False
    """Whether it ever had a full copy of its primary."""
    running: bool = True
    down_s: float = 0.0
    outdated: bool = False
    migrating: dict[int, str] = field(default_factory=dict)
    importing: dict[int, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"r-{self.shard}-{self.ordinal}"


@dataclass
class Model:
    shape: Shape
    pods: dict[str, Server] = field(default_factory=dict)
    gone: dict[str, Server] = field(default_factory=dict)
    """By id: nodes whose volume is no more, as the others remember them."""
    content: set[int] = field(default_factory=set)
    """Slots that must still be somewhere."""
    made: int = 0
    now: float = 0.0
    done: list[str] = field(default_factory=list)
    _since: dict[str, float] = field(default_factory=dict)

    # -------------------------------------------------------------------------------------------------------- world

    def kubernetes(self) -> None:
        """Makes the pods that are wanted; pods that ended come back, elsewhere."""
        for shard in range(self.shape.shards):
            for ordinal in range(self.shape.replicas + 1):
                if f"r-{shard}-{ordinal}" not in self.pods:
                    self._add(shard, ordinal)
        for server in self.pods.values():
            if not server.running:
                self.start(server)

    def _add(self, shard: int, ordinal: int) -> None:
        self.made += 1
        new = Server(f"id{self.made}", shard, ordinal, f"a{self.made}")
        new.knows[new.id] = new.address
        self.pods[new.name] = new

    def stop(self, server: Server) -> None:
        server.running = server.linked = False
        server.down_s = 0.0

    def start(self, server: Server) -> None:
        self.made += 1
        server.running, server.address = True, f"a{self.made}"
        server.knows[server.id] = server.address

    def lose(self, server: Server) -> None:
        """The volume goes, and the pod comes back with nothing. What was nowhere else is nobody's fault."""
        self.gone[server.id] = self.pods.pop(server.name)
        server.running, server.down_s = False, 0.0
        self._add(server.shard, server.ordinal)
        self.content = {slot for slot in self.content if self.holders(slot)}

    def holders(self, slot: int) -> list[Server]:
        return [server for server in self.pods.values() if slot in server.holds]

    def write(self) -> None:
        """Something to each slot that is served."""
        for server in self._up():
            if not server.primary:
                server.holds |= server.slots & SAMPLES
                self.content |= server.slots & SAMPLES
        self._replicate()

    @property
    def lost(self) -> set[int]:
        return {slot for slot in self.content if not self.holders(slot)}

    @property
    def served(self) -> set[int]:
        """Slots whose content clients find."""
        return {s for server in self._up() if not server.primary for s in server.slots & server.holds}

    def _up(self) -> list[Server]:
        return [server for server in self.pods.values() if server.running]

    def _find(self, ident: str) -> Server | None:
        return next((server for server in self.pods.values() if server.id == ident), self.gone.get(ident))

    # --------------------------------------------------------------------------------------------- nodes by themselves

    def tick(self) -> None:
        self.now += STEP_S
        up = self._up()
        for one in up:
            for other in up:
                if one is not other and self._reaches(one, other):
                    other.knows[one.id] = one.address
                    self._hear(one, other)
        self._settle_claims()
        self._elect()
        self._replicate()

    def _reaches(self, one: Server, other: Server) -> bool:
        return one.running and other.running and one.knows.get(other.id) == other.address

    def _hear(self, one: Server, other: Server) -> None:
        for ident, address in other.knows.items():
            found = self._find(ident)
            if ident not in one.knows or (found is not None and address == found.address):
                one.knows[ident] = address

    def _settle_claims(self) -> None:
        """Of two who claim a slot, the one with the newer epoch has it, once they talk."""
        primaries = [server for server in self._up() if not server.primary]
        for one in primaries:
            for other in primaries:
                taken = one.slots & other.slots
                if one is not other and one.epoch < other.epoch and taken and self._reaches(one, other):
                    one.slots -= taken
                    if not one.slots and one.shard == other.shard:
                        self._follow(one, other)
                    else:
                        one.holds -= taken

    def _follow(self, one: Server, other: Server) -> None:
        one.primary, one.dials, one.linked, one.synced = other.id, other.address, False, False
        one.slots, one.migrating, one.importing = set(), {}, {}

    def quorum(self) -> bool:
        remembered = [s for s in self.gone.values() if any(s.id in each.knows for each in self._up())]
        voters = [s for s in (*self.pods.values(), *remembered) if not s.primary and s.slots]
        return 2 * sum(1 for s in voters if s.running) > len(voters)

    def _elect(self) -> None:
        for primary in [*self.pods.values(), *self.gone.values()]:
            if primary.running or primary.primary or not primary.slots:
                continue
            primary.down_s += STEP_S
            heirs = [s for s in self._up() if s.primary == primary.id and s.synced]
            if primary.down_s > NODE_TIMEOUT_S and heirs and self.quorum():
                self._promote(heirs[0], primary)

    def _promote(self, heir: Server, old: Server) -> None:
        heir.primary, heir.dials, heir.epoch = "", "", 1 + max(s.epoch for s in self.pods.values())
        heir.slots, heir.linked = set(old.slots), False
        if old.running:
            self._follow(old, heir)
        elif old.id in self.gone:
            old.slots = set()
        for other in self._up():
            if other.primary == old.id:
                other.primary, other.dials = heir.id, heir.address

    def _replicate(self) -> None:
        for replica in self._up():
            if replica.primary:
                primary = self._find(replica.primary)
                replica.linked = primary is not None and primary.running and replica.dials == primary.address
                if replica.linked and primary is not None:
                    replica.holds, replica.synced = set(primary.holds), True

    # ------------------------------------------------------------------------------------------------------- operator

    def observe(self) -> Cluster:
        surplus = sum(1 for server in self.pods.values() if server.shard >= self.shape.shards)
        expected = self.shape.shards * (self.shape.replicas + 1) + surplus
        waited = {symptom: self.now - since for symptom, since in self._since.items()}
        return Cluster("local", "test", tuple(map(self._pod, self.pods.values())), expected, waited)

    def _pod(self, server: Server) -> Pod:
        node = None
        if server.running:
            node = Node(
                id=server.id,
                peers={peer.id: peer for ident in server.knows if (peer := self._peer(server, ident))},
                keys=len(server.holds),
                link_up=not server.primary or server.linked,
                offset=len(server.holds) if server.synced or not server.primary else 0,
                migrating=dict(server.migrating),
                importing=dict(server.importing),
            )
        return Pod(server.name, server.shard, server.ordinal, server.id, server.address, server.outdated, node=node)

    def _peer(self, viewer: Server, ident: str) -> Peer | None:
        server = self._find(ident)
        if server is None:
            return None
        flags = {"slave" if server.primary else "master"} | ({"myself"} if server is viewer else set())
        address = viewer.knows[ident]
        # A primary that comes back late still thinks that it leads; the others follow the newer epoch.
        newer = {s for other in self._up() if other.epoch > server.epoch and not other.primary for s in other.slots}
        slots = server.slots if server is viewer else server.slots - newer
        ranges = ranges_of(slots) if not server.primary else ()
        return Peer(ident, address, f"{server.name}.x", frozenset(flags), server.primary, server.epoch, True, ranges)

    def step(self) -> Decision | None:
        cluster = self.observe()
        decision = decide(cluster, self.shape)
        if decision is None:
            surplus = [server for server in self.pods.values() if server.shard >= self.shape.shards]
            for server in surplus:
                assert not server.slots
                assert not self.lost
                self.gone[server.id] = self.pods.pop(server.name)
                server.running = False
            if surplus:
                return Decision(reason="Scaling")  # type: ignore[arg-type]
            decision = roll(cluster, self.shape)
        symptoms = decision.symptoms if decision else frozenset()
        self._since = {symptom: self._since.get(symptom, self.now) for symptom in symptoms}
        self._since |= dict.fromkeys(decision.begins if decision else (), self.now)
        for action in decision.actions if decision else ():
            self.done.append(action.describe())
            try:
                self.act(action)
            except Refused:
                break
            assert not self.lost, f"{action.describe()} lost {self.lost}"
        return decision

    def act(self, action: Action) -> None:
        match action:
            case Meet(pod=pod, addresses=addresses):
                for server in self._up():
                    if server.address in addresses:
                        self.pods[pod].knows[server.id] = server.address
                        server.knows[self.pods[pod].id] = self.pods[pod].address
            case Forget(pods=pods, id=ident):
                for pod in pods:
                    if self.pods[pod].primary != ident:
                        self.pods[pod].knows.pop(ident, None)
            case AddSlots(pod=pod, ranges=ranges):
                if any(slots_of(ranges) & server.slots for server in self._up()):
                    raise Refused("busy")
                self.pods[pod].slots |= slots_of(ranges)
            case Replicate(pod=pod, primary=primary):
                self._replicated(self.pods[pod], self._find(primary))
            case Failover(pod=pod, how=how):
                self._fail_over(self.pods[pod], how)
            case MoveSlots(pod=pod, target=target, ranges=ranges):
                self.move(self.pods[pod], self.pods[target], set(slots_of(ranges)))
            case SettleSlots(pod=pod, ranges=ranges):
                for slot in slots_of(ranges):
                    self.pods[pod].migrating.pop(slot, None)
                    self.pods[pod].importing.pop(slot, None)
            case Remove(name=name):
                server = self.pods[name]
                server.outdated = False
                self.stop(server)
                self.start(server)
            case _:
                raise TypeError(action)

    def _replicated(self, server: Server, primary: Server | None) -> None:
        if primary is None or primary.id not in server.knows or primary.primary:
            raise Refused("unknown node, or no primary")
        if not server.primary and (server.slots or server.holds):
            raise Refused("not empty")
        self._follow(server, primary)
        self._replicate()

    def _fail_over(self, server: Server, how: str) -> None:
        primary = self._find(server.primary)
        if primary is None or (not how and not (primary.running and server.linked)):
            raise Refused("primary is down")
        if how != "TAKEOVER" and not self.quorum():
            raise Refused("nobody to vote")
        self._promote(server, primary)

    def move(self, source: Server, target: Server, slots: set[int], *, until: str = "") -> None:
        """``until``: stop there, as if the operator had died: ``open`` or ``sent``."""
        slots &= source.slots
        if source.primary or target.primary:
            raise Refused("no primary")
        source.migrating |= dict.fromkeys(slots, target.id)
        target.importing |= dict.fromkeys(slots, source.id)
        if until == "open":
            return
        target.holds |= slots & source.holds
        source.holds -= slots
        self._replicate()
        if until == "sent":
            return
        target.slots |= slots
        target.epoch = max(server.epoch for server in self.pods.values()) + 1
        source.slots -= slots
        for slot in slots:
            source.migrating.pop(slot, None)
            target.importing.pop(slot, None)

    def settle(self, looks: int = 80) -> None:
        """The operator, until it has nothing to do. Raises AssertionError if that takes too many looks."""
        for _ in range(looks):
            self.tick()
            if self.step() is None:
                return
        raise AssertionError(f"not settled: {self.step()}; last: {self.done[-5:]}")
