"""`spec.session`: whose conversation a request belongs to, and how two at once are kept apart."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from agentmemory_sidecar.resource.base import Model
from agentmemory_sidecar.resource.values import Between, Duration, HeaderName, Id

Headers = Annotated[tuple[HeaderName, ...], Field(max_length=16)]


class IdentityDefaults(Model):
    """Who is meant when neither the request nor the pod says so."""

    user: Id | None = None
    """The user; without it, the session itself is the data subject."""
    project: Id | None = None
    """The project; without it, there is none."""


class Identity(Model):
    """How a request says whose it is. The tenant is never taken from a request."""

    headers: Headers = ()
    """Request headers that carry the session id; the first one present counts. Looked at before Claude Code's own
    header, `metadata.user_id`, a `/s/<id>/` path and the pod's annotation."""
    user_headers: Headers = ()
    """Request headers that carry the user's id; the first one present counts."""
    project_headers: Headers = ()
    """Request headers that carry the project's id; the first one present counts."""
    group_headers: Headers = ()
    """Request headers that carry the groups the request is made for, joined by commas; all that are present count. Only
    `state.grants` asks for them."""
    defaults: IdentityDefaults = IdentityDefaults()
    """Who is meant when nothing says so."""


class OnConflict(StrEnum):
    """What a second turn on a busy session gets."""

    REJECT = "Reject"
    WAIT = "Wait"


class LockScope(StrEnum):
    """For how long the session is reserved."""

    STEP = "Step"
    TURN = "Turn"


class Lock(Model):
    """The lock of a conversation. It is for politeness and cost: the check at commit is what keeps data safe."""

    ttl: Annotated[Duration, Between("5s", "10m")] = Duration.parse("60s")
    """How long a lock outlives a sidecar that was killed; a living one renews it every third of this."""
    on_conflict: OnConflict = OnConflict.REJECT
    """`Reject` answers 409 at once; `Wait` queues for at most `maxWait`."""
    max_wait: Annotated[Duration, Between("100ms", "5m")] = Duration.parse("10s")
    """With `Wait`: the longest wait before the 409."""
    scope: LockScope = LockScope.STEP
    """`Step` frees the session after each request; `Turn` reserves it between the steps of one turn, until `ttl`."""


class Session(Model):
    """Identity and locking."""

    identity: Identity = Identity()
    """How a request says whose it is."""
    lock: Lock = Lock()
    """How two requests at once on one conversation are kept apart."""
