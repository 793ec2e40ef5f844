"""What must hold when everything has settled: looked up in the stores themselves, not asked of a sidecar."""

import asyncio
from collections import Counter
from typing import Any

from agentmemory_sidecar.archive.keys import LocalKeyStore
from agentmemory_sidecar.archive.record import Header, Payload, hash_of, header_of, payload_of, prefix_of
from agentmemory_sidecar.memory.item import Item, unpack
from agentmemory_sidecar.memory.state import from_json
from agentmemory_sidecar.stores.protocols import ROOT, Conversation, StoreUnavailable
from tests.claude import Recorded
from tests.sidecar.faults.agent import ATTEMPT_HEADER, Attempt, Outcome
from tests.sidecar.faults.stores import PAUSES, Kind
from tests.sidecar.faults.world import World

SETTLE_S = 20.0
"""What has not settled by then never will."""


class Archived:
    """One conversation as the archive and the state item have it."""

    def __init__(self, item: Item, turn: int, records: list[tuple[Header, Payload]]) -> None:
        self.item, self.turn, self.records = item, turn, records

    @property
    def steps(self) -> list[Payload]:
        return [payload for header, payload in self.records if header.kind == "step"]

    @property
    def replies(self) -> list[str]:
        return [payload.response["id"] for payload in self.steps]

    def calls(self, tool: str) -> list[Any]:
        """Inputs of all committed calls of a tool, in order."""
        blocks = (block for payload in self.steps for block in payload.response["content"])
        return [block["input"] for block in blocks if block["type"] == "tool_use" and block["name"] == tool]


async def settle(world: World) -> None:
    """Let steps, background work and locks end, then carry what waits. Every fault is over by now."""
    for node in world.nodes:
        node.faults.clear()
    await world.replace_killed()
    async with asyncio.timeout(SETTLE_S):
        while any(node.sidecar.services.flights for node in world.nodes):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await expect_no_locks(world)
    async with asyncio.timeout(SETTLE_S):
        while await world.backend.stores.state.pending(world.config.tenant):
            try:
                await world.nodes[0].sidecar.services.archiver.sweep()
            except StoreUnavailable:
                await asyncio.sleep(0.05)


async def expect_no_locks(world: World) -> None:
    """No lock is left: at once where nothing kept a sidecar from releasing it, else within the lock's TTL."""
    locks = await held(world)
    if locks == ([], 0):
        return
    assert may_leave_locks(world), f"a lock is left though every release went through: {locks}"
    for key in locks[0]:
        left = await world.backend.redis.pttl(key)
        assert left <= world.config.lock.ttl_s * 1000, f"{key!r} is held for {left} ms more"
    async with asyncio.timeout(world.config.lock.ttl_s + SETTLE_S):
        while await held(world) != ([], 0):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def held(world: World) -> tuple[list[bytes], int]:
    """The locks in the hot tier, and how many are on state items."""
    return await world.keys("lock"), await world.item_locks()


RELEASES = ("hot.release", "hot.commit", "state.unlock", "state.write")


def may_leave_locks(world: World) -> bool:
    """Whether a process died, or a call that releases a lock was kept from its effect."""
    for faults in world.faults:
        if faults.killed.is_set():  # at a call that was planned, or where it stood
            return True
        for name, kind in faults.happened:
            if kind in PAUSES or (kind is Kind.REFUSED and name in RELEASES):
                return True
    return False


async def check(world: World) -> dict[str, Archived]:
    """Everything that must hold of a settled world; returns what was found, by agent."""
    state = world.backend.stores.state
    agents = await state.agents(world.config.tenant, world.session)
    found = {agent: await _conversation(world, world.conversation(agent)) for agent in agents}
    _replies(world, found)
    _prompts(world)
    _hydration(world)
    if ROOT in found:
        _state(world, found)
    return found


async def _conversation(world: World, conversation: Conversation) -> Archived:
    stores = world.backend.stores
    stored = await stores.state.read(conversation)
    item = unpack(stored.body)
    where = f"conversation {conversation.agent}"
    assert not item.pending, f"{where}: the outbox did not drain"
    records, before = [], ""
    keys = [key async for key in stores.records.keys(prefix_of(conversation.tenant, item.subject, conversation))]
    key_store = LocalKeyStore(world.config.keys_dir)
    for seq, name in enumerate(keys, 1):
        data = await stores.records.get(name)
        assert data is not None
        header = header_of(data)
        assert header.seq == seq, f"{where}: record {header.seq} stands at place {seq}: {keys}"
        assert header.prev == before, f"{where}: record {seq} does not follow the one before"
        before = hash_of(data)
        key = await key_store.find(header.tenant, header.subject, header.generation)
        assert key is not None
        records.append((header, payload_of(data, key)))
    assert (item.chain.seq, item.chain.hash) == (len(keys), before), f"{where}: the item's chain ends elsewhere"
    archived = Archived(item, stored.versions.turn, records)
    _steps(where, archived)
    _window(where, world, archived)
    return archived


def _steps(where: str, found: Archived) -> None:
    ids = Counter(payload.step for _, payload in found.records)
    told = [f"{header.kind} {payload.step} {payload.outcome}".strip() for header, payload in found.records]
    assert max(ids.values()) == 1, f"{where}: a step is in the archive twice: {told}"
    assert len(set(found.item.steps)) == len(found.item.steps), f"{where}: a step is in the item twice"
    assert max(Counter(found.replies).values(), default=1) == 1, f"{where}: a reply was committed twice"
    assert found.turn == len(found.steps), f"{where}: {found.turn} steps counted, {len(found.steps)} archived"
    turns = [header.turn for header, _ in found.records if header.kind == "step"]
    assert turns == list(range(1, len(turns) + 1)), f"{where}: steps were numbered {turns}"


def _window(where: str, world: World, found: Archived) -> None:
    committed = list(dict.fromkeys(payload.turn_id for payload in found.steps))
    window = [turn.id for turn in found.item.window]
    assert window == committed[-world.config.window.turns :], f"{where}: the window holds {window}, not {committed}"


def _replies(world: World, found: dict[str, Archived]) -> None:
    archived = Counter(reply for one in found.values() for reply in one.replies)
    upstream = {int(one.headers[ATTEMPT_HEADER]): one for one in _recorded(world) if one.message_id}
    unsure: set[str] = set()
    for attempt in world.attempts:
        made = upstream[attempt.number].message_id if attempt.number in upstream else ""
        match attempt.outcome:
            case Outcome.ACKNOWLEDGED if attempt.commit in ("committed", "repeated", "archived"):
                assert archived[attempt.id] == 1, f"acknowledged and not in the archive: {_told(attempt)}"
            case Outcome.FAILED:
                assert not archived[made], f"failed for its client, yet in the archive: {_told(attempt)}"
            case Outcome.UNKNOWN:
                unsure.add(made)
            case _:
                raise AssertionError(f"acknowledged without saying that it was saved: {_told(attempt)}")
    strangers = set(archived) - unsure - {attempt.id for attempt in world.attempts if attempt.acknowledged}
    assert not strangers, f"in the archive, and nobody was told: {strangers}"


def _told(attempt: Attempt) -> str:
    return (
        f"attempt {attempt.number} of {attempt.agent or ROOT}: {attempt.outcome.value}, {attempt.status} "
        f"{attempt.code}, commit {attempt.commit or '-'}, reply {attempt.id}"
    )


def _prompts(world: World) -> None:
    for one in _recorded(world):
        assert one.verdict != "refused", f"Claude refused a request: {one.rule}: {one.message} {one.diagnosis}"
        assert not one.diagnosis, f"thinking mismatch: {one.diagnosis}"


def _hydration(world: World) -> None:
    for attempt in world.attempts:
        if attempt.tier in ("hot", "state"):
            version = int(attempt.headers["x-agentmemory-state-version"])
            assert version >= attempt.least_version, (
                f"version {version} from the {attempt.tier} tier was used, the item had {attempt.least_version}: "
                f"{_told(attempt)}"
            )


def _state(world: World, found: dict[str, Archived]) -> None:
    root = found[ROOT]
    state = from_json(root.item.state) if root.item.state else {}
    context = state.get("extracted_context", {})
    assert not root.item.conflicts, "patches of different places met as a conflict"
    assert context.get("notes", []) == [call["text"] for call in root.calls("note")], "notes were lost or doubled"
    told = [call["text"] for agent, one in found.items() if agent != ROOT for call in one.calls("sub_note")]
    assert sorted(context.get("sub_notes", [])) == sorted(told), "a subagent's notes were lost or doubled"
    admin = set(context.get("admin", {}))
    for patch in world.patches:
        assert patch.name in admin or patch.acknowledged is not True, f"the administrator's {patch.name} was lost"
    if todos := root.calls("TodoWrite"):
        last = [todo["content"] for todo in todos[-1]["todos"]]
        assert state["active_mission"]["sub_tasks"] == last, "the state is not what the last to-do list says"


def _recorded(world: World) -> list[Recorded]:
    return [one for one in world.backend.claude.turns if one.session == world.session]


def visible(found: Archived, text: str) -> bool:
    """Whether a text is anywhere in the item's window or in the archive."""
    window = any(text in line.text for turn in found.item.window for line in turn.lines)
    return window or any(text in str(payload.messages) + str(payload.response) for payload in found.steps)
