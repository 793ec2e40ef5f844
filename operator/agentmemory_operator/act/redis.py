"""Effects on the servers of a managed Redis. All of them may be repeated; none empties a node."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from agentmemory_operator.observe.redis_nodes import (
    PORT,
    Access,
    Command,
    NodeLink,
    NodeLinks,
    NodeRefused,
    NodeUnreachable,
)
from agentmemory_operator.plan.redis.users import REPLICA
from agentmemory_operator.plan.redis.values import (
    AddSlots,
    Failover,
    Forget,
    LoadCertificate,
    LoadUsers,
    Meet,
    MoveSlots,
    NodeAction,
    Replicate,
    SettleSlots,
    slots_of,
)
from agentmemory_operator.tiers import TierFailed

LANES = 8
"""Connections to each end. Valkey lets one wait until its replicas have confirmed each change of a slot."""
TOGETHER = 16
"""At most so many slots are open at the same moment in a lane: while one is, scripts on its keys are refused with
TRYAGAIN."""
OPEN_S = 0.1
"""How long a slot should be open at most: far less than sidecars go on asking. Where nodes answer slowly, fewer are opened
together."""
KEYS_AT_ONCE = 50
"""Of one slot in one command."""
MIGRATE_S = 5.0
"""How long a node may take to send a batch of keys, during which it serves nobody else."""
MOVE_S = 30.0


async def act(links: NodeLinks, action: NodeAction, users: Sequence[str], replica_password: str) -> None:
    """Carry out an action. Raises TierFailed.

    :param users: the definitions that LoadUsers gives to a node.
    """
    try:
        await _act(links, action, users, replica_password)
    except (NodeUnreachable, NodeRefused) as error:
        raise TierFailed(f"{action.describe()}: {error}") from error


async def _act(links: NodeLinks, action: NodeAction, users: Sequence[str], replica_password: str) -> None:
    match action:
        case Meet(pod=pod, addresses=addresses):
            await links[pod].do(*(("CLUSTER", "MEET", address, PORT) for address in addresses))
        case Forget():
            await _forget(links, action)
        case AddSlots(pod=pod, ranges=ranges):
            bounds = [bound for pair in ranges for bound in pair]
            await links[pod].do(("CLUSTER", "ADDSLOTSRANGE", *bounds))
        case Replicate(pod=pod, primary=primary):
            await links[pod].do(("CLUSTER", "REPLICATE", primary))
        case Failover(pod=pod, how=how):
            await links[pod].do(("CLUSTER", "FAILOVER", how) if how else ("CLUSTER", "FAILOVER"))
        case MoveSlots():
            await _move(links, action)
        case SettleSlots(pod=pod, ranges=ranges, owner=owner):
            await links[pod].do(*(("CLUSTER", "SETSLOT", slot, "NODE", owner) for slot in slots_of(ranges)))
        case LoadUsers(pod=pod):
            commands = [("ACL", "SETUSER", *line.split()) for line in users]
            # The stamp comes last: until then the node counts as not having them.
            await links[pod].do(("CONFIG", "SET", "masteruser", REPLICA, "masterauth", replica_password), *commands)
        case LoadCertificate(pod=pod):
            await _load_certificate(links[pod])
        case _:
            raise TypeError(f"no effect on Redis: {type(action).__name__}")


async def _forget(links: NodeLinks, action: Forget) -> None:
    """All at once. One that does not know the node (any more) is content."""

    async def tell(pod: str) -> None:
        with contextlib.suppress(NodeRefused):
            await links[pod].do(("CLUSTER", "FORGET", action.id))

    await asyncio.gather(*(tell(pod) for pod in action.pods))


async def _load_certificate(link: NodeLink) -> None:
    """Setting a file's name to what it is makes the server read it; the next connection shows what it has."""
    folder = "/etc/agentmemory/redis-secrets"
    names = {"tls-ca-cert-file": "ca.crt", "tls-cert-file": "tls.crt", "tls-key-file": "tls.key"}
    await link.do(("CONFIG", "SET", *(word for name, file in names.items() for word in (name, f"{folder}/{file}"))))
    await link.close()


# ------------------------------------------------------------------------------------------------------------ move slots


async def _move(links: NodeLinks, action: MoveSlots) -> None:
    """In several lanes at once, each with connections of its own."""
    source, target = links[action.pod], links[action.target]
    (source_id,), (target_id,) = await asyncio.gather(source.do(("CLUSTER", "MYID")), target.do(("CLUSTER", "MYID")))
    slots = sorted(slots_of(action.ranges))
    lanes = [_Lane(source.another(), target.another(), source_id, target_id, links.access) for _ in range(LANES)]
    try:
        moving = (lane.move(slots[number::LANES]) for number, lane in enumerate(lanes) if slots[number::LANES])
        for error in await asyncio.gather(*moving, return_exceptions=True):
            if isinstance(error, BaseException):
                raise error
    finally:
        for lane in lanes:
            await lane.close()


@dataclass(frozen=True, slots=True)
class _Lane:
    source: NodeLink
    target: NodeLink
    source_id: str
    target_id: str
    access: Access

    async def move(self, slots: list[int]) -> None:
        clock, size = asyncio.get_running_loop().time, TOGETHER // 4
        while slots:
            some, slots = slots[:size], slots[size:]
            began = clock()
            # In this order, so that from each point on keys are either found or asked for at the other end.
            some = await _open(self.target, some, "IMPORTING", self.source_id, "already the owner")
            some = await _open(self.source, some, "MIGRATING", self.target_id, "not the owner")
            while keys := await _keys(self.source, some):
                await _send(self.source, self.target, self.access, keys)
            # The target first: should the rest never happen, the source still sends clients there, and the next look
            # finishes it.
            done: list[Command] = [("CLUSTER", "SETSLOT", slot, "NODE", self.target_id) for slot in some]
            await self.target.do(*done, timeout_s=MOVE_S)
            await self.source.do(*done, timeout_s=MOVE_S)
            size = max(1, min(TOGETHER, int(size * OPEN_S / max(clock() - began, OPEN_S / 2))))

    async def close(self) -> None:
        await self.source.close()
        await self.target.close()


async def _open(link: NodeLink, slots: Iterable[int], how: str, ident: str, passed: str) -> list[int]:
    """Open slots at one end; those that have moved meanwhile are left out."""
    slots = list(slots)
    replies = await link.ask(*(("CLUSTER", "SETSLOT", slot, how, ident) for slot in slots), timeout_s=MOVE_S)
    opened = []
    for slot, reply in zip(slots, replies, strict=True):
        if not isinstance(reply, RedisError):
            opened.append(slot)
        elif passed not in str(reply):
            raise NodeRefused(f"slot {slot}: {how}: {reply}")
    return opened


async def _keys(source: NodeLink, slots: Sequence[int]) -> dict[int, list[str]]:
    """Some keys of each slot that has any."""
    replies = await source.do(*(("CLUSTER", "GETKEYSINSLOT", slot, KEYS_AT_ONCE) for slot in slots))
    return {slot: keys for slot, keys in zip(slots, replies, strict=True) if keys}


async def _send(source: NodeLink, target: NodeLink, access: Access, keys: Mapping[int, Sequence[str]]) -> None:
    """Keys from one server to the other, slot by slot, as MIGRATE wants them. A key that is at both ends after a broken
    try is replaced: while a slot is open, one that the source still has cannot have been written at the target."""
    command = ("MIGRATE", target.address, PORT, "", 0, int(MIGRATE_S * 1000), "REPLACE")
    for password in access.passwords:
        auth = ("AUTH2", access.username, password)
        replies = await source.ask(*((*command, *auth, "KEYS", *some) for some in keys.values()), timeout_s=MOVE_S)
        refusals = [str(reply) for reply in replies if isinstance(reply, RedisError)]
        if not any("WRONGPASS" in refusal for refusal in refusals):
            break
    if refusals:
        raise NodeRefused(f"MIGRATE: {refusals[0]}")
