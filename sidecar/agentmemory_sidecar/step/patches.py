"""Patches for a state that is not the conversation's own: a subagent's, of its session's state.

They were recorded with the subagent's one commit and are applied exactly once and in order: the target keeps a high-water
mark for each source, and the mark rises in the same conditional write that changes the state.
"""

import asyncio

from agentmemory_sidecar.memory.item import Conflict, Item, pack, unpack
from agentmemory_sidecar.memory.state import PatchError, apply, decode_patch, to_json
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.step import build, heads
from agentmemory_sidecar.stores.protocols import (
    ROOT,
    Conversation,
    HotStore,
    StaleWrite,
    StateStore,
    StoreUnavailable,
    Versions,
)

TRIES = 20


class Patches:
    """Applies outgoing patches; several sidecars may help with the same ones."""

    def __init__(self, state: StateStore, hot: HotStore, config: SidecarConfig, metrics: Metrics) -> None:
        self._state, self._hot, self._config, self._metrics = state, hot, config, metrics

    async def apply(self, source: Conversation) -> None:
        """Carry the source's patches to its session's item, then take them out of the source. Raises StoreUnavailable."""
        stored = await self._state.read(source)
        own = unpack(stored.body)
        if not own.patches:
            return
        target = Conversation(source.tenant, source.session, ROOT)
        for attempt in range(TRIES):
            try:
                await self._to(target, source, own)
                break
            except StaleWrite:
                await asyncio.sleep(0.01 * attempt)
        else:
            raise StoreUnavailable("state", "the session's item kept changing", definite=True)
        await self._clear(source, own.patches[-1].seq)

    async def _to(self, target: Conversation, source: Conversation, own: Item) -> None:
        stored = await self._state.read(target)
        item = heads.whole(self._config, self._state.head, stored)
        mark = item.applied.get(source.agent, 0)
        due = [patch for patch in own.patches if patch.seq > mark]
        if not due:
            return
        state = build.state_of(item, self._config, item.user)
        kept: list[Conflict] = []
        for patch in due:
            decoded = decode_patch(patch.patch)
            try:
                state = apply(state, decoded)
                heads.record(self._config, self._state.head, item, decoded)
            except PatchError:
                # It was made for a state that has become another: somebody has to look at it.
                kept.append(Conflict(source.agent, stored.versions.version + 1, patch.patch))
        item.state = to_json(state)
        item.conflicts = [*item.conflicts, *kept]
        item.subject = item.subject or own.subject
        item.applied = {**item.applied, source.agent: due[-1].seq}
        await self._write(target, item, stored.versions)
        self._metrics.conflicts.inc(len(kept))
        await self._drop(target)

    async def _clear(self, source: Conversation, up_to: int) -> None:
        """A step of the source that runs meanwhile writes its item anyway and finds them applied: no need to try again."""
        stored = await self._state.read(source)
        item = unpack(stored.body)
        item.patches = [patch for patch in item.patches if patch.seq > up_to]
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
