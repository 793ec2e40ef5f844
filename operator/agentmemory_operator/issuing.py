"""What all certificates that we issue have in common."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

BACKDATE = timedelta(minutes=5)
"""How much earlier than its making a certificate begins, for clocks that are behind."""


def builder(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    """Names, key, life and a random serial number; what it may be used for is still to be said."""
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def usage(*, signs: bool) -> x509.KeyUsage:
    """Of an authority, which signs certificates and nothing else, or of a leaf, which only proves who it is."""
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
