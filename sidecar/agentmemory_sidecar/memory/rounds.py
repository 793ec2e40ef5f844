"""Hidden exchanges in later requests: the client knows one reply where Claude gave several, with results in between.

What the client sends of that reply is taken apart at the blocks where the exchanges ended, and the calls and results that
it was never shown are put between. Thinking is bound to that order, and so are prompt caches. Whoever has lost the ledger
still has a valid conversation: all of what was hidden is missing, calls and results alike.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agentmemory_sidecar.wire.request import MessagesRequest
from agentmemory_sidecar.wire.spans import Edit, elements, members

if TYPE_CHECKING:
    from agentmemory_sidecar.memory.ledger import Entry, Made


class _Piece(NamedTuple):
    """Something hidden, to stand before a block of an assistant's message."""

    block: int
    json: bytes
    turns: bool
    """These are results: they stand in a user's message of their own, and the assistant's goes on behind it."""


def standing(request: MessagesRequest, hidden: Iterable["Entry"], shown: Iterable["Made"]) -> list["Entry"]:
    """The hidden exchanges that this request's prefix had, in order. ``shown`` are the committed replies that it shows.

    Of a committed reply it is known which it was put together with. A client may also hold the beginning of one that
    failed; what it has of that goes on behind the exchange, and the newest attempt is the one it has.
    """
    kept = {reply.after: frozenset(reply.rounds) for reply in shown if reply.mark != reply.after}
    found: dict[str, list[Entry]] = {}
    for entry in hidden:
        one = entry.round
        if one is None or (place := request.chain.find(one.behind)) is None:
            continue
        if one.after in kept:
            wanted = entry.key in kept[one.after] and (not one.open or _has_results(request, place[0] + 1))
        else:
            wanted = _goes_on(request, *place, results=one.open)
        if wanted:
            found.setdefault(one.after, []).append(entry)
    chosen: list[Entry] = []
    for entries in found.values():
        entries.sort(key=lambda entry: entry.ordinal)
        chosen += [entry for entry in entries if entry.step == entries[-1].step]
    places = request.chain.places
    return sorted(chosen, key=lambda entry: (places[entry.place], entry.ordinal))


def edits(request: MessagesRequest, entries: Sequence["Entry"]) -> list[Edit]:
    """What puts them into the request's body. They are in their order."""
    pieces: dict[int, list[_Piece]] = {}
    made: list[Edit] = []
    for entry in entries:
        one = entry.round
        assert one is not None
        index, block = request.chain.places[one.behind]
        if request.sketches[index].role == "assistant":
            blocks = _told(request, index, block)
        else:
            index, blocks = index + 1, []
        here = pieces.setdefault(index, [])
        here += [_Piece(_before(blocks, back), call, turns=False) for back, call in one.calls]
        if one.open:
            made.append(_in_front(request, index + 1, one.results))
        else:
            here.append(_Piece(_before(blocks, 0), one.results, turns=True))
    return made + [
        _apart(request, index, sorted(here, key=lambda piece: piece.block)) for index, here in pieces.items()
    ]


def _goes_on(request: MessagesRequest, index: int, block: int, *, results: bool) -> bool:
    """Whether the client shows what came behind: more of the reply, or its results of the calls in it."""
    if results:
        return request.sketches[index].role == "assistant" and _has_results(request, index + 1)
    if request.sketches[index].role == "assistant" and block + 1 < len(request.sketches[index].digests):
        return True
    following = request.sketches[index + 1 : index + 2]
    return bool(following) and following[0].role == "assistant" and any(following[0].digests)


def _has_results(request: MessagesRequest, index: int) -> bool:
    if index >= len(request) or request.sketches[index].role != "user":
        return False
    content = request.message(index).get("content")
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in content
    )


def _told(request: MessagesRequest, index: int, up_to: int) -> list[int]:
    """The blocks up to one that count: those of white space only do not."""
    digests = request.sketches[index].digests[: up_to + 1]
    return [number for number, digest in enumerate(digests) if digest]


def _before(blocks: list[int], back: int) -> int:
    """The block that something stands before which had ``back`` of these behind it."""
    return blocks[-1 - back] + 1 if back < len(blocks) else 0


def _in_front(request: MessagesRequest, index: int, results: bytes) -> Edit:
    content = members(request.body, request.span_of(index))["content"]
    first = elements(request.body, content)[0].start
    return Edit(first, first, results + b",")


def _apart(request: MessagesRequest, index: int, pieces: list[_Piece]) -> Edit:
    """The assistant's message as the messages that it was."""
    span = request.span_of(index)
    content = members(request.body, span)["content"]
    raw = request.body[content.start : content.end]
    if raw.startswith(b'"'):
        shown = [b'{"type":"text","text":' + raw + b"}"]
    else:
        shown = [request.body[at.start : at.end] for at in elements(request.body, content)]
    messages: list[bytes] = []
    blocks: list[bytes] = []

    def end() -> None:
        if blocks:
            messages.append(b'{"role":"assistant","content":[' + b",".join(blocks) + b"]}")
            blocks.clear()

    for number in range(len(shown) + 1):
        for piece in pieces:
            if piece.block != number:
                continue
            if piece.turns:
                end()
                messages.append(b'{"role":"user","content":[' + piece.json + b"]}")
            else:
                blocks.append(piece.json)
        if number < len(shown):
            blocks.append(shown[number])
    end()
    return Edit(span.start, span.end, b",".join(messages))
