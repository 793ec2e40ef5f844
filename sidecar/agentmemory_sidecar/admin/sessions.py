"""Sessions as people look at them: list, show, history, export; and a state changed by hand, under its version."""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from agentmemory_sidecar.archive.blobs import BlobReader
from agentmemory_sidecar.archive.explain import explained
from agentmemory_sidecar.archive.reader import Record, RecordReader
from agentmemory_sidecar.archive.record import Payload
from agentmemory_sidecar.archive.report import Report, report
from agentmemory_sidecar.memory import links, together
from agentmemory_sidecar.memory.admin_patch import from_json_patch, from_merge_patch
from agentmemory_sidecar.memory.conflicts import listed, settle
from agentmemory_sidecar.memory.extraction import provenance
from agentmemory_sidecar.memory.form import form_of, migration, version_of
from agentmemory_sidecar.memory.item import Item
from agentmemory_sidecar.memory.scopes import homes_of_item, unbounded
from agentmemory_sidecar.memory.state import Patch, PatchError, apply, from_json
from agentmemory_sidecar.memory.together import Reading
from agentmemory_sidecar.memory.tokens import estimate
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.step import build, heads
from agentmemory_sidecar.step.hydrate import read_state
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.step.writing import change, place_of, save
from agentmemory_sidecar.stores.protocols import (
    ROOT,
    Conversation,
    ObjectStore,
    StaleWrite,
    Stored,
    StoreUnavailable,
    Versions,
)

TRIES = 5


class NoSuchSession(Exception):
    """Nothing was ever saved under this id."""


class NoSuchConflict(Exception):
    """No conflict of this session has this id; it may have been settled already."""


class VersionMoved(Exception):
    """The state is no longer the one the change was made for."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the state is at version {current} now; read it again")
        self.current = current


@dataclass(frozen=True, slots=True)
class SessionState:
    state: dict[str, Any]
    version: int


class _Change(NamedTuple):
    """What becomes of a conversation's own state."""

    state: dict[str, Any]
    patch: Patch


class _Sent(NamedTuple):
    """What goes to another owner's."""

    owner: Conversation
    state: dict[str, Any]
    """What it was made for."""
    patch: Patch


def masked(config: SidecarConfig, reading: Reading) -> Reading:
    """The same without what tells of a person."""
    form = form_of(config)
    parts = [form.masked(part) for part in reading.parts]
    return together.read(reading.homes, parts, form.beginning(""), config.filter.never_in_prompt)


class Sessions:
    """Every method raises StoreUnavailable where a store is away."""

    def __init__(self, services: Services, records: ObjectStore) -> None:
        self._services = services
        self._tenant = services.config.tenant
        blobs = BlobReader(self._tenant, services.keys, services.blobs, services.state)
        self._blobs = blobs
        self._reader = RecordReader(records, services.state, services.keys, blobs)

    def _conversation(self, session: str, agent: str = ROOT) -> Conversation:
        return Conversation(self._tenant, session, agent)

    def _item(self, stored: Stored) -> Item:
        return heads.whole(self._services.config, self._services.state.head, stored)

    async def _existing(self, conversation: Conversation) -> Stored:
        """Raises NoSuchSession."""
        stored = await self._services.state.read(conversation)
        if not stored.body and not stored.others:
            raise NoSuchSession(conversation.session)
        return stored

    async def page(self, subject: str, after: str, limit: int) -> dict[str, Any]:
        """Sessions with their subjects, a page at a time."""
        found = await self._services.state.sessions(self._tenant, subject=subject, after=after, limit=limit)
        rows = [await self._row(session, of) for of, session in found.rows]
        return {"sessions": rows, "next": found.next}

    async def _row(self, session: str, subject: str) -> dict[str, Any]:
        stored = await self._services.state.read(self._conversation(session))
        item = self._item(stored)
        return {
            "session": session,
            "subject": subject,
            "steps": stored.versions.turn,
            "version": stored.versions.version,
            "updated_at": item.updated_at,
            "state_tokens": estimate(item.state.decode()),
        }

    async def show(self, session: str, *, pii: bool = False) -> dict[str, Any]:
        """One session: its conversations, its state (with what tells of a person only where ``pii`` says so) and what
        waits."""
        agents = await self._services.state.agents(self._tenant, session)
        if not agents:
            raise NoSuchSession(session)
        conversations = []
        for agent in agents:
            stored = await self._services.state.read(self._conversation(session, agent))
            item = self._item(stored)
            conversations.append({
                "agent": agent,
                "steps": stored.versions.turn,
                "version": stored.versions.version,
                "bytes": len(stored.body),
                "window": [msgspec.to_builtins(turn) for turn in item.window],
                "ledger": len(stored.ledger),
                "outbox": len(item.outbox),
                "patches": len(item.patches),
                "unread": len(item.unread),
                "conflicts": listed(item, self._services.state.head),
                "created_at": item.created_at,
                "updated_at": item.updated_at,
            })  # fmt: skip
        root = self._conversation(session)
        item = self._item(await self._services.state.read(root))
        reading = await self._reading(root, item)
        shown = reading if pii else masked(self._services.config, reading)
        alone = [home.owner for home in reading.homes.homes] == [root]
        several = {} if alone else {"whose": together.origins(reading)}
        return {
            "session": session, "subject": item.subject, "state": provenance.without(shown.state),
            "learnt": provenance.shown(reading.state), "conversations": conversations, **several,
        }  # fmt: skip

    async def _reading(self, conversation: Conversation, item: Item) -> Reading:
        """The state as the session's root agent reads it; one owner's own for a user's or project's item."""
        homes = unbounded(homes_of_item(self._services.config, conversation, item))
        state = build.state_as_read(self._services.config, item, conversation, conversation, item)
        return await read_state(self._services, homes, conversation, item, state)

    async def state(self, session: str) -> SessionState:
        """The state object with its big values read back in. Raises NoSuchSession."""
        stored = await self._existing(self._conversation(session))
        item = self._item(stored)
        state = (await self._reading(self._conversation(session), item)).state
        if names := links.keys(state):
            found = await self._blobs.read(self._conversation(session), item.subject, names)
            state = links.resolve(state, found)
        return SessionState(state, stored.versions.version)

    async def patch(self, session: str, body: bytes, *, json_patch: bool, expect: int | None) -> SessionState:
        """Change the state by hand. ``expect`` None: whatever the version is; 0: only if there is none yet.

        Raises PatchError, VersionMoved.
        """
        conversation = self._conversation(session)
        patch_id = f"admin-{secrets.token_hex(8)}"
        config = self._services.config
        form = form_of(config)
        for _ in range(TRIES):
            stored = await self._services.state.read(conversation)
            item = self._item(stored)
            if patch_id in item.steps:
                return SessionState((await self._reading(conversation, item)).state, stored.versions.version)
            if expect is not None and stored.versions.version != expect:
                raise VersionMoved(stored.versions.version)
            reading = await self._reading(conversation, item)
            for part in reading.parts:
                if not form.knows(part):
                    newer = f"a state of version {version_of(part)}, which this sidecar does not know"
                    raise PatchError(newer, "/metadata/v", f"use a sidecar of that form; this one knows {form.version}")
            make = from_json_patch if json_patch else from_merge_patch
            seen = reading.state or form.beginning(item.user)
            patch = make(body, patch_id, seen)
            after = apply(seen, patch)
            own, sent = self._shares(conversation, item, reading, patch)
            try:
                await self._write(conversation, item, stored.versions, own, sent)
            except StaleWrite:
                continue
            except StoreUnavailable as error:
                if error.definite:
                    raise
                continue
            if sent:
                await self._services.patches.apply(conversation)
            return SessionState(after, stored.versions.version + 1)
        raise StoreUnavailable("state", "the session kept changing while its state was patched", definite=False)

    def _shares(
        self, conversation: Conversation, item: Item, reading: Reading, patch: Patch
    ) -> tuple["_Change", list["_Sent"]]:
        """What a patch does to the conversation's own state, and what goes to others. Raises PatchError."""
        config, form = self._services.config, form_of(self._services.config)
        own = _Change(build.state_of(item, config, item.user), Patch.none(patch.id))
        sent: list[_Sent] = []
        patches, wrong = together.shared_out(patch, reading)
        for each in wrong:
            raise PatchError(each["problem"], each["pointer"], "change it where it belongs")
        for home, part, share in zip(reading.homes.homes, reading.parts, patches, strict=True):
            if not share.operations:
                continue
            before = own.state if home.owner == conversation else part or form.beginning("")
            after = apply(before, share)
            for each in form.refusal(before, after):
                raise PatchError(each["problem"], each["pointer"], "send what fits spec.state.schema")
            if home.owner == conversation:
                own = _Change(after, build.with_migration(config, item, before, share))
            else:
                sent.append(_Sent(home.owner, before, share))
        return own, sent

    async def _write(
        self, conversation: Conversation, item: Item, read: Versions, own: "_Change", sent: Sequence["_Sent"] = ()
    ) -> None:
        config = self._services.config
        place, drafts = await place_of(self._services, conversation, item)
        threshold = config.blob_threshold_bytes
        changes = own.patch.operations or not sent
        if changes and not change(self._services, place, drafts, item, own.state, own.patch):
            limit = build.state_limit(config)
            raise PatchError(f"a state of more than {limit} bytes", "", "keep less, or in fewer words")
        for owner, state, patch in sent:
            whole = build.linked_patch(patch, threshold, drafts)
            build.send_patch(item, config, conversation, owner, state, whole)
        operations = (*own.patch.operations, *(one for each in sent for one in each.patch.operations))
        told = msgspec.structs.replace(own.patch, operations=operations)
        payload = Payload(step=told.id, patch=build.linked(msgspec.to_builtins(told), threshold, drafts))
        await save(self._services, place, drafts, item, read, payload)

    async def migrate(self, session: str) -> dict[str, Any]:
        """Store a state as the declared migrations have it read, without waiting for its next change. Tells both versions
        and what does not fit the schema. Raises NoSuchSession."""
        conversation, config = self._conversation(session), self._services.config
        form = form_of(config)
        for _ in range(TRIES):
            stored = await self._existing(conversation)
            item = self._item(stored)
            before = from_json(item.state, region=config.region)
            after = form.read(before)
            changes = migration(before, after) if after is not before else ()
            if changes:
                patch = Patch(f"migration-{secrets.token_hex(8)}", "migration", changes)
                try:
                    await self._write(conversation, item, stored.versions, _Change(after, patch))
                except StaleWrite:
                    continue
            return {
                "from": version_of(before) if before else "",
                "to": version_of(after) if after else "",
                "problems": form.misfits(after),
            }
        raise StoreUnavailable("state", "the session kept changing while its state was migrated", definite=True)

    async def conflicts(self, session: str) -> list[dict[str, Any]]:
        """What was kept because two writers met at one place. Raises NoSuchSession."""
        stored = await self._existing(self._conversation(session))
        return listed(self._item(stored), self._services.state.head)

    async def settle(self, session: str, names: set[str]) -> list[dict[str, Any]]:
        """Take conflicts out; returns those that are left. Raises NoSuchSession, NoSuchConflict."""
        conversation = self._conversation(session)
        for _ in range(TRIES):
            stored = await self._existing(conversation)
            item = self._item(stored)
            if unknown := settle(item, self._services.state.head, names):
                raise NoSuchConflict(min(unknown))
            place, drafts = await place_of(self._services, conversation, item)
            payload = Payload(step=f"admin-{secrets.token_hex(8)}")
            try:
                await save(self._services, place, drafts, item, stored.versions, payload)
            except StaleWrite:
                continue
            return listed(item, self._services.state.head)
        raise StoreUnavailable("state", "the session kept changing while its conflicts were settled", definite=True)

    async def history(self, session: str, agent: str = ROOT) -> AsyncIterator[Record]:
        """The records of one conversation, oldest first. Raises NoSuchSession."""
        stored = await self._existing(self._conversation(session, agent))
        async for record in self._reader.records(self._conversation(session, agent), self._item(stored)):
            yield record

    async def explain(self, session: str, agent: str, turn: str) -> dict[str, Any]:
        """What a turn's prompt was given and why. Raises NoSuchSession, NoSuchTurn."""
        return explained([record async for record in self.history(session, agent)], turn)

    async def report(self, session: str, since: float) -> Report:
        """What memory brought and cost in this session since then (seconds since the epoch). Raises NoSuchSession."""
        agents = await self._services.state.agents(self._tenant, session)
        if not agents:
            raise NoSuchSession(session)
        whole = Report()
        for agent in agents:
            item = self._item(await self._existing(self._conversation(session, agent)))
            records = [record async for record in self.history(session, agent)]
            whole += report(records, since=since, conflicts=len(listed(item, self._services.state.head)))
        return whole

    async def export(self, session: str) -> AsyncIterator[tuple[str, Record]]:
        """(agent, record) of the whole session, with every blob read back in. Raises NoSuchSession."""
        agents = await self._services.state.agents(self._tenant, session)
        if not agents:
            raise NoSuchSession(session)
        for agent in agents:
            async for record in self.history(session, agent):
                yield agent, await self._reader.whole(self._conversation(session, agent), record)
