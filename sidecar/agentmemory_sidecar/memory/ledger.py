"""The ledger: what was put into prompts, so that it can be repeated byte for byte at the same place.

Claude binds thinking blocks and prompt caches to the exact prefix. Text that the client does not know of must therefore
stand in every later request that carries the same prefix. An entry is keyed by the mark (see ``wire.canonical``) of the
client's own messages up to the one it stands behind, so it is found again whatever the client sends after them, and not
found when the client rewound or compacted its history: then nothing is repeated, and that is right.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from agentmemory_sidecar.memory import rounds
from agentmemory_sidecar.wire.request import MessagesRequest
from agentmemory_sidecar.wire.spans import Edit, Span, edited, elements, members, splice

Claim = tuple[str, str]
"""(JSON pointer, hash of the value said)."""


class Round(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of one exchange with Claude the client was not shown: calls that were answered here, and their results."""

    behind: str
    """Mark of the client's messages up to and with the last block that it was shown of this exchange."""
    after: str
    """Mark of the client's messages that the step answers."""
    calls: tuple[tuple[int, bytes], ...]
    """Each hidden block (JSON), and how many shown blocks of the exchange stand behind it."""
    results: bytes
    """Their results: JSON blocks joined by commas."""
    open: bool = False
    """The client has calls of its own to answer in this exchange: the results stand before its results."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one step put in, or that it put in nothing. Bytes are kept exactly as sent."""

    key: str
    """Unique in the conversation: the mark, or the mark and a number where one prefix was begun again."""
    mark: str
    """Mark of the client's messages up to and with the one that the text stands behind."""
    ordinal: int
    """Place in the conversation's ledger, from 1."""
    step: str
    text: bytes = b""
    """One JSON text block, for the end of the message; empty when only history, or nothing, was put in."""
    system: bool = False
    """The text stands in a system message of its own behind the message, not in the message."""
    history: bytes = b""
    """JSON messages joined by commas, put before the first message; empty for none."""
    tokens: int = 0
    claims: tuple[Claim, ...] = ()
    round: Round | None = None
    """A hidden exchange, and nothing else. Its ``mark`` is none of a client's, for sidecars that know no rounds."""

    @property
    def place(self) -> str:
        """The mark that it stands behind."""
        return self.round.behind if self.round else self.mark


class Made(msgspec.Struct, frozen=True, omit_defaults=True):
    """A committed reply, and what its prompt held at its end. It tells branches apart that begin with the same words."""

    id: str
    mark: str
    """The mark that includes the reply."""
    after: str
    """The mark of the client's messages it answered."""
    entry: str = ""
    """Key of the entry that stood there; empty for none."""
    opening: bool = False
    """The request showed no earlier reply: a conversation began here."""
    lacking: bool = False
    """Its prompt may have lacked what those before it held: its own thinking, and all behind it, is bound to that."""
    rounds: tuple[str, ...] = ()
    """Keys of the hidden exchanges that it was put together with."""


def pack(entry: Entry) -> bytes:
    return msgspec.msgpack.encode(entry)


def unpack(data: bytes) -> Entry:
    return msgspec.msgpack.decode(data, type=Entry)


@dataclass(frozen=True, slots=True)
class Replay:
    """The entries that belong into this request, in the order of their places."""

    entries: tuple[Entry, ...] = ()

    @property
    def tokens(self) -> int:
        return sum([entry.tokens for entry in self.entries])

    @property
    def claims(self) -> dict[str, str]:
        """What the replayed text says last of each pointer."""
        return {pointer: value for entry in self.entries for pointer, value in entry.claims}


def replayed(request: MessagesRequest, ledger: Mapping[str, Entry], made: Iterable[Made]) -> Replay:
    """The entries that this request's prefix carries. None where Claude holds the history itself.

    Where several conversations began with the same words, the reply that follows tells which entry (or none) stood there;
    where none follows, it is the newest.
    """
    if not ledger or request.continues_thread:
        return Replay()
    own = request.chain.places
    candidates: dict[str, list[Entry]] = {}
    hidden: list[Entry] = []
    for entry in ledger.values():
        if entry.mark in own:
            candidates.setdefault(entry.mark, []).append(entry)
        elif entry.round is not None:
            hidden.append(entry)
    shown = [reply for reply in made if reply.mark in own]
    chosen = {reply.after: reply.entry for reply in shown}
    seen: list[Entry] = []
    for mark in sorted(candidates, key=own.__getitem__):
        found = candidates[mark]
        if mark in chosen:
            seen += [entry for entry in found if entry.key == chosen[mark]]
        else:
            seen.append(max(found, key=lambda entry: entry.ordinal))
    if hidden:
        seen += rounds.standing(request, hidden, shown)
    return Replay(tuple(seen))


def is_known(request: MessagesRequest, ledger: Mapping[str, Entry], made: Iterable[Made]) -> bool:
    """Whether the request goes on from anything this conversation has seen."""
    own = request.chain.places
    return any(entry.mark in own for entry in ledger.values()) or any(reply.mark in own for reply in made)


def variant_key(mark: str, ledger: Mapping[str, Entry], maker: str = "") -> str:
    """A key that is not taken: the mark itself where it is the first. With ``maker`` no other one can take it either."""
    first = f"{mark}@{maker}" if maker else mark
    number, key = 1, first
    while key in ledger:
        number += 1
        key = f"{first}.{number}"
    return key


def assemble(request: MessagesRequest, entries: Iterable[Entry]) -> bytes:
    """The request's body with the entries put in; every other byte is the client's.

    An entry stands behind the block that carries its mark. Blank text blocks carry the mark of the block before them, and
    the entry stands behind the last of them within its message.
    """
    insertions: list[tuple[int, bytes]] = []
    histories: list[bytes] = []
    hidden: list[Entry] = []
    find = request.chain.places.get
    for entry in entries:
        if entry.round is not None:
            hidden.append(entry)
            continue
        if entry.history:
            histories.append(entry.history)
        place = find(entry.mark)
        if place is None or not entry.text:
            continue
        known = request.placed.get(entry.key)
        if known is None or known[0] != entry or known[1] != place:
            known = request.placed[entry.key] = entry, place, _standing(request, entry, *place)
        insertions += known[2]
    if histories:
        start = request.span_of(0).start
        insertions.insert(0, (start, b",".join(histories) + b","))
    if hidden:
        inserted = [Edit(offset, offset, piece) for offset, piece in insertions]
        return edited(request.body, [*inserted, *rounds.edits(request, hidden)])
    return splice(request.body, insertions) if insertions else request.body


def _standing(request: MessagesRequest, entry: Entry, index: int, block: int) -> list[tuple[int, bytes]]:
    if entry.system:
        return [(request.span_of(index).end, b',{"role":"system","content":[' + entry.text + b"]}")]
    return _behind_block(request, index, block, entry.text)


def _behind_block(request: MessagesRequest, index: int, block: int, text: bytes) -> list[tuple[int, bytes]]:
    content = members(request.body, request.span_of(index))["content"]
    if request.body.startswith(b'"', content.start):
        return _widen(content, text)
    return [(elements(request.body, content)[block].end, b"," + text)]


def _widen(content: Span, text: bytes) -> list[tuple[int, bytes]]:
    """A string becomes the first of two text blocks: equal for Claude to what the client knows it as."""
    return [(content.start, b'[{"type":"text","text":'), (content.end, b"}," + text + b"]")]


def next_ordinal(ledger: Mapping[str, Entry]) -> int:
    return max([entry.ordinal for entry in ledger.values()], default=0) + 1
