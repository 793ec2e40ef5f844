"""The little HTTP/1.1 that the canned upstream and the load generator need.

Both ends of the benchmark must cost far less than what they measure, so neither uses an HTTP library: messages are
framed by Content-Length or by chunks, and header names are matched in lower case.
"""

from dataclasses import dataclass, field

HEAD_END = b"\r\n\r\n"


class BadMessage(Exception):
    """Bytes that are no HTTP/1.1 message with a body framed by length or by chunks."""


@dataclass(slots=True)
class Reader:
    """Reads one message after another from a connection's bytes.

    Call :meth:`feed` with what arrived; ``done`` says that the message is whole. ``start`` is its first line,
    ``headers`` are by lower-case name, ``body`` is the body with the chunk framing taken off. :meth:`next` makes
    ready for the following message and keeps what already arrived of it.
    """

    start: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    done: bool = False
    _buffer: bytearray = field(default_factory=bytearray)
    _left: int = -1
    """Bytes still missing from the body, or from the current chunk with its line end; -1 while a size is not known."""
    _chunked: bool = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection. Raises :class:`BadMessage`."""
        self._buffer += data
        if not self.start and not self._read_head():
            return
        if self._chunked:
            self._read_chunks()
        elif not self.done:
            self._take()
            self.done = self._left == 0

    def next(self) -> None:
        """Forget the message that is done; bytes of the following one are read at the next :meth:`feed`."""
        self.start, self.headers, self.body, self.done = b"", {}, bytearray(), False
        self._left, self._chunked = -1, False

    def _read_head(self) -> bool:
        end = self._buffer.find(HEAD_END)
        if end < 0:
            return False
        self.start, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        for line in lines:
            name, _, value = line.partition(b":")
            self.headers[name.strip().lower()] = value.strip()
        del self._buffer[: end + len(HEAD_END)]
        self._chunked = self.headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        if not self._chunked:
            length = self.headers.get(b"content-length", b"0")
            if not length.isdigit():
                raise BadMessage(f"Content-Length is {length!r}")
            self._left = int(length)
        return True

    def _take(self) -> None:
        piece = self._buffer[: self._left]
        self.body += piece
        self._left -= len(piece)
        del self._buffer[: len(piece)]

    def _read_chunks(self) -> None:
        """Copy whole chunks from the buffer into the body; an unfinished chunk waits in the buffer."""
        buffer, at = self._buffer, 0
        while True:
            line_end = buffer.find(b"\r\n", at)
            if line_end < 0:
                break
            try:
                size = int(bytes(buffer[at:line_end]).partition(b";")[0], 16)
            except ValueError:
                raise BadMessage(f"chunk size is {bytes(buffer[at:line_end])!r}") from None
            data = line_end + 2
            if len(buffer) < data + size + 2:
                break
            if bytes(buffer[data + size : data + size + 2]) != b"\r\n":
                raise BadMessage("a chunk (or its trailer) does not end with a line end")
            at = data + size + 2
            if size == 0:
                self.done = True
                break
            self.body += buffer[data : data + size]
        del buffer[:at]
