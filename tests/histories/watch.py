"""What the table sees of the sidecars' work: which writes were made with the knowledge of which others.

Only positions are noted (head and version), as the replicas have them: what a sidecar claims to have merged is checked
against that, and not believed.
"""

from dataclasses import dataclass, field

import msgspec

from agentmemory_sidecar.memory.item import Item, pack, unpack
from agentmemory_sidecar.memory.state import decode_patch
from agentmemory_sidecar.stores.protocols import Conversation, Versions
from tests.histories.client import ATTEMPT, Attempt
from tests.histories.table import HeadRow, Table


class Violated(AssertionError):
    """Something that must hold does not."""


@dataclass
class Watcher:
    """See the module."""

    table: Table
    violations: list[str] = field(default_factory=list)
    bodies: dict[tuple[Conversation, str, int], bytes] = field(default_factory=dict)
    """What each version of each head is, apart from what waits to be carried."""
    turns: dict[tuple[Conversation, str, int], int] = field(default_factory=dict)
    """Which attempt wrote a turn."""
    versions: dict[tuple[Conversation, str], int] = field(default_factory=dict)
    logged: dict[tuple[Conversation, str], int] = field(default_factory=dict)
    """How many patches a region has logged."""
    first: dict[tuple[Conversation, str], tuple[str, int]] = field(default_factory=dict)
    """By patch: the head and its version that held it first."""
    knew: dict[tuple[Conversation, str, int], dict[str, int]] = field(default_factory=dict)
    """By version of a head: which versions of the others it was made with, theirs included."""

    def looks(self, region: str, conversation: Conversation) -> None:
        """A sidecar asks for a conversation's versions: it will be told these, or newer ones."""
        attempt = ATTEMPT.get()
        if attempt is None or attempt.saved:
            return
        rows = self.table.replicas[region].group("head", conversation.tenant, conversation.session, conversation.agent)
        found = {name: row.version for name, row in rows if isinstance(row, HeadRow) and row.body is not None}
        attempt.looked.setdefault((conversation, region), found)

    def saw(self, head: str, conversation: Conversation, told: Versions) -> None:
        """It was told these."""
        attempt = ATTEMPT.get()
        if attempt is None or attempt.saved:
            return
        found = {name: version for name, version in (*told.others, (head, told.version)) if version}
        attempt.seen[conversation] = self._with_theirs(conversation, found)
        if not attempt.asked:
            attempt.turns[conversation, head] = told.turn

    def wrote(self, head: str, conversation: Conversation, expect: Versions, new: Versions, body: bytes) -> None:
        item = unpack(body)
        self._version(head, conversation, new, item)
        self._log(head, conversation, new, item)
        known = self._with_theirs(conversation, {**dict(new.others), head: expect.version})
        self.knew[conversation, head, new.version] = known
        attempt = ATTEMPT.get()
        if attempt is not None and new.turn > expect.turn:
            if attempt.saved:
                self.violations.append(f"attempt {attempt.number} was saved twice")
            # What came with the hot copy is seen too.
            attempt.seen[conversation] = _newest(attempt.seen.get(conversation, {}), known)
            self._step(head, conversation, expect, new, attempt)

    def _with_theirs(self, conversation: Conversation, found: dict[str, int]) -> dict[str, int]:
        for head, version in tuple(found.items()):
            # A lock on the item raises the version and changes nothing.
            known = next((v for v in range(version, 0, -1) if (conversation, head, v) in self.knew), 0)
            if known:
                found = _newest(found, self.knew[conversation, head, known])
        return found

    def _version(self, head: str, conversation: Conversation, new: Versions, item: Item) -> None:
        meaning = pack(msgspec.structs.replace(item, outbox=[], blobs=[]))
        name = (conversation, head, new.version)
        if self.bodies.setdefault(name, meaning) != meaning:
            self.violations.append(f"version {new.version} of head {head} of {_name(conversation)} names two bodies")
        before = self.versions.get((conversation, head), 0)
        if new.version < before:
            self.violations.append(f"head {head} of {_name(conversation)} went from version {before} to {new.version}")
        self.versions[conversation, head] = max(before, new.version)

    def _log(self, head: str, conversation: Conversation, new: Versions, item: Item) -> None:
        if item.head is None:
            return
        place = (conversation, head)
        known = self.logged.get(place, 0)
        for logged in item.head.log:
            if logged.seq > known:
                self.first.setdefault((conversation, decode_patch(logged.patch).id), (head, new.version))
                known = logged.seq
        self.logged[place] = known
        if item.head.vector.get(head, 0) != known:
            self.violations.append(
                f"head {head} of {_name(conversation)} says {item.head.vector} and has logged {known} patches"
            )

    def _step(self, head: str, conversation: Conversation, expect: Versions, new: Versions, attempt: Attempt) -> None:
        attempt.saved = True
        attempt.place = (conversation, head, new.version)
        place = (conversation, head, new.turn)
        other = self.turns.setdefault(place, attempt.number)
        if other != attempt.number:
            self.violations.append(
                f"attempts {other} and {attempt.number} both wrote turn {new.turn} of head {head} of {_name(conversation)}"
            )
        read = attempt.turns.get((conversation, head))
        if read != expect.turn:
            self.violations.append(
                f"attempt {attempt.number} had read turn {read} of head {head} of {_name(conversation)} and wrote upon "
                f"turn {expect.turn}: it should have been fenced"
            )
        used = dict(new.others)
        for name, version in attempt.looked.get((conversation, head), {}).items():
            if name != head and used.get(name, 0) < version:
                self.violations.append(
                    f"attempt {attempt.number} used version {used.get(name, 0)} of head {name} of {_name(conversation)}, "
                    f"where its region had {version}"
                )


def _newest(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {head: max(one.get(head, 0), other.get(head, 0)) for head in {**one, **other}}


def _name(conversation: Conversation) -> str:
    return f"{conversation.session!r}/{conversation.agent}"
