"""What one step is about: who asks, in which conversation, what."""

import os
import time
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote

import msgspec

from agentmemory_sidecar.resource.state import Scope
from agentmemory_sidecar.step.exchange import Inbound
from agentmemory_sidecar.stores.protocols import ROOT, Conversation
from agentmemory_sidecar.wire.identify import Identity
from agentmemory_sidecar.wire.request import MessagesRequest


@lru_cache(maxsize=1024)
def _labelled(session: str) -> str:
    return quote(session, safe="-._~:@/ ")


@dataclass(slots=True)
class Question:
    """An identified request that is a turn's step."""

    inbound: Inbound
    identity: Identity
    request: MessagesRequest
    path: str
    """The path Claude knows."""
    step: str = field(default_factory=lambda: os.urandom(12).hex())
    started: float = field(default_factory=time.perf_counter)
    fingerprint: str = ""
    scope: Scope = Scope.SESSION
    conversation: Conversation = field(init=False)
    owner: Conversation = field(init=False)
    """Whose item holds the state: the session's own conversation, or the project's or user's."""

    def __post_init__(self) -> None:
        who = self.identity
        self.conversation = Conversation(who.tenant, who.session, who.agent)
        self.owner = owner_of(self.conversation, self.scope, who.user, who.project)
        thread = self.request.thread
        if self.request.continues_thread and thread is not None:
            # Until the item says which mark this reply has, the reply's id stands for it.
            self.request.follow(mark_in_thread(thread.previous))
        self.fingerprint = self.request.fingerprint(who.session, who.agent)

    @property
    def is_root(self) -> bool:
        return self.identity.agent == ROOT

    @property
    def owns_state(self) -> bool:
        """Whether the state lies in the conversation's own item."""
        return self.conversation == self.owner

    @property
    def label(self) -> str:
        """The session as a header value can hold it."""
        return _labelled(self.identity.session)

    def elapsed_ms(self) -> float:
        return round((time.perf_counter() - self.started) * 1000, 2)

    def note(self, outcome: str, at: float) -> bytes:
        """A step without content, for the archive: it was refused, or it failed."""
        kind = "refused" if outcome == "refused" else "failed"
        return msgspec.msgpack.encode({"step": self.step, "kind": kind, "outcome": outcome, "at": at})


def owner_of(conversation: Conversation, scope: Scope, user: str, project: str) -> Conversation:
    """Whose item holds the state of a conversation that this user has in this project."""
    tenant, session, agent = conversation
    if scope is Scope.PROJECT and project:
        return Conversation.shared(tenant, "project", project)
    if scope is Scope.USER and user:
        return Conversation.shared(tenant, "user", user)
    return conversation if agent == ROOT else Conversation(tenant, session, ROOT)


def mark_in_thread(message_id: str) -> str:
    """The mark that a request bears which continues a thread behind this reply."""
    return f"thread:{message_id}"
