"""The webhook as a running server, its certificates on disk, and a client that asks as the API server does.

The client is the standard library's, in threads: it shares no code with the server, and is closed when it says so.
"""

import asyncio
import base64
import http.client
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from agentmemory_operator.certificates import Held, dumped
from agentmemory_operator.webhook.server import Listen, Webhook

NAME = "agentmemory-webhook.agentmemory-system.svc"


def write_pair(directory: Path, held: Held) -> None:
    """Put a leaf into a directory as the kubelet does: all files at once, by a link that moves."""
    version = directory / f"..{uuid4().hex}"
    version.mkdir(parents=True)
    for name in ("tls.crt", "tls.key"):
        (version / name).write_bytes(base64.b64decode(dumped(held)[name]))
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(Path("..data") / name)
    moving = directory / "..moving"
    moving.symlink_to(version.name)
    os.replace(moving, directory / "..data")


def review(pod: dict[str, Any] | None, **request: Any) -> dict[str, Any]:
    """What the API server sends for the creation of a pod."""
    asked = {
        "uid": str(uuid4()),
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "agents",
        "operation": "CREATE",
        "object": pod,
        "dryRun": False,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked | request}


def patch_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(base64.b64decode(answer["response"]["patch"]))
    return found


def trusting(bundle: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=bundle.decode())


class Connection(http.client.HTTPConnection):
    """To the webhook, as a client that trusts a bundle; open until it is closed."""

    def __init__(self, port: int, bundle: bytes) -> None:
        super().__init__("127.0.0.1", port, timeout=60)
        self._trusts = bundle

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        try:
            self.sock = trusting(self._trusts).wrap_socket(plain, server_hostname=NAME)
        except BaseException:
            plain.close()
            raise

    def ask(self, body: Any) -> tuple[int, Any]:
        """Status, and the answer: JSON, or the text of an error."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.request("POST", "/inject", data, {"Content-Type": "application/json"})
        answer = self.getresponse()
        text = answer.read()
        self.closes = answer.will_close
        return answer.status, json.loads(text) if answer.status == 200 else text.decode()


@dataclass
class Running:
    """A webhook that serves."""

    webhook: Webhook
    certificates: Path
    settings: Path
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def connection(self, bundle: bytes) -> Connection:
        return Connection(self.webhook.address.port, bundle)

    async def ask(self, body: Any, bundle: bytes) -> tuple[int, Any]:
        """Ask on a connection of its own. Raises OSError where that fails."""

        def asked() -> tuple[int, Any]:
            with closing(self.connection(bundle)) as connection:
                return connection.ask(body)

        return await asyncio.to_thread(asked)

    async def probe(self, path: str) -> tuple[int, str]:
        def probed() -> tuple[int, str]:
            with closing(http.client.HTTPConnection("127.0.0.1", self.webhook.probes.port, timeout=60)) as connection:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()

        return await asyncio.to_thread(probed)

    async def state(self) -> tuple[int, dict[str, Any]]:
        status, text = await self.probe("/readyz")
        return status, json.loads(text)

    async def metrics(self) -> dict[str, float]:
        _, text = await self.probe("/metrics")
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    while not await holds():  # noqa: ASYNC110 - it is in another thread or process
        await asyncio.sleep(0.02)


async def closed(running: Running) -> None:
    """Wait until the last connection of a server that has stopped has ended: TLS says goodbye in two steps."""
    transports = asyncio.get_running_loop()._transports  # type: ignore[attr-defined]
    port = running.webhook.address.port

    async def are() -> bool:
        # One that has ended has no socket any more, but may wait to be collected.
        open_ones = [transport for transport in transports.values() if transport._sock is not None]
        names = [transport.get_extra_info("sockname") for transport in open_ones]
        return not any(isinstance(name, tuple) and name[1] == port for name in names)

    await until(are)


@asynccontextmanager
async def running(folder: Path, held: Held | None = None, *, linger_s: float = 0) -> AsyncIterator[Running]:
    """A webhook on free ports, with a certificate if one is given, until the block ends."""
    certificates, settings = folder / "certificates", folder / "settings.yaml"
    certificates.mkdir()
    if held is not None:
        write_pair(certificates, held)
    if not settings.exists():
        settings.write_text("{}")
    server = Running(Webhook(settings, certificates), certificates, settings)
    anywhere = Listen("127.0.0.1", 0)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(
            server.webhook.serve(anywhere, anywhere, server.stop, linger_s=linger_s, drain_s=5)
        )  # fmt: skip

        async def serves() -> bool:
            assert not serving.done()
            return server.webhook.address.port > 0

        await until(serves)
        try:
            yield server
        finally:
            server.stop.set()
    await closed(server)
