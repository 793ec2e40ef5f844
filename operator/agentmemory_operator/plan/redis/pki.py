"""What certificates say."""

from dataclasses import dataclass, field
from datetime import UTC

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, as far as plans go by it. Times are seconds since 1970."""

    pem: str = field(repr=False)
    subject: str
    issuer: str
    serial: str
    """Hex."""
    since: float
    until: float
    hostnames: tuple[str, ...] = ()


def certificates(pem: str) -> tuple[Certificate, ...]:
    """The certificates in a PEM text, in order; none for a text without any. Raises ValueError for a broken one."""
    if "BEGIN CERTIFICATE" not in pem:
        return ()
    return tuple(_read(found) for found in x509.load_pem_x509_certificates(pem.encode()))


def _read(found: x509.Certificate) -> Certificate:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hostnames = tuple(names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        hostnames = ()
    return Certificate(
        pem=found.public_bytes(Encoding.PEM).decode(),
        subject=found.subject.rfc4514_string(),
        issuer=found.issuer.rfc4514_string(),
        serial=format(found.serial_number, "x"),
        since=found.not_valid_before_utc.astimezone(UTC).timestamp(),
        until=found.not_valid_after_utc.astimezone(UTC).timestamp(),
        hostnames=hostnames,
    )
