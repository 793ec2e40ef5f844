"""Heads in a step: a conversation's items in all regions taken together, and what becomes of this region's. No I/O here.

Where a store has one head (Postgres, strong tables) the item is all there is, and everything here gives it back as it is.
"""

from collections.abc import Iterable
from copy import copy
from dataclasses import replace

import msgspec

from agentmemory_sidecar.memory import heads
from agentmemory_sidecar.memory.form import form_of
from agentmemory_sidecar.memory.heads import Head
from agentmemory_sidecar.memory.item import Item, LastStep, unpack
from agentmemory_sidecar.memory.state import Patch, to_json
from agentmemory_sidecar.memory.window import Turn
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.step.build import strategies
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.stores.protocols import HotCopy, OtherHead, Stored, Versions


class _Copy(msgspec.Struct, frozen=True, array_like=True):
    """What the hot tier keeps of a conversation with several heads."""

    head: str
    own: bytes
    others: list[tuple[str, int, bytes]]


def whole(config: SidecarConfig, head: str, stored: Stored) -> Item:
    """The item as a step is to see it. Raises UnknownFormat."""
    return together(config, head, stored.body, stored.others)


def together(config: SidecarConfig, head: str, body: bytes, others: Iterable[OtherHead]) -> Item:
    """Own item and other regions' as one: the merged state, the windows united, every reply that was made anywhere.

    What goes out of the item (outbox, chain, patches for others) stays each region's own.
    """
    own = unpack(body)
    if not config.many_heads:
        return own
    items = {other.head: unpack(other.body) for other in others if other.body}
    item = copy(own)
    item.head = own.head or _legacy(own, head)
    item.others = {name: each.head or _legacy(each, name) for name, each in sorted(items.items())}
    merged = heads.merge({**item.others, head: item.head}, strategies(config))
    item.state = to_json(merged.state) if merged.clock else b""
    item.clashes = merged.clashes
    for each in items.values():
        item.subject, item.user = item.subject or each.subject, item.user or each.user
        item.project = item.project or each.project
        item.agent_type, item.groups = item.agent_type or each.agent_type, item.groups or each.groups
        item.entries = max(item.entries, each.entries)
        item.created_at = min(filter(None, (item.created_at, each.created_at)), default=0.0)
    if items:
        item.window = _united([own.window, *(each.window for each in items.values())], config.window.turns)
        known = {reply.id for reply in own.replies}
        foreign = {reply.id: reply for each in items.values() for reply in each.replies if reply.id not in known}
        item.replies = [*foreign.values(), *own.replies]
        item.elsewhere = [(each.mark, each.last) for each in items.values()]
    return item


def follow(item: Item, question: Question) -> None:
    """Go on from whichever region the conversation was in last, as this request shows."""
    marks = (item.mark, *(mark for mark, _ in item.elsewhere))
    found = {mark: place for mark in marks if mark and (place := question.request.chain.find(mark)) is not None}
    if found:
        item.mark = max(found, key=lambda mark: (found[mark], mark == item.mark))
    lasts: list[LastStep | None] = [last for _, last in item.elsewhere]
    item.last = next((last for last in (item.last, *lasts) if last and last.request == question.fingerprint), item.last)


def record(config: SidecarConfig, head: str, item: Item, patch: Patch) -> None:
    """Put a change of the state, or only what has been seen, into this region's head. ``item`` is one of ``together``."""
    if not config.many_heads:
        return
    declared = strategies(config)
    before = item.head or Head()
    merged = heads.merge({**item.others, head: before}, declared)
    after = heads.write(
        before, merged, head, patch, beginning=form_of(config).beginning(item.user), strategies=declared
    )
    everywhere = {**item.others, head: after}
    item.head = heads.collect(everywhere, head, config.regions, declared)
    if patch.operations:
        merged = heads.merge({**item.others, head: item.head}, declared)
        item.state, item.clashes = to_json(merged.state), merged.clashes


def pack_copy(config: SidecarConfig, head: str, body: bytes, others: Iterable[OtherHead]) -> bytes:
    """What the hot copy holds."""
    if not config.many_heads:
        return body
    return msgspec.msgpack.encode(_Copy(head, body, [(other.head, other.version, other.body) for other in others]))


def unpack_copy(config: SidecarConfig, head: str, copy: HotCopy) -> tuple[Versions, bytes, tuple[OtherHead, ...]]:
    """What the hot copy says of this head and of the others. One that was left by a writer of another head (its region's
    endpoint was away for a while) tells of that head, and is never all that is to be known of this one."""
    if not config.many_heads:
        return copy.versions, copy.body, ()
    found = msgspec.msgpack.decode(copy.body, type=_Copy)
    others = tuple(OtherHead(*row) for row in found.others)
    if found.head == head:
        return replace(copy.versions, others=versions_of(others)), found.own, others
    version = next((other.version for other in others if other.head == head), 0)
    written = OtherHead(found.head, copy.versions.version, found.own)
    others = newest([written], (other for other in others if other.head != head))
    return Versions(-1, version, versions_of(others)), b"", others


def unmerged(head: str, item: Item) -> int:
    """Of how many regions the heads hold something that another region's lacks. ``item`` is one of ``together``."""
    return heads.unmerged({**item.others, **({head: item.head} if item.head is not None else {})})


def behind(known: Versions, tier: Versions) -> bool:
    """Whether the tier has a head, or a version of one, that is not in what is known."""
    if not tier.others:
        return False
    have = dict(known.others)
    return any(version > have.get(name, 0) for name, version in tier.others)


def newest(*several: Iterable[OtherHead]) -> tuple[OtherHead, ...]:
    """Of each head the newest that anybody showed: a head's version never means two things."""
    found: dict[str, OtherHead] = {}
    for others in several:
        for other in others:
            if other.head not in found or other.version > found[other.head].version:
                found[other.head] = other
    return tuple(found[name] for name in sorted(found))


def versions_of(others: Iterable[OtherHead]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((other.head, other.version) for other in others))


def _united(windows: Iterable[Iterable[Turn]], keep: int) -> list[Turn]:
    """The last turns of all, each once; of a turn that went on elsewhere the longer one."""
    found: dict[str, Turn] = {}
    for window in windows:
        for turn in window:
            known = found.get(turn.id)
            if known is None or len(turn.lines) > len(known.lines):
                found[turn.id] = turn
    return sorted(found.values(), key=lambda turn: (turn.number, turn.id))[-keep:]


def _legacy(item: Item, region: str) -> Head:
    """An item that was written when the table had one region: all of it is one patch that everybody has seen."""
    if not item.state:
        return Head()
    vector = {region: 1}
    return Head(vector, 1, base=heads.Base(item.state, vector))
