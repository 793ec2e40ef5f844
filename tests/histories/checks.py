"""What must hold when everything has settled: looked up in the stores themselves, not asked of a sidecar."""

from collections import Counter
from typing import Any

import msgspec

from agentmemory_sidecar.archive.record import hash_of, header_of, payload_of
from agentmemory_sidecar.archive.shared_keys import SharedKeyStore
from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.item import Item, unpack
from agentmemory_sidecar.memory.state import from_json
from agentmemory_sidecar.resource.scopes import Scope
from agentmemory_sidecar.resource.state import MergeStrategy, StateUnavailable
from agentmemory_sidecar.step import heads
from agentmemory_sidecar.stores.protocols import ROOT, Conversation
from tests.histories.claude import Made
from tests.histories.client import Outcome
from tests.histories.table import HeadRow
from tests.histories.world import MASTER, PLACES, World, config_for

Problems = list[str]
SAVED = ("committed", "repeated")


async def check(world: World) -> Problems:
    """All that is wrong."""
    problems: Problems = []
    found = await _converged(world, problems)
    _patches(world, found, problems)
    await _archive(world, problems)
    problems += await world.ground.locks()
    for attempt in world.attempts:
        if attempt.code in ("sidecar_failed", "internal"):
            problems.append(f"attempt {attempt.number}: the sidecar failed")
    return problems


class Found:
    """A conversation's item as every region has it."""

    def __init__(self, item: Item, state: Any, kept: bytes) -> None:
        self.item, self.state = item, state
        self.kept = kept
        """Clashes and conflicts, as text to look in."""

    def count(self, tool: str, value: str) -> int:
        """How often a value stands in the state."""
        there = ptr.get(self.state, PLACES[tool])
        if isinstance(there, list):
            return there.count(value)
        return int(bool(there == value))

    def keeps(self, value: str) -> bool:
        return f'"{value}"'.encode() in self.kept


def _ours(conflict: bytes) -> bytes:
    """What was not applied, without what stood in its way."""
    said = msgspec.json.decode(conflict)
    return msgspec.json.encode(said.get("patch", said))


async def _converged(world: World, problems: Problems) -> dict[Conversation, Found]:
    regions = world.setting.regions
    problems += await world.ground.differences()
    replica = world.ground.table.replicas[regions[0]]
    found: dict[Conversation, Found] = {}
    for start in sorted(replica.groups):
        if start[0] != "head":
            continue
        conversation = Conversation(*start[1:])
        conflicts = [
            _ours(conflict.operations)
            for _, row in replica.group(*start)
            if isinstance(row, HeadRow) and row.body
            for conflict in unpack(row.body).conflicts
        ]
        seen: list[tuple[bytes, Any, Any, Any]] = []
        for region in regions:
            config = config_for(world.setting, region)
            stored = await world.ground.read(region, conversation)
            item = heads.whole(config, region, stored)
            others = {**item.others, region: item.head}
            own = {name: head.vector.get(name, 0) for name, head in others.items() if head is not None}
            vector = {name: count for name, count in sorted(own.items()) if count}
            seen.append((item.state, item.clashes, [turn.id for turn in item.window], vector))
            clashes = msgspec.json.encode(item.clashes)
            found[conversation] = Found(item, from_json(item.state), b"".join([clashes, *conflicts]))
        for region, one in zip(regions[1:], seen[1:], strict=True):
            for what, here, there in zip(("state", "clashes", "window", "vector"), seen[0], one, strict=True):
                if here != there:
                    problems.append(
                        f"{what} of {conversation.session!r}/{conversation.agent} is {here!r} in {regions[0]} and "
                        f"{there!r} in {region}"
                    )
    return found


def owner_of(world: World, made: Made, tool: str) -> Conversation:
    """Whose state a value of a reply belongs to."""
    tenant, scopes = world.setting.tenant, world.setting.scopes
    match next((scope for scope, places in scopes if PLACES[tool] in places), scopes[0][0]):
        case Scope.PROJECT:
            return Conversation.shared(tenant, "project", "p")
        case Scope.USER:
            return Conversation.shared(tenant, "user", made.user)
        case _:
            return Conversation(tenant, made.session, ROOT)


def _patches(world: World, found: dict[Conversation, Found], problems: Problems) -> None:
    by_number = {attempt.number: attempt for attempt in world.attempts}
    acknowledged = {
        attempt.id for attempt in world.attempts if attempt.outcome is Outcome.ACKNOWLEDGED and attempt.commit in SAVED
    }
    for attempt in world.attempts:
        passed = (
            world.setting.on_state_unavailable is StateUnavailable.PASS_THROUGH and attempt.commit == "not-remembered"
        )
        if attempt.outcome is Outcome.ACKNOWLEDGED and attempt.commit not in SAVED and not passed:
            problems.append(f"attempt {attempt.number} was acknowledged and says {attempt.commit!r}")
    for made in world.claude.made.values():
        for tool, value in made.writes:
            owner = owner_of(world, made, tool)
            there = found.get(owner)
            _nowhere_else(found, owner, tool, value, problems)
            count = there.count(tool, value) if there is not None else 0
            kept = there.keeps(value) if there is not None else False
            said = f"{tool} {value} of attempt {made.attempt} ({made.id})"
            if count > 1 or (tool == "note" and count and kept):
                problems.append(f"{said} is there more than once: {count} in the state, kept: {kept}")
            if by_number[made.attempt].outcome is Outcome.FAILED and (count or kept):
                problems.append(f"{said} failed for its client and is there")
            if made.id in acknowledged and not count and not kept:
                if tool != "note" and _overwritten(world, made, owner, tool):
                    continue
                problems.append(f"{said} was acknowledged and is lost")


def _nowhere_else(
    found: dict[Conversation, Found], owner: Conversation, tool: str, value: str, problems: Problems
) -> None:
    """A value lies at its home and in nobody else's state."""
    problems += [
        f"{tool} {value} lies in {other.session!r} and belongs to {owner.session!r}"
        for other, one in found.items()
        if other != owner and one.count(tool, value)
    ]


def _overwritten(world: World, made: Made, owner: Conversation, tool: str) -> bool:
    """Whether somebody who could see the value wrote over it: in the state, or among the patches of the same conversation
    that were on their way there."""
    landed, attempts = world.ground.watcher.first, {attempt.number: attempt for attempt in world.attempts}
    one = attempts[made.attempt]
    first = landed.get((owner, one.step))
    for other in world.claude.made.values():
        if other is made or owner_of(world, other, tool) != owner or all(kind != tool for kind, _ in other.writes):
            continue
        attempt = attempts[other.attempt]
        if (owner, attempt.step) not in landed:
            continue
        if (PLACES[tool], MergeStrategy.LATEST) in world.setting.merge:
            return True  # seen or not
        if first is not None and attempt.seen.get(owner, {}).get(first[0], 0) >= first[1]:
            return True
        if one.place is not None and attempt.place is not None and one.place[:2] == attempt.place[:2]:
            conversation, head, version = one.place
            if attempt.seen.get(conversation, {}).get(head, 0) >= version:
                return True
    return False


async def _archive(world: World, problems: Problems) -> None:
    """Every step that was saved has one record, and every chain is whole."""
    first = world.setting.regions[0]
    keys = SharedKeyStore(world.ground.shelf(first), MASTER, head=first, clock=world.loop.time)
    objects = await world.ground.records()
    chains: dict[tuple[str, str, str], list[tuple[int, str, str]]] = {}
    steps: Counter[str] = Counter()
    for name, data in objects.items():
        header = header_of(data)
        chains.setdefault((header.session, header.agent, header.region), []).append(
            (header.seq, header.prev, hash_of(data))
        )
        if ".fork-" in name:
            problems.append(f"the chain of {header.session}/{header.agent} in {header.region} forked at {header.seq}")
        if header.kind == "step":
            key = await keys.find(header.tenant, header.subject, header.generation)
            if key is None:
                problems.append(f"the key of generation {header.generation} is gone")
                continue
            steps[payload_of(data, key).step] += 1
    for place, records in chains.items():
        before = ""
        for number, (seq, prev, digest) in enumerate(sorted(records), 1):
            if seq != number or prev != before:
                problems.append(f"the chain of {place} is broken at record {seq}")
                break
            before = digest
    for attempt in world.attempts:
        count = steps.pop(attempt.step, 0) if attempt.step else 0
        if count != int(attempt.saved):
            problems.append(f"attempt {attempt.number}: {count} records, saved: {attempt.saved}")
        if attempt.saved and attempt.outcome is Outcome.FAILED:
            problems.append(f"attempt {attempt.number} failed for its client and was saved")
    if steps:
        problems.append(f"records of steps that nobody made: {sorted(steps)}")
