"""TLS to PostgreSQL, as a client sees it.

The wheels' Postgres is built without TLS, so a front of this file's own answers the client's request for it, as a server
would, and hands the plain bytes to a real Postgres.
"""

import asyncio
import datetime
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agentmemory_sidecar.stores.postgres import PostgresOptions, PostgresStateStore, PostgresTls, migrate
from agentmemory_sidecar.stores.postgres.options import TlsMode
from agentmemory_sidecar.stores.protocols import StoreUnavailable
from tests.sidecar.stores.conformance.backends import postgres_target

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class Authority:
    """A certificate authority of its own, in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        certificate = self._sign(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=0))
        self.file = folder / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, name: x509.GeneralName) -> Path:
        """A file with a certificate for ``name`` and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "leaf")])
        certificate = self._sign(subject, key.public_key(), x509.SubjectAlternativeName([name]))
        file = self.folder / f"{certificate.serial_number}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


class Front:
    """Speaks TLS before ``target``; its ``context`` may be set until the next connection."""

    def __init__(self, target: tuple[str, int] | Path, context: ssl.SSLContext) -> None:
        self.target = target
        self.context = context
        self.port = 0
        self._serving: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ = [writer.transport]
        # Once TLS has taken the connection over, nothing but this holds the task: it could be collected in mid-work.
        task = asyncio.current_task()
        self._serving.add(task)
        try:
            if await reader.readexactly(8) != SSL_REQUEST:
                return  # plain text: not spoken here
            writer.write(b"S")
            near_reader, near_writer = await self._encrypted(writer.transport)
            open_.append(near_writer.transport)
            far_reader, far_writer = await (
                asyncio.open_unix_connection(self.target)
                if isinstance(self.target, Path)
                else asyncio.open_connection(*self.target)
            )
            open_.append(far_writer.transport)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(near_reader, far_writer))
                group.create_task(self._pump(far_reader, near_writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for transport in open_:
                transport.abort()
            self._serving.discard(task)

    async def _encrypted(self, plain: asyncio.WriteTransport) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # StreamWriter.start_tls keeps the old reader on this side before Python 3.12.
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await loop.start_tls(plain, protocol, self.context, server_side=True)
        assert transport is not None
        protocol.connection_made(transport)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        with suppress(OSError):
            sink.close()


@pytest.fixture
async def front(database: str, authority: Authority) -> AsyncIterator[Front]:
    await migrate(database)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue(x509.IPAddress(ip_address("127.0.0.1"))))
    front = Front(postgres_target(database), context)
    server = await asyncio.start_server(front.serve, "127.0.0.1", 0)
    front.port = server.sockets[0].getsockname()[1]
    yield front
    server.close()
    await server.wait_closed()


async def ping(front: Front, database: str, tls: PostgresTls) -> None:
    user, path = database.split("://")[1].split("@")[0], "/" + database.split("@")[1].split("/")[1].split("?")[0]
    store = PostgresStateStore(PostgresOptions(f"postgresql://{user}@127.0.0.1:{front.port}{path}", tls=tls))
    try:
        await store.ping()
    finally:
        await store.close()


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_a_server_of_the_right_authority_and_name(
    front: Front, database: str, authority: Authority, mode: TlsMode
) -> None:
    await ping(front, database, PostgresTls(mode, ca_file=str(authority.file)))


@pytest.mark.parametrize(("mode", "trusted"), [("require", True), ("verify-ca", True), ("verify-full", False)])
async def test_a_server_of_another_name(
    front: Front, database: str, authority: Authority, mode: TlsMode, trusted: bool
) -> None:
    front.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    front.context.load_cert_chain(authority.issue(x509.DNSName("another.example")))
    tls = PostgresTls(mode, ca_file=str(authority.file))
    if trusted:
        await ping(front, database, tls)
    else:
        with pytest.raises(StoreUnavailable, match="certificate"):
            await ping(front, database, tls)


@pytest.mark.parametrize(("mode", "trusted"), [("require", True), ("verify-ca", False), ("verify-full", False)])
async def test_a_server_of_another_authority(
    front: Front, database: str, tmp_path: Path, mode: TlsMode, trusted: bool
) -> None:
    tls = PostgresTls(mode, ca_file=str(Authority(tmp_path / "other").file))
    if trusted:
        await ping(front, database, tls)
    else:
        with pytest.raises(StoreUnavailable, match="certificate"):
            await ping(front, database, tls)


async def test_a_client_certificate(front: Front, database: str, authority: Authority) -> None:
    front.context.verify_mode = ssl.CERT_REQUIRED
    front.context.load_verify_locations(authority.file)
    client = authority.issue(x509.DNSName("client.example"))
    await ping(front, database, PostgresTls(ca_file=str(authority.file), cert_file=str(client)))
    with pytest.raises(StoreUnavailable):
        await ping(front, database, PostgresTls(ca_file=str(authority.file)))


async def test_a_server_without_tls_is_not_spoken_to(database: str, authority: Authority) -> None:
    target = postgres_target(database)

    async def decline(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"N")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(decline, "127.0.0.1", 0)
    front = Front(target, ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    front.port = server.sockets[0].getsockname()[1]
    with pytest.raises(StoreUnavailable):
        await ping(front, database, PostgresTls("require"))
    server.close()
    await server.wait_closed()


async def test_a_missing_file_is_named_as_the_cause(front: Front, database: str) -> None:
    with pytest.raises(StoreUnavailable, match="No such file"):
        await ping(front, database, PostgresTls(ca_file="/nowhere/ca.pem"))
