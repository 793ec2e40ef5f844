import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agentmemory_operator.certificates import Held, Store, decide
from agentmemory_operator.webhook.tls import LiveCertificate
from tests.operator.webhook.asking import NAME, write_pair

NOW = datetime.now(UTC)


def held(now: datetime = NOW) -> Held:
    """A new authority with its leaf."""
    (store,) = decide(None, None, [NAME], now)
    assert isinstance(store, Store)
    return store.held


def served(live: LiveCertificate, bundle: bytes, name: str | None = NAME) -> bytes:
    """Shake hands in memory; the certificate that the client was shown, DER. Raises ssl.SSLError."""
    client_context = ssl.create_default_context(cadata=bundle.decode())
    client_context.check_hostname = name is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = live.context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for end in {client, server} - done:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done.add(end)
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return found


def der(which: Held) -> bytes:
    return which.leaf.certificate.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("name", [NAME, None])
def test_a_new_pair_is_served_to_the_next_who_say_hello(tmp_path: Path, name: str | None) -> None:
    first, second = held(), held()
    write_pair(tmp_path, first)
    live = LiveCertificate(tmp_path)
    assert live.refresh() is True
    assert live.refresh() is False
    assert served(live, first.bundle, name) == der(first)
    write_pair(tmp_path, second)
    assert live.refresh() is True
    assert served(live, second.bundle, name) == der(second)
    assert live.fingerprint == second.leaf.certificate.fingerprint(hashes.SHA256()).hex()
    with pytest.raises(ssl.SSLError):
        served(live, first.bundle, name)


def test_no_certificate_is_no_handshake(tmp_path: Path) -> None:
    live = LiveCertificate(tmp_path / "none")
    assert live.refresh() is False
    assert (live.fingerprint, live.not_after) == ("", None)
    assert "cannot be used" in live.problem()
    with pytest.raises(ssl.SSLError):
        served(live, held().bundle)


@pytest.mark.parametrize("broken", ["nothing", "text", "key of another"])
def test_a_pair_that_cannot_be_used_leaves_the_one_before(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, other = held(), held()
    write_pair(tmp_path, first)
    live = LiveCertificate(tmp_path)
    live.refresh()
    if broken == "nothing":
        (tmp_path / "tls.key").unlink()
    elif broken == "text":
        (tmp_path / "tls.crt").resolve().write_text("not a certificate")
    else:
        key = other.leaf.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (tmp_path / "tls.key").resolve().write_bytes(key)
    assert live.refresh() is False
    assert live.refresh() is False
    assert served(live, first.bundle) == der(first)
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    assert "BEGIN" not in caplog.text
    write_pair(tmp_path / "mended", other)
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "mended" / name)
    assert live.refresh() is True


def test_a_pair_with_a_key_of_another_kind_takes_over_whole(tmp_path: Path) -> None:
    first, key = held(), rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    own = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "tls.crt").write_bytes(own.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    live = LiveCertificate(tmp_path)
    live.refresh()
    assert served(live, own.public_bytes(serialization.Encoding.PEM)) == own.public_bytes(serialization.Encoding.DER)
    for name_ in ("tls.crt", "tls.key"):
        (tmp_path / name_).unlink()
    write_pair(tmp_path, first)
    live.refresh()
    assert served(live, first.bundle + own.public_bytes(serialization.Encoding.PEM)) == der(first)


def test_a_certificate_that_has_ended_or_not_begun_is_a_problem(tmp_path: Path) -> None:
    write_pair(tmp_path, held())
    live = LiveCertificate(tmp_path)
    live.refresh()
    assert live.problem(NOW) == ""
    assert "ended" in live.problem(NOW + timedelta(days=31))
    assert "begins" in live.problem(NOW - timedelta(days=1))
