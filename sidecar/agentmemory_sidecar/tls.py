"""Certificates of the configuration as clients take them: a context of Python's, or the names of files."""

import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agentmemory_sidecar.resource.store_config import TlsConfig


class TlsError(Exception):
    """A certificate or key of the configuration cannot be used. The text names the field, never what it holds."""


class PemFiles:
    """PEM texts as files, for their owner alone, in a directory that is gone after ``close``."""

    def __init__(self) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._count = 0

    def write(self, pem: str) -> str:
        """The path of a file with this text; empty for an empty text."""
        if not pem:
            return ""
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="agentmemory-tls-")
        self._count += 1
        path = Path(self._directory.name) / f"{self._count}.pem"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(pem)
        return str(path)

    def close(self) -> None:
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths; empty for none."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


def certificates(tls: TlsConfig | None, field: str, files: PemFiles) -> Certificates:
    """The files of a connection's TLS settings. ``field`` is where the resource has them. Raises TlsError."""
    if tls is None:
        return Certificates()
    written = Certificates(
        files.write(tls.ca_pem), files.write(tls.certificate_pem), files.write(tls.key_pem.get_secret_value())
    )
    _load(tls, written, field)
    return written


def context(tls: TlsConfig, field: str) -> ssl.SSLContext:
    """What verifies a server, and tells it who we are. Raises TlsError."""
    files = PemFiles()
    try:
        cert_file = files.write(tls.certificate_pem)
        return _load(tls, Certificates("", cert_file, files.write(tls.key_pem.get_secret_value())), field)
    finally:
        files.close()


def _load(tls: TlsConfig, written: Certificates, field: str) -> ssl.SSLContext:
    try:
        made = ssl.create_default_context(cadata=tls.ca_pem or None)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise TlsError(f"{field}.caFrom: holds no certificates in PEM: {_reason(error)}") from None
    if written.cert_file:
        try:
            # A key that has a password would have OpenSSL ask for it on the terminal.
            made.load_cert_chain(written.cert_file, written.key_file or None, password=lambda: "")
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(
                f"{field}: certificateFrom and keyFrom are not a certificate and its key, both in PEM and the key "
                f"without a password: {_reason(error)}"
            ) from None
    return made


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or type(error).__name__
