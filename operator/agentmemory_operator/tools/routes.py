"""Which requests there are, and which right each needs. Pure.

A path is ``/namespaces/NS/agentmemories/NAME/v1/…``; behind ``/v1`` it is the sidecar's admin API. ``-`` is the only
AgentMemory of the namespace.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

ONLY = "-"
REGION_HEADER = "agentmemory-region"
"""Names the region to look from."""

_PATH = re.compile(r"/namespaces/(?P<namespace>[^/]+)/agentmemories/(?P<memory>[^/]+)(?P<rest>/v1/.*)")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LIST = re.compile(r"/v1/sessions")
_ONE = re.compile(r"/v1/(?P<of>sessions|projects|users)/(?P<id>[^/]+)(?:/(?P<part>[a-z]+)(?:/(?P<turn>[^/]+))?)?")

_VERBS: Mapping[tuple[str, str], str] = {
    ("GET", "state"): "get",
    ("PATCH", "state"): "update",
    ("GET", "conflicts"): "get",
    ("POST", "conflicts"): "update",
    ("POST", "migration"): "update",
}
_SESSIONS_VERBS: Mapping[tuple[str, str], str] = {
    **_VERBS,
    ("GET", ""): "get",
    ("GET", "history"): "get",
    ("GET", "explain"): "get",
    ("GET", "export"): "get",
    ("GET", "report"): "get",
    ("POST", "move"): "update",
}
"""What is passed on, by method and part, and the verb on ``agentmemories/sessions`` that it needs."""


class NoRoute(Exception):
    """There is nothing under this path."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    namespace: str
    memory: str
    """The AgentMemory; empty for the only one of the namespace."""
    verb: str
    """``get``, ``list`` or ``update``."""
    path: str
    """What the admin API is asked, as it came: percent-encoded."""
    session: str = ""
    """The session, project or user it is about, percent-encoded, for the log; empty for the list."""
    part: str = ""
    """What of it, for the log; empty for the whole."""

    @property
    def named(self) -> str:
        return f"{self.namespace}/{self.memory or ONLY}"


def asked(method: str, path: str) -> Asked:
    """``path`` is percent-encoded and has no query. Raises NoRoute."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise NoRoute(path)
    namespace, memory = found["namespace"], "" if found["memory"] == ONLY else found["memory"]
    if not _NAME.fullmatch(namespace) or (memory and not _NAME.fullmatch(memory)):
        raise NoRoute(path)
    if _LIST.fullmatch(found["rest"]) and method == "GET":
        return Asked(namespace, memory, "list", found["rest"])
    one = _ONE.fullmatch(found["rest"])
    if one is None:
        raise NoRoute(path)
    verbs = _SESSIONS_VERBS if one["of"] == "sessions" else _VERBS
    verb = verbs.get((method, one["part"] or ""))
    turns = one["part"] == "explain"
    if verb is None or turns != bool(one["turn"]) or {".", ".."} & {unquote(one["id"]), unquote(one["turn"] or "")}:
        raise NoRoute(path)
    return Asked(namespace, memory, verb, found["rest"], one["id"], one["part"] or "")
