"""Servers that the hot tier is tested against: Valkey, a Valkey cluster, and Debian's Redis with TLS and ACLs."""

import asyncio
import datetime
import ipaddress
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.asyncio import Redis

from agentmemory_sidecar.stores.embedded.process import EmbeddedServer
from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey
from agentmemory_sidecar.stores.redis import ACL_RULE, RedisOptions

SHARDS = 3
SLOTS = 16384


@dataclass
class HotServer:
    """One backend: how the store reaches it, and clients with all rights, one for each primary."""

    options: RedisOptions
    admins: Callable[[], Sequence["Redis"]]

    async def flush(self) -> None:
        for admin in self.admins():
            async with admin:
                await admin.flushall()

    async def ttls(self) -> dict[bytes, int]:
        """Milliseconds that each key still has; -1 for one that would stay for ever."""
        found: dict[bytes, int] = {}
        for admin in self.admins():
            async with admin:
                async for key in admin.scan_iter():
                    found[key] = await admin.pttl(key)
        return found


def free_ports(count: int) -> list[int]:
    """Ports of loopback that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


# -------------------------------------------------------------------------------------------------------- Valkey cluster


class ValkeyCluster:
    """Six processes: three primaries and a replica for each, which takes over 1.5 s after its primary is gone."""

    def __init__(self, directory: Path) -> None:
        ports = free_ports(4 * SHARDS)
        self.bus = dict(zip(ports[::2], ports[1::2], strict=True))
        self.nodes = [self._node(directory, port) for port in self.bus]
        for node in self.nodes:  # one password for all: they log in to each other
            node.password = self.nodes[0].password
            node.config = (*node.config, ("primaryauth", node.password))

    def _node(self, directory: Path, port: int) -> EmbeddedValkey:
        config = {
            "cluster-enabled": "yes",
            "cluster-port": str(self.bus[port]),
            "cluster-node-timeout": "1500",
            "cluster-replica-validity-factor": "0",
        }
        return EmbeddedValkey(directory / str(port), port, config=tuple(config.items()))

    @property
    def options(self) -> RedisOptions:
        return RedisOptions(urls=tuple(node.url for node in self.nodes[:2]), cluster=True, timeout_s=10)

    @staticmethod
    def client(node: EmbeddedValkey) -> Redis:
        return Redis.from_url(node.url)

    def admins(self) -> list[Redis]:
        """Clients of the nodes that began as primaries."""
        return [self.client(node) for node in self.nodes[:SHARDS]]

    async def start(self) -> None:
        await asyncio.gather(*(node.start() for node in self.nodes))
        first, *others = self.nodes
        for shard, node in enumerate(self.nodes[:SHARDS]):
            begin, end = shard * SLOTS // SHARDS, (shard + 1) * SLOTS // SHARDS - 1
            await self.ask(node, "CLUSTER", "ADDSLOTSRANGE", begin, end)
            await self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", shard + 1)
        for node in others:
            assert node.port is not None
            await self.ask(first, "CLUSTER", "MEET", "127.0.0.1", node.port, self.bus[node.port])
        await self.until(lambda info: info["cluster_known_nodes"] == "6")
        for shard, replica in enumerate(self.nodes[SHARDS:]):
            primary = await self.ask(self.nodes[shard], "CLUSTER", "MYID")
            await self.ask(replica, "CLUSTER", "REPLICATE", primary)
        await self.until(lambda info: info["cluster_state"] == "ok")
        for replica in self.nodes[SHARDS:]:
            async with asyncio.timeout(60), self.client(replica) as client:
                while (await client.info("replication")).get("master_link_status") != "up":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    async def ask(self, node: EmbeddedValkey, *command: str | int | bytes) -> Any:
        async with self.client(node) as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def info(self, node: EmbeddedValkey) -> dict[str, str]:
        """CLUSTER INFO."""
        lines = (await self.ask(node, "CLUSTER", "INFO")).decode().splitlines()
        return dict(line.split(":", 1) for line in lines)

    async def until(self, condition: Callable[[dict[str, str]], bool]) -> None:
        """Wait until every running node's CLUSTER INFO fulfils a condition."""
        async with asyncio.timeout(60):
            for node in self.nodes:
                while node.running and not condition(await self.info(node)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes))


@pytest.fixture(scope="session")
def valkey_cluster(servers_directory: Path) -> Iterator[ValkeyCluster]:
    """Shared by a session's tests: leave it as it was."""
    cluster = ValkeyCluster(servers_directory / "cluster")
    try:
        asyncio.run(cluster.start())
        yield cluster
    finally:
        asyncio.run(cluster.stop())


@pytest.fixture
async def own_cluster(servers_directory: Path, tmp_path: Path) -> AsyncIterator[ValkeyCluster]:
    """A cluster that the test may break."""
    cluster = ValkeyCluster(servers_directory / f"cluster-{tmp_path.name}")
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()


# -------------------------------------------------------------------------------------------------- Debian's Redis, TLS


class DebianRedis(EmbeddedServer):
    """``redis-server`` of the distribution, TLS only, client certificates required, the default user switched off."""

    name = "Redis"

    def __init__(self, directory: Path, certificates: Path) -> None:
        super().__init__(directory)
        (self.port,) = free_ports(1)
        self.certificates = certificates
        self.program = shutil.which("redis-server") or ""

    async def _prepare(self) -> None:
        pass

    def _command(self) -> tuple[Sequence[str | Path], bytes]:
        lines = [
            "port 0",
            f"tls-port {self.port}",
            "bind 127.0.0.1",
            f"tls-cert-file {self.certificates}/server.pem",
            f"tls-key-file {self.certificates}/server.key",
            f"tls-ca-cert-file {self.certificates}/ca.pem",
            "tls-auth-clients yes",
            f"dir {self.data}",
            'save ""',
            "user default off",
            f"user sidecar on >first resetchannels {ACL_RULE}",
            "user short on >first ~*:sess:* +evalsha +eval",
            "user admin on >all ~* &* +@all",
        ]
        return [self.program, "-"], "\n".join([*lines, ""]).encode()

    async def _ready(self) -> bool:
        try:
            async with self.admin() as client:
                return bool(await client.ping())
        except OSError:
            return False
        except Exception as error:
            if "Connect" in str(error) or "connect" in str(error):
                return False
            raise

    def admin(self) -> Redis:
        return Redis(
            host="127.0.0.1",
            port=self.port,
            username="admin",
            password="all",
            ssl=True,
            ssl_ca_certs=f"{self.certificates}/ca.pem",
            ssl_certfile=f"{self.certificates}/client.pem",
            ssl_keyfile=f"{self.certificates}/client.key",
            socket_connect_timeout=1,
        )

    def options(self, *, username: str = "sidecar", password: str = "first") -> RedisOptions:
        return RedisOptions(
            urls=(f"rediss://127.0.0.1:{self.port}",),
            username=username,
            password=password,
            tls_ca_file=f"{self.certificates}/ca.pem",
            tls_cert_file=f"{self.certificates}/client.pem",
            tls_key_file=f"{self.certificates}/client.key",
            timeout_s=10,
        )


def make_certificates(directory: Path) -> None:
    """``ca.pem``, and ``server`` and ``client`` with ``.pem`` and ``.key``, for 127.0.0.1."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    for name in ("ca", "server", "client"):
        key = authority_key if name == "ca" else ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(authority if name == "ca" else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )
        certificate = builder.sign(authority_key, hashes.SHA256())
        (directory / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (directory / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (directory / f"{name}.key").chmod(0o644)  # the server's account is another one


@pytest.fixture(scope="session")
def debian_redis(servers_directory: Path) -> Iterator[DebianRedis]:
    """Redis with TLS and ACLs; users ``sidecar`` (the documented rule), ``short`` (too few rights) and ``admin``."""
    if not shutil.which("redis-server"):
        if os.environ.get("AGENTMEMORY_TEST_NO_APT") == "1":
            pytest.skip("redis-server is not installed, and AGENTMEMORY_TEST_NO_APT=1 says that it need not be")
        pytest.fail(
            "redis-server is not installed: run `apt-get install redis-server` (the Valkey wheel has no TLS), or set "
            "AGENTMEMORY_TEST_NO_APT=1 to go without these tests"
        )
    certificates = servers_directory / "certificates"
    certificates.mkdir()
    certificates.chmod(0o755)
    make_certificates(certificates)
    server = DebianRedis(servers_directory / "debian-redis", certificates)
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())
