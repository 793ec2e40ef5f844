"""Who is asking: tenant, session, agent, user, project, and what kind of request it is.

The rules for Claude Code were read off its traffic (version 2.1.330): a session header on every request, an agent id on
subagents' requests, and hint headers with the class where ``CLAUDE_CODE_GATEWAY_HINT_HEADERS=1`` is set.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from agentmemory_sidecar.stores.protocols import ROOT
from agentmemory_sidecar.wire.errors import ambiguous_session

MAX_ID = 200
"""Bytes a session, agent, user or project id may have, percent-encoded: three of them are parts of an object's key, and
S3 takes keys of 1,024 bytes."""

CLAUDE_CODE_SESSION = "x-claude-code-session-id"
CLAUDE_CODE_AGENT = "x-claude-code-agent-id"
CLAUDE_CODE_AGENT_TYPE = "x-claude-code-agent-type"
CLAUDE_CODE_CLASS = "x-claude-code-request-class"
CLAUDE_CODE_COMPACTION = "x-claude-code-compaction"
CLAUDE_CODE_PROMPT = "x-claude-code-prompt-id"


class RequestClass(Enum):
    """Only ``MAIN`` and ``SUBAGENT`` are turns. ``AUXILIARY`` reads (the ledger is replayed), ``PASSTHROUGH`` does not."""

    MAIN = "main"
    SUBAGENT = "subagent"
    AUXILIARY = "auxiliary"
    PASSTHROUGH = "passthrough"


class Endpoint(Enum):
    MESSAGES = "/v1/messages"
    COUNT_TOKENS = "/v1/messages/count_tokens"
    OTHER = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A request path without the session prefix: what it is, and the path Claude knows it by."""

    endpoint: Endpoint
    path: str
    session: str = ""


@dataclass(frozen=True, slots=True)
class IdentityRules:
    """Where ids are looked for. Header names in lower case."""

    tenant: str
    session_headers: Sequence[str] = ()
    user_headers: Sequence[str] = ()
    project_headers: Sequence[str] = ()
    group_headers: Sequence[str] = ()
    session: str = ""
    """From the pod's annotation: used when the request names none."""
    user: str = ""
    project: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. ``session`` empty: nobody we know, the request passes through untouched."""

    tenant: str
    session: str
    agent: str
    user: str
    project: str
    request_class: RequestClass
    compaction: bool
    turn_hint: str
    """The client's own id of the turn (Claude Code's prompt id), empty where it has none."""
    agent_type: str = ""
    """What kind of subagent it is, as Claude Code says; empty for the root agent."""
    groups: tuple[str, ...] = ()
    """The groups that the request is made for."""

    @property
    def is_turn(self) -> bool:
        return self.request_class in (RequestClass.MAIN, RequestClass.SUBAGENT)

    @property
    def subject(self) -> str:
        """The person whose data this is; without a user the session stands for one."""
        return f"user:{self.user}" if self.user else f"session:{self.session}"


_SESSION_PREFIX = re.compile(r"^/s/([^/]+)(/.*)?$")
_MESSAGES = re.compile(r"^(?:/v1){0,2}/messages(/count_tokens)?/?$")
_LEGACY_USER_ID = re.compile(r"_session_([0-9a-fA-F-]{8,64})$")


@lru_cache(maxsize=256)
def route(path: str) -> Route:
    """Read a raw request path (percent-encoded, without query).

    Clients disagree on whether the base URL holds ``/v1``, so ``/messages`` and ``/v1/v1/messages`` arrive too; Claude
    knows only ``/v1/messages``.
    """
    session = ""
    if match := _SESSION_PREFIX.match(path):
        session, path = unquote(match[1]), match[2] or "/"
    if match := _MESSAGES.match(path):
        endpoint = Endpoint.COUNT_TOKENS if match[1] else Endpoint.MESSAGES
        return Route(endpoint, endpoint.value, session)
    return Route(Endpoint.OTHER, path, session)


def identify(
    rules: IdentityRules,
    method: str,
    where: Route,
    headers: Mapping[str, str],
    fields: Mapping[str, Any],
    *,
    has_tools: bool,
    single_user_message: bool,
) -> Identity:
    """Find out who asks. ``headers`` must be case-insensitive; ``fields`` are the body's small top-level values.

    Raises ApiError (400) for an id that cannot be one: too long, or with control characters.
    """
    session = checked(_session(rules, where, headers, fields), "session id")
    agent = checked(headers.get(CLAUDE_CODE_AGENT, ""), "agent id")
    compaction = headers.get(CLAUDE_CODE_COMPACTION) is not None or headers.get(CLAUDE_CODE_CLASS) == "compaction"
    compaction = compaction or isinstance(fields.get("compaction"), dict)
    if not session or method != "POST" or where.endpoint is Endpoint.OTHER:
        kind = RequestClass.PASSTHROUGH
    elif where.endpoint is Endpoint.COUNT_TOKENS or compaction or _is_probe(fields):
        kind = RequestClass.AUXILIARY
    else:
        kind = _classify(headers, fields, agent, has_tools=has_tools, single_user_message=single_user_message)
    return Identity(
        tenant=rules.tenant,
        session=session,
        agent=agent or ROOT,
        user=checked(_first(headers, rules.user_headers) or rules.user, "user id"),
        project=checked(_first(headers, rules.project_headers) or rules.project, "project id"),
        request_class=kind,
        compaction=compaction,
        turn_hint=headers.get(CLAUDE_CODE_PROMPT, "")[:MAX_ID],
        agent_type=checked(headers.get(CLAUDE_CODE_AGENT_TYPE, "").strip(), "agent type") if agent else "",
        groups=_groups(rules, headers) if rules.group_headers else (),
    )


def _classify(
    headers: Mapping[str, str], fields: Mapping[str, Any], agent: str, *, has_tools: bool, single_user_message: bool
) -> RequestClass:
    match headers.get(CLAUDE_CODE_CLASS):
        case "main":
            return RequestClass.MAIN
        case "subagent" | "workflow":
            return RequestClass.SUBAGENT if agent else RequestClass.MAIN
        case str():  # auxiliary, side_reply, and what later versions add: never a turn of the conversation
            return RequestClass.AUXILIARY
    if agent:
        return RequestClass.SUBAGENT
    # The guess is made for Claude Code alone: any other client's request without tools is simply a conversation.
    if is_claude_code(headers) and not has_tools:
        output = fields.get("output_config")
        if single_user_message or (isinstance(output, dict) and output.get("format") is not None):
            return RequestClass.AUXILIARY
    return RequestClass.MAIN


def is_claude_code(headers: Mapping[str, str]) -> bool:
    return CLAUDE_CODE_SESSION in headers or headers.get("user-agent", "").startswith("claude-cli/")


def _is_probe(fields: Mapping[str, Any]) -> bool:
    """Cache warming and quota checks ask for at most one token: no answer anyone would want remembered."""
    limit = fields.get("max_tokens")
    return isinstance(limit, int) and limit <= 1


def _session(rules: IdentityRules, where: Route, headers: Mapping[str, str], fields: Mapping[str, Any]) -> str:
    return (
        _first(headers, rules.session_headers)
        or headers.get(CLAUDE_CODE_SESSION, "").strip()
        or session_of_user_id(fields.get("metadata"))
        or where.session
        or rules.session
    )


def session_of_user_id(metadata: Any) -> str:
    """Claude Code's session in ``metadata.user_id``: a JSON object since 2.1.78, ``…_session_<uuid>`` before."""
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user_id, str):
        return ""
    if user_id.lstrip().startswith("{"):
        try:
            session = msgspec.json.decode(user_id).get("session_id")
        except msgspec.DecodeError:
            return ""
        return session if isinstance(session, str) else ""
    match = _LEGACY_USER_ID.search(user_id)
    return match[1] if match else ""


def _first(headers: Mapping[str, str], names: Sequence[str]) -> str:
    for name in names:
        if value := headers.get(name, "").strip():
            return value
    return ""


def _groups(rules: IdentityRules, headers: Mapping[str, str]) -> tuple[str, ...]:
    named = (name.strip() for header in rules.group_headers for name in headers.get(header, "").split(","))
    return tuple(dict.fromkeys(checked(name, "name of a group") for name in named if name))


@lru_cache(maxsize=512)
def checked(value: str, what: str) -> str:
    """An id as it is, or a 400 that says why it cannot be one."""
    if len(value) * (3 if value.isascii() else 12) > MAX_ID and (size := len(quote(value, safe=""))) > MAX_ID:
        raise ambiguous_session(f"The {what} has {size} bytes, percent-encoded; at most {MAX_ID} are allowed.")
    if not value.isprintable() and any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ambiguous_session(f"The {what} has control characters.")
    return value
