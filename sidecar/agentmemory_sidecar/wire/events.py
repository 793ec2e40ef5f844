"""Server-sent events: cut a byte stream at frame ends, and read a copy of the frames into the reply they spell.

The bytes go on as they came; nothing here is ever sent. Event names and delta types are those of the Messages API's
streaming reference; unknown ones are passed over, and make the reply one that cannot be told again (``faithful``).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec


class _Text(msgspec.Struct, tag_field="type", tag="text_delta"):
    text: str


class _TextDelta(msgspec.Struct):
    index: int
    delta: _Text


_decode = msgspec.json.Decoder().decode
_texts = msgspec.json.Decoder(list[_TextDelta]).decode
_BLANK_LINE = re.compile(rb"\n\n|\r\n\r\n")

_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta",'
_DELTA_DATA = _DELTA.index(b"{")

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


class Frames:
    """Cuts a byte stream into frames, each with the blank line that ends it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes in; returns the frames that they complete."""
        data = self._rest + chunk if self._rest else chunk
        if b"\r" not in data:
            *frames, self._rest = data.split(b"\n\n")
            return [frame + b"\n\n" for frame in frames]
        found: list[bytes] = []
        position = 0
        while (blank := _BLANK_LINE.search(data, position)) is not None:
            found.append(data[position : blank.end()])
            position = blank.end()
        self._rest = data[position:]
        return found

    @property
    def rest(self) -> bytes:
        """What came after the last whole frame."""
        return self._rest


def data_of(frame: bytes) -> bytes:
    """The ``data`` of one frame (its lines joined, as the specification of server-sent events says)."""
    if frame.count(b"data:") == 1:
        start = frame.index(b"data:")
        if start == 0 or frame[start - 1] in b"\r\n":
            end = frame.find(b"\n", start)
            return frame[start + 5 : end].strip()
    lines = (line for line in frame.splitlines() if line.startswith(b"data:"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)


@dataclass(slots=True)
class Reply:
    """What Claude answered, streamed or not, once it is complete."""

    message: dict[str, Any]
    faithful: bool = True
    """Whether ``message`` holds everything the client was sent, so that it can be answered again from it."""
    raw: bytes = b""
    """The message as JSON, where it came as such."""

    @property
    def encoded(self) -> bytes:
        """The message as JSON."""
        if not self.raw:
            self.raw = msgspec.json.encode(self.message)
        return self.raw

    @property
    def id(self) -> str:
        return str(self.message.get("id", ""))

    @property
    def stop_reason(self) -> str:
        return str(self.message.get("stop_reason") or "")

    @property
    def content(self) -> list[Any]:
        content = self.message.get("content")
        return content if isinstance(content, list) else []

    @property
    def usage(self) -> dict[str, Any]:
        usage = self.message.get("usage")
        return usage if isinstance(usage, dict) else {}


@dataclass(slots=True)
class _Block:
    value: dict[str, Any]
    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    json: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Accumulator:
    """Reads frames into a message. ``tail`` turns True with the first ``message_delta``: from then on the client must
    wait, because it takes what it has seen for success as soon as it sees the rest."""

    message: dict[str, Any] | None = None
    tail: bool = False
    stopped: bool = False
    """``message_stop`` was seen."""
    error: dict[str, Any] | None = None
    faithful: bool = True
    _blocks: dict[int, _Block] = field(default_factory=dict)
    _deltas: list[bytes] = field(default_factory=list)
    """Frames of deltas that were passed on and not read yet: nothing depends on them before their block ends."""

    def take(self, frames: Iterable[bytes], ready: list[bytes], held: list[bytes]) -> None:
        """Take frames in, and sort them: those that the client may have at once are put to ``ready``, the reply's end to
        ``held``. Most are deltas, and for those there is no call."""
        for frame in frames:
            if not self.tail and frame.startswith(_DELTA) and frame.count(b"\n") == 3:
                self._deltas.append(frame)
                ready.append(frame)
                continue
            kind = self.read(frame)
            if not self.tail and kind != "error":
                ready.append(frame)
            elif kind != "ping":
                held.append(frame)

    def read(self, frame: bytes) -> str:
        """Take one frame in; returns its event type, empty for a comment or something that is not ours to read."""
        if frame.startswith(_DELTA) and frame.count(b"\n") == 3:
            self._deltas.append(frame)
            return "content_block_delta"
        if self._deltas:
            self._read_deltas()
        data = data_of(frame)
        if not data:
            return ""
        try:
            event = _decode(data)
        except msgspec.DecodeError:
            self.faithful = False
            return ""
        if not isinstance(event, dict):
            return ""
        kind = str(event.get("type", ""))
        match kind:
            case "content_block_delta":
                self._delta(event)
            case "content_block_start":
                self._start(event)
            case "content_block_stop":
                self._stop(event)
            case "message_start":
                message = event.get("message")
                self.message = dict(message) if isinstance(message, dict) else {}
            case "message_delta":
                self.tail = True
                self._finish(event)
            case "message_stop":
                self.tail = self.stopped = True
            case "error":
                self.error = event
            case "ping":
                pass
            case _:
                self.faithful = False
        return kind

    def _read_deltas(self) -> None:
        """Read those that wait, all in one go."""
        waiting, self._deltas = [frame[_DELTA_DATA:-2] for frame in self._deltas], []
        whole = b"[" + b",".join(waiting) + b"]"
        if (text := self._text_of(whole, len(waiting))) is not None:
            text[0].text.append(text[1])
            return
        try:
            events = _decode(whole)
        except msgspec.DecodeError:
            events = None
        if isinstance(events, list) and len(events) == len(waiting):
            for event in events:
                self._delta(event)
            return
        for data in waiting:
            try:
                self._delta(_decode(data))
            except msgspec.DecodeError:
                self.faithful = False

    def _text_of(self, deltas: bytes, count: int) -> tuple[_Block, str] | None:
        """The block and the text of deltas that are all text of one block, as nearly all are; None where they are not."""
        try:
            read = _texts(deltas)
        except msgspec.DecodeError:
            return None
        block = self._blocks.get(read[0].index)
        if block is None or len(read) != count or len({each.index for each in read}) != 1:
            return None
        return block, "".join([each.delta.text for each in read])

    @property
    def complete(self) -> bool:
        """A success as the API defines it: a stop reason, ``message_stop``, no error."""
        return self.stopped and self.error is None and bool(self.message and self.message.get("stop_reason"))

    def reply(self) -> Reply:
        if self._deltas:
            self._read_deltas()
        message = dict(self.message or {})
        message["content"] = [self._blocks[index].value for index in sorted(self._blocks)]
        return Reply(message, self.faithful)

    def _start(self, event: dict[str, Any]) -> None:
        block = event.get("content_block")
        index = event.get("index")
        if isinstance(block, dict) and isinstance(index, int):
            self._blocks[index] = _Block(dict(block))

    def _delta(self, event: dict[str, Any]) -> None:
        index, delta = event.get("index"), event.get("delta")
        block = self._blocks.get(index) if isinstance(index, int) else None
        if block is None or not isinstance(delta, dict):
            self.faithful = False
            return
        match delta.get("type"):
            case "text_delta":
                text = delta.get("text", "")
                block.text.append(text if type(text) is str else str(text))
            case "input_json_delta":
                block.json.append(str(delta.get("partial_json", "")))
            case "thinking_delta":
                block.thinking.append(str(delta.get("thinking", "")))
            case "signature_delta":
                block.value["signature"] = delta.get("signature")
            case "citations_delta":
                citations = block.value.get("citations")
                block.value["citations"] = [*(citations if isinstance(citations, list) else []), delta.get("citation")]
            case "compaction_delta":
                for name in ("content", "encrypted_content"):
                    if delta.get(name) is not None:
                        block.value[name] = delta[name]
            case _:
                self.faithful = False

    def _stop(self, event: dict[str, Any]) -> None:
        index = event.get("index")
        block = self._blocks.get(index) if isinstance(index, int) else None
        if block is None:
            return
        if block.text:
            block.value["text"] = str(block.value.get("text") or "") + "".join(block.text)
        if block.thinking:
            block.value["thinking"] = str(block.value.get("thinking") or "") + "".join(block.thinking)
        if text := "".join(block.json):
            try:
                block.value["input"] = _decode(text)
            except msgspec.DecodeError:
                # max_tokens can cut a tool's input in the middle; the client sees the same piece.
                block.value["input"] = {}
                self.faithful = False

    def _finish(self, event: dict[str, Any]) -> None:
        if self.message is None:
            return
        delta, usage = event.get("delta"), event.get("usage")
        if isinstance(delta, dict):
            self.message |= delta
        if isinstance(usage, dict):
            before = self.message.get("usage")
            self.message["usage"] = {**(before if isinstance(before, dict) else {}), **usage}
        for name, value in event.items():
            if name not in ("type", "delta", "usage"):
                self.message[name] = value
