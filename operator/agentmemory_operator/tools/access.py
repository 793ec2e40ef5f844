"""Who asks, and whether they may: both are asked of the API server, each time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from agentmemory_operator.kube import Kube
from agentmemory_operator.names import GROUP, PLURAL, TOOLS_AUDIENCE
from agentmemory_operator.tools.routes import Asked

CREDENTIAL = "authentication.kubernetes.io/credential-id"
"""Where the API server's audit log and ours name the same token."""
SUBRESOURCE = "sessions"


@dataclass(frozen=True, slots=True)
class User:
    """Whom the API server says a token is of."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """For a log: one word."""
        return quote(self.name, safe=":@/._-")

    @property
    def credential(self) -> str:
        return quote(",".join(self.extra.get(CREDENTIAL) or ()) or "-", safe="=,._-")


async def who(kube: Kube, token: str, *, api_tokens: bool) -> User | None:
    """The bearer of a token, or None.

    A token must be for this service's audience; with ``api_tokens`` one for the API server will do, too.
    Raises KubeError and KubeUnreachable.
    """
    if not token:
        return None
    user = await _reviewed(kube, token, TOOLS_AUDIENCE)
    return await _reviewed(kube, token, "") if user is None and api_tokens else user


async def _reviewed(kube: Kube, token: str, audience: str) -> User | None:
    spec = {"token": token} | ({"audiences": [audience]} if audience else {})
    review = await kube.create(_review("authentication.k8s.io/v1", "TokenReview", spec))
    status = review.get("status") or {}
    # An authenticator that knows nothing of audiences says "authenticated" and names none.
    if not status.get("authenticated") or (audience and audience not in (status.get("audiences") or ())):
        return None
    user = status.get("user") or {}
    if not user.get("username"):
        return None
    return User(user["username"], user.get("uid", ""), tuple(user.get("groups") or ()), user.get("extra") or {})


async def may(kube: Kube, user: User, asked: Asked) -> bool:
    """Whether RBAC lets them. Raises KubeError and KubeUnreachable."""
    wanted = {
        "namespace": asked.namespace, "verb": asked.verb, "group": GROUP, "resource": PLURAL, "subresource": SUBRESOURCE,
        "name": asked.memory,
    }  # fmt: skip
    spec = {
        "user": user.name, "uid": user.uid, "groups": list(user.groups), "extra": dict(user.extra),
        "resourceAttributes": wanted,
    }  # fmt: skip
    review = await kube.create(_review("authorization.k8s.io/v1", "SubjectAccessReview", spec))
    status = review.get("status") or {}
    return bool(status.get("allowed")) and not status.get("denied")


def forbidden(user: User, asked: Asked) -> str:
    """What to tell who may not."""
    which = f"AgentMemory {asked.memory}" if asked.memory else "all AgentMemories"
    said = f"{user.name} may not {asked.verb} {PLURAL}/{SUBRESOURCE} of {which} in namespace {asked.namespace}"
    if not asked.memory:
        return f"{said}: name the one you may look at (--memory), or ask for the right (docs: Looking from outside)."
    return f"{said}: ask whoever keeps the namespace for a RoleBinding with that verb (docs: Looking from outside)."


def _review(api_version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {}, "spec": spec}
