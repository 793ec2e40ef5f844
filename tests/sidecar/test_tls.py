"""Certificates as contexts and files: what is no PEM is said, and no key is left behind."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import SecretStr

from agentmemory_sidecar.resource.store_config import TlsConfig
from agentmemory_sidecar.tls import Certificates, PemFiles, TlsError, certificates, context
from tests.sidecar.stores.postgres.test_tls import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def pem(authority: Authority) -> str:
    """A certificate and its key."""
    return authority.issue(x509.DNSName("client.example")).read_text()


@pytest.fixture
def files() -> Iterator[PemFiles]:
    files = PemFiles()
    yield files
    files.close()


def test_files_are_their_owners_alone_and_go_with_the_close(pem: str, files: PemFiles) -> None:
    first, second = (Path(files.write(text)) for text in (pem, "other"))

    assert (first.read_text(), second.read_text()) == (pem, "other")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (first, second, first.parent)] == [0o600, 0o600, 0o700]
    files.close()
    assert not first.parent.exists()
    files.close()


def test_nothing_makes_no_file(files: PemFiles) -> None:
    assert certificates(None, "f", files) == certificates(TlsConfig(), "f", files) == Certificates()


def test_settings_become_files(authority: Authority, pem: str, files: PemFiles) -> None:
    tls = TlsConfig(ca_pem=authority.file.read_text(), certificate_pem=pem, key_pem=SecretStr(pem))
    written = certificates(tls, "f", files)

    assert [Path(path).read_text() for path in (written.ca_file, written.cert_file, written.key_file)] == [
        tls.ca_pem,
        pem,
        pem,
    ]
    assert len(context(tls, "f").get_ca_certs()) == 1


NONE = "spec.tls.caFrom: holds no certificates in PEM"
NO_PAIR = "spec.tls: certificateFrom and keyFrom are not a certificate and its key"


@pytest.mark.parametrize(
    "text", ["hunter2", "hünter2", "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----"]
)
def test_what_is_no_pem_is_named_and_not_quoted(pem: str, text: str, files: PemFiles) -> None:
    for tls, says in (
        (TlsConfig(ca_pem=text), NONE),
        (TlsConfig(certificate_pem=text, key_pem=SecretStr(pem)), NO_PAIR),
        (TlsConfig(certificate_pem=pem, key_pem=SecretStr(text)), NO_PAIR),
    ):
        for use in (lambda tls=tls: context(tls, "spec.tls"), lambda tls=tls: certificates(tls, "spec.tls", files)):
            with pytest.raises(TlsError, match=says) as refused:
                use()
            assert text not in str(refused.value)


def test_key_of_another_certificate_or_with_a_password_is_refused(authority: Authority, pem: str) -> None:
    other = authority.issue(x509.DNSName("other.example")).read_text()
    locked = load_pem_private_key(pem.encode(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hunter2"),
    )
    for key in (other, locked.decode()):
        with pytest.raises(TlsError, match=NO_PAIR):
            context(TlsConfig(certificate_pem=pem, key_pem=SecretStr(key)), "spec.tls")
