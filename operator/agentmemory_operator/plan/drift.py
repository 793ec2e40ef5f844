"""What of our intent is not so in a live object. What the intent does not name is somebody else's business."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

_SUFFIXES = {
    "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
}  # fmt: skip
_QUANTITIES = frozenset({"requests", "limits", "capacity"})
_MAPPED_BY = ("name", "containerPort", "mountPath", "port", "topologyKey", "type")
"""Members by one of which Kubernetes tells the items of a list apart."""


def differences(intent: Any, live: Any, path: str = "") -> list[str]:
    """The paths below which ``live`` is not what ``intent`` says; empty where all that is named is so.

    A null or an empty map or list in the intent is the same as nothing there.
    """
    if isinstance(intent, Mapping):
        if not isinstance(live, Mapping):
            return [] if not intent and live is None else [path or "/"]
        quantities = path.rpartition("/")[2] in _QUANTITIES
        found: list[str] = []
        for name, value in intent.items():
            below = f"{path}/{name}"
            if quantities:
                found += [] if quantity(value) == quantity(live.get(name)) else [below]
            else:
                found += differences(value, live.get(name), below)
        return found
    if isinstance(intent, Sequence) and not isinstance(intent, str):
        return _lists(intent, live, path)
    return [] if intent == live or (intent in (None, "") and live in (None, "")) else [path or "/"]


def _lists(intent: Sequence[Any], live: Any, path: str) -> list[str]:
    if not isinstance(live, Sequence) or isinstance(live, str):
        return [] if not intent and live is None else [path]
    if len(intent) != len(live):
        return [path]
    key = _key(intent) if _key(intent) == _key(live) else ""
    if not key:
        pairs = zip(intent, live, strict=True)
        return [
            line for number, (want, have) in enumerate(pairs) for line in differences(want, have, f"{path}/{number}")
        ]
    by_name = {item[key]: item for item in live}
    return [line for item in intent for line in differences(item, by_name.get(item[key]), f"{path}/{item[key]}")]


def _key(items: Sequence[Any]) -> str:
    """The member that names each item differently; empty for none."""
    for key in _MAPPED_BY:
        names = [item.get(key) for item in items if isinstance(item, Mapping)]
        if len(names) == len(items) and None not in names and len(set(names)) == len(names):
            return key
    return ""


def quantity(text: Any) -> Decimal | None:
    """A Kubernetes quantity as a number, so that 1024Mi is 1Gi; None for none."""
    written = str(text)
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if written.endswith(suffix):
            written, factor = written.removesuffix(suffix), _SUFFIXES[suffix]
            break
    else:
        factor = Decimal(1)
    try:
        return Decimal(written) * factor
    except InvalidOperation:
        return None
