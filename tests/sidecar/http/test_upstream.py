"""TLS to the upstream: whom it trusts, whom it expects there, and who it says it is."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from pydantic import SecretStr

from agentmemory_sidecar.http.upstream import HttpUpstream
from agentmemory_sidecar.resource.config import UpstreamConfig
from agentmemory_sidecar.resource.store_config import TlsConfig
from agentmemory_sidecar.step.exchange import UpstreamFailed
from tests.sidecar.stores.postgres.test_tls import Authority

HERE = x509.IPAddress(ip_address("127.0.0.1"))
CLAUDE = x509.DNSName("claude.example")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@asynccontextmanager
async def server(authority: Authority, name: x509.GeneralName, *, asks: bool = False) -> AsyncIterator[str]:
    """Its URL. ``asks`` for a client's certificate and answers with its serial number."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue(name))
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.file)

    async def answer(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peercert") or {}
        return web.Response(text=str(peer.get("serialNumber", "")))

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def ask(url: str, tls: TlsConfig | None, server_name: str = "") -> str:
    upstream = HttpUpstream(
        UpstreamConfig(url=url, connect_timeout_s=10, idle_timeout_s=10, tls=tls, server_name=server_name)
    )
    try:
        async with upstream.send("GET", "/", "", [], b"", plain=True) as response:
            return (await response.read()).decode()
    finally:
        await upstream.close()


async def test_server_of_the_authority_and_of_no_other(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other").file.read_text()
    async with server(authority, HERE) as url:
        assert await ask(url, TlsConfig(ca_pem=authority.file.read_text())) == ""
        for tls in (None, TlsConfig(), TlsConfig(ca_pem=other)):
            with pytest.raises(UpstreamFailed):
                await ask(url, tls)


async def test_server_must_carry_the_name_it_is_given(authority: Authority) -> None:
    tls = TlsConfig(ca_pem=authority.file.read_text())
    async with server(authority, CLAUDE) as url:
        assert await ask(url, tls, "claude.example") == ""
        for name in ("", "other.example"):
            with pytest.raises(UpstreamFailed):
                await ask(url, tls, name)


async def test_client_certificate_is_shown(authority: Authority) -> None:
    pem = authority.issue(x509.DNSName("client.example"))
    tls = TlsConfig(ca_pem=authority.file.read_text())
    ours = tls.model_copy(update={"certificate_pem": pem.read_text(), "key_pem": SecretStr(pem.read_text())})
    async with server(authority, HERE, asks=True) as url:
        assert int(await ask(url, ours), 16) == int(pem.stem)
        with pytest.raises(UpstreamFailed):
            await ask(url, tls)
