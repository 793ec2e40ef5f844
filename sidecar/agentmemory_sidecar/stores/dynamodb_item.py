"""A state item as DynamoDB holds it, and the conditional writes on it: values in, expressions out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentmemory_sidecar.stores.protocols import ABSENT, OtherHead, Stored, Versions

Item = Mapping[str, Any]
"""An item in DynamoDB's own notation: attribute name to ``{type: value}``."""

CHUNK_BYTES = 300_000
"""A chunk with its keys stays below the 400 KB of an item."""
LOCKED_ONLY_S = 24 * 3600
"""How long an item lives that was locked but never written."""
FOREVER = 253_402_300_799
"""The expiry (end of the year 9999) of an item that is kept. Only an item that is not there has none at all, which lets
one and the same request lock an item that is kept or make one with a short life."""
ATTRIBUTES = ("turn", "version", "body", "lock_token", "lock_until", "pending", "expires", "written")
NAMES = {f"#{name}": name for name in ATTRIBUTES}
"""Aliases for every attribute in an expression, so that none can be one of DynamoDB's hundreds of reserved words."""
ALIVE = "(attribute_not_exists(#expires) OR #expires > :now)"
GONE = "#expires <= :now"


@dataclass(frozen=True, slots=True)
class Update:
    """An UpdateItem's expressions and values."""

    update: str
    condition: str
    values: Mapping[str, Any]

    def arguments(self, table: str, key: Item) -> dict[str, Any]:
        return {
            "TableName": table,
            "Key": key,
            "UpdateExpression": self.update,
            "ConditionExpression": self.condition,
            "ExpressionAttributeNames": names(self.update + self.condition),
            "ExpressionAttributeValues": self.values,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }


def names(*expressions: str) -> dict[str, str]:
    """The aliases that occur in these expressions."""
    return {alias: name for alias, name in NAMES.items() if any(alias in each for each in expressions)}


def versions_of(item: Item | None, now: float) -> Versions:
    """An item's versions; ``ABSENT`` for none and for one past its expiry."""
    if item is None or expired(item, now):
        return ABSENT
    return Versions(int(item["turn"]["N"]), int(item["version"]["N"]))


def expired(item: Item, now: float) -> bool:
    return "expires" in item and float(item["expires"]["N"]) <= now


def holder_of(item: Item) -> str:
    return str(item["lock_token"]["S"]) if "lock_token" in item else ""


def matches(item: Item, expect: Versions, now: float) -> bool:
    """Whether the item is what a write expected, its lock aside."""
    if expect == ABSENT:
        return "body" not in item or expired(item, now)
    return versions_of(item, now) == expect


def stored(
    item: Item | None, ledger: Mapping[str, bytes], now: float, others: Mapping[str, Item] | None = None
) -> Stored:
    """What a read answers. ``others`` are other regions' items by head."""
    alive = item is not None and not expired(item, now)
    body = item["body"]["B"] if item is not None and alive and "body" in item else b""
    versions = with_others(versions_of(item, now), others or {}, now)
    found = (OtherHead(name, version, (others or {})[name]["body"]["B"]) for name, version in versions.others)
    return Stored(versions, body, ledger, tuple(found))


def with_others(own: Versions, others: Mapping[str, Item], now: float) -> Versions:
    """The versions with those of other regions' items; one that was only locked, or is past its expiry, is none."""
    rows = ((name, others[name]) for name in sorted(others))
    known = tuple(
        (name, versions_of(row, now).version) for name, row in rows if "written" in row and not expired(row, now)
    )
    return replace(own, others=known) if known else own


def commit_update(
    body: bytes,
    *,
    expect: Versions,
    new: Versions,
    pending: str,
    token: str,
    foreign: str,
    expires: int | None,
    now: float,
) -> Update:
    """The one write of a commit. ``token`` releases the lock if it is this token's or nobody's; ``foreign`` names a
    holder seen by a first try, whose lock is left as it is."""
    values: dict[str, Any] = {
        ":turn": number(new.turn),
        ":version": number(new.version),
        ":body": {"B": body},
        ":expires": number(FOREVER if expires is None else expires),
        ":written": {"BOOL": True},
        ":now": number(now),
    }
    assign = [f"#{name} = :{name}" for name in ("turn", "version", "body", "expires", "written")]
    remove = []
    if pending:
        assign.append("#pending = :pending")
        values[":pending"] = {"S": pending}
    else:
        remove.append("#pending")
    if expect == ABSENT:
        # On an item that is only locked, the lock's holder will expect the versions that the lock gave it: a write that
        # had the same ones would be undone by the holder's.
        unlike = "NOT (#turn = :turn AND #version = :version)"
        condition = f"(attribute_not_exists(#version) OR {GONE} OR (attribute_not_exists(#body) AND {unlike}))"
    else:
        condition = f"#turn = :expected_turn AND #version = :expected_version AND {ALIVE}"
        values |= {":expected_turn": number(expect.turn), ":expected_version": number(expect.version)}
    if foreign:
        condition += " AND #lock_token = :foreign"
        values[":foreign"] = {"S": foreign}
    elif token:
        condition += " AND (attribute_not_exists(#lock_token) OR #lock_token = :token)"
        values[":token"] = {"S": token}
        remove += ["#lock_token", "#lock_until"]
    update = f"SET {', '.join(assign)}" + (f" REMOVE {', '.join(remove)}" if remove else "")
    return Update(update, condition, values)


def lock_update(token: str, ttl_s: float, now: float) -> Update:
    """Take or renew the lock, of an item that is there or of a new one, but not of one past its expiry."""
    return Update(
        "SET #lock_token = :token, #lock_until = :until, #version = if_not_exists(#version, :zero) + :one,"
        " #turn = if_not_exists(#turn, :zero), #expires = if_not_exists(#expires, :soon)",
        f"{ALIVE} AND (attribute_not_exists(#lock_token) OR #lock_token = :token OR #lock_until <= :now)",
        {
            ":token": {"S": token},
            ":until": number(now + ttl_s),
            ":now": number(now),
            ":zero": number(0),
            ":one": number(1),
            ":soon": number(int(now) + LOCKED_ONLY_S),
        },
    )


def lock_anew(key: Item, token: str, ttl_s: float, now: float, before: Item) -> tuple[Item, dict[str, Any]]:
    """The item that holds nothing but a lock, in place of one past its expiry, and the condition to put it. The version
    goes on, so that none comes twice."""
    item = {
        **key,
        "turn": number(0),
        "version": number(int(before["version"]["N"]) + 1),
        "lock_token": {"S": token},
        "lock_until": number(now + ttl_s),
        "expires": number(int(now) + LOCKED_ONLY_S),
    }
    condition = f"#version = :version AND {GONE}"
    return item, {
        "ConditionExpression": condition,
        "ExpressionAttributeNames": names(condition),
        "ExpressionAttributeValues": {":version": before["version"], ":now": number(now)},
    }


def held(item: Item, token: str, now: float) -> float:
    """Seconds for which the item's lock is still somebody else's; 0 when it is free for this token."""
    if holder_of(item) in ("", token):
        return 0.0
    return max(0.0, float(item["lock_until"]["N"]) - now)


def number(value: float) -> Any:
    """A number attribute, to the millisecond."""
    return {"N": str(value) if isinstance(value, int) else f"{value:.3f}"}


def pieces(data: bytes) -> list[bytes]:
    """The chunks of a value, at least one."""
    return [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)] or [b""]
