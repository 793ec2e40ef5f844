"""The webhook's certificate, taken anew from its files while the server runs."""

import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

log = logging.getLogger(__name__)

CERTIFICATE, KEY = "tls.crt", "tls.key"


class LiveCertificate:
    """A server's TLS context whose certificate follows the files of a directory (a mounted Secret).

    Each new pair gets a context of its own, which takes over when the next client says hello: a pair that does not fit is
    never half loaded, and no certificate of an earlier pair stays behind. Connections that are open are left alone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pair = (b"", b"")
        self._inner: ssl.SSLContext | None = None
        self._leaf: x509.Certificate | None = None
        self._unusable = f"there is no certificate in {directory} yet"
        self.context = _context()
        """What the server listens with."""
        # Called for every hello, also for one that names no host.
        self.context.sni_callback = self._choose

    def refresh(self) -> bool:
        """Look at the files; True if there is a new pair in use. A pair that cannot be used is logged and left out."""
        # The kubelet changes all files at once by moving a link: resolved, they are of one version.
        certificate, key = ((self._directory / name).resolve() for name in (CERTIFICATE, KEY))
        try:
            pair = certificate.read_bytes(), key.read_bytes()
            if pair == self._pair:
                return False
            leaf = x509.load_pem_x509_certificate(pair[0])
            inner = _context()
            # A key that has a password would have OpenSSL ask for it on the terminal.
            inner.load_cert_chain(certificate, key, password=lambda: "")
        except (OSError, ValueError) as error:
            self._report(f"the certificate in {self._directory} cannot be used: {_reason(error)}")
            return False
        self._pair, self._inner, self._leaf, self._unusable = pair, inner, leaf, ""
        log.info("serving the certificate %s, valid until %s", self.fingerprint[:16], leaf.not_valid_after_utc)
        return True

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in use, in hexadecimal; empty for none."""
        return self._leaf.fingerprint(hashes.SHA256()).hex() if self._leaf else ""

    @property
    def not_after(self) -> datetime | None:
        """When the certificate in use ends."""
        return self._leaf.not_valid_after_utc if self._leaf else None

    def problem(self, now: datetime | None = None) -> str:
        """Why the server cannot be called; empty if it has a certificate that is valid."""
        now = now or datetime.now(UTC)
        if self._leaf is None:
            return self._unusable
        if now >= self._leaf.not_valid_after_utc:
            return f"the certificate ended at {self._leaf.not_valid_after_utc}"
        if now < self._leaf.not_valid_before_utc:
            return f"the certificate begins at {self._leaf.not_valid_before_utc}"
        return ""

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> int | None:
        if self._inner is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._inner
        return None

    def _report(self, problem: str) -> None:
        if problem != self._unusable:
            log.error("%s", problem)
        self._unusable = problem


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _reason(error: Exception) -> str:
    """Without what the files hold."""
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
