"""Where an agent's container is sent: to the sidecar, with the container's own gateway behind it if it had one."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

BASE_URL = "ANTHROPIC_BASE_URL"
HINTS = "CLAUDE_CODE_GATEWAY_HINT_HEADERS"
_URL = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?")
_PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_EXCEPTIONS = ("NO_PROXY", "no_proxy")


class Found(Enum):
    """What a container has for a base URL."""

    NONE = "none"
    OURS = "the sidecar already"
    LITERAL = "a URL"
    LEFT = "something that is left alone"


@dataclass(frozen=True, slots=True)
class Current:
    """A container's base URL as it is. ``index`` is its place in ``env``; -1 for none."""

    found: Found
    index: int = -1
    url: str = ""
    """For LITERAL: the URL, as the container would see it."""
    why: str = ""
    """For LEFT: why, as the rest of a sentence."""


def variable(container: Mapping[str, Any], name: str) -> tuple[int, Mapping[str, Any]]:
    """The last entry of a name in ``env``, which is the one that counts, and its index; -1 and {} for none."""
    entries = list(enumerate(container.get("env") or ()))
    return next(((index, entry) for index, entry in reversed(entries) if entry.get("name") == name), (-1, {}))


def current(container: Mapping[str, Any], port: int) -> Current:
    """What ``container`` has, where the sidecar listens on ``port``."""
    index, entry = variable(container, BASE_URL)
    value = entry.get("value") or ""
    if index < 0:
        return Current(Found.NONE)
    if entry.get("valueFrom"):
        return Current(Found.LEFT, index, why="comes from valueFrom, which admission cannot read")
    if not value:
        return Current(Found.NONE, index)
    if re.fullmatch(rf"http://(127\.0\.0\.1|localhost):{port}(/.*)?", value):
        return Current(Found.OURS, index)
    if "$(" in value or "$$" in value:
        return Current(Found.LEFT, index, why="refers to other variables, which only the container knows")
    if not _URL.fullmatch(value):
        return Current(Found.LEFT, index, why="is not a plain http or https URL")
    return Current(Found.LITERAL, index, url=value)


def base_url(port: int, container: str = "", session: str = "") -> str:
    """The sidecar's base URL: for a container with an upstream of its own, and with a session, encoded."""
    upstream = f"/u/{container}" if container else ""
    return f"http://127.0.0.1:{port}{upstream}" + (f"/s/{session}" if session else "")


def proxied(container: Mapping[str, Any]) -> str:
    """The variable that would send the agent's requests to an HTTP proxy instead of the sidecar; empty for none."""
    exceptions = ",".join(str(variable(container, name)[1].get("value") or "") for name in _EXCEPTIONS)
    if {"127.0.0.1", "*", "127.0.0.0/8"} & {part.strip() for part in exceptions.split(",")}:
        return ""
    if any(variable(container, name)[1].get("valueFrom") for name in _EXCEPTIONS):
        return ""
    return next((name for name in _PROXIES if variable(container, name)[0] >= 0), "")


def written_upstreams(upstreams: Mapping[str, str]) -> str:
    """The value of the sidecar's variable. Kubernetes expands ``$(…)`` in values and takes ``$$`` for a dollar."""
    text = json.dumps(dict(sorted(upstreams.items())), separators=(",", ":"))
    return text.replace("$", "$$") if upstreams else ""


def read_upstreams(value: str) -> dict[str, str]:
    """The other way round. Raises ValueError for what is not ours."""
    found = json.loads(value.replace("$$", "$")) if value else {}
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found
