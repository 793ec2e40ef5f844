"""Asking a Redis that somebody else runs, with the sidecars' own user: what it may not ask, they may not either."""

import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import AuthenticationError, RedisError

from agentmemory_operator.observe.redis_nodes import Access, NodeLink, NodeUnreachable
from agentmemory_operator.observe.secrets import SecretValues
from agentmemory_operator.plan.external_redis import Endpoint, Seen
from agentmemory_sidecar.resource import Unresolved
from agentmemory_sidecar.resource.common import Tls
from agentmemory_sidecar.resource.ephemeral import ExternalRedis

TIMEOUT_S = 5.0


async def look(access: ExternalRedis, values: SecretValues) -> Seen:
    """Ask every URL. ``access`` is what holds in the region."""
    cluster = bool(access.cluster)
    try:
        password = values.resolve(access.password_from) if access.password_from else ""
        tls = _texts(access.tls, values)
    except Unresolved as error:
        return Seen(cluster=cluster, unresolved=str(error))
    if access.password is not None:
        password = access.password.get_secret_value()
    who = Access(access.username or "", (password,))
    secured = any(url.startswith("rediss://") for url in access.urls or ())
    try:
        context = _context(tls) if secured else None  # which reads every authority of the system
    except (ssl.SSLError, ValueError) as error:
        return Seen(cluster=cluster, unresolved=f"spec.ephemeral.redis.external.tls cannot be used: {error}")
    name = (access.tls.server_name if access.tls else None) or ""
    return Seen(tuple([await _endpoint(url, who, context, name) for url in access.urls or ()]), cluster)


def _texts(tls: Tls | None, values: SecretValues) -> dict[str, str]:
    sources = {"ca": tls.ca_from, "certificate": tls.certificate_from, "key": tls.key_from} if tls else {}
    return {name: values.resolve(source) for name, source in sources.items() if source}


def _context(tls: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=tls.get("ca"))
    if "certificate" in tls:
        # Python reads a certificate of one's own from files only.
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
            certificate.write_text(tls["certificate"])
            key.touch(0o600)
            key.write_text(tls["key"])
            context.load_cert_chain(certificate, key)
    return context


async def _endpoint(url: str, who: Access, context: ssl.SSLContext | None, server_name: str) -> Endpoint:
    parts = urlsplit(url)
    host = parts.hostname or ""
    link = NodeLink(host, server_name or host, who, context if parts.scheme == "rediss" else None, parts.port or 6379)
    try:
        (info,) = await link.ask(("INFO",), timeout_s=TIMEOUT_S)
        if isinstance(info, RedisError):
            return Endpoint(url, _refusal(info), denied=True)
        fields = dict(line.split(":", 1) for line in str(info).splitlines() if ":" in line)
        cluster = fields.get("cluster_enabled") == "1"
        slots = 0
        if cluster:
            (rows,) = await link.ask(("CLUSTER", "SLOTS"), timeout_s=TIMEOUT_S)
            if isinstance(rows, RedisError):
                return Endpoint(url, _refusal(rows), denied=True, cluster=True)
            slots = _covered(rows)
    except NodeUnreachable as error:
        denied = isinstance(error.__cause__, AuthenticationError)
        return Endpoint(url, str(error).removeprefix(f"{server_name or host}: "), denied=denied)
    finally:
        await link.close()
    return Endpoint(url, cluster=cluster, slots=slots, policy=fields.get("maxmemory_policy", ""))


def _refusal(error: RedisError) -> str:
    return f"{error}: docs/stores.md has the ACL rule that the user needs"


def _covered(rows: list[Any]) -> int:
    return sum(int(row[1]) - int(row[0]) + 1 for row in rows)
