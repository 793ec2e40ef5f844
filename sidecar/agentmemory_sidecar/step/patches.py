"""Patches for a state that is not the conversation's own: a subagent's, of its session's state, and all of a shared state.

They were recorded with the conversation's one commit and are applied exactly once and in order: the target keeps a
high-water mark for each source, and the mark rises in the same conditional write that changes the state.
"""

import asyncio
from itertools import groupby

from agentmemory_sidecar.memory.form import Refused, form_of
from agentmemory_sidecar.memory.heads import unknown_to
from agentmemory_sidecar.memory.item import Conflict, Item, pack, unpack
from agentmemory_sidecar.memory.outgoing import land
from agentmemory_sidecar.memory.state import decode_patch, from_json, to_json
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.step import build, heads
from agentmemory_sidecar.stores.protocols import (
    Conversation,
    HotStore,
    StaleWrite,
    StateStore,
    StoreUnavailable,
    Versions,
)

TRIES = 50
PAUSE_S = 0.01
KEPT_MARKS = 256
"""Sources whose marks a target keeps, beyond those that still have something for it."""


class Patches:
    """Applies outgoing patches; several sidecars may help with the same ones."""

    def __init__(self, state: StateStore, hot: HotStore, config: SidecarConfig, metrics: Metrics) -> None:
        self._state, self._hot, self._config, self._metrics = state, hot, config, metrics

    async def apply(self, source: Conversation) -> None:
        """Carry the source's patches to their items, then take them out of the source. Raises StoreUnavailable."""
        own = unpack((await self._state.read(source)).body)
        carried: set[int] = set()
        waiting: set[Conversation] = set()
        for target, group in groupby(own.patches, lambda patch: build.target_of(source, patch)):
            patches = {patch.seq for patch in group}
            if target not in waiting and await self._carry(source, target, max(patches)):
                carried |= patches
            else:
                waiting.add(target)  # so that none overtakes another
        if carried:
            await self._clear(source, carried)

    async def _carry(self, source: Conversation, target: Conversation, up_to: int) -> bool:
        """False where the patches wait for a sidecar that knows the target's form."""
        for attempt in range(TRIES):
            try:
                return await self._to(target, source, up_to)
            except StaleWrite:
                await asyncio.sleep(PAUSE_S * min(attempt, 20))
        raise StoreUnavailable("state", "the item to patch kept changing", definite=True)

    async def _to(self, target: Conversation, source: Conversation, up_to: int) -> bool:
        stored = await self._state.read(target)
        # In this order: what the source has no more now, it had given to the target before that was read; then either the
        # mark is there, or it was let go because the source had nothing left.
        own = unpack((await self._state.read(source)).body)
        item = heads.whole(self._config, self._state.head, stored)
        before = item.head
        name = build.source_of(source, target)
        mark = item.applied.get(name, 0)
        due = [p for p in own.patches if mark < p.seq <= up_to and build.target_of(source, p) == target]
        if not due:
            return True
        form, version = form_of(self._config), stored.versions.version + 1
        if not form.knows(from_json(item.state)) or any(form.is_newer(patch.version) for patch in due):
            return False
        item.user = item.user or (own.user if target.is_session or target.owner == f"user:{own.user}" else "")
        state = build.state_of(item, self._config, item.user)
        kept: list[Conflict] = []
        for patch in due:
            landed = land(state, form.carried(patch))
            if wrong := form.refusal(state, landed.state):
                kept.append(Conflict(name, version, Refused(decode_patch(patch.patch), wrong).encoded()))
                continue
            data = to_json(landed.state)
            if len(data) > build.state_limit(self._config):
                kept.append(Conflict(name, version, patch.patch))
                continue
            applied = build.with_migration(self._config, item, state, landed.applied)
            state, item.state = landed.state, data
            heads.record(self._config, self._state.head, item, applied)
            if landed.conflict is not None:
                # It was made for a state that has become another: somebody has to look at it.
                kept.append(Conflict(name, version, landed.conflict_json()))
        item.conflicts = [*item.conflicts, *kept]
        item.subject = item.subject or (own.subject if target.is_session else target.owner)
        item.updated_at = max(item.updated_at, own.updated_at)
        item.created_at = item.created_at or item.updated_at
        others = {other: seq for other, seq in item.applied.items() if other != name}
        item.applied = {**await self._without_oldest(target, others), name: due[-1].seq}
        await self._write(target, item, stored.versions)
        self._metrics.conflicts.inc(len(kept))
        self._metrics.clashes.inc(unknown_to(before, item.clashes))
        if item.others:
            self._metrics.unmerged(target, heads.unmerged(self._state.head, item))
        await self._drop(target)
        return True

    async def _without_oldest(self, target: Conversation, marks: dict[str, int]) -> dict[str, int]:
        """Let the oldest marks go, of sources that have nothing left for this target."""
        if target.is_session or len(marks) < KEPT_MARKS:
            return marks
        oldest = next(iter(marks))
        session, _, agent = oldest.partition("\x1f")
        source = Conversation(target.tenant, session, agent)
        left = unpack((await self._state.read(source)).body).patches
        others = {name: seq for name, seq in marks.items() if name != oldest}
        waits = any(build.target_of(source, patch) == target for patch in left)
        return others | {oldest: marks[oldest]} if waits else others

    async def _clear(self, source: Conversation, carried: set[int]) -> None:
        """A step of the source that runs meanwhile writes its item anyway and finds them applied: no need to try again."""
        stored = await self._state.read(source)
        item = unpack(stored.body)
        left = [patch for patch in item.patches if patch.seq not in carried]
        if len(left) == len(item.patches):
            return
        item.patches = left
        try:
            await self._write(source, item, stored.versions)
        except StaleWrite:
            return
        await self._drop(source)

    async def _write(self, conversation: Conversation, item: Item, read: Versions) -> None:
        ttl = self._config.state_ttl_s
        await self._state.write(
            conversation, pack(item), expect=read, new=Versions(read.turn, read.version + 1), pending=item.pending,
            ttl_s=None if ttl is None else round(ttl),
        )  # fmt: skip

    async def _drop(self, conversation: Conversation) -> None:
        try:
            await self._hot.drop(conversation)
        except StoreUnavailable:
            # The copy's versions no longer match the item's, so it would not be used anyway.
            return
