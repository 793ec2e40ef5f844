"""Heads: one state that several regions write at once, each in an item of its own, and what they make together.

A head holds its region's own patches and what that region has seen of the others, as a version vector. The state is a pure
function of the set of heads: the furthest base, and upon it all patches that are not in it, in an order that every reader
finds alike. The order extends the vectors': each patch carries a Lamport clock above all that its writer had seen; ties go
by region, then by sequence. Merging raises nothing by itself; only a patch of its own raises a region's component.

What two regions wrote at the same place, neither having seen the other's, is a clash. The later one in the order stands in
the state; both stay in the clash until a person resolves it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.rebase import split
from agentmemory_sidecar.memory.state import (
    Operation,
    Patch,
    PatchError,
    State,
    among,
    apply_one,
    decode_patch,
    from_json,
    same,
    to_json,
    touches,
)
from agentmemory_sidecar.resource.state import MergeStrategy

Vector = dict[str, int]
"""How many patches of each region: sequences count from 1 without a gap."""
KEPT_CLASHES = 200
KEPT_CLASH_BYTES = 64_000
"""Clashes that are kept, in number and in JSON bytes; the oldest go first. Their patches are in the archive."""
ADDING = {"append", "union"}
"""Operations that leave what others put beside theirs."""
LONG_LOG = 32
LONG_LOG_BYTES = 16_000
"""Patches, and bytes of them, beyond which a log is gone through for what later ones of the same region have made void."""


Strategies = Mapping[str, MergeStrategy]
"""By JSON pointer; the longest that covers a place holds for it, ``KEEP_BOTH`` elsewhere. Under ``UNION`` a list that is
set is logged as what it adds and takes out."""


class Logged(msgspec.Struct, frozen=True, omit_defaults=True):
    """One patch of one region."""

    seq: int
    clock: int
    seen: Vector = {}
    """What its writer had seen of the other regions."""
    patch: bytes = b""
    """JSON of a ``memory.state.Patch``."""


class Side(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the writes that met."""

    region: str
    seq: int
    step: str
    """Id of the patch: the step's or the administrator's."""
    operation: Operation
    seen: Vector = {}


class Clash(msgspec.Struct, frozen=True, omit_defaults=True):
    """Two writes at one place, neither of which had seen the other."""

    pointer: str
    stands: Side
    """The one that is in the state, or was until a later write."""
    other: Side

    @property
    def id(self) -> str:
        """Names the clash: the same in every region."""
        sides = f"{self.stands.region}.{self.stands.seq}-{self.other.region}.{self.other.seq}"
        return f"{sides}:{self.pointer}"


class Base(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state up to a place in the order behind which no patch can come any more that belongs before it."""

    state: bytes = b""
    vector: Vector = {}
    """Which patches are in it."""
    clashes: tuple[Clash, ...] = ()


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one region has written and seen."""

    vector: Vector = {}
    clock: int = 0
    """The highest that this region has seen."""
    origin: bytes = b""
    """The state that its first patch was made for, where nothing was known yet; every reader begins with the same one."""
    base: Base = Base()
    log: tuple[Logged, ...] = ()
    """Its own patches that are not in its base."""
    resolved: tuple[str, ...] = ()
    """Ids of clashes that a person has settled here."""


@dataclass(frozen=True, slots=True)
class Merged:
    """All heads taken together."""

    state: State
    vector: Vector
    clock: int
    base: Base
    """The furthest base among them."""
    clashes: tuple[Clash, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    region: str
    logged: Logged

    @property
    def order(self) -> tuple[int, str, int]:
        return self.logged.clock, self.region, self.logged.seq

    def saw(self, region: str, seq: int) -> bool:
        known = self.logged.seq if region == self.region else self.logged.seen.get(region, 0)
        return known >= seq


def merge(heads: Mapping[str, Head], strategies: Strategies | None = None) -> Merged:
    """The state that these heads make, by region; the same for every reader of the same heads."""
    base = furthest(heads)
    known = dict(base.vector)
    for region, head in heads.items():
        if (own := head.vector.get(region, 0)) > known.get(region, 0):
            known[region] = own
    run = _Run(base, origin(heads), strategies or {})
    for placed in missing(heads, base):
        run.take(placed)
    resolved = {name for head in heads.values() for name in head.resolved}
    clashes = tuple(clash for clash in run.standing() if clash.id not in resolved)
    clock = max((head.clock for head in heads.values()), default=0)
    return Merged(run.state, known, clock, base, clashes)


def furthest(heads: Mapping[str, Head]) -> Base:
    """Bases are cuts of one order, so that the one with most patches holds all others."""
    region = max(sorted(heads), key=lambda name: sum(heads[name].base.vector.values()), default=None)
    return heads[region].base if region is not None else Base()


def origin(heads: Mapping[str, Head]) -> bytes:
    """What the first patches stand on. Two regions may each have begun without the other."""
    return next((heads[region].origin for region in sorted(heads) if heads[region].origin), b"")


def missing(heads: Mapping[str, Head], base: Base) -> list[_Placed]:
    """The patches that are not in a base, in their order."""
    placed = (
        _Placed(region, logged)
        for region, head in heads.items()
        for logged in head.log
        if logged.seq > base.vector.get(region, 0)
    )
    return sorted(placed, key=lambda each: each.order)


def write(
    head: Head, merged: Merged, region: str, patch: Patch, *, beginning: State, strategies: Strategies | None = None
) -> Head:
    """The head after a patch that was made for the merged state, or for ``beginning`` where there is none yet. A patch
    without operations only notes what was seen."""
    own = merged.vector.get(region, 0)
    seen = {name: seq for name, seq in merged.vector.items() if name != region and seq}
    if not patch.operations:
        return msgspec.structs.replace(head, vector=_known(seen, region, own), clock=merged.clock)
    state = merged.state if merged.clock else beginning
    operations = tuple(additive(operation, state, strategies or {}) for operation in patch.operations)
    data = msgspec.json.encode(msgspec.structs.replace(patch, operations=operations))
    clock = merged.clock + 1
    log = shortened((*head.log, Logged(own + 1, clock, seen, data)))
    origin = head.origin if merged.clock else to_json(beginning)
    return msgspec.structs.replace(head, vector=_known(seen, region, own + 1), clock=clock, log=log, origin=origin)


def unknown_to(head: Head | None, clashes: Iterable[Clash]) -> int:
    """How many of the clashes its region had not seen both sides of."""
    vector = head.vector if head is not None else {}
    return sum(any(side.seq > vector.get(side.region, 0) for side in (clash.stands, clash.other)) for clash in clashes)


def unmerged(heads: Mapping[str, Head]) -> int:
    """How many of these heads hold something that another one's region is not known to have seen."""
    return sum(
        any(other.vector.get(region, 0) < head.vector.get(region, 0) for name, other in heads.items() if name != region)
        for region, head in heads.items()
    )


def resolve(head: Head, names: Iterable[str]) -> Head:
    """Note that clashes are settled."""
    kept = tuple(dict.fromkeys((*head.resolved, *names)))
    return msgspec.structs.replace(head, resolved=kept[-KEPT_CLASHES:])


def collect(
    heads: Mapping[str, Head], region: str, regions: Iterable[str], strategies: Strategies | None = None
) -> Head:
    """This region's head with a base as far as can be, and without the patches that are in it.

    A patch may go in once every region is known to have seen it, and all that come before it are in. What a region writes
    after it has seen a patch comes behind it, so nothing can ever belong before.
    """
    head = heads[region]
    base = furthest(heads)
    run = _Run(base, origin(heads), strategies or {})
    vector = dict(base.vector)
    rest = missing(heads, base)
    taken = 0
    for placed in rest:
        if any(heads.get(name, Head()).vector.get(placed.region, 0) < placed.logged.seq for name in regions):
            break
        run.take(placed)
        vector[placed.region] = placed.logged.seq
        taken += 1
    if taken:
        state = to_json(run.state)
        for placed in rest[taken:]:
            run.take(placed)  # all that can clash with what went in is known by now
        resolved = {name for each in heads.values() for name in each.resolved}
        inside = tuple(
            clash
            for clash in run.standing()
            if clash.id not in resolved and any(vector.get(s.region, 0) >= s.seq for s in (clash.stands, clash.other))
        )
        base = Base(state, vector, inside)
    if base is head.base:
        return head
    log = tuple(logged for logged in head.log if logged.seq > base.vector.get(region, 0))
    return msgspec.structs.replace(head, base=base, log=log)


def shortened(log: tuple[Logged, ...]) -> tuple[Logged, ...]:
    """A long log without what later patches of the same region have written over: no reader could tell."""
    if len(log) <= LONG_LOG and sum(len(logged.patch) for logged in log) <= LONG_LOG_BYTES:
        return log
    covered: list[str] = []
    kept: list[Logged] = []
    for logged in reversed(log):
        patch = decode_patch(logged.patch)
        left: list[Operation] = []
        for operation in (part for whole in reversed(patch.operations) for part in reversed(split(whole))):
            places = touches(operation)
            if all(any(ptr.covers(outer, place) for outer in covered) for place in places):
                continue
            left.append(operation)
            if _overwrites(operation):
                covered += places
        if len(left) == len(patch.operations):
            kept.append(logged)
        elif left:
            patch = msgspec.structs.replace(patch, operations=tuple(reversed(left)))
            kept.append(msgspec.structs.replace(logged, patch=msgspec.json.encode(patch)))
    # The newest stays whatever it holds: it carries the sequence and the clock.
    return tuple(reversed(kept))


class _Run:
    """Patches applied one after another, with the clashes that come of them."""

    def __init__(self, base: Base, beginning: bytes, strategies: Strategies) -> None:
        self.state: State = from_json(base.state or beginning)
        self._strategies = strategies
        self._clashes: dict[str, Clash] = {clash.id: clash for clash in base.clashes}
        self._writes: list[tuple[str, Side]] = []
        """What was applied since the base and has not been written over by one that had seen it."""

    def take(self, placed: _Placed) -> None:
        patch = decode_patch(placed.logged.patch)
        for operation in (part for whole in patch.operations for part in split(whole)):
            side = Side(placed.region, placed.logged.seq, patch.id, operation, placed.logged.seen)
            for place in touches(operation):
                self._meet(place, side, placed)
            try:
                self.state = apply_one(self.state, operation)
            except PatchError:
                # Made for a state that a concurrent write has turned into another: the clash holds it.
                continue

    def standing(self) -> list[Clash]:
        """The clashes, oldest first."""
        kept: list[Clash] = []
        left = KEPT_CLASH_BYTES
        for clash in reversed(self._clashes.values()):
            left -= len(msgspec.json.encode(clash))
            if left < 0 or len(kept) == KEPT_CLASHES:
                break
            kept.append(clash)
        return kept[::-1]

    def _meet(self, place: str, side: Side, placed: _Placed) -> None:
        over = _overwrites(side.operation)
        for name, clash in tuple(self._clashes.items()):
            sides = (clash.stands, clash.other)
            if any((each.region, each.seq) == (side.region, side.seq) for each in sides):
                continue  # found before, when the base was made
            known = [each for each in sides if placed.saw(each.region, each.seq)]
            if over and len(known) == 1 and ptr.covers(place, clash.pointer):
                # Somebody who knew one side has written over it: what meets the other side now is this write.
                del self._clashes[name]
        left: list[tuple[str, Side]] = []
        for at, other in self._writes:
            if placed.saw(other.region, other.seq):
                if not (over and ptr.covers(place, at)):
                    left.append((at, other))
                continue
            left.append((at, other))
            if ptr.overlap(place, at) and self._differ(side, other, at):
                clash = Clash(place if ptr.covers(at, place) else at, side, other)
                self._clashes[clash.id] = clash
        self._writes = [*left, (place, side)]

    def _differ(self, one: Side, other: Side, place: str) -> bool:
        ours, theirs = one.operation, other.operation
        if {ours.op, theirs.op} <= ADDING:
            return False
        if (ours.op, ours.pointer) == (theirs.op, theirs.pointer) and same(ours.value, theirs.value):
            return False
        return strategy_of(place, self._strategies) is not MergeStrategy.LATEST


def _overwrites(operation: Operation) -> bool:
    """Whether nothing of what was there is left. The merge of an empty object only makes sure that there is one."""
    return operation.op in ("set", "remove") or (operation.op == "merge" and operation.value != {})


def strategy_of(place: str, strategies: Strategies) -> MergeStrategy:
    """What holds for a place."""
    covering = [pointer for pointer in strategies if ptr.covers(pointer, place)]
    return strategies[max(covering, key=len)] if covering else MergeStrategy.KEEP_BOTH


def additive(operation: Operation, state: State, strategies: Strategies) -> Operation:
    """The operation as it is logged: a list that is set where lists are united says what it adds and what it takes out,
    to whatever is there then."""
    if operation.op != "set" or not isinstance(operation.value, list):
        return operation
    if strategy_of(operation.pointer, strategies) is not MergeStrategy.UNION:
        return operation
    found = ptr.get(state, operation.pointer)
    before = found if isinstance(found, list) else []
    added = [value for value in operation.value if not among(value, before)]
    dropped = [value for value in before if not among(value, operation.value)]
    return Operation("union", operation.pointer, {"add": added, "drop": dropped})


def _known(seen: Vector, region: str, own: int) -> Vector:
    return {**seen, region: own} if own else dict(seen)
