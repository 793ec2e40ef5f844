"""Passwords and certificates, and how they come to be in Secrets of a real API server."""

import base64

import pytest
from cryptography import x509

from agentmemory_operator.act.redis_keys import act, authority, issue
from agentmemory_operator.kube import SECRET, Cluster
from agentmemory_operator.plan.redis import secrets as s
from agentmemory_operator.plan.redis.pki import certificates
from agentmemory_operator.plan.redis.region import encoded
from agentmemory_operator.plan.redis.users import USERS

NOW = 1_800_000_000.0


def test_a_certificate_is_signed_by_its_authority_for_its_names() -> None:
    text = authority(NOW) + authority(NOW + 10)
    first, second = certificates(text)
    assert first.subject != second.subject
    pem, key = issue(text, second.serial, ("redis.svc", "*.redis.svc"), NOW)
    (leaf,) = certificates(pem)
    assert leaf.issuer == second.subject
    assert leaf.hostnames == ("redis.svc", "*.redis.svc")
    assert "PRIVATE KEY" in key
    x509.load_pem_x509_certificate(pem.encode()).verify_directly_issued_by(
        x509.load_pem_x509_certificate(second.pem.encode())
    )
    with pytest.raises(KeyError):
        issue(text, "no such serial", ("a",), NOW)


@pytest.mark.cluster
async def test_keys_are_made_once_rotate_and_retire(kube: Cluster, namespace: str) -> None:
    meta = {"name": "keys", "namespace": namespace}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque"}

    async def read() -> dict[str, str]:
        live = await kube.get(SECRET, namespace, "keys")
        assert live is not None
        return {key: base64.b64decode(value).decode() for key, value in live["data"].items()}

    await act(kube, s.MakeKeys(manifest, "monday"), NOW)
    made = await read()
    assert set(made) == {*USERS, s.ROTATED, s.AUTHORITIES}
    assert len({made[user] for user in USERS}) == len(USERS)
    await act(kube, s.MakeKeys(manifest, "monday"), NOW)
    assert await read() == made

    await act(kube, s.RotatePasswords(manifest, "tuesday"), NOW + 1)
    rotated = await read()
    for user in USERS:
        assert rotated[user] != made[user] == rotated[user + s.PREVIOUS]
    assert rotated[s.ROTATED] == "tuesday"
    await act(kube, s.RetirePasswords(manifest), NOW + 4000)
    assert not any(name.endswith(s.PREVIOUS) for name in await read())

    await act(kube, s.AddAuthority(manifest), NOW + 4000)
    keys = s.Keys(await read(), certificates((await read())[s.AUTHORITIES]))
    assert len(keys.authorities) == 2
    await act(kube, s.AddAuthority(manifest), NOW + s.AUTHORITY_DAYS * s.DAY_S + 1)
    assert len(certificates((await read())[s.AUTHORITIES])) == 2  # the first has ended

    servers = {**manifest, "metadata": {**meta, "name": "servers"}, "data": encoded({"replica": "x"})}
    await act(kube, s.IssueCertificate(servers, keys, ("redis.svc",)), NOW + 4000)
    live = await kube.get(SECRET, namespace, "servers")
    assert live is not None
    assert set(live["data"]) == {"replica", "tls.crt", "tls.key"}
