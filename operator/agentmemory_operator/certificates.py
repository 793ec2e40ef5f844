"""The webhook's certificate authority and its leaf: made, renewed and published by the elected operator.

One Secret holds everything; the webhook's pods mount ``tls.crt`` and ``tls.key`` of it and nothing else. All is decided
from that Secret, the published caBundle and the time, so that a leader may die after any write and the next one goes on.
An authority changes in three steps, none of which any admission notices:

1. The next authority is made and published beside the current one.
2. When every API server has had time to see that, it takes over: it signs a new leaf, and the one before is *retired*.
3. A retired authority stays published until the last leaf that it signed has ended. Nobody need be asked which leaf a
   replica serves: after that moment none can serve, or be ready with, one that the dropped authority signed.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agentmemory_operator.issuing import BACKDATE, builder, usage
from agentmemory_operator.kube import MUTATING_WEBHOOKS, SECRET, Kube, Object
from agentmemory_operator.names import APP, FIELD_MANAGER, GROUP, MANAGED_BY
from agentmemory_operator.settings import Settings

AUTHORITY_LIFE = timedelta(days=365)
LEAF_LIFE = timedelta(days=30)
RENEW_AT = 2 / 3
"""The share of its life after which an authority or a leaf is renewed."""
SETTLE = timedelta(minutes=10)
"""How long an authority is published before it signs: API servers see a new caBundle in seconds."""
CHECK_EVERY = timedelta(minutes=1)
"""How often the leader looks."""
RETIRED_UNTIL = f"{GROUP}/retired-until"
"""Annotation of the Secret: when the last leaf of a retired authority ends."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Held:
    """What the Secret holds."""

    authority: Pair
    leaf: Pair
    next: Pair | None = None
    """The authority that takes over as soon as it is known."""
    retired: tuple[x509.Certificate, ...] = ()
    retired_until: datetime | None = None

    @property
    def bundle(self) -> bytes:
        """All authorities to trust, PEM. The order is their age's, so that a takeover changes nothing in it."""
        found = [self.authority.certificate, *([self.next.certificate] if self.next else []), *self.retired]
        return b"".join(map(_pem, sorted(found, key=lambda each: (each.not_valid_before_utc, each.serial_number))))


@dataclass(frozen=True, slots=True)
class Store:
    """Write the Secret. ``why`` is for the log."""

    held: Held
    why: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Write the bundle into every entry of the webhook configuration."""

    bundle: bytes
    why: str


Action = Store | Publish


def decide(held: Held | None, published: Sequence[bytes] | None, names: Sequence[str], now: datetime) -> list[Action]:
    """What to do now, in this order.

    ``held`` is None where the Secret is missing or unusable; ``published`` are the bundles of the configuration's entries,
    None where there is no configuration; ``names`` are the leaf's DNS names, the first of them its common name.
    """
    if held is None or (held.next is None and _ended(held.authority.certificate, now)):
        known = dict.fromkeys(certificate for bundle in published or () for certificate in _parsed(bundle))
        fresh = _begun(names, now, tuple(each for each in known if not _ended(each, now)))
        return [Store(fresh, "a new authority: there was none that could be used"), *_publish(fresh, published)]
    if behind := _publish(held, published):
        return behind  # a leaf must not be served before its authority is known
    wanted, why = _advanced(held, published, names, now)
    return [Store(wanted, why), *_publish(wanted, published)] if why else []


def _advanced(held: Held, published: Sequence[bytes] | None, names: Sequence[str], now: datetime) -> tuple[Held, str]:
    """What the Secret should hold, and why it changes; one step at a time, empty for none."""
    if held.retired and (held.retired_until is None or now >= held.retired_until):
        return replace(held, retired=(), retired_until=None), "the last leaf of the retired authority has ended"
    if held.next is not None:
        known = published is not None and bool(published) and all(_pem(held.next.certificate) in b for b in published)
        settled = now >= held.next.certificate.not_valid_before_utc + BACKDATE + SETTLE
        if (known and settled) or _ended(held.authority.certificate, now):
            leaf = _leaf(held.next, names, now)
            until = max(filter(None, (held.retired_until, held.leaf.certificate.not_valid_after_utc)))
            retired = (held.authority.certificate, *held.retired)
            return Held(held.next, leaf, None, retired, until), "the next authority takes over, with a leaf of its own"
    elif _due(held.authority.certificate, now):
        return replace(held, next=_authority(now)), "a next authority, to be published before it signs"
    if _due(held.leaf.certificate, now):
        return replace(held, leaf=_leaf(held.authority, names, now)), "a new leaf: two thirds of its life are over"
    if _names(held.leaf.certificate) != set(names) or not _signed(held.leaf.certificate, held.authority.certificate):
        return replace(held, leaf=_leaf(held.authority, names, now)), "a new leaf: the one before was for other names"
    return held, ""


def _publish(held: Held, published: Sequence[bytes] | None) -> list[Action]:
    if published is None or all(bundle == held.bundle for bundle in published):
        return []
    return [Publish(held.bundle, "the webhook configuration gets the authorities to trust")]


# -------------------------------------------------------------------------------------------------------- certificates


def _begun(names: Sequence[str], now: datetime, retired: tuple[x509.Certificate, ...] = ()) -> Held:
    authority = _authority(now)
    until = now + LEAF_LIFE if retired else None
    return Held(authority, _leaf(authority, names, now), None, retired, until)


def _authority(now: datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"agentmemory webhook authority {now:%Y-%m-%d}")])
    unsigned = (
        builder(key, name, name, now, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs=True), critical=True)
    )
    return Pair(unsigned.sign(key, hashes.SHA256()), key)


def _leaf(authority: Pair, names: Sequence[str], now: datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    # A common name has 64 characters at most; nobody reads it: the names are in the extension.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    unsigned = (
        builder(key, subject, issuer.subject, now, min(now + LEAF_LIFE, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(identifier, critical=False)
    )
    return Pair(unsigned.sign(authority.key, hashes.SHA256()), key)


def _due(certificate: x509.Certificate, now: datetime) -> bool:
    begin, end = certificate.not_valid_before_utc + BACKDATE, certificate.not_valid_after_utc
    return now >= begin + (end - begin) * RENEW_AT


def _ended(certificate: x509.Certificate, now: datetime) -> bool:
    return now >= certificate.not_valid_after_utc


def _names(leaf: x509.Certificate) -> set[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(found.value.get_values_for_type(x509.DNSName))


def _signed(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _parsed(bundle: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a bundle; none where it holds something else."""
    try:
        return tuple(x509.load_pem_x509_certificates(bundle)) if bundle else ()
    except ValueError:
        return ()


# ---------------------------------------------------------------------------------------------------------- the Secret


def dumped(held: Held) -> dict[str, str]:
    """The Secret's ``data``."""
    parts: dict[str, bytes] = {"retired.crt": b"".join(map(_pem, held.retired))} if held.retired else {}
    pairs = {"tls": held.leaf, "ca": held.authority} | ({"next": held.next} if held.next else {})
    for name, pair in pairs.items():
        parts[f"{name}.crt"] = _pem(pair.certificate)
        parts[f"{name}.key"] = pair.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    return {name: base64.b64encode(part).decode() for name, part in parts.items()}


def loaded(secret: Mapping[str, Any] | None) -> Held | None:
    """What a Secret holds; None where that is not what we wrote."""
    if secret is None:
        return None
    until = (secret["metadata"].get("annotations") or {}).get(RETIRED_UNTIL)
    try:
        data = {name: base64.b64decode(text, validate=True) for name, text in (secret.get("data") or {}).items()}
        return Held(
            _pair(data, "ca"),
            _pair(data, "tls"),
            _pair(data, "next") if "next.crt" in data else None,
            tuple(x509.load_pem_x509_certificates(data["retired.crt"])) if "retired.crt" in data else (),
            datetime.fromisoformat(until) if until else None,
        )
    except (KeyError, ValueError, TypeError, binascii.Error):
        return None


def _pair(data: Mapping[str, bytes], name: str) -> Pair:
    certificate = x509.load_pem_x509_certificate(data[f"{name}.crt"])
    key = serialization.load_pem_private_key(data[f"{name}.key"], None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError(f"{name} is no pair of ours")
    return Pair(certificate, key)


# -------------------------------------------------------------------------------------------------------------- effects


def dns_names(settings: Settings) -> tuple[str, ...]:
    """The names under which the API server calls the webhook."""
    host = f"{settings.webhook.service}.{settings.operator_namespace}"
    return f"{host}.svc", f"{host}.svc.cluster.local", host


async def keep(kube: Kube, settings: Settings, now: datetime | None = None) -> list[str]:
    """One look by the leader: renew what is due, publish what is not published. Returns what was done, in words.

    Does nothing unless the installation's certificates are ``Builtin``. A write that somebody else was faster with raises
    Conflict; the next look decides anew. Raises KubeError and KubeUnreachable.
    """
    if settings.webhook.certificates != "Builtin":
        return []
    now = now or datetime.now(UTC)
    secret = await kube.get(SECRET, settings.operator_namespace, settings.webhook.secret)
    configuration = await kube.get(MUTATING_WEBHOOKS, "", settings.webhook.configuration)
    actions = decide(loaded(secret), _published(configuration), dns_names(settings), now)
    for action in actions:
        if isinstance(action, Store):
            secret = await _store(kube, settings, secret, action.held)
        elif configuration is not None:
            await _write_bundle(kube, configuration, action.bundle)
    return [action.why for action in actions]


async def _store(kube: Kube, settings: Settings, secret: Object | None, held: Held) -> Object:
    there = secret["metadata"] if secret else {}
    annotations = {k: v for k, v in (there.get("annotations") or {}).items() if k != RETIRED_UNTIL}
    if held.retired_until is not None:
        annotations[RETIRED_UNTIL] = held.retired_until.isoformat()
    metadata = {
        "name": settings.webhook.secret,
        "namespace": settings.operator_namespace,
        "labels": {**(there.get("labels") or {}), MANAGED_BY: FIELD_MANAGER, APP: "agentmemory-webhook"},
        "annotations": annotations,
    }
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": dumped(held)}
    if secret is None:
        return await kube.create(manifest | {"type": "kubernetes.io/tls"})
    # Of the version that was read: a leader that has lost its Lease meanwhile must not undo what the new one wrote.
    kept = {key: there[key] for key in ("resourceVersion", "ownerReferences") if key in there}
    return await kube.replace(manifest | {"type": secret.get("type"), "metadata": metadata | kept})


def _published(configuration: Object | None) -> list[bytes] | None:
    if configuration is None:
        return None
    clients = (entry.get("clientConfig") or {} for entry in configuration.get("webhooks") or ())
    return [base64.b64decode(client.get("caBundle") or "") for client in clients]


async def _write_bundle(kube: Kube, configuration: Object, bundle: bytes) -> None:
    # Only this field of each entry, and only if the entries are still where they were.
    text = base64.b64encode(bundle).decode()
    body = []
    for index, entry in enumerate(configuration.get("webhooks") or ()):
        body.append({"op": "test", "path": f"/webhooks/{index}/name", "value": entry["name"]})
        body.append({"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": text})
    await kube.patch(MUTATING_WEBHOOKS, "", configuration["metadata"]["name"], body)
