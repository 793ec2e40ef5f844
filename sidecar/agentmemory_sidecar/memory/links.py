"""Links to blobs: a big string in state, window, reply or record is replaced by where it lies and what it was.

``{"$blob": {"key": …, "size": bytes, "type": media type, "summary": first characters}}``. A value that the user wrote and
that looks like a link is not one: only links that ``extract`` made are in ``keys``, and they are resolved within the one
subject whose key opens them.
"""

from collections.abc import Callable, Mapping
from typing import Any

LINK = "$blob"
SUMMARY = 240
"""Characters of the value kept beside its link."""


def is_link(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(LINK), dict)


def extract(value: Any, threshold: int, store: Callable[[str], str]) -> Any:
    """The same value with each string over ``threshold`` (bytes of UTF-8) replaced by a link.

    ``store`` takes the string and returns its blob's key. What holds no big string is returned as it is, not copied.
    A tuple is a list (``msgspec.to_builtins`` leaves them).
    """
    if isinstance(value, str):
        # Four bytes a character at the most: short strings need no encoding to be measured.
        if len(value) * 4 <= threshold or (size := len(value.encode("utf-8", "surrogatepass"))) <= threshold:
            return value
        return {LINK: {"key": store(value), "size": size, "type": "text/plain", "summary": value[:SUMMARY]}}
    if isinstance(value, dict):
        changed = {k: new for k, v in value.items() if (new := extract(v, threshold, store)) is not v}
        return {**value, **changed} if changed else value
    if isinstance(value, list | tuple):
        elements = [extract(v, threshold, store) for v in value]
        return elements if any(a is not b for a, b in zip(elements, value, strict=True)) else value
    return value


def keys(value: Any) -> set[str]:
    """The keys of all links in a value."""
    if is_link(value):
        return {str(value[LINK].get("key", ""))}
    if isinstance(value, dict):
        return set().union(*(keys(v) for v in value.values()))
    if isinstance(value, list | tuple):
        return set().union(*(keys(v) for v in value))
    return set()


def resolve(value: Any, blobs: Mapping[str, str]) -> Any:
    """Links replaced by the strings they stand for; one that is missing stays, with its summary."""
    if is_link(value):
        return blobs.get(str(value[LINK].get("key", "")), value)
    if isinstance(value, dict):
        return {k: resolve(v, blobs) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(v, blobs) for v in value]
    return value
