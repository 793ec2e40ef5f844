import pytest

from bench.http1 import BadMessage, Reader
from bench.upstream import chunk

SIZED = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"one,") + chunk(b"two" * 9) + chunk(b"")


@pytest.mark.parametrize(("message", "body"), [(SIZED, b"hello"), (CHUNKED, b"one," + b"two" * 9)])
@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_reads_a_message_in_pieces_of_any_size(message: bytes, body: bytes, step: int) -> None:
    reader = Reader()
    for at in range(0, len(message), step):
        assert not reader.done
        reader.feed(message[at : at + step])
    assert reader.done
    assert bytes(reader.body) == body


def test_reads_the_next_message_on_the_same_connection() -> None:
    reader = Reader()
    reader.feed(CHUNKED)
    reader.next()
    reader.feed(SIZED[:-1])
    assert bytes(reader.body) == b"hell"
    reader.feed(SIZED[-1:])
    assert reader.start == b"POST /v1/messages HTTP/1.1"
    assert reader.headers[b"host"] == b"x"
    assert bytes(reader.body) == b"hello"


def test_a_message_without_body_is_done_with_its_head() -> None:
    reader = Reader()
    reader.feed(b"GET /stats HTTP/1.1\r\nhost: x\r\n\r\n")
    assert reader.done
    assert bytes(reader.body) == b""


@pytest.mark.parametrize(
    "message",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabcd",
    ],
)
def test_refuses_broken_framing(message: bytes) -> None:
    with pytest.raises(BadMessage):
        Reader().feed(message)
