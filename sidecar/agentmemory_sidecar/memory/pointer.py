"""JSON pointers (RFC 6901): reading, writing, and whether two of them name overlapping parts of a document."""

import re
from collections.abc import Iterable
from typing import Any

_BAD_ESCAPE = re.compile("~(?![01])")
_INDEX = re.compile("0|[1-9][0-9]{0,8}")

ABSENT: Any = object()
"""What ``get`` answers where there is nothing; null is something."""


def parse(pointer: str) -> tuple[str, ...]:
    """The reference tokens; none for the whole document. Raises ValueError saying what is wrong."""
    if pointer == "":
        return ()
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is no JSON pointer: it must be empty or begin with /")
    if _BAD_ESCAPE.search(pointer):
        raise ValueError(f"{pointer!r} is no JSON pointer: write ~ as ~0 and / as ~1")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/"))


def escape(token: str) -> str:
    """One member name as it stands in a pointer."""
    return token.replace("~", "~0").replace("/", "~1") if "~" in token or "/" in token else token


def join(pointer: str, token: str | int) -> str:
    """The pointer to a member or an element of what ``pointer`` names."""
    return f"{pointer}/{escape(str(token))}"


def build(tokens: Iterable[str]) -> str:
    """The pointer with these reference tokens."""
    return "".join("/" + escape(token) for token in tokens)


def index(token: str, length: int) -> int | None:
    """The element that a token names in a list of this length; None where it names none."""
    if not _INDEX.fullmatch(token):
        return None
    return number if (number := int(token)) < length else None


def get(document: Any, pointer: str) -> Any:
    """The value there, or ``ABSENT``."""
    for token in parse(pointer):
        if isinstance(document, dict):
            document = document.get(token, ABSENT)
        elif isinstance(document, list):
            place = index(token, len(document))
            document = ABSENT if place is None else document[place]
        else:
            return ABSENT
    return document


def covers(outer: str, inner: str) -> bool:
    """Whether ``inner`` is what ``outer`` names, or lies in it."""
    return inner == outer or inner.startswith(outer + "/")


def overlap(a: str, b: str) -> bool:
    """Whether a change at one may meet a change at the other.

    ``…/-`` is the place behind a list's last element, another one each time: two additions there do not meet.
    """
    if a == b:
        return not a.endswith("/-")
    return covers(a, b) or covers(b, a)
