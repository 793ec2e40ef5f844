"""Making passwords, authorities and certificates of a managed Redis."""

import datetime
import secrets
from collections.abc import Callable, Mapping

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agentmemory_operator import issuing
from agentmemory_operator.kube import SECRET, Conflict, Kube
from agentmemory_operator.plan.redis.secrets import (
    AUTHORITIES,
    AUTHORITY_DAYS,
    LEAF_DAYS,
    PREVIOUS,
    ROTATED,
    ROTATED_AT,
    AddAuthority,
    IssueCertificate,
    KeysAction,
    MakeKeys,
    RetirePasswords,
    RotatePasswords,
)
from agentmemory_operator.plan.redis.users import USERS
from agentmemory_operator.secretdata import encoded, texts


async def act(kube: Kube, action: KeysAction | IssueCertificate, now: float) -> None:
    """Carry out an action. Whatever somebody else made in the meantime stays, and the next look goes by it."""
    if isinstance(action, IssueCertificate):
        signer = action.keys.signer(now)
        certificate, key = issue(action.keys.data[AUTHORITIES], signer.serial, action.hostnames, now)
        leaf = encoded({"tls.crt": certificate, "tls.key": key})
        await kube.apply({**action.manifest, "data": {**action.manifest["data"], **leaf}})
    elif isinstance(action, MakeKeys):
        data = {user: _password() for user in USERS} | {ROTATED: action.rotated, AUTHORITIES: authority(now)}
        try:
            await kube.create({**action.manifest, "data": encoded(data)})
        except Conflict:
            return
    else:
        await _change(kube, action, _change_of(action, now))


def _change_of(action: KeysAction, now: float) -> Callable[[dict[str, str]], Mapping[str, str]]:
    match action:
        case RotatePasswords(rotated=rotated):
            return lambda data: (
                data
                | {user + PREVIOUS: data[user] for user in USERS}
                | {user: _password() for user in USERS}
                | {ROTATED: rotated, ROTATED_AT: str(int(now))}
            )
        case RetirePasswords():
            return lambda data: {name: value for name, value in data.items() if not name.endswith(PREVIOUS)}
        case AddAuthority():
            return lambda data: data | {AUTHORITIES: _living(data[AUTHORITIES], now) + authority(now)}
    raise TypeError(f"no effect on keys: {type(action).__name__}")


async def _change(kube: Kube, action: KeysAction, change: Callable[[dict[str, str]], Mapping[str, str]]) -> None:
    """Read, change, and write if nobody wrote in between."""
    meta = action.manifest["metadata"]
    live = await kube.get(SECRET, meta["namespace"], meta["name"])
    if live is None:
        return
    try:
        await kube.replace({**live, "data": encoded(change(texts(live)))})
    except Conflict:
        return


def _password() -> str:
    return secrets.token_urlsafe(32)


# ---------------------------------------------------------------------------------------------------------- certificates


def authority(now: float) -> str:
    """A new authority: certificate and key, PEM. It may sign servers, and nothing below."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"agentmemory-redis-{secrets.token_hex(8)}")])
    builder = issuing.builder(key, name, name, *_life(now, AUTHORITY_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(issuing.usage(signs=True), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode() + _pem(key)


def issue(authorities: str, serial: str, hostnames: tuple[str, ...], now: float) -> tuple[str, str]:
    """A server's certificate, which it shows as a client of other servers too, and its key, PEM.

    :param serial: of the authority that signs, hex. Raises KeyError if it is not among ``authorities``.
    """
    signer, signing_key = _pairs(authorities)[serial]
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agentmemory-redis")])
    builder = issuing.builder(key, subject, signer.subject, *_life(now, LEAF_DAYS))
    alternatives = x509.SubjectAlternativeName([x509.DNSName(hostname) for hostname in hostnames])
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (issuing.usage(signs=False), True),
        (alternatives, False),
        (purposes, False),
        (identifier, False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(signing_key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), _pem(key)


def _life(now: float, days: int) -> tuple[datetime.datetime, datetime.datetime]:
    begin = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    return begin, begin + datetime.timedelta(days=days)


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


_END = "-----END PRIVATE KEY-----\n"


def _pairs(authorities: str) -> dict[str, tuple[x509.Certificate, ec.EllipticCurvePrivateKey]]:
    """Authorities by serial number; each certificate is followed by its key."""
    found = {}
    for text in authorities.split(_END)[:-1]:
        pem = (text + _END).encode()
        certificate = x509.load_pem_x509_certificate(pem)
        key = serialization.load_pem_private_key(pem[pem.index(b"-----BEGIN PRIVATE KEY") :], None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        found[format(certificate.serial_number, "x")] = (certificate, key)
    return found


def _living(authorities: str, now: float) -> str:
    """Without those that have ended."""
    texts = (text + _END for text in authorities.split(_END)[:-1])
    return "".join(
        text for text in texts if x509.load_pem_x509_certificate(text.encode()).not_valid_after_utc.timestamp() > now
    )
