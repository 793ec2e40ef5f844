"""The state item: everything one conversation must remember, in one value that is written under one condition.

Encoded as MessagePack (``pack``/``unpack``). The state object itself stays JSON text inside it, so that fields this version
does not know survive byte for byte. Readers ignore members they do not know; ``format`` rises only when old readers must
not write.
"""

import msgspec

from agentmemory_sidecar.memory.extraction.unread import Spent, Unread
from agentmemory_sidecar.memory.heads import Clash, Head
from agentmemory_sidecar.memory.ledger import Made
from agentmemory_sidecar.memory.window import Turn

FORMAT = 1
KEPT_STEPS = 32
"""Step and patch ids kept to tell a lost answer from a refusal."""
KEPT_NOTED = 64
"""Ids of failed and refused steps kept to know a note that the hot tier brings again."""
KEPT_REPLIES = 64
"""Replies kept by their marks: more than the steps of a thread that can still go on (Claude drops it after 5 minutes)."""
KEPT_OPENINGS = 64
"""Replies kept that began a conversation, beyond the newest ones."""


class UnknownFormat(Exception):
    """The item was written by a newer version that does not let this one write it."""


class LastStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """The newest committed step, so that a repeated request is answered and not paid twice."""

    step: str
    request: str
    """Fingerprint of the request."""
    at: float
    """Seconds since the epoch, for the age limit only; never compared for order."""
    reply: bytes = b""
    """The reply's message as JSON, big values as links; empty when it cannot be told again."""


class Outgoing(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sealed archive record that the archive may not have yet."""

    key: str
    seq: int
    data: bytes = b""
    """Empty when the bytes were moved to chunk items, to keep the item small."""
    chunks: str = ""
    """Name of those. It tells apart what several tries made for one key, of which at most one is committed."""


class OutgoingPatch(msgspec.Struct, frozen=True, omit_defaults=True):
    """A patch for a state that is not this conversation's own, applied exactly once and in order."""

    seq: int
    target_agent: str
    patch: bytes
    """JSON of a ``memory.state.Patch``."""
    target_session: str = ""
    """Empty for the conversation's own session."""
    seen: dict[str, bytes] = {}
    """Digests of what stood at the places that the patch writes, by JSON pointer."""
    version: str = ""
    """Of the state's form that it was made for, where it waits for a sidecar of the state's own."""


class ChainHead(msgspec.Struct, frozen=True):
    """The newest record of this conversation's archive chain."""

    seq: int = 0
    hash: str = ""


class Conflict(msgspec.Struct, frozen=True, omit_defaults=True):
    """Changes that met another writer's on the same pointers and were kept instead of applied."""

    source: str
    at_version: int
    operations: bytes
    """JSON of the conflict as ``memory.rebase`` describes it."""


class Item(msgspec.Struct, omit_defaults=True):
    """One conversation's item; for a session's root agent also the session's state."""

    format: int = FORMAT
    subject: str = ""
    user: str = ""
    project: str = ""
    agent_type: str = ""
    groups: list[str] = []
    """What else its newest request said of itself, for what is done in its name later."""
    created_at: float = 0.0
    updated_at: float = 0.0
    state: bytes = b""
    """The state object as JSON; empty for one that was never written."""
    window: list[Turn] = []
    mark: str = ""
    """Mark of the client's messages with the newest reply: where the next step goes on."""
    entries: int = 0
    """How many ledger entries belong to the committed conversation."""
    steps: list[str] = []
    last: LastStep | None = None
    replies: list[Made] = []
    """The newest replies and the openings, oldest first."""
    outbox: list[Outgoing] = []
    patches: list[OutgoingPatch] = []
    patch_seq: int = 0
    applied: dict[str, int] = {}
    """High-water mark of applied patches for each source conversation, the one that was applied last at the end."""
    chain: ChainHead = ChainHead()
    blobs: list[str] = []
    """Keys of blobs that still wait in chunk items for the blob store."""
    conflicts: list[Conflict] = []
    own_memory_tool: bool = False
    """The agent was seen to implement Claude's memory tool itself."""
    began: int = 0
    """The first record of the newest turn, in this item's chain."""
    unread: list[Unread] = []
    """Finished turns that no model has extracted anything from yet, oldest first; none where none is to."""
    extracted: Spent = Spent()
    """What extraction has cost in this conversation."""
    noted: list[str] = []
    """Failed and refused steps whose records were written and whose notes the hot tier may still hold."""
    head: Head | None = None
    """Where several regions write: this region's part of the state. Then ``state`` is what all parts make, and is filled in
    on read like the four members below; none of these is stored."""
    others: dict[str, Head] = {}
    """The other regions' parts."""
    elsewhere: list[tuple[str, LastStep | None]] = []
    """Mark and last step of the other regions' items."""
    clashes: tuple[Clash, ...] = ()
    """What regions wrote at one place at once."""

    @property
    def carries(self) -> bool:
        """Whether something waits to be carried elsewhere."""
        return bool(self.outbox or self.patches or self.blobs)

    @property
    def pending(self) -> bool:
        """Whether something is left to be done when no step comes any more."""
        return self.carries or bool(self.unread)

    def mark_of_reply(self, message_id: str) -> str:
        """The mark to continue a thread from; empty when the reply is not one of ours."""
        return next((reply.mark for reply in reversed(self.replies) if reply.id == message_id), "")

    def remember(self, reply: Made) -> None:
        """Add a reply and let the oldest go that nothing needs any more."""
        replies = [*self.replies, reply]
        recent, older = replies[-KEPT_REPLIES:], replies[:-KEPT_REPLIES]
        self.replies = [reply for reply in older if reply.opening][-KEPT_OPENINGS:] + recent


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Item).decode


def pack(item: Item) -> bytes:
    if item.head is not None:
        item = msgspec.structs.replace(item, state=b"", others={}, elsewhere=[], clashes=())
    return _encode(item)


def unpack(data: bytes) -> Item:
    """Read an item; empty bytes are an item that was never written. Raises ``UnknownFormat``."""
    if not data:
        return Item()
    item = _decode(data)
    if item.format > FORMAT:
        raise UnknownFormat(f"the session was written in format {item.format}; this sidecar knows up to {FORMAT}")
    return item
