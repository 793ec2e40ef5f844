"""What one step is about: who asks, in which conversation, what."""

import os
import time
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote

import msgspec

from agentmemory_sidecar.memory.scopes import Homes
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
    homes: Homes
    """In whose items the state lies: the session's own conversation, the project's, the user's."""
    step: str = field(default_factory=lambda: os.urandom(12).hex())
    started: float = field(default_factory=time.perf_counter)
    fingerprint: str = ""
    conversation: Conversation = field(init=False)
    owns_state: bool = field(init=False)
    """Whether all of the state lies in the conversation's own item."""

    def __post_init__(self) -> None:
        who = self.identity
        homes = self.homes.homes
        first = homes[0].owner
        its = who.agent == ROOT and first.session == who.session
        self.conversation = first if its else Conversation(who.tenant, who.session, who.agent)
        self.owns_state = its and len(homes) == 1
        thread = self.request.thread
        if self.request.continues_thread and thread is not None:
            # Until the item says which mark this reply has, the reply's id stands for it.
            self.request.follow(mark_in_thread(thread.previous))
        self.fingerprint = self.request.fingerprint(who.session, who.agent)

    @property
    def is_root(self) -> bool:
        return self.identity.agent == ROOT

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


def mark_in_thread(message_id: str) -> str:
    """The mark that a request bears which continues a thread behind this reply."""
    return f"thread:{message_id}"
