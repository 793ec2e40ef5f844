"""The client's side of HTTP, against servers that write what they are told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agentmemory_sidecar.http.outgoing import HIGH_WATER
from agentmemory_sidecar.http.upstream import HttpUpstream
from agentmemory_sidecar.resource.config import UpstreamConfig


@asynccontextmanager
async def answering(*pieces: bytes) -> AsyncIterator[HttpUpstream]:
    """An upstream that answers each request with these pieces, with a moment between."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    upstream = HttpUpstream(UpstreamConfig(url=f"http://127.0.0.1:{port}", connect_timeout_s=10, idle_timeout_s=10))
    try:
        yield upstream
    finally:
        await upstream.close()
        server.close()
        await server.wait_closed()


async def ask(upstream: HttpUpstream, method: str = "GET") -> tuple[int, list[tuple[str, str]], bytes]:
    async with upstream.send(method, "/", "", [], b"", plain=True) as response:
        return response.status, list(response.headers), await response.read()


async def test_a_second_answer_is_no_part_of_the_first() -> None:
    first = b"HTTP/1.1 200 OK\r\nx-own: 1\r\ncontent-length: 5\r\n\r\nfirst"
    second = b"HTTP/1.1 500 No\r\nx-other: 1\r\ncontent-length: 6\r\n\r\nsecond"
    async with answering(first + second) as upstream:
        for _ in range(2):
            status, headers, body = await ask(upstream)
            assert (status, body) == (200, b"first")
            assert [pair for pair in headers if pair[0].startswith("x-")] == [("x-own", "1")]


async def test_what_follows_an_answer_without_a_body_is_not_its_body() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmore") as upstream:
        status, _, body = await ask(upstream, "HEAD")
        assert (status, body) == (200, b"")


async def test_answers_without_a_body_never_stop_a_connection() -> None:
    head = b"HTTP/1.1 204 Fine\r\nx-filling: %s\r\n\r\n" % (b"x" * 30_000)
    async with answering(head) as upstream:
        for _ in range(HIGH_WATER // len(head) + 3):
            assert (await ask(upstream))[0] == 204


async def test_a_long_body_arrives_whole_though_it_is_read_late() -> None:
    pieces = [b"%x\r\n%b\r\n" % (50_000, bytes([65 + number]) * 50_000) for number in range(24)]
    async with answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *pieces, b"0\r\n\r\n") as upstream:
        async with upstream.send("GET", "/", "", [], b"", plain=True) as response:
            await asyncio.sleep(0.2)
            body = await response.read()
        assert body == b"".join(bytes([65 + number]) * 50_000 for number in range(24))
