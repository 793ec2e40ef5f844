"""Configurations that are handed in, their admin APIs, and how they are closed again."""

import asyncio
import hashlib
import json
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agentmemory_sidecar.pod.reader import Reader
from agentmemory_sidecar.resource import Mounted
from tests.sidecar.conftest import Configure
from tests.sidecar.pod.conftest import secret
from tests.sidecar.stand import LOOPBACK, Json


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short: a unix socket's path has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="am-reader-") as directory:
        yield Path(directory)


@pytest.fixture
async def start(run_dir: Path) -> AsyncIterator[Callable[..., Any]]:
    running: list[Reader] = []

    async def make(**rest: Any) -> Reader:
        running.append(Reader(run_dir, **rest))
        await running[-1].start(LOOPBACK)
        return running[-1]

    yield make
    for each in running:
        await each.stop()


async def call(
    socket: Path, method: str, path: str, data: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Json]:
    connector = aiohttp.UnixConnector(str(socket), force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.request(method, f"http://reader{path}", data=data, headers=headers) as answer,
    ):
        return answer.status, json.loads(await answer.read() or b"{}")


async def hand(run_dir: Path, content: str, region: str = "local") -> tuple[Path, int, str]:
    """The socket, the status, and what was said where it is no 204."""
    body = json.dumps({"region": region, "files": {"v1.json": content, "v0.json": "of before"}}).encode()
    key = hashlib.sha256(body).hexdigest()[:32]
    status, said = await call(run_dir / "reader.sock", "PUT", f"/{key}", body)
    return run_dir / f"{key}.sock", status, said.get("error", {}).get("message", "")


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_each_configuration_has_a_socket_for_its_owner_alone(
    start: Callable[..., Any], run_dir: Path, configure: Configure
) -> None:
    server = await start()
    one, other = secret(configure()), secret(configure())
    first, again, second = await hand(run_dir, one), await hand(run_dir, one), await hand(run_dir, other)

    assert [each[1] for each in (first, again, second)] == [204, 204, 204]
    assert first[0] == again[0] != second[0]
    assert stat.S_IMODE(first[0].stat().st_mode) == 0o600
    assert await call(first[0], "GET", "/v1/sessions") == (200, {"sessions": [], "next": ""})
    assert (await call(run_dir / "reader.sock", "GET", "/healthz"))[1]["open"] == 2
    async with aiohttp.ClientSession() as http, http.get(f"http://{server.probes}/readyz") as answer:
        assert answer.status == 200


async def test_what_is_an_owners_is_its_own_tenants(
    start: Callable[..., Any], run_dir: Path, configure: Configure
) -> None:
    await start()
    scopes = [{"scope": "Session"}, {"scope": "User", "pointers": ["/preferences"]}]
    grants = [{"scope": "User", "of": ["anna"], "access": "Write", "to": {"users": ["*"]}}]
    tenants = [secret(configure({"state": {"scopes": scopes, "grants": grants}})) for _ in range(2)]
    (mine, *_), (theirs, *_) = [await hand(run_dir, each) for each in tenants]
    patch = {"if-match": "*", "content-type": "application/merge-patch+json"}
    told = b'{"preferences": {"vault": "7301"}}'
    assert (await call(mine, "PATCH", "/v1/users/anna/state", told, patch))[0] == 200

    assert (await call(mine, "GET", "/v1/users/anna/state"))[1]["preferences"] == {"vault": "7301"}
    for path in ("/v1/users/anna/state", "/v1/sessions/%1fuser%1fanna", "/v1/sessions/%1fuser%1fanna/state",
                 "/v1/projects/anna/state", "/v1/users/anna/conflicts", "/v1/users/..%2Fanna/state"):  # fmt: skip
        status, said = await call(theirs, "GET", path)
        assert (status, "7301" in str(said)) == (404, False), path
    assert (await call(theirs, "PATCH", "/v1/users/anna/state", b'{"preferences": {"vault": "0"}}', patch))[0] == 200
    assert (await call(mine, "GET", "/v1/users/anna/state"))[1]["preferences"] == {"vault": "7301"}


async def test_many_who_ask_at_once_open_it_once(
    start: Callable[..., Any], run_dir: Path, configure: Configure
) -> None:
    server, content = await start(), secret(configure())
    found = await asyncio.gather(*(hand(run_dir, content) for _ in range(5)))
    assert {each[1] for each in found} == {204}
    assert len(server._open) == 1


async def test_what_nobody_asks_is_closed_and_opens_again(
    start: Callable[..., Any], run_dir: Path, configure: Configure
) -> None:
    server, content = await start(idle_s=0.05), secret(configure())
    socket, _, _ = await hand(run_dir, content)
    await until(lambda: not server._open)
    assert not socket.exists()
    assert (await hand(run_dir, content))[1] == 204


async def test_what_is_being_asked_is_not_closed(
    start: Callable[..., Any], run_dir: Path, configure: Configure
) -> None:
    server = await start(idle_s=0.05, most=1)
    socket, _, _ = await hand(run_dir, secret(configure()))
    _, writer = await asyncio.open_unix_connection(str(socket))
    await until(lambda: any(each.busy for each in server._open.values()))
    await asyncio.sleep(0.2)

    assert socket.exists()
    _, status, said = await hand(run_dir, secret(configure()))
    assert (status, "1 AgentMemories are being asked" in said) == (503, True)
    writer.close()
    await writer.wait_closed()
    await until(lambda: not socket.exists())


async def test_room_is_made_by_closing_the_longest_idle(
    start: Callable[..., Any], run_dir: Path, configure: Configure
) -> None:
    await start(most=2)
    contents = [secret(configure()) for _ in range(3)]
    first, second = [(await hand(run_dir, content))[0] for content in contents[:2]]
    await hand(run_dir, contents[0])
    third = (await hand(run_dir, contents[2]))[0]
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "mounted configuration: as a whole: "),
        (Mounted(candidates=("a", "b")).dumps(), "several AgentMemories (a, b)"),
    ],
)
async def test_what_cannot_be_opened_is_told(start: Callable[..., Any], run_dir: Path, content: str, says: str) -> None:
    await start()
    _, status, said = await hand(run_dir, content)
    assert (status, says in said) == (503, True), said
    assert (await call(run_dir / "reader.sock", "PUT", f"/{'0' * 32}", b"[]"))[0] == 400
    assert (await hand(run_dir, content, "r9"))[1] == 503


async def test_a_store_that_is_away_is_told_and_holds_up_nobody(
    start: Callable[..., Any], run_dir: Path, configure: Configure
) -> None:
    await start()
    away = configure(postgres="postgresql://nobody@127.0.0.1:1/none", redis="redis://127.0.0.1:1")
    (socket, status, _), (_, well, _) = await asyncio.gather(
        hand(run_dir, secret(away)), hand(run_dir, secret(configure()))
    )
    if status == 204:  # a store that is away may come back: its admin API says so until then
        status = (await call(socket, "GET", "/v1/sessions"))[0]
    assert (status, well) == (503, 204)


async def test_a_socket_that_a_killed_process_left_is_replaced(
    start: Callable[..., Any], run_dir: Path, configure: Configure
) -> None:
    first, content = await start(), secret(configure())
    socket, _, _ = await hand(run_dir, content)
    left = socket.with_name("left")
    socket.rename(left)
    await first.stop()
    left.rename(socket)
    await start()
    assert (await hand(run_dir, content))[1] == 204
    assert (await call(socket, "GET", "/v1/sessions"))[0] == 200
