"""A container's items: in each region a primary with its log, replicas that may be behind it, and what is on its way there.

Everything is decided here without HTTP; :class:`Answered` carries what the REST API would say.
"""

import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any

Item = dict[str, Any]
Key = tuple[str, str]
"""Partition key and id."""

ITEM_BYTES = 2 * 1024 * 1024
BAD_IN_IDS = set("/\\#?")
ID_BYTES = 1023
KEY_BYTES = 2048


class Answered(Exception):
    """A status that is no success."""

    def __init__(self, status: int, message: str = "", substatus: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.substatus = substatus


@dataclass(frozen=True, slots=True)
class Change:
    """One write, as it is replicated: last writer wins by ``stamp``, whole items."""

    key: Key
    item: Item | None
    stamp: tuple[float, str]
    upon: tuple[float, str] | None
    """The stamp of the change that the writer's region had last."""


@dataclass(slots=True)
class Replica:
    """A container in one region. ``log`` is what its primary has taken, in order; a number in it is an LSN."""

    log: list[Change] = field(default_factory=list)
    newest: dict[Key, list[int]] = field(default_factory=dict)
    """The LSNs of each item's changes."""
    coming: list[tuple[float, Change]] = field(default_factory=list)
    """Not before when, what."""

    @property
    def lsn(self) -> int:
        return len(self.log)

    def take(self, change: Change) -> None:
        self.log.append(change)
        self.newest.setdefault(change.key, []).append(self.lsn)

    def at(self, key: Key, lsn: int) -> Change | None:
        """The item's last change up to this LSN."""
        lsns = [each for each in self.newest.get(key, ()) if each <= lsn]
        return self.log[lsns[-1] - 1] if lsns else None

    def keys(self, partition: str | None) -> list[Key]:
        return sorted(key for key in self.newest if partition is None or key[0] == partition)


class Items:
    """The items of one container of an account, in all of its regions."""

    def __init__(self, definition: dict[str, Any], regions: list[str]) -> None:
        self.definition = definition
        """The container's own, which may be replaced."""
        self.replicas = {name: Replica() for name in regions}
        self.dropped = 0
        """Writes that lost to a later one of another region, which nobody is told of."""
        self._etags = itertools.count(1)

    @property
    def path(self) -> str:
        paths: list[str] = self.definition["partitionKey"]["paths"]
        return paths[0].removeprefix("/")

    def deliver(self, region: str, now: float, cut: bool) -> None:
        """Apply what has arrived in a region."""
        replica = self.replicas[region]
        if cut:
            return
        due = [change for at, change in replica.coming if at <= now]
        replica.coming = [(at, change) for at, change in replica.coming if at > now]
        for change in due:
            before = replica.at(change.key, replica.lsn)
            if before is not None and before.stamp > change.stamp:
                self.dropped += 1
            else:
                self.dropped += before is not None and before.stamp != change.upon
                replica.take(change)

    def seen(self, region: str, key: Key, lsn: int) -> Item | None:
        """The item as of an LSN, unless it is past its time to live."""
        change = self.replicas[region].at(key, lsn)
        if change is None or change.item is None or self._expired(change.item):
            return None
        return change.item

    def create(self, region: str, partition: str, item: Item, *, upsert: bool = False) -> Item:
        self._check(partition, item)
        key = partition, item["id"]
        if self.seen(region, key, self.replicas[region].lsn) is not None and not upsert:
            raise Answered(409, "Entity with the specified id already exists in the system.")
        return self._write(region, key, item)

    def replace(self, region: str, partition: str, name: str, item: Item, if_match: str | None) -> Item:
        self._check(partition, item)
        if item["id"] != name:
            raise Answered(400, "The id of an item cannot be changed.")
        self._current(region, (partition, name), if_match)
        return self._write(region, (partition, name), item)

    def delete(self, region: str, partition: str, name: str, if_match: str | None) -> None:
        self._current(region, (partition, name), if_match)
        self._write(region, (partition, name), None)

    def mark(self, region: str) -> int:
        """Where to roll back to: nothing that came later has left the region."""
        return self.replicas[region].lsn

    def rollback(self, region: str, mark: int) -> None:
        replica = self.replicas[region]
        for change in replica.log[mark:]:
            replica.newest[change.key] = [lsn for lsn in replica.newest[change.key] if lsn <= mark]
        del replica.log[mark:]

    def send(self, region: str, mark: int, at: float) -> None:
        """Put what was written since then on its way to the other regions."""
        for change in self.replicas[region].log[mark:]:
            for name, other in self.replicas.items():
                if name != region:
                    other.coming.append((at, change))

    def _current(self, region: str, key: Key, if_match: str | None) -> Item:
        found = self.seen(region, key, self.replicas[region].lsn)
        if found is None:
            raise Answered(404, "Entity with the specified id does not exist in the system.")
        if if_match not in (None, "*", found["_etag"]):
            raise Answered(412, "Operation cannot be performed because one of the specified precondition is not met.")
        return found

    def _write(self, region: str, key: Key, item: Item | None) -> Item:
        now = time.time()
        made: Item = {}
        if item is not None:
            mine = {"_rid": f"rid{key[1]}", "_self": f"docs/{key[1]}/", "_etag": f'"{next(self._etags):08x}-0000"'}
            made = item | mine | {"_attachments": "attachments/", "_ts": int(now)}
        replica = self.replicas[region]
        before = replica.at(key, replica.lsn)
        replica.take(Change(key, made if item is not None else None, (now, region), before.stamp if before else None))
        return made

    def _check(self, partition: str, item: Item) -> None:
        name = item.get("id")
        if not isinstance(name, str) or not name or BAD_IN_IDS & set(name) or name.endswith(" "):
            raise Answered(400, "The input id is invalid.")
        if len(name.encode()) > ID_BYTES:
            raise Answered(400, "The input id is too long.")
        if item.get(self.path) != partition:
            raise Answered(
                400, "PartitionKey extracted from document doesn't match the one specified in the header.", 1001
            )
        if len(partition.encode()) > KEY_BYTES:
            raise Answered(400, "The partition key is too long.")
        ttl = item.get("ttl", 1)
        if type(ttl) is not int or ttl == 0 or ttl < -1:
            raise Answered(400, "The value of ttl must be -1 or a positive whole number.")
        if len(json.dumps(item, ensure_ascii=False).encode()) > ITEM_BYTES:
            raise Answered(413, "Request size is too large.")

    def _expired(self, item: Item) -> bool:
        default = self.definition.get("defaultTtl")
        if default is None:
            return False
        ttl = item.get("ttl", default)
        return bool(ttl > 0 and item["_ts"] + ttl <= time.time())
