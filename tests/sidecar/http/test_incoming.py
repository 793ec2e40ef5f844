"""The proxy's own HTTP/1.1, at its edges: what is sent here is written by hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest

from agentmemory_sidecar.http import incoming
from agentmemory_sidecar.http.client import HttpClient
from agentmemory_sidecar.http.incoming import BodyTooLarge, Connection, Request
from agentmemory_sidecar.step.exchange import ClientGone
from agentmemory_sidecar.tasks import Tasks

GET = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"
Answer = Callable[[HttpClient, Request], Awaitable[None]]


class Server:
    """Answers with the request's path and the length of its body, unless told otherwise."""

    def __init__(self) -> None:
        self.tasks = Tasks()
        self.open: set[Connection] = set()
        self.seen: list[Request] = []
        self.gone: list[str] = []
        self.answering: Answer = self.plain

    def opened(self, connection: Connection) -> None:
        self.open.add(connection)

    def closed(self, connection: Connection) -> None:
        self.open.discard(connection)

    def answer(self, connection: Connection, request: Request) -> Coroutine[Any, Any, None]:
        return self._answer(connection, request)

    async def _answer(self, connection: Connection, request: Request) -> None:
        self.seen.append(request)
        client = HttpClient(connection, request)
        client.when_gone(lambda: self.gone.append(request.target))
        try:
            await self.answering(client, request)
        except ClientGone:
            self.gone.append(f"{request.target} noticed")
        finally:
            if not client.ended:
                connection.abort()

    async def plain(self, client: HttpClient, request: Request) -> None:
        body = await request.read(1_000_000)
        await client.reply(200, [("date", "now")], f"{request.target} {len(body)}".encode())


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def port(server: Server) -> AsyncIterator[int]:
    listening = await asyncio.get_running_loop().create_server(lambda: Connection(server), "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
        for connection in tuple(server.open):
            connection.abort()
    await server.tasks.close()


async def say(port: int, *parts: bytes, until_end: bool = True) -> bytes:
    """Send parts with a moment between them; returns all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        async with asyncio.timeout(20):
            return await reader.read() if until_end else await reader.read(100_000)
    finally:
        writer.close()


def head(answer: bytes) -> tuple[bytes, bytes]:
    first, _, body = answer.partition(b"\r\n\r\n")
    return first.split(b"\r\n")[0], body


async def test_requests_sent_at_once_are_answered_in_order(server: Server, port: int) -> None:
    last = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = await say(port, b"".join(GET % n for n in range(5)) + last)
    assert [part.rpartition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]] == [
        *(b"/%d 0" % n for n in range(5)), b"/last 0",
    ]  # fmt: skip
    assert answer.count(b"connection: close") == 1
    assert not server.open


async def test_one_request_is_not_begun_before_the_one_before_is_answered(server: Server, port: int) -> None:
    gate = asyncio.Event()

    async def wait(client: HttpClient, request: Request) -> None:
        await gate.wait()
        await server.plain(client, request)

    server.answering = wait
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET % 1 + GET % 2)
    while not server.seen:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert [request.target for request in server.seen] == ["/1"]
    gate.set()
    assert b"/1 0" in await reader.readuntil(b"/1 0")
    assert b"/2 0" in await reader.readuntil(b"/2 0")
    writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"431"),
    ],
    ids=["nonsense", "two-lengths", "smuggled", "many", "long", "target"],
)
async def test_what_is_no_request_is_refused_and_the_connection_ends(
    server: Server, port: int, sent: bytes, status: bytes
) -> None:
    line, _ = head(await say(port, sent))
    assert line.split(b" ")[1] == status


async def test_body_comes_in_pieces_and_chunks(server: Server, port: int) -> None:
    start = b"POST /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    assert head(await say(port, start + b"content-length: 6\r\n\r\nab", b"cd", b"ef"))[1] == b"/a 6"
    chunked = start + b"transfer-encoding: chunked\r\n\r\n"
    assert head(await say(port, chunked, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"))[1] == b"/a 5"


async def test_client_that_expects_it_is_told_to_go_on(server: Server, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert await reader.readuntil(b"/a 3")
    writer.close()


async def test_rest_of_a_body_that_is_too_large_is_read_and_the_connection_goes_on(server: Server, port: int) -> None:
    async def refuse(client: HttpClient, request: Request) -> None:
        try:
            await request.read(10)
        except BodyTooLarge:
            await client.reply(413, [], b"no")
        else:
            await client.reply(200, [], b"yes")

    server.answering = refuse
    last = b"POST /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    big = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n"
    answer = await say(port, big, b"x" * 300_000, b"x" * 600_000 + last)
    assert answer.count(b"HTTP/1.1 413") == 1
    assert answer.endswith(b"yes")


async def test_rest_that_does_not_come_is_not_waited_for_for_ever(
    server: Server, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "LINGER_S", 0.05)

    async def early(client: HttpClient, request: Request) -> None:
        await client.reply(200, [], b"early")

    server.answering = early
    answer = await say(port, b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n")
    assert head(answer)[1] == b"early"


async def test_answer_that_is_not_ended_is_cut(server: Server, port: int) -> None:
    async def half(client: HttpClient, request: Request) -> None:
        await client.begin(200, [])
        await client.write(b"half")

    server.answering = half
    answer = await say(port, GET % 1)
    assert b"half" in answer
    assert not answer.endswith(b"0\r\n\r\n")


async def test_client_of_http_1_0_gets_no_chunks(server: Server, port: int) -> None:
    async def streamed(client: HttpClient, request: Request) -> None:
        await client.begin(200, [])
        await client.write(b"one")
        await client.end(b"two")

    server.answering = streamed
    answer = await say(port, b"GET / HTTP/1.0\r\n\r\n")
    assert head(answer)[1] == b"onetwo"
    assert b"transfer-encoding" not in answer


async def test_head_and_204_have_no_body(server: Server, port: int) -> None:
    async def nothing(client: HttpClient, request: Request) -> None:
        if request.method == "HEAD":
            await client.begin(200, [("x-a", "1")])
            await client.end(b"no body")
        else:
            await client.reply(204, [], b"")

    server.answering = nothing
    close = b" / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert head(await say(port, b"HEAD" + close))[1] == b""
    answer = await say(port, b"GET" + close)
    assert head(answer) == (b"HTTP/1.1 204 No Content", b"")
    assert b"content-length" not in answer


async def test_client_that_leaves_is_noticed_while_its_body_is_awaited_and_while_it_is_answered(
    server: Server, port: int
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc")
    while not server.seen:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    writer.close()
    while len(server.gone) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert sorted(server.gone) == ["/a", "/a noticed"]

    async def endless(client: HttpClient, request: Request) -> None:
        await client.begin(200, [])
        while True:
            await client.write(b"x" * 100_000)
            await asyncio.sleep(0)

    server.answering = endless
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET % 2)
    await reader.read(1000)
    writer.transport.abort()
    while "/2 noticed" not in server.gone:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_header_with_a_line_end_is_not_sent(server: Server, port: int) -> None:
    failed: list[str] = []

    async def bad(client: HttpClient, request: Request) -> None:
        try:
            await client.reply(200, [("x", "a\r\ny: b")], b"")
        except ValueError as error:
            failed.append(str(error))

    server.answering = bad
    assert await say(port, GET % 1) == b""
    assert failed == ["a header holds a line end"]


async def test_upgrade_that_is_offered_is_not_taken(server: Server, port: int) -> None:
    offered = b"POST /a HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\nabc"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(offered)
    assert await reader.readuntil(b"/a 3")
    writer.close()
    answer = await say(port, b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n")
    assert head(answer)[0] == b"HTTP/1.1 405 Method Not Allowed"
